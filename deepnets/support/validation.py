"""Validation of integer arguments, with one form of error message for the whole toolkit."""

from __future__ import annotations

import operator
import reprlib
import sys
from typing import Any

from deepnets.support.errors import ConfigError

__all__ = ["abbreviated", "at_least", "checked_integer"]


def checked_integer(name: str, value: Any, allowed: range | tuple[int, ...]) -> int:
    """The same as an `int`, NumPy's integers too; `ConfigError` if it is none of the allowed."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is not None and number in allowed:
        return number
    if isinstance(allowed, tuple):
        choices = " or ".join(map(str, allowed))
    else:
        choices = f"{allowed[0]} or more" if allowed.stop == sys.maxsize else f"{allowed[0]} to {allowed[-1]}"
    raise ConfigError(f"{name}: expected an integer, {choices}; got {abbreviated(value)}")


def at_least(least: int) -> range:
    """The integers from `least` on, for `checked_integer`."""
    return range(least, sys.maxsize)


def abbreviated(value: Any) -> str:
    """What was given, cut short: it may be anything."""
    try:
        return _repr.repr(value)
    except ValueError:  # from integers of more digits than Python likes to write down
        return f"a very large {type(value).__name__}"


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
