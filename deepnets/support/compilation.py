"""`compiled`: numeric functions compiled by numba, with machine code cached on disk.

Compiled functions work on arrays and numbers.  They do not check the bounds of arrays, so they must not be called with
untrusted input.  For debugging, set `NUMBA_BOUNDSCHECK=1` together with another `NUMBA_CACHE_DIR`.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled", "digest_of_sources"]

log = logging.getLogger(__name__)
notices = logging.getLogger("deepnets.notices")  # `deepnets.support.NOTICES`

NOTICE_SECONDS = 3.0
"""Seconds of compilation after which the user is told why the program waits."""

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function at its first call and cache the machine code on disk.

    The function runs without the global interpreter lock.  Unlike the cache of numba, which only checks the file that
    defines a function, this one depends on all sources (see `digest_of_sources`).

    Parameters
    ----------
    function
        A function that numba can compile in nopython mode.

    Returns
    -------
    The compiled function.

    Examples
    --------
    >>> import numpy as np
    >>> from deepnets.graph.algorithms import find_levels  # a compiled function
    >>> find_levels(np.array([0, 0, 1], np.int32), np.array([0], np.int32))
    array([0, 1], dtype=int32)
    """
    dispatcher = numba.njit(nogil=True)(function)
    try:
        dispatcher.enable_caching()
        _tie_to_sources(dispatcher._cache, function.__module__)
    except Exception as error:
        # No folder is writable, or this version of numba has another cache: compile in every process.
        dispatcher._cache = numba.core.caching.NullCache()
        log.info("%s is compiled again in every process: %s", function.__name__, error)
    return cast(F, dispatcher)


def _tie_to_sources(cache: Any, module: str) -> None:
    """Put the digest of all sources into the names of the cache files of a function.

    Numba checks only the file that defines the function.  It would use outdated machine code after a change of a
    function or a constant in another module.
    """
    from numba.core.caching import IndexDataCacheFile

    digest = digest_of_sources(module)
    cache._cache_file = IndexDataCacheFile(cache._cache_path, f"{cache._impl.filename_base}.{digest}", digest)
    cache.load_overload = _watch.missed(_forgiving(cache.load_overload))
    cache.save_overload = _watch.compiled(_forgiving(cache.save_overload))
    function, _, python = cache._impl.filename_base.rpartition("-")  # "module.function", "line.python"
    for old in Path(cache._cache_path).glob(f"{function}-*.{python.partition('.')[2]}.*.nb[ci]"):
        if f".{digest}." not in old.name:
            old.unlink(missing_ok=True)


def _forgiving(method: Callable[..., Any]) -> Callable[..., Any]:
    """Ignore errors of a cache method: after a damaged file or a full disk, the function is compiled again."""

    @functools.wraps(method)
    def attempt(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:
            log.info("the cache of compiled code cannot be used: %s", error)
            return None

    return attempt


class _CompilationWatch:
    """Tells the user, once, that code is being compiled, if this takes longer than `NOTICE_SECONDS`."""

    def __init__(self) -> None:
        self._seconds = 0.0  # of finished compilations
        self._started = 0.0
        self._depth = 0  # a function is compiled while another one that calls it is
        self._told = False

    def missed(self, load: Callable[..., Any]) -> Callable[..., Any]:
        """Note when a function is not in the cache, so that its compilation begins."""

        @functools.wraps(load)
        def loaded(*arguments: Any) -> Any:
            found = load(*arguments)
            if found is None:
                self._begin(time.monotonic())
            return found

        return loaded

    def compiled(self, save: Callable[..., Any]) -> Callable[..., Any]:
        """Note when a function has been compiled."""

        @functools.wraps(save)
        def saved(*arguments: Any) -> Any:
            self._depth = max(0, self._depth - 1)
            if not self._depth:
                self._seconds += time.monotonic() - self._started
            return save(*arguments)

        return saved

    def _begin(self, now: float) -> None:
        if not self._depth:
            self._started = now
        self._depth += 1
        if not self._told and self._seconds + now - self._started > NOTICE_SECONDS:
            self._told = True
            notices.info("compiling numeric code; this takes a minute or two, once after an installation or an update")


_watch = _CompilationWatch()


@functools.cache
def digest_of_sources(module: str) -> str:
    """Compute a digest of all sources that the compiled code of a module may depend on.

    These are all Python files of `deepnets` and of the top-level package of the module, in all folders.  For a module
    outside of a package, it is the file of the module.

    Parameters
    ----------
    module
        Name of an imported module.

    Returns
    -------
    str
        16 hexadecimal digits.

    Examples
    --------
    >>> len(digest_of_sources("deepnets.graph"))
    16
    """
    digest = hashlib.sha256()
    for name in sorted({__name__.partition(".")[0], module.partition(".")[0]}):
        for root, path in _sources(name):
            source = path.read_bytes()
            digest.update(f"{name}/{path.relative_to(root).as_posix()} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:16]


def _sources(name: str) -> Iterator[tuple[Path, Path]]:
    """Iterate over the Python files of a top-level package or module, as pairs (root folder, file)."""
    file = Path(sys.modules[name].__file__ or "")
    if not hasattr(sys.modules[name], "__path__"):
        yield file.parent, file
        return
    for path in sorted(file.parent.rglob("*.py")):
        yield file.parent, path
