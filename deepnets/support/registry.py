"""Registries: named implementations of one kind, to which users add their own."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from deepnets.support.errors import ConfigError, in_one_line
from deepnets.support.extras import EXTRA_OF, missing_dependency

__all__ = ["Registry", "import_attribute", "is_attribute"]

_OWN = ("deepnets.", "ghn_model.", "benchmark.")

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Implementations by name.

    Wherever a name is accepted, `"module:attribute"` is accepted as well: the attribute is imported and used without
    being registered.  Importing a module runs its code, so name only modules that you trust.

    Parameters
    ----------
    kind : str
        What the entries are; error messages begin with it.
    entries : mapping of str to T or str, optional
        The entries to begin with.  A string `"module:attribute"` is imported when the entry is first used, which keeps
        the import of the registry cheap and free of cycles.

    Examples
    --------
    >>> shapes = Registry("shape", {"list": list, "counter": "collections:Counter"})
    >>> shapes.register("tuple", tuple)
    >>> list(shapes)
    ['list', 'counter', 'tuple']
    >>> shapes["counter"]
    <class 'collections.Counter'>
    >>> shapes["fractions:Fraction"]
    <class 'fractions.Fraction'>
    >>> shapes["set"]
    Traceback (most recent call last):
    deepnets.support.errors.ConfigError: shape: unknown 'set'; use one of list, counter, tuple, or 'module:attribute'
    """

    def __init__(self, kind: str, entries: Mapping[str, T | str] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, T | str] = dict(entries or {})

    def register(self, name: str, entry: T) -> None:
        """Add an entry.

        Parameters
        ----------
        name : str
            Its name: not empty and without a colon.
        entry : T
            The implementation.

        Raises
        ------
        ConfigError
            If the name is not valid, or another entry has it.
        """
        if not isinstance(name, str) or not name or ":" in name:
            raise ConfigError(f"{self.kind}: expected a name without a colon, got {name!r}")
        if name in self._entries:
            raise ConfigError(f"{self.kind}: {name!r} is already registered; choose another name")
        self._entries[name] = entry

    def check(self, name: str) -> str:
        """Return the name if it is registered or has the form `"module:attribute"`, without importing anything.

        Raises
        ------
        ConfigError
            If the name is unknown; the message lists the known ones.
        """
        if name not in self._entries and not (isinstance(name, str) and ":" in name):
            known = ", ".join(self._entries)
            raise ConfigError(f"{self.kind}: unknown {name!r}; use one of {known}, or 'module:attribute'")
        return name

    def option(self, text: str) -> str:
        """Check the value of a command-line option; pass this method as `type` to `argparse`."""
        try:
            return self.check(text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def __getitem__(self, name: str) -> T:
        if self.check(name) not in self._entries:
            found: T = import_attribute(name, self.kind)
            return found
        entry = self._entries[name]
        if isinstance(entry, str):  # of this toolkit, not of the folder of the user
            entry = self._entries[name] = _imported(entry, self.kind)
        return entry

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or a default if the name is not registered."""
        return self[name] if name in self._entries else default

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def is_attribute(text: str) -> bool:
    """Return whether a text has the form `"module:attribute"`.

    Examples
    --------
    >>> is_attribute("my_package.models:build"), is_attribute("runs/model.pt")
    (True, False)
    """
    module, colon, attribute = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def import_attribute(spec: str, kind: str) -> Any:
    """Import what a string such as `"package.module:attribute"` names.

    Parameters
    ----------
    spec : str
        The module and, behind the colon, the attribute; attributes of attributes are separated by dots.  The module
        may be a file of the current folder.
    kind : str
        What is imported; error messages begin with it.

    Returns
    -------
    object
        The attribute.

    Raises
    ------
    ConfigError
        If the string has another form, the module cannot be imported, or it has no such attribute.

    Examples
    --------
    >>> import_attribute("math:pi", "number")
    3.141592653589793
    """
    if not is_attribute(spec):
        raise ConfigError(f"{kind}: expected 'module:attribute', got {spec!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return _imported(spec, kind)


def _imported(spec: str, kind: str) -> Any:
    module, _, path = spec.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # the module runs code of its own
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRA_OF and module.startswith(_OWN):
            raise missing_dependency(error.name) from error
        reason = "not enough memory" if isinstance(error, MemoryError) else in_one_line(error)
        raise ConfigError(f"{kind}: {module} cannot be imported: {reason}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            similar = " or ".join(difflib.get_close_matches(name, dir(found), 3))
            hint = f"; did you mean {similar}?" if similar else ""
            raise ConfigError(f"{kind}: {module} has no attribute {name!r}{hint}")
        found = getattr(found, name)
    return found
