"""Expensive fixtures that are made once in a test run, even if pytest-xdist runs it in several processes."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

__all__ = ["make_once"]

T = TypeVar("T")


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> tuple[Path, T]:
    """Return a folder that one process has filled, and what `make` returned there.

    Parameters
    ----------
    factory
        The fixture `tmp_path_factory`.
    name
        Name of the folder, unique in the test suite.
    make
        Fills an empty folder and returns a value that can be pickled.  The other processes wait until it has returned.
        If it fails, the next process tries it again.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = factory.mktemp(name)
        return folder, make(folder)
    base = factory.getbasetemp().parent  # of this run, common to its processes
    folder, result = base / name, base / f"{name}.pickle"
    with FileLock(base / f"{name}.lock"):
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            content = pickle.dumps(make(folder))
            result.write_bytes(content)
    value: T = pickle.loads(result.read_bytes())
    return folder, value
