"""Small functions for texts that name or describe predictors."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepnets.support import ConfigError

__all__ = ["begins_with", "check_label", "first_line", "source_digest"]


def check_label(label: str) -> None:
    """Raise `ConfigError` for a label that is empty, longer than 80 characters or not printable.

    Examples
    --------
    >>> check_label("GHN-2, 10 epochs")
    """
    if not label.strip() or len(label) > 80 or not label.isprintable():
        raise ConfigError(f"predictor: {label!r} cannot be a label; expected up to 80 printable characters")


def source_digest(module: str) -> str:
    """Return the SHA-256 of the source file of an imported module; empty if it has none."""
    source = getattr(sys.modules.get(module), "__file__", None)
    return hashlib.sha256(Path(source).read_bytes()).hexdigest() if source and Path(source).is_file() else ""


def first_line(found: Any) -> str:
    """Return the first line of the docstring of an object."""
    return (inspect.getdoc(found) or "").strip().partition("\n")[0]


def begins_with(kind: str) -> Callable[[str], bool]:
    """Return a function that recognizes the texts ``KIND`` and ``KIND:ARGUMENT``."""
    return lambda spec: spec.partition(":")[0] == kind
