"""Packages that are installed, but cannot be imported: what a program does where they are not installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

__all__ = ["hide", "run_without"]

_PROGRAM = """
import sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import importlib.util
_find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.partition(".")[0] in HIDDEN else _find(name, *rest)
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, ROOT)
"""


def hide(monkeypatch: pytest.MonkeyPatch, packages: Iterable[str]) -> None:
    """Hide packages from this process that it has not imported, or whose import a function repeats."""
    names = {*packages}
    found = importlib.util.find_spec
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name.partition(".")[0] in names else found(name, *rest)
    )


def run_without(packages: Iterable[str], code: str, folder: Path, timeout: float = 300) -> list[str]:
    """Run a program without these packages in a folder, and return the lines that it prints."""
    start = f"HIDDEN = {sorted(packages)!r}\nROOT = {str(ROOT)!r}\n{_PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", start + code], cwd=folder, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
