"""HDF5 files that are complete, or not there at all, and that know when a byte of them has changed.

A sealed file starts with a block of 512 bytes of text that holds the SHA-256 of everything behind it (HDF5 ignores such
a *user block*; any HDF5 reader opens the file).  `create` writes beside the target and renames when all is on the disk,
so a process that is killed leaves no half-written file.  `check_seal` reads the whole file and finds every change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py

from deepnets.errors import DeepNetsError, FormatError, IntegrityError

__all__ = ["check_seal", "create", "open_hdf5"]

BLOCK_SIZE = 512
_TITLE = "DeepNets-1M corpus: an HDF5 file from byte 512 on\n"


@contextlib.contextmanager
def create(path: Path, check: Callable[[Path], None] | None = None) -> Iterator[h5py.File]:
    """Write an HDF5 file that appears, sealed and on disk, when the block ends well, and not at all otherwise.

    Parameters
    ----------
    path
        The file; replaced if it exists.
    check
        Called with the path of what was written before it takes the place of `path`, to raise if it is not right.

    Raises
    ------
    DeepNetsError
        If the file cannot be written: no space, no permission.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # The newest file format that checksums its own structure; older ones read a broken chunk index as zeros.
        with h5py.File(temporary, "w", libver=("v110", "v110"), userblock_size=BLOCK_SIZE) as file:
            yield file
        block = _block(temporary)
        with temporary.open("r+b") as raw:
            raw.write(block)
            raw.flush()
            os.fsync(raw.fileno())
        if check:
            check(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # HDF5 reports a full disk as either
        raise DeepNetsError(f"{path}: cannot be written: {_reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_seal(path: Path) -> None:
    """Compare a sealed file with its digest: `IntegrityError` if any byte of it has changed."""
    try:
        with path.open("rb") as raw:
            found = raw.read(BLOCK_SIZE)
        if not found.startswith(_TITLE.encode()):
            raise IntegrityError(f"{path}: has no seal (its first {BLOCK_SIZE} bytes are not those of a corpus file)")
        if found != _block(path):
            raise IntegrityError(f"{path}: does not match its SHA-256; the file is damaged or was changed")
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {_reason(error)}") from error


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; `FormatError` with the path if it is missing, empty, truncated or another kind."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        if not h5py.is_hdf5(path):
            raise FormatError(f"{path}: not an HDF5 file ({path.stat().st_size:,} bytes)")
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise FormatError(f"{path}: cannot be opened as HDF5: {_reason(error)}") from error


def _block(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        raw.seek(BLOCK_SIZE)
        while data := raw.read(1 << 20):
            digest.update(data)
    return f"{_TITLE}sha256 of the rest: {digest.hexdigest()}\n".encode().ljust(BLOCK_SIZE, b"\n")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: BaseException) -> str:
    """The operating system's word for what went wrong, which HDF5 buries in a long message."""
    code = getattr(error, "errno", None)
    text = str(error)
    if code is None and "errno = " in text:
        code = int(text.split("errno = ")[1].split(",")[0])
    return os.strerror(code) if code else text.splitlines()[0]
