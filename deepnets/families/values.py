"""Values of configurations and arguments as text: the names of functions stand for the functions."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from typing import Any

from deepnets.support import ConfigError

__all__ = ["canonical", "check_values", "functions_in", "has_own_name", "named"]


def canonical(values: Any) -> str:
    """Return plain values as a JSON text that is the same for equal values.

    Examples
    --------
    >>> canonical({"b": (1, 2), "a": None})
    '{"a":null,"b":[1,2]}'
    """
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def check_values(values: Mapping[str, Any], where: str) -> None:
    """Check that values can be written into an identity, as `named` returns them.

    Raises
    ------
    ConfigError
        If one of them is neither a value of JSON nor a function or class, nor made of such values.

    Examples
    --------
    >>> check_values({"norm_layer": json.JSONEncoder, "sizes": (1, 2)}, "family a")
    """
    for name, value in values.items():
        try:
            canonical(named(value))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{where}: {name}: expected values that JSON can represent, or functions and classes: {error}"
            ) from error


def named(value: Any) -> Any:
    """Return values of JSON as they are, and functions and classes by module and name, also inside of the values.

    A `functools.partial` counts by its function and its arguments.

    Examples
    --------
    >>> named("resnet"), named(json.dumps), named({"of": [json.loads]})
    ('resnet', 'json:dumps', {'of': ['json:loads']})
    >>> named(functools.partial(json.dumps, indent=2))
    ['partial', 'json:dumps', [], {'indent': 2}]
    """
    if isinstance(value, functools.partial):
        return ["partial", named(value.func), named(value.args), named(value.keywords)]
    if callable(value):
        return f"{value.__module__}:{_qualified_name(value)}"
    if isinstance(value, Mapping):
        return {key: named(each) for key, each in value.items()}
    return [named(each) for each in value] if isinstance(value, (list, tuple)) else value


def functions_in(value: Any) -> list[Any]:
    """Return the functions and classes in a value, for which `named` writes their names.

    Examples
    --------
    >>> functions_in(functools.partial(json.dumps, default=str)) == [json.dumps, str]
    True
    """
    if isinstance(value, functools.partial):
        return functions_in([value.func, *value.args, *value.keywords.values()])
    if callable(value):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [function for part in parts for function in functions_in(part)]


def has_own_name(function: Any) -> bool:
    """Return whether a function is the one that its module has under its name, unlike a lambda or a nested function.

    Examples
    --------
    >>> has_own_name(json.dumps), has_own_name(lambda: None)
    (True, False)
    """
    found: Any = sys.modules.get(function.__module__)
    for part in _qualified_name(function).split("."):
        found = getattr(found, part, None)
    return found is function


def _qualified_name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
