"""HDF5 files that are whole or not there at all, that know when a byte of them changed, and are read with distrust.

A sealed file starts with a block of 512 bytes of text that holds the SHA-256 of everything behind it (HDF5 ignores such
a *user block*; any HDF5 reader opens the file).  `create` writes beside the target and renames when all is on the disk,
so a process that is killed leaves no half-written file.  `check_seal` reads the whole file and finds every change.

The other functions read files that may be anybody's: nothing is followed out of them, and no claim about sizes is
believed before memory is taken for it.  This does not make the HDF5 library itself safe: a file that was crafted with
all its checksums right can crash it.  For files from strangers, compare the digest in the first lines with a published
one, and run `check_seal`, which needs no HDF5.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import math
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py

from deepnets.support.errors import DeepNetsError, FormatError, IntegrityError
from deepnets.support.untrusted_hdf5 import refuse_external_data, refuse_link

__all__ = [
    "check_seal",
    "create",
    "create_group",
    "open_hdf5",
    "read_attribute",
    "reason",
    "safe_datasets",
    "safe_group",
]

BLOCK_SIZE = 512
_FILTERS = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32]
_LARGEST_DEFLATE_RATIO = 1_100  # deflate cannot expand by more; a file that claims to is lying
_LARGEST_CHUNK = 1 << 20  # bytes
_LARGEST_ATTRIBUTE = 1 << 16
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with _writing(path):
            temporary.unlink(missing_ok=True)
            temporary.touch(exist_ok=False)  # where this fails, the block need not run
        # HDF5 crashes when a disk is full, so it writes into memory.  The newest file format checksums its own
        # structure; older ones read a broken chunk index as zeros.
        memory = io.BytesIO()
        with h5py.File(memory, "w", libver=("v110", "v110"), userblock_size=BLOCK_SIZE) as file:
            yield file
        with _writing(path):
            content = memory.getbuffer()[BLOCK_SIZE:]
            with temporary.open("wb") as raw:
                raw.write(_block(hashlib.sha256(content)))
                raw.write(content)
                raw.flush()
                os.fsync(raw.fileno())
            if check:
                check(temporary)
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # where nothing can be written, there is nothing to remove either
            temporary.unlink()


def create_group(file: h5py.File, name: str) -> h5py.Group:
    """A group that lists its members in its own header, however many they are.

    Usually HDF5 puts more than 8 of them into a heap, on any damage to which versions before 2.0 crash.  h5py cannot
    be told so, HDF5 can; where its functions cannot be reached, the group is one of the usual kind.
    """
    layout = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    layout.set_obj_track_times(False)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(h5py.h5p.__file__).H5Pset_link_phase_change(ctypes.c_int64(layout.id), 64, 64)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=layout))


def check_seal(path: Path) -> None:
    """Compare a sealed file with its digest: `IntegrityError` if any byte of it has changed."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as raw:
            block = raw.read(BLOCK_SIZE)
            while data := raw.read(1 << 20):
                digest.update(data)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {reason(error)}") from error
    if not block.startswith(_TITLE.encode()):
        raise IntegrityError(f"{path}: has no seal (its first {BLOCK_SIZE} bytes are not those of a corpus file)")
    if block != _block(digest):
        raise IntegrityError(f"{path}: does not match its SHA-256; the file is damaged or was changed")


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; `FormatError` with the path if it is missing, empty, truncated or another kind."""
    try:
        if path.exists() and not path.is_file():
            raise FormatError(f"{path}: not a file")
        with path.open("rb"):  # says why it cannot be read; HDF5 does not
            pass
        if not h5py.is_hdf5(path):
            raise FormatError(f"{path}: not an HDF5 file ({path.stat().st_size:,} bytes)")
        return h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
        raise FormatError(f"{path}: cannot be opened as HDF5: {reason(error)}") from error


def read_attribute(file: h5py.File, name: str, kind: type) -> Any:
    """One integer (`int`) or one text of fixed length (`str`); None if there is none, of another type or very large.

    Texts of variable length are not read: they are kept without checksums, and many can share one long text.
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
    """The same, if it is a group of these members, none of them a link to elsewhere: to a path, or out of the file."""
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
    """Members that are compressed, checksummed datasets of sizes that the file can really hold, all together."""
    datasets, size, file = {}, 0, group.file
    limit = _LARGEST_DEFLATE_RATIO * file.id.get_filesize()
    for name in names:
        dataset = datasets[name] = group[name]
        where = f"{file.filename}: {group.name.rstrip('/')}/{name}"
        if not isinstance(dataset, h5py.Dataset):
            raise FormatError(f"{where} is not a dataset")
        refuse_external_data(dataset, where)
        storage = dataset.id.get_create_plist()
        if [storage.get_filter(i)[0] for i in range(storage.get_nfilters())] != _FILTERS:
            raise FormatError(f"{where} is not stored with compression and checksums")
        size += dataset.nbytes
        chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
        if size > limit or chunk > _LARGEST_CHUNK:
            raise FormatError(f"{where} claims a size that a file of this length cannot hold; refused")
    return datasets


def reason(error: BaseException) -> str:
    """What went wrong in a few words: those of the operating system, which HDF5 buries in a long message, if any."""
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
        raise DeepNetsError(f"{path}: cannot be written: {reason(error)}") from error


def _block(digest: Any) -> bytes:
    return f"{_TITLE}sha256 of the rest: {digest.hexdigest()}\n".encode().ljust(BLOCK_SIZE, b"\n")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
