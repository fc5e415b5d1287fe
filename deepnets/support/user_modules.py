"""Modules of the user, which belong neither to the toolkit nor to an installed package, and what they import.

Reads source files of imported modules; imports nothing, and executes nothing.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from deepnets.support.subcommands import PACKAGES

__all__ = ["is_of_user", "with_imports"]


def is_of_user(module: str) -> bool:
    """Return whether a module is imported from a file, and belongs neither to this toolkit nor to an installed package.

    Examples
    --------
    >>> is_of_user("math"), is_of_user("numpy"), is_of_user("deepnets"), is_of_user("not_imported")
    (False, False, False, False)
    """
    top, file = module.partition(".")[0], getattr(sys.modules.get(module), "__file__", None)
    if file is None or top in (*PACKAGES, "torch", *sys.stdlib_module_names):
        return False
    return not {"site-packages", "dist-packages"} & {*Path(file).parts}


def with_imports(modules: Iterable[str]) -> set[str]:
    """Return names of modules, and those of the modules of the user that they import, directly or through others.

    Imports inside of functions do not count, since they may not have been executed yet.

    Parameters
    ----------
    modules
        Names of imported modules.

    Examples
    --------
    >>> with_imports(["math"])
    {'math'}
    """
    found = set(modules)
    waiting = list(found)
    while waiting:
        waiting += (imported := _imports_of(waiting.pop()) - found)
        found |= imported
    return found


@functools.cache
def _imports_of(module: str) -> frozenset[str]:
    """Return the names of modules of the user that a module of the user imports when it is imported."""
    if not is_of_user(module):
        return frozenset()
    package = getattr(sys.modules[module], "__package__", None) or module
    names: set[str] = set()
    try:
        for node in _outside_of_functions(ast.parse(Path(sys.modules[module].__file__ or "").read_bytes())):
            if isinstance(node, ast.Import):
                parts = [alias.name.split(".") for alias in node.names]
                names |= {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}
            elif isinstance(node, ast.ImportFrom):
                origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}  # of a package, also modules
    except (OSError, SyntaxError, ValueError, ImportError):
        return frozenset()
    return frozenset(filter(is_of_user, names))


def _outside_of_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _outside_of_functions(child)
