"""Atomic replacement of files and locks on folders.

A file written by these functions is either complete and on the disk, or the previous file is still in its place.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from deepnets.support.errors import BusyError

__all__ = ["atomic_write", "exclusive", "naming_full_disk", "remove_temporary", "replace_file", "sync"]


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock a folder or a file while the block runs, so that one process at a time writes to it.

    The operating system releases the lock when the process ends, even when it is killed.

    Parameters
    ----------
    path
        An existing folder, whose lock is the file `.lock` in it; or a file in an existing folder, whose lock is the
        file `.NAME.lock` beside it.  The lock file stays.
    wait
        Whether to wait until another process has released the lock.

    Raises
    ------
    BusyError
        If another process holds the lock, unless `wait` is set.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name, exclusive(Path(name)):
    ...     print("locked")
    locked
    """
    lock = FileLock(path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise BusyError(
            f"{path}: is in use by another process; wait until it has ended, or choose another folder"
        ) from error
    try:
        yield
    finally:  # the file stays: a process that waits for it has opened it already
        lock.release()


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, or of the user's share of it, that has no room."""


@contextlib.contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Name a file in the errors of a full disk, which occur while writing to an open file and name none.

    Parameters
    ----------
    path
        The file.

    Examples
    --------
    >>> try:
    ...     with naming_full_disk(Path("a.txt")):
    ...         raise OSError(errno.ENOSPC, "No space left on device")
    ... except OSError as error:
    ...     error.filename
    'a.txt'
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _FULL:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Replace a file by the one that the block writes, if the block ends without an exception.

    The block writes to a temporary file in the same folder.  At the end of the block the file is flushed to the disk
    and renamed, and the folder is flushed as well.  After an exception the temporary file is removed, and the previous
    file keeps its place.

    Parameters
    ----------
    path
        The file; replaced if it exists.

    Yields
    ------
    Path
        The empty temporary file, to be written by the block.

    Raises
    ------
    OSError
        If the file cannot be written; its attribute `filename` is the file, not the temporary one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     with atomic_write(Path(name, "a.txt")) as temporary:
    ...         _ = temporary.write_text("complete")
    ...     Path(name, "a.txt").read_text(), len(os.listdir(name))
    ('complete', 1)
    """
    if not path.parent.exists():  # the message of the operating system would name the temporary file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # it could be a symbolic link that another user has put there
        temporary.touch(exist_ok=False)
        with naming_full_disk(path):
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # for the message
        raise
    finally:
        with contextlib.suppress(OSError):  # already renamed, or the folder is not writable
            temporary.unlink()


def replace_file(path: Path, content: bytes | str) -> None:
    """Write a file atomically.

    Parameters
    ----------
    path
        The file; replaced if it exists.
    content
        Bytes, or a text, which is encoded in UTF-8 without changing its line endings.

    Raises
    ------
    OSError
        If the file cannot be written; the previous file is unchanged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     replace_file(Path(name, "a.txt"), "new")
    ...     Path(name, "a.txt").read_text()
    'new'
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_temporary(folder: Path, names: Iterable[str]) -> None:
    """Remove the temporary files that killed processes have left in place of files.

    Parameters
    ----------
    folder
        The folder.  Its lock must be held, so that no other process writes to it.
    names
        Names of the files that `atomic_write` was called for.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     Path(name, ".a.txt.123-0123abcd.tmp").touch()
    ...     remove_temporary(Path(name), ["a.txt"])
    ...     os.listdir(name)
    []
    """
    for name in names:
        for left in folder.glob(f".{glob.escape(name)}.*.tmp"):
            with contextlib.suppress(OSError):
                left.unlink()


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk.

    Parameters
    ----------
    path
        An existing file or folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     sync(Path(name))
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
