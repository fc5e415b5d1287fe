"""Fixtures of the tests of corpus files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from deepnets.corpus import (
    corpus_path,
)
from tests.deepnets.corpus.corpus_files import (
    SPLIT,
    Change,
)


@pytest.fixture
def tampered(corpus: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """A function that changes a copy of a valid file with h5py."""

    def change(change: Change) -> Path:
        path = tmp_path / "deepnets1m_bnfree.h5"
        shutil.copy(corpus_path(corpus, SPLIT), path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return change
