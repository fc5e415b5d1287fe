"""HDF5 files with a checksum, which are written atomically and read defensively.

A checksummed file starts with a block of 512 bytes of text that holds the SHA-256 of the rest.  HDF5 ignores such a
*user block*, so any HDF5 reader opens the file.  `create_hdf5` writes a file atomically: if a process is killed, no
partial file is left.  `verify_checksum` reads the whole file and detects every change.

The other functions read untrusted input: they follow no links out of the file, and check every size that the file
states before memory is allocated.  They do not make the HDF5 library itself safe: a crafted file with valid checksums
can crash it.  For files from unknown sources, compare the SHA-256 in the first lines with a published one, and run
`verify_checksum`, which does not need HDF5.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py

from deepnets.support.budget import Budget
from deepnets.support.errors import DeepNetsError, FormatError, IntegrityError
from deepnets.support.files import atomic_write
from deepnets.support.untrusted_hdf5 import FILTERS, get_filters, refuse_external_data, refuse_link

__all__ = [
    "create_group",
    "create_hdf5",
    "error_reason",
    "open_hdf5",
    "read_attribute",
    "safe_datasets",
    "safe_group",
    "verify_checksum",
]

BLOCK_SIZE = 512
_LARGEST_CHUNK = 1 << 20  # bytes
_LARGEST_ATTRIBUTE = 1 << 16  # bytes
_TITLE = "DeepNets-1M corpus: an HDF5 file from byte 512 on\n"


@contextlib.contextmanager
def create_hdf5(path: Path, check: Callable[[Path], None] | None = None) -> Iterator[h5py.File]:
    """Write a checksummed HDF5 file atomically.

    The file appears when the block ends without an exception.

    Parameters
    ----------
    path
        The file; replaced if it exists.
    check
        Called with the path of the temporary file before it replaces `path`.  An exception that it raises prevents the
        replacement.

    Yields
    ------
    h5py.File
        An empty file in memory, to be filled by the block.

    Raises
    ------
    DeepNetsError
        If the file cannot be written, for example because the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "numbers.h5")
    ...     with create_hdf5(path) as file:
    ...         file["x"] = [1, 2, 3]
    ...     verify_checksum(path)
    ...     with open_hdf5(path) as file:
    ...         file["x"][:].tolist()
    [1, 2, 3]
    """
    with contextlib.ExitStack() as stack:
        with _writing(path):  # fails before the block runs if nothing can be written
            temporary = stack.enter_context(atomic_write(path))
        # HDF5 crashes when a disk is full, so it writes to memory.  Its newest file format has checksums of its own
        # structure; with older ones, a damaged chunk index is read as zeros.
        memory = io.BytesIO()
        with h5py.File(memory, "w", libver=("v110", "v110"), userblock_size=BLOCK_SIZE) as file:
            yield file
        with _writing(path):
            content = memory.getbuffer()[BLOCK_SIZE:]
            with temporary.open("wb") as raw:
                raw.write(_block(hashlib.sha256(content)))
                raw.write(content)
            if check:
                check(temporary)
            stack.close()


def create_group(file: h5py.File, name: str) -> h5py.Group:
    """Create a group that stores the names of its members in its header, where checksums protect them.

    By default, HDF5 stores the names of more than 8 members in a heap, and versions before 2.0 crash when a heap is
    damaged.  The limit is set by a function of HDF5 that h5py does not offer; if it cannot be called, the group is a
    default one.

    Parameters
    ----------
    file
        An open, writable file.
    name
        Path of the new group in the file.

    Returns
    -------
    h5py.Group

    Examples
    --------
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     create_group(file, "networks").name
    '/networks'
    """
    layout = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    layout.set_obj_track_times(False)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(h5py.h5p.__file__).H5Pset_link_phase_change(ctypes.c_int64(layout.id), 64, 64)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=layout))


def verify_checksum(path: Path) -> None:
    """Compare the content of a checksummed file with the SHA-256 in its first block.

    Parameters
    ----------
    path
        A file written by `create_hdf5`.

    Raises
    ------
    IntegrityError
        If the file has no checksum, or any of its bytes has changed.
    FormatError
        If the file cannot be read.

    Examples
    --------
    See `create_hdf5`.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as raw:
            block = raw.read(BLOCK_SIZE)
            while data := raw.read(1 << 20):
                digest.update(data)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error_reason(error)}") from error
    if not block.startswith(_TITLE.encode()):
        raise IntegrityError(f"{path}: has no checksum (its first {BLOCK_SIZE} bytes are not those of a corpus file)")
    if block != _block(digest):
        raise IntegrityError(f"{path}: does not match its SHA-256; the file is damaged or was changed")


