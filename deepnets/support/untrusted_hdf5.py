"""Checks on HDF5 files from untrusted sources, made before any of their data is read.

A dataset of an HDF5 file can have its data in any other file of the machine (links, external storage, virtual
datasets), and a file of a few bytes can state a size of terabytes, or hold a compressed chunk that expands to gigabytes
although it states a small size: HDF5 decompresses chunks to their end.
"""

from __future__ import annotations

import itertools
import math
import zlib
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.support.errors import FormatError, IntegrityError

__all__ = [
    "check_chunks",
    "check_filters",
    "get_filters",
    "get_member",
    "read_array",
    "read_chunk",
    "refuse_external_data",
    "refuse_link",
]

FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)
"""The filters that are accepted, each at most once and in this order."""

_MAX_CHUNKS = 16_384
_CHECKSUM = 4  # bytes that the filter fletcher32 appends to a chunk


def refuse_link(group: h5py.Group, name: str, where: str) -> None:
    """Check that a member of a group is part of the group itself, not a link to another path or another file.

    Parameters
    ----------
    group : h5py.Group
        The group, which has a member of this name.
    name : str
        The member.
    where : str
        Its path, for the error message.

    Raises
    ------
    FormatError
        If it is a link.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     file["password"] = h5py.ExternalLink("/etc/passwd", "/")
    ...     refuse_link(file, "password", "/password")
    Traceback (most recent call last):
    deepnets.support.errors.FormatError: /password is a link; refused
    """
    # Unlike those of h5py, the low-level functions do not follow links.
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise FormatError(f"{where} is a link; refused")


def refuse_external_data(dataset: h5py.Dataset, where: str) -> None:
    """Check that a dataset has its data in its own file.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset.
    where : str
        Its path, for the error message.

    Raises
    ------
    FormatError
        If it is a virtual dataset, or has external storage.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     dataset = file.create_dataset("x", (9,), "u1", external=[("/etc/passwd", 0, 9)])
    ...     refuse_external_data(dataset, "/x")
    Traceback (most recent call last):
    deepnets.support.errors.FormatError: /x takes its data from other files; refused
    """
    if dataset.is_virtual or dataset.external:
        raise FormatError(f"{where} takes its data from other files; refused")


