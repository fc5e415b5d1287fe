"""Settings and fixtures of all tests.

The root of the repository comes first on the path, so that `import deepnets` does not find the folder `tests/deepnets`.
"""

import os

# The networks in tests are small, so several threads per process would be slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest

# The tests start hundreds of processes, which would compile the packages each time without bytecode files.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A script in the background ignores SIGINT, and all processes that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus folder with every split, small ones of `train` and `search`; do not change it."""
    from generator import BuildPlan, build_corpus
    from tests.support.shared import make_once

    def make(folder: Path) -> None:
        build_corpus(folder, BuildPlan(train_size=300, search_size=100, seed=0))

    return make_once(tmp_path_factory, "corpus", make)[0]


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the cases of a test that is marked `sampled(n)`, all but every n-th one are slow."""
    counts: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("sampled")
        if marker is not None:
            test = item.nodeid.partition("[")[0]
            if counts[test] % marker.args[0]:
                item.add_marker(pytest.mark.slow)
            counts[test] += 1