def open_hdf5(path: Path, locking: bool | None = False) -> h5py.File:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path
        The file.
    locking
        Whether to lock the file; None for the default of HDF5.  Within a process, all handles of a file must have the
        same value.

    Returns
    -------
    h5py.File

    Raises
    ------
    FormatError
        If the file does not exist, is empty, is truncated or has another format.

    Examples
    --------
    >>> try:
    ...     open_hdf5(Path("missing.h5"))
    ... except FormatError as error:
    ...     print(error)
    missing.h5: cannot be opened as HDF5: No such file or directory
    """
    try:
        if path.exists() and not path.is_file():
            raise FormatError(f"{path}: not a file")
        with path.open("rb"):  # the error of the operating system is clearer than that of HDF5
            pass
        if not h5py.is_hdf5(path):
            raise FormatError(f"{path}: not an HDF5 file ({path.stat().st_size:,} bytes)")
        return h5py.File(path, "r", locking=locking)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
        raise FormatError(f"{path}: cannot be opened as HDF5: {error_reason(error)}") from error


def read_attribute(file: h5py.File, name: str, kind: type) -> Any:
    """Read an attribute that is one integer or one string of fixed length.

    Strings of variable length are not read: HDF5 stores them without checksums, and many can share one long string.

    Parameters
    ----------
    file
        An open file.
    name
        Name of the attribute.
    kind
        `int` or `str`.

    Returns
    -------
    int, str or None
        None if the attribute does not exist, has another type, or is larger than 64 KiB.

    Examples
    --------
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     file.attrs["version"] = 1
    ...     read_attribute(file, "version", int), read_attribute(file, "version", str)
    (1, None)
    """
    if name not in file.attrs:
        return None
    attribute = file.attrs.get_id(name)
    if attribute.shape != () or attribute.dtype.kind != {int: "i", str: "S"}[kind]:
        return None
    if attribute.get_storage_size() > _LARGEST_ATTRIBUTE:
        return None
    value = file.attrs[name]
    return value.decode() if kind is str else int(value)


def safe_group(group: Any, members: set[str]) -> h5py.Group:
    """Check that an object is a group with exactly the given members, none of which is a soft or external link.

    Parameters
    ----------
    group
        An object of an open file.
    members
        Names of the expected members.

    Returns
    -------
    h5py.Group
        The same object.

    Raises
    ------
    FormatError
        If the object is something else.

    Examples
    --------
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     file["x"] = 1
    ...     safe_group(file, {"x"}).name
    '/'
    """
    where = f"{group.file.filename}: {group.name}"
    if not isinstance(group, h5py.Group):
        raise FormatError(f"{where} is not a group")
    if len(group) != len(members) or set(group) != members:
        raise FormatError(
            f"{where} should hold {', '.join(sorted(members))} and nothing else; the file is incomplete or of another "
            "kind"
        )
    for name in members:
        refuse_link(group, name, f"{where.rstrip('/')}/{name}")
    return group


def safe_datasets(group: h5py.Group, names: Iterable[str]) -> dict[str, h5py.Dataset]:
    """Return datasets after checking that they can be read without allocating more than the file can hold.

    Every dataset must be stored in this file, in chunks with compression and checksums.  The sizes that the datasets
    state are added up and compared with the size of the file (`Budget`).  `check_chunks` checks what their chunks hold.

    Parameters
    ----------
    group
        The group that holds the datasets.
    names
        Their names.

    Returns
    -------
    dict of str to h5py.Dataset

    Raises
    ------
    FormatError
        If a dataset breaks these rules.

    Examples
    --------
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     _ = file.create_dataset("x", data=[1, 2], chunks=(2,), shuffle=True, compression="gzip", fletcher32=True)
    ...     safe_datasets(file, ["x"])["x"].shape
    (2,)
    """
    datasets, file = {}, group.file
    budget = Budget(file.id.get_filesize())
    for name in names:
        dataset = datasets[name] = group[name]
        where = f"{file.filename}: {group.name.rstrip('/')}/{name}"
        if not isinstance(dataset, h5py.Dataset):
            raise FormatError(f"{where} is not a dataset")
        refuse_external_data(dataset, where)
        if get_filters(dataset) != FILTERS:
            raise FormatError(f"{where} is not stored with compression and checksums")
        chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
        if dataset.nbytes > budget.left or chunk > _LARGEST_CHUNK:
            raise FormatError(f"{where} claims a size that a file of this length cannot hold; refused")
        budget.spend(dataset.nbytes)
    return datasets


def error_reason(error: BaseException) -> str:
    """Return the cause of an error in one line.

    Parameters
    ----------
    error
        Any exception.  HDF5 mentions the error of the operating system, if any, inside a long message.

    Returns
    -------
    str
        The message of the operating system, or else the first line of the exception's message or its type.

    Examples
    --------
    >>> error_reason(OSError("unable to open file (errno = 13, ...)"))
    'Permission denied'
    """
    code = getattr(error, "errno", None)
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if code is None and (found := re.search(r"errno = (\d+)", text)):
        code = int(found[1])
    return os.strerror(code) if code else text.partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeepNetsError(f"{path}: cannot be written: {error_reason(error)}") from error


def _block(digest: Any) -> bytes:
    return f"{_TITLE}sha256 of the rest: {digest.hexdigest()}\n".encode().ljust(BLOCK_SIZE, b"\n")
