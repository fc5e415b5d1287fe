"""Checks on HDF5 files from untrusted sources, made before any of their data is read.

A dataset of an HDF5 file can have its data in any other file of the machine (links, external storage, virtual
datasets), and a file of a few bytes can state a size of terabytes.
"""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.support.errors import FormatError, IntegrityError

__all__ = ["get_member", "read_array", "refuse_external_data", "refuse_link"]

_MAX_CHUNKS = 16_384


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
        If the dataset is missing, is a link, has another dtype, takes its data from other files, or has chunks of an
        implausible size.
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
    return np.ascontiguousarray(dataset[()]).astype(dtype, copy=False)
