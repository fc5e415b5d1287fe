"""Validation of integer arguments, with uniform error messages."""

from __future__ import annotations

import operator
import reprlib
import sys
from typing import Any

from deepnets.support.errors import ConfigError

__all__ = ["abbreviated", "at_least", "checked_integer"]


def checked_integer(name: str, value: Any, allowed: range | tuple[int, ...]) -> int:
    """Convert an integer of any type, such as a NumPy integer, to `int` and check its range.

    Parameters
    ----------
    name
        Name of the argument, for the error message.
    value
        The argument.
    allowed
        Valid values.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        If the value is not an integer, or not valid.  `True` and `False` are not integers here.

    Examples
    --------
    >>> import numpy as np
    >>> checked_integer("seed", np.int64(3), at_least(0))
    3
    """
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
    """Return the range of all integers from `least` on.

    Parameters
    ----------
    least
        Smallest integer of the range.

    Examples
    --------
    >>> 10**9 in at_least(1)
    True
    """
    return range(least, sys.maxsize)


def abbreviated(value: Any) -> str:
    """Return a shortened representation of a value for error messages.

    Parameters
    ----------
    value
        Any object.

    Examples
    --------
    >>> abbreviated(list(range(100)))
    '[0, 1, 2, 3, 4, 5, ...]'
    """
    try:
        return _repr.repr(value)
    except ValueError:  # Python does not convert integers with more than 4,300 digits to strings
        return f"a very large {type(value).__name__}"


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
