"""Registries: named components that users extend, and objects given as ``"module:attribute"``."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from deepnets.support.errors import ConfigError

__all__ = ["Registry", "is_attribute", "load_attribute"]

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to components that refuses duplicates.

    Parameters
    ----------
    kind
        What the components are, as error messages call them, such as "metric".

    Examples
    --------
    >>> activations = Registry("activation")
    >>> activations.register("identity", lambda x: x)
    >>> activations["identity"](3)
    3
    >>> activations["sine"]
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: activation: unknown 'sine'; use one of identity
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._components: dict[str, T] = {}

    def register(self, name: str, component: T) -> None:
        """Add a component.

        Parameters
        ----------
        name
            A name that is not registered yet.
        component
            The component.

        Raises
        ------
        ConfigError
            If the name is empty, contains a colon, or is already registered.
        """
        if not name or ":" in name:
            raise ConfigError(f"{self.kind}: {name!r} cannot be registered; expected a name without a colon")
        if name in self._components:
            raise ConfigError(f"{self.kind}: {name!r} is already registered; choose another name")
        self._components[name] = component

    def __getitem__(self, name: str) -> T:
        if name not in self._components:
            raise ConfigError(f"{self.kind}: unknown {name!r}; use one of {', '.join(self._components)}")
        return self._components[name]

    def __contains__(self, name: object) -> bool:
        return name in self._components

    def get(self, name: str, default: Any = None) -> Any:
        """Return a component, or a default if the name is not registered."""
        return self._components.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)


def is_attribute(text: str) -> bool:
    """Return whether a text has the form ``module:attribute``.

    Examples
    --------
    >>> is_attribute("my_package.models:build"), is_attribute("runs/model.pt")
    (True, False)
    """
    module, colon, attribute = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def load_attribute(text: str, kind: str) -> Any:
    """Import the object that a text of the form ``module:attribute`` names.

    The module is imported, so its code runs.  Modules in the current directory are found, too.

    Parameters
    ----------
    text
        Module and attribute, both possibly dotted.
    kind
        What the object is for, as error messages call it.

    Returns
    -------
    The attribute.

    Raises
    ------
    ConfigError
        If the module cannot be imported or has no such attribute.

    Examples
    --------
    >>> load_attribute("math:sqrt", "function")(9.0)
    3.0
    """
    module, _, names = text.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{kind}: {module} cannot be imported: {type(error).__name__}: {reason}") from error
    for name in names.split("."):
        if not hasattr(found, name):
            near = ", ".join(difflib.get_close_matches(name, dir(found), 3))
            raise ConfigError(f"{kind}: {module} has no {name!r}{near and f'; did you mean {near}?'}")
        found = getattr(found, name)
    return found
