"""The one door to numba: `@compiled` turns a numeric function into machine code, cached on disk between runs.

Functions under it work on arrays and numbers only, and must not be handed unchecked input: compiled code does not
check the bounds of its arrays.  `NUMBA_DISABLE_JIT=1` runs all of them as ordinary Python, for debugging.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` at its first call, without the interpreter lock, and keep the machine code on disk."""
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder can be written, neither beside the source nor in the user's cache
        return cast(F, numba.njit(nogil=True)(function))
