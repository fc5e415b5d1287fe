"""HDF5 files that nobody vouches for: nothing is read before it was found to be what it should be.

HDF5 lets a dataset live in any other file of the machine (external storage, virtual datasets, links), and lets a few
bytes declare terabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.original_format.metadata import MAX_NODES
from deepnets.support import ConfigError, FormatError, IntegrityError

__all__ = ["child", "located", "open_file", "read_array"]

_MAX_CHUNK = 2 * MAX_NODES**2  # bytes a chunk unpacks to
_MAX_CHUNKS = 16_384  # in a matrix


@contextmanager
def located(where: str) -> Iterator[None]:
    """Give errors the place they come from; what h5py raises about broken files becomes an `IntegrityError`."""
    try:
        yield
    except FormatError as error:
        raise type(error)(f"{where}: {error}") from error
    except ConfigError as error:
        raise FormatError(f"{where}: {error}") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError) as error:
        raise IntegrityError(f"{where}: damaged ({error}); get the file anew") from error


def open_file(path: Path) -> h5py.File:
    """Open a file for reading; `FormatError` or `IntegrityError` if that cannot be."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    if not h5py.is_hdf5(path):
        raise FormatError(f"{path}: not an HDF5 file; expected one of the original release's deepnets1m_*.hdf5")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise IntegrityError(f"{path}: damaged or cut off ({error}); get the file anew") from error


def child(group: h5py.Group, name: str, kind: type) -> Any:
    """What a group holds under a name, if it is of a kind and in this very file."""
    links = group.id.links  # which, unlike the group itself, do not follow links
    if not links.exists(name.encode()):
        raise FormatError(f"no {kind.__name__.lower()} {name!r}")
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise FormatError(f"{name!r} is a link to elsewhere, which may be any file of this machine; refused")
    found = group[name]
    if not isinstance(found, kind):
        raise FormatError(f"{name!r} is a {type(found).__name__.lower()}; expected a {kind.__name__.lower()}")
    return found


def read_array(group: h5py.Group, name: str, shape: tuple[int, int], dtype: str) -> npt.NDArray[Any]:
    """Read a dataset after everything about it was found to be as expected, so that it takes the memory it should."""
    dataset = child(group, name, h5py.Dataset)
    if dataset.is_virtual or dataset.external:
        raise FormatError(f"{name}: its data is in another file, which may be any file of this machine; refused")
    if dataset.shape != shape:
        raise IntegrityError(f"{name}: expected the shape {shape} after num_nodes, got {dataset.shape}")
    if dataset.dtype.newbyteorder("=") != np.dtype(dtype):
        raise FormatError(f"{name}: expected {np.dtype(dtype)}, got {dataset.dtype}")
    if dataset.chunks:
        rows, columns = dataset.chunks
        chunks = -(-shape[0] // rows) * -(-shape[1] // columns)
        if rows * columns * dataset.dtype.itemsize > _MAX_CHUNK or chunks > _MAX_CHUNKS:
            raise FormatError(f"{name}: chunks of {dataset.chunks} make no sense for the shape {shape}")
    if dataset.id.get_storage_size() == 0:
        raise IntegrityError(f"{name}: the file holds no data for it")
    return np.ascontiguousarray(dataset[()]).astype(dtype, copy=False)
