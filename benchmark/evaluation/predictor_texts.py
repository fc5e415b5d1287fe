"""Small functions for texts that name or describe predictors."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepnets.support import ConfigError, is_of_user, with_imports

__all__ = ["begins_with", "check_label", "first_line", "source_digest"]


def check_label(label: str) -> None:
    """Raise `ConfigError` for a label that is empty, longer than 80 characters or not printable.

    Examples
    --------
    >>> check_label("GHN-2, 10 epochs")
    """
    if not label.strip() or len(label) > 80 or not label.isprintable():
        raise ConfigError(f"predictor: {label!r} cannot be a label; expected up to 80 printable characters")


def source_digest(module: str, found: Any = None) -> str:
    """Return the SHA-256 of the source of an imported module and of the modules of the user that it imports.

    Parameters
    ----------
    module
        Name of the module.
    found
        An object of the module, whose own module can be another one of the user.

    Returns
    -------
    The digest; that of the file alone if the module imports no others; empty if there is no file.
    """
    own = getattr(inspect.getmodule(found), "__name__", module)
    names = with_imports([module, own] if is_of_user(own) else [module])
    files = [getattr(sys.modules.get(name), "__file__", None) for name in sorted(names)]
    digests = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file and Path(file).is_file()]
    return hashlib.sha256("".join(digests).encode()).hexdigest() if len(digests) > 1 else "".join(digests)


def first_line(found: Any) -> str:
    """Return the first line of the docstring of an object."""
    return (inspect.getdoc(found) or "").strip().partition("\n")[0]


def begins_with(kind: str) -> Callable[[str], bool]:
    """Return a function that recognizes the texts ``KIND`` and ``KIND:ARGUMENT``."""
    return lambda spec: spec.partition(":")[0] == kind
