"""Random access to the rows of an untrusted HDF5 dataset that is stored in compressed chunks.

HDF5 decompresses a chunk to its end, whatever size it states, so chunks must be checked before HDF5 reads them, and the
check decompresses them as well.  `ChunkedRows` decompresses every chunk once.
"""

from __future__ import annotations

import functools

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.support.errors import FormatError
from deepnets.support.untrusted_hdf5 import FILTERS, check_chunks, get_filters, read_chunk

__all__ = ["ChunkedRows"]

_CACHED_BYTES = 1 << 20


class ChunkedRows:
    """Rows of a one-dimensional dataset.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset; its chunks must be of a size that is harmless.

    Examples
    --------
    >>> import io
    >>> with h5py.File(io.BytesIO(), "w") as file:
    ...     filters = {"shuffle": True, "compression": "gzip", "fletcher32": True}
    ...     dataset = file.create_dataset("x", data=np.arange(25, dtype="u2"), chunks=(10,), **filters)
    ...     ChunkedRows(dataset).read(8, 12, "/x")
    array([ 8,  9, 10, 11], dtype=uint16)
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset, self._length, self._dtype = dataset, len(dataset), dataset.dtype
        self._filters = get_filters(dataset)
        self._chunk = dataset.chunks[0] if dataset.chunks else 0
        self._checked: set[tuple[int, ...]] = set()
        cached = 1 + _CACHED_BYTES // max(1, self._chunk * self._dtype.itemsize)
        # A function without reference to this object: the file is closed as soon as the object is not used any more.
        self._cached = functools.lru_cache(cached)(functools.partial(_read_chunk, dataset, self._filters))

    def read(self, start: int, stop: int, where: str) -> npt.NDArray[np.void]:
        """Read consecutive rows.

        Parameters
        ----------
        start, stop : int
            The rows `start ... stop - 1`, as far as they exist.
        where : str
            What is read, for the error message.

        Returns
        -------
        numpy.ndarray
            The rows.

        Raises
        ------
        FormatError
            If a chunk holds more than it states, or is stored without some of the filters of the dataset.
        IntegrityError
            If a chunk is damaged or missing.
        """
        stop = min(stop, self._length)
        if start >= stop:
            return np.zeros(0, self._dtype)
        if self._filters != FILTERS:  # of another writer
            check_chunks(self._dataset, where, slice(start, stop), self._checked)
            return self._dataset[start:stop]  # type: ignore[no-any-return]
        parts = []
        for first in range(start - start % self._chunk, stop, self._chunk):
            try:
                rows = self._cached(first)
            except FormatError as error:
                raise type(error)(f"{where}: {error}") from error
            parts.append(rows[max(0, start - first) : stop - first])
        return np.concatenate(parts)


def _read_chunk(dataset: h5py.Dataset, filters: tuple[int, ...], first: int) -> npt.NDArray[np.void]:
    """Return the rows of a chunk; of the last one, with the padding at its end."""
    content = read_chunk(dataset, (first,), filters)
    shuffled = np.frombuffer(content, np.uint8).reshape(dataset.dtype.itemsize, dataset.chunks[0])
    rows: npt.NDArray[np.void] = np.ascontiguousarray(shuffled.T).view(dataset.dtype)[:, 0]
    return rows
