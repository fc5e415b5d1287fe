"""Lazy re-exports: a package imports the module of a public name when the name is first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepnets.support.extras import naming_extras

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make `__getattr__`, `__dir__` and `__all__` of a package whose public names are imported on first use.

    Importing such a package imports none of its modules, so it is fast and does not import torch.  A name whose module
    needs an optional package that is not installed raises a `MissingDependencyError`.  Type checkers do not run this
    function, so the imports must be repeated under `if TYPE_CHECKING`.

    Parameters
    ----------
    package
        Name of the package, `__name__`.
    names
        Public names by the module that defines them, relative to the package.  A public name must not be the name of a
        module of the package.

    Returns
    -------
    tuple
        The values of `__getattr__`, `__dir__` and `__all__`.

    Examples
    --------
    >>> __getattr__, __dir__, __all__ = lazy_exports("deepnets.graph", {"build": ["build_graph"]})
    >>> __all__
    ['build_graph']
    >>> __getattr__("build_graph").__module__
    'deepnets.graph.build'
    """
    home = {name: module for module, members in names.items() for name in members}
    public = sorted(home)

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with naming_extras():
            return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return get, lambda: public, public
