"""`compiled`: numeric functions as machine code, compiled by numba and cached on disk between runs.

Functions under it work on arrays and numbers only, and must not be handed unchecked input: compiled code does not
check the bounds of its arrays (unless `NUMBA_BOUNDSCHECK=1` is set, for debugging, with another `NUMBA_CACHE_DIR`).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
from collections.abc import Callable, Iterator
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
        _tie_to_sources(dispatcher._cache, function.__module__)
    except Exception as error:
        # No folder can be written, or this numba keeps its cache otherwise: compiling in every run is right, too.
        dispatcher._cache = numba.core.caching.NullCache()
        log.info("%s is compiled anew in every process: %s", function.__name__, error)
    return cast(F, dispatcher)


def _tie_to_sources(cache: Any, module: str) -> None:
    """Make the names of a function's cache files depend on every source the function may depend on.

    Numba checks only the file that defines the function.  After a change to a function that it calls in another module,
    or to a constant that was compiled in, numba would reuse stale machine code.
    """
    from numba.core.caching import IndexDataCacheFile

    digest = digest_of_sources(module)
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
def digest_of_sources(module: str) -> str:
    """A digest of every source that compiled code of a module may depend on.

    It covers all Python files of `deepnets` and of the top-level package of the module, in all folders, with their
    paths; of a module outside any package, its own file.

    Parameters
    ----------
    module
        Name of an imported module.

    Returns
    -------
    16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted({__name__.partition(".")[0], module.partition(".")[0]}):
        for root, path in _sources(name):
            source = path.read_bytes()
            digest.update(f"{name}/{path.relative_to(root).as_posix()} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:16]


def _sources(name: str) -> Iterator[tuple[Path, Path]]:
    """The Python files of a top-level package or module, each with the folder that its path is relative to."""
    file = Path(sys.modules[name].__file__ or "")
    if not hasattr(sys.modules[name], "__path__"):
        yield file.parent, file
        return
    for path in sorted(file.parent.rglob("*.py")):
        yield file.parent, path
