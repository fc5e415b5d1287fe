"""The one door to numba: `@compiled` turns a numeric function into machine code, cached on disk between runs.

Functions under it work on arrays and numbers only, and must not be handed unchecked input: compiled code does not
check the bounds of its arrays (unless `NUMBA_BOUNDSCHECK=1` is set, for debugging, with another `NUMBA_CACHE_DIR`).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled", "digest_of_sources"]

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` at its first call, without the interpreter lock, and keep the machine code on disk."""
    dispatcher = numba.njit(nogil=True)(function)
    try:
        dispatcher.enable_caching()
        _tie_to_sources(dispatcher._cache, Path(sys.modules[function.__module__].__file__ or "").parent)
    except Exception as error:
        # No folder can be written, or this numba keeps its cache otherwise: compiling in every run is right, too.
        dispatcher._cache = numba.core.caching.NullCache()
        log.info("%s is compiled anew in every process: %s", function.__name__, error)
    return cast(F, dispatcher)


def _tie_to_sources(cache: Any, package: Path) -> None:
    """Give the cache files of a function a name that changes with every source the function may depend on.

    Numba looks at the file of the function alone: after a change to a function that it calls in another module, or to a
    constant that is built in, it would go on using the old machine code.
    """
    from numba.core.caching import IndexDataCacheFile

    digest = digest_of_sources(package)
    cache._cache_file = IndexDataCacheFile(cache._cache_path, f"{cache._impl.filename_base}.{digest}", digest)
    cache.load_overload = _forgiving(cache.load_overload)
    cache.save_overload = _forgiving(cache.save_overload)
    function, _, python = cache._impl.filename_base.rpartition("-")  # "module.function", "line.python"
    for old in Path(cache._cache_path).glob(f"{function}-*.{python.partition('.')[2]}.*.nb[ci]"):
        if f".{digest}." not in old.name:
            old.unlink(missing_ok=True)


def _forgiving(method: Callable[..., Any]) -> Callable[..., Any]:
    """A damaged cache file, or a disk without space for one, costs a compilation and nothing else."""

    @functools.wraps(method)
    def attempt(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:
            log.info("the cache of compiled code cannot be used: %s", error)
            return None

    return attempt


@functools.cache
def digest_of_sources(package: Path) -> str:
    """Of everything that takes part in compiled code: the sources, here and in `package`, that speak of it."""
    digest = hashlib.sha256()
    for folder in sorted({Path(__file__).parent, package}):
        for path in sorted(folder.glob("*.py")):
            source = path.read_bytes()
            if b"compiled" in source:
                digest.update(path.name.encode() + source)
    return digest.hexdigest()[:16]