def get_filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return the filters of a dataset, in the order in which they were applied.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset.

    Returns
    -------
    tuple of int
        Numbers of filters, as in `h5py.h5z`.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     get_filters(file.create_dataset("x", (9,), "u1", compression="gzip")) == (h5py.h5z.FILTER_DEFLATE,)
    True
    """
    storage = dataset.id.get_create_plist()
    return tuple(storage.get_filter(number)[0] for number in range(storage.get_nfilters()))


def check_filters(dataset: h5py.Dataset, where: str) -> None:
    """Check that all chunks of a dataset are there, and were stored with all of its filters, which are known ones.

    Parameters
    ----------
    dataset : h5py.Dataset
        A dataset that is stored in chunks.
    where : str
        Its path, for the error message.

    Raises
    ------
    FormatError
        If the dataset has other filters than `FILTERS`, or a chunk is stored without some of them, which would disable
        its checksum.
    IntegrityError
        If a chunk is missing.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     check_filters(file.create_dataset("x", (9,), "u1", chunks=(9,), compression="lzf"), "/x")
    Traceback (most recent call last):
    deepnets.support.errors.FormatError: /x: is stored with filters other than shuffle, deflate and fletcher32; refused
    """
    filters = get_filters(dataset)
    if filters != tuple(number for number in FILTERS if number in filters):
        raise FormatError(f"{where}: is stored with filters other than shuffle, deflate and fletcher32; refused")
    masks: list[int] = []
    dataset.id.chunk_iter(lambda chunk: masks.append(chunk.filter_mask))
    if any(masks):
        raise FormatError(f"{where}: has chunks that were stored without some filters; refused")
    if len(masks) != math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks)):
        raise IntegrityError(f"{where}: has missing chunks")


def check_chunks(
    dataset: h5py.Dataset,
    where: str,
    rows: slice = slice(None),
    checked: set[tuple[int, ...]] | None = None,
) -> None:
    """Check that the chunks of a dataset decompress to exactly their size, before HDF5 decompresses them.

    Nothing is checked for a dataset that is not stored in chunks.  `check_filters` is called if all chunks are checked;
    otherwise, the caller must have called it, or have checked the filters in another way.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset; its chunks must be of a size that is harmless.
    where : str
        Its path, for the error message.
    rows : slice, optional
        Entries along the first axis whose chunks are checked; by default all.
    checked : set, optional
        Offsets of chunks that are not checked again; the offsets of checked chunks are added.

    Raises
    ------
    FormatError
        If a chunk holds more than it states.
    IntegrityError
        If a chunk is damaged.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     dataset = file.create_dataset("x", (9,), "u1", chunks=(9,), compression="gzip")
    ...     dataset.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 20)))
    ...     check_chunks(dataset, "/x")
    Traceback (most recent call last):
    deepnets.support.errors.FormatError: /x: the chunk at (0,) holds more than the 9 bytes that it states; refused
    """
    if not dataset.chunks:
        return
    filters = get_filters(dataset)
    if rows == slice(None):
        check_filters(dataset, where)
    checked = set() if checked is None else checked
    start, stop, _ = rows.indices(dataset.shape[0])
    first = dataset.chunks[0]
    starts = [range(start - start % first, stop, first)]
    starts += [range(0, length, chunk) for length, chunk in zip(dataset.shape[1:], dataset.chunks[1:])]
    for offset in itertools.product(*starts):
        if offset in checked:
            continue
        try:
            read_chunk(dataset, offset, filters)
        except FormatError as error:
            raise type(error)(f"{where}: {error}") from error
        checked.add(offset)


def read_chunk(dataset: h5py.Dataset, offset: tuple[int, ...], filters: tuple[int, ...]) -> bytes:
    """Read and decompress a chunk, whose size is limited to the one that it states.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset.
    offset : tuple of int
        Offset of the chunk.
    filters : tuple of int
        The filters of the dataset, from `get_filters`; some of `FILTERS`.

    Returns
    -------
    bytes
        The content, before the filter shuffle is undone.  The checksum of a compressed chunk is that of zlib.

    Raises
    ------
    FormatError
        If the chunk holds more than it states, or is stored without some of the filters.
    IntegrityError
        If it is damaged or missing.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     dataset = file.create_dataset("x", data=b"text", dtype="S4", shape=(1,), chunks=(1,), compression="gzip")
    ...     read_chunk(dataset, (0,), get_filters(dataset))
    b'text'
    """
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    compressed = FILTERS[1] in filters
    try:
        mask, stored = dataset.id.read_direct_chunk(offset)
        if FILTERS[2] in filters and not mask:
            stored = stored[:-_CHECKSUM]
        stream = zlib.decompressobj()
        content: bytes = stream.decompress(stored, size + 1) if compressed and not mask else stored
    except (OSError, RuntimeError, ValueError, MemoryError, zlib.error) as error:
        raise IntegrityError(f"the chunk at {offset} is damaged ({error})") from error
    if mask:
        raise FormatError(f"the chunk at {offset} was stored without some filters; refused")
    if len(content) < size:
        raise IntegrityError(f"the chunk at {offset} is damaged: it holds {len(content):,} bytes of {size:,}")
    if len(content) > size:
        raise FormatError(f"the chunk at {offset} holds more than the {size:,} bytes that it states; refused")
    if compressed and not stream.eof:
        raise IntegrityError(f"the chunk at {offset} is damaged: its end is missing")
    return content


def get_member(group: h5py.Group, name: str, kind: type[h5py.Group] | type[h5py.Dataset]) -> Any:
    """Return a member of a group after checking that it has the expected kind and is not a link.

    Parameters
    ----------
    group : h5py.Group
        The group.
    name : str
        The member.
    kind : type
        `h5py.Group` or `h5py.Dataset`.

    Returns
    -------
    h5py.Group or h5py.Dataset
        The member.

    Raises
    ------
    FormatError
        If there is no such member, it is a link, or it has another kind.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     file["numbers/x"] = [1, 2, 3]
    ...     get_member(file["numbers"], "x", h5py.Dataset).shape
    (3,)
    """
    where = f"{group.name.rstrip('/')}/{name}"
    if not group.id.links.exists(name.encode()):
        raise FormatError(f"there is no {kind.__name__.lower()} {where}")
    refuse_link(group, name, where)
    member = group[name]
    if not isinstance(member, kind):
        raise FormatError(f"{where} is not a {kind.__name__.lower()}")
    return member


def read_array(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike, max_chunk: int
) -> npt.NDArray[Any]:
    """Read a dataset after checking its shape, its dtype and its storage, which bound the memory that is needed.

    Parameters
    ----------
    group : h5py.Group
        The group of the dataset.
    name : str
        The dataset.
    shape : tuple of int
        Its expected shape.
    dtype : dtype
        Its expected dtype, in any byte order.
    max_chunk : int
        Largest size of an uncompressed chunk, in bytes.

    Returns
    -------
    numpy array
        The data, contiguous and in native byte order.

    Raises
    ------
    FormatError
        If the dataset is missing, is a link, has another dtype, takes its data from other files, has chunks of an
        implausible size or with unknown filters, or chunks that decompress to another size.
    IntegrityError
        If the shape differs, or the file holds no data for the dataset.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     file["x"] = np.arange(6, dtype=">u2").reshape(2, 3)
    ...     read_array(file, "x", (2, 3), "u2", max_chunk=1024)
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint16)
    """
    dataset = get_member(group, name, h5py.Dataset)
    refuse_external_data(dataset, dataset.name)
    if dataset.shape != shape:
        raise IntegrityError(f"{name}: expected the shape {shape}, got {dataset.shape}")
    if dataset.dtype.newbyteorder("=") != np.dtype(dtype):
        raise FormatError(f"{name}: expected {np.dtype(dtype)}, got {dataset.dtype}")
    if dataset.chunks:
        number = math.prod(-(-size // chunk) for size, chunk in zip(shape, dataset.chunks))
        if math.prod(dataset.chunks) * dataset.dtype.itemsize > max_chunk or number > _MAX_CHUNKS:
            raise FormatError(f"{name}: chunks of {dataset.chunks} are implausible for the shape {shape}")
    if dataset.id.get_storage_size() == 0:
        raise IntegrityError(f"{name}: the file holds no data for it")
    check_chunks(dataset, name)
    return np.ascontiguousarray(dataset[()]).astype(dtype, copy=False)
