"""A module of small networks, and a corpus of three."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from deepnets.architecture import encode
from deepnets.corpus import compute_statistics, write_corpus
from tests.support.sgd_trainings import CONFIG, MODULE


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of networks, which is on the path."""
    (tmp_path / "sgd_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sgd_nets", raising=False)
    return tmp_path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A corpus of three small networks."""
    records = encode([CONFIG, CONFIG.replace(norm=None), CONFIG.replace(C=4)])
    statistics, rows = compute_statistics(records)
    statistics["candidate"] = np.arange(3)
    columns = {name: part[name] for part in (records, statistics) for name in part.dtype.names or ()}
    write_corpus(tmp_path / "deepnets1m_test.h5", {"split": "test", "seed": 0}, columns, [rows])
    return tmp_path
