"""Descriptions of functions and objects of a script or notebook, by which changes of their code are noticed.

A description does not depend on the place of the code in a file.  It depends on the version of Python, since it
contains the compiled code.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any

import numpy as np
from torch import Tensor

from ghn_model.checkpoints import content_digest

__all__ = ["describe_code"]


def describe_code(value: Any) -> str:
    """Return a text that changes with the code of a function, class or object, and with what it uses.

    This includes functions, classes and values of the same script that the code names, values of closures and defaults,
    base classes, and attributes of objects.  Other modules do not count.

    Examples
    --------
    >>> texts = [describe_code(functools.partial(pow, exp=exponent)) for exponent in (2, 2, 3)]
    >>> texts[0] == texts[1] != texts[2]
    True
    """
    return _text_of(value, {})


def _text_of(value: Any, described: dict[int, tuple[int, Any]]) -> str:
    """Describe a value; those in `described`, by id with their number, are named by the number.

    So functions can refer to themselves, and what many of them use is described once.  The dict also keeps the values,
    because the id of a value that is gone can be that of another one.
    """
    if isinstance(value, str | bytes | int | float | complex | None):
        return repr(value)
    if isinstance(value, Tensor):
        return f"Tensor({content_digest({'value': value}, {})})"
    if isinstance(value, np.ndarray):
        return f"ndarray({value.dtype}, {value.shape}, {hashlib.sha256(value.tobytes()).hexdigest()})"
    if id(value) in described:
        return f"value {described[id(value)][0]}"
    described[id(value)] = len(described), value
    inner = ", ".join(_text_of(part, described) for part in _parts_of(value))
    return f"{type(value).__qualname__}({inner})"


def _parts_of(value: Any) -> Iterable[Any]:
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, value.co_consts
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, tuple | list):
        return value
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    if isinstance(value, property):
        return value.fget, value.fset
    if getattr(value, "__module__", None) != "__main__" and type(value).__module__ != "__main__":
        return (f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', None)}",)
    if isinstance(value, type):
        own = [part for part in vars(value).items() if not part[0].startswith("__") or callable(part[1])]
        return *value.__bases__, *own
    if hasattr(value, "__code__"):
        found = _used_by(value.__code__, value.__globals__)
        return value.__code__, value.__defaults__, value.__kwdefaults__, _cells_of(value), found
    if hasattr(value, "__func__"):  # a bound method
        return value.__self__, value.__func__
    return type(value), getattr(value, "__dict__", {})


def _cells_of(function: Any) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # a variable without a value
            found.append(None)
    return found


def _used_by(code: CodeType, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the global variables that code names, also in functions inside of it."""
    found = {name: names[name] for name in code.co_names if name in names}
    for part in code.co_consts:
        if isinstance(part, CodeType):
            found |= _used_by(part, names)
    return found
