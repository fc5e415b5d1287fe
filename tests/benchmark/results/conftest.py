"""A small corpus, and a folder with a module of predictors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.small_corpus import write_predictors, write_small_corpus


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_corpus(tmp_path_factory.mktemp("small"), "test", "val")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of predictors."""
    write_predictors(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plugged_in", raising=False)
    return tmp_path
