"""Puts the root of the repository first on the path: `tests/deepnets`, a folder, must not pass for the package."""

import os

# The networks in tests are small: threads would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest

# In the background of a script SIGINT is ignored, which everything started from here would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus folder with every split, small ones of `train` and `search`; not to be changed."""
    from generator import BuildPlan, build_corpus

    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(folder, BuildPlan(train_size=300, search_size=100, seed=0))
    return folder
