"""`CorpusFile`: read the corpus file of a split, as untrusted input.

The layout is documented in `deepnets.corpus.layout`.  No link out of the file is followed, and every size is checked
before data is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.architecture import ARCHITECTURE, MAX_STEPS, PADDING
from deepnets.corpus.layout import (
    ATTRIBUTES,
    COLUMNS,
    FORMAT,
    FORMAT_VERSION,
    GENES,
    LARGEST,
    VOCABULARY,
    Columns,
    digest,
)
from deepnets.corpus.wiring import WIRING
from deepnets.support import (
    ChunkedRows,
    DeepNetsError,
    FormatError,
    IntegrityError,
    check_chunks,
    check_filters,
    error_reason,
    open_hdf5,
    parse_json,
    read_attribute,
    safe_datasets,
    safe_group,
)

__all__ = ["CorpusFile", "content_digest"]


class CorpusFile:
    """The corpus file of one split, opened for reading.

    The layout, types and sizes of the file are checked before any data is read.  The object can be sent to other
    processes, which open the file again.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    path
        The file.
    attributes
        Description of the split by the generator: `split`, `seed`, rules, counts, and versions of libraries.
    split
        Name of the split.
    vocabulary
        Meaning of the numbers in the file: the vocabulary of this version, or the beginning of it.
    num_networks
        Number of networks, n.
    content_digest
        SHA-256 of the content in hexadecimal, equal for equal corpora.
    offsets
        `(n + 1,) int64`.  The wiring of network i is `offsets[i] ... offsets[i + 1] - 1`.

    Raises
    ------
    FormatError
        If the file is not a corpus file, or has an unsupported version.
    IntegrityError
        If the file is damaged.

    Examples
    --------
    See `write_corpus`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._location = self.path.absolute()  # processes that open it later may have another current folder
        self._columns: Columns = {}
        self._open()

    def _open(self) -> None:
        self._file = open_hdf5(self.path)
        self._process = os.getpid()
        try:
            with self._reading("its structure"):
                self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        attributes = {name: read_attribute(self._file, name, kind) for name, kind in ATTRIBUTES.items()}
        if attributes["format"] != FORMAT:
            raise FormatError(
                f"{self.path}: not a corpus file of this toolkit; files of the original release are read with "
                "`deepnets import`"
            )
        version = attributes["format_version"]
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{self.path}: has format version {version}, this version of deepnets1m reads {FORMAT_VERSION}; "
                "install the version that wrote it, or build the corpus again"
            )
        if None in attributes.values():
            raise FormatError(
                f"{self.path}: its attributes {', '.join(ATTRIBUTES)} are not the strings and integers they should be"
            )
        self.attributes: dict[str, Any] = parse_json(attributes["attributes"])
        self.split = self.attributes["split"]
        if not isinstance(self.split, str):
            raise FormatError(f"{self.path}: its split should have a name, not {self.split!r}")
        self.content_digest: str = attributes["content_digest"]
        self.num_networks: int = attributes["num_networks"]

        safe_group(self._file, {"vocabulary", "networks", "wiring"})
        vocabulary = safe_group(self._file["vocabulary"], set(VOCABULARY))
        self.vocabulary = {
            name: self._words(dataset, VOCABULARY[name])
            for name, dataset in safe_datasets(vocabulary, VOCABULARY).items()
        }
        networks = safe_group(self._file["networks"], set(COLUMNS))
        for name, dataset in safe_datasets(networks, COLUMNS).items():
            dtype = COLUMNS[name]
            inner = ARCHITECTURE[name].shape if name in (ARCHITECTURE.names or ()) else ()
            if name in GENES:
                self._expect(dataset, dataset.ndim == 3 and 2 <= dataset.shape[2] <= 2 * MAX_STEPS)
                inner = (2, dataset.shape[2])
            self._expect(dataset, dataset.dtype == dtype and dataset.shape == (self.num_networks, *inner))
        self._wiring = safe_datasets(self._file, ["wiring"])["wiring"]
        self._expect(self._wiring, self._wiring.dtype == WIRING and self._wiring.ndim == 1)
        self._rows = ChunkedRows(self._wiring)
        self.offsets = np.zeros(self.num_networks + 1, np.int64)
        np.cumsum(self.column("num_rows"), out=self.offsets[1:])
        self._expect(self._wiring, len(self._wiring) == self.offsets[-1], "as many rows as its networks have")

    def column(self, name: str) -> npt.NDArray[Any]:
        """Read a column; it is read once and kept in memory.

        Parameters
        ----------
        name
            A key of `COLUMNS`.

        Returns
        -------
        numpy.ndarray
            `(n, ...)`.

        Raises
        ------
        IntegrityError
            If the column is damaged.
        """
        if name not in self._columns:
            self._ensure_open()
            with self._reading(f"split {self.split}, column {name}"):
                dataset = self._file["networks"][name]
                check_chunks(dataset, f"{self.path}: split {self.split}, column {name}")
                values = dataset[:]
            if name in LARGEST and values.max(initial=0) > LARGEST[name]:
                network = int(np.argmax(values > LARGEST[name]))
                raise IntegrityError(
                    f"{self.path}: split {self.split}, network {network}: {name}: expected 0 to {LARGEST[name]}, "
                    f"got {values[network]}"
                )
            self._columns[name] = values
        return self._columns[name]

    @property
    def columns(self) -> Columns:
        """All columns by name."""
        return {name: self.column(name) for name in COLUMNS}

    def architectures(self, indices: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.void]:
        """Return encoded configurations.

        Parameters
        ----------
        indices
            Networks, as an array or a slice.

        Returns
        -------
        numpy.ndarray
            Records of `deepnets.architecture.ARCHITECTURE`.  They are not validated.
        """
        parts = {name: self.column(name)[indices] for name in ARCHITECTURE.names or ()}
        records = np.zeros(len(parts["n_cells"]), ARCHITECTURE)
        for name, values in parts.items():
            if name in GENES:
                records[name] = PADDING
                records[name][:, :, : values.shape[2]] = values
            else:
                records[name] = values
        return records

    def wiring(self, start: int, stop: int) -> npt.NDArray[np.void]:
        """Read the wiring of consecutive networks.

        Parameters
        ----------
        start, stop
            The networks `start ... stop - 1`.

        Returns
        -------
        numpy.ndarray
            Rows of `deepnets.corpus.WIRING`.
        """
        self._ensure_open()
        networks = f"network {start}" if stop == start + 1 else f"networks {start} to {stop - 1}"
        with self._reading(f"split {self.split}, {networks}"):
            where = f"{self.path}: split {self.split}, {networks}"
            return self._rows.read(int(self.offsets[start]), int(self.offsets[stop]), where)

    def wiring_blocks(self, size: int = 1 << 18) -> Iterator[npt.NDArray[np.void]]:
        """Iterate over the wiring of all networks in blocks of equal size.

        The memory that this needs does not depend on the content of the file.

        Parameters
        ----------
        size
            Rows per block.
        """
        self._ensure_open()
        with self._reading(f"split {self.split}, the wiring"):
            check_filters(self._wiring, f"{self.path}: split {self.split}, the wiring")
        for start in range(0, int(self.offsets[-1]), size):
            where = f"split {self.split}, rows from {start} on"
            with self._reading(where):
                block = self._rows.read(start, start + size, f"{self.path}: {where}")
            yield block

    def close(self) -> None:
        """Close the file.  Columns that were read stay available."""
        if self._process == os.getpid():
            with contextlib.suppress(OSError, RuntimeError):  # HDF5 raises errors for damaged files here, too
                self._file.close()

    def __enter__(self) -> CorpusFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # An HDF5 handle cannot be used after a fork or sent to another process, so every process opens its own.

    def _ensure_open(self) -> None:
        if self._process != os.getpid():
            mine = CorpusFile(self._location)
            mine.path = self.path
            if mine.content_digest != self.content_digest:
                mine.close()
                raise IntegrityError(f"{self.path}: was replaced by another corpus since it was opened")
            self.__dict__.update({**vars(mine), "_columns": {**mine._columns, **self._columns}})
        if not self._file:
            raise DeepNetsError(f"{self.path}: was closed")

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "_location": self._location,
            "content_digest": self.content_digest,
            "_columns": {},
            "_process": -1,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._ensure_open()

    def _words(self, dataset: h5py.Dataset, known: tuple[str, ...]) -> tuple[str, ...]:
        """Check that a list of words is the known one or its beginning; earlier versions may lack the last words."""
        expected = np.array(known, dtype="S")
        self._expect(dataset, dataset.ndim == 1 and dataset.dtype.kind == "S" and dataset.nbytes <= expected.nbytes)
        check_chunks(dataset, f"{self.path}: {dataset.name}")
        found = dataset[:]
        same = (found == expected[: len(found)]) | (found == b"")  # a place that a later version may use
        self._expect(dataset, bool(same.all()), "a vocabulary that this version knows")
        return known[: len(dataset)]

    def _expect(self, dataset: h5py.Dataset, condition: bool, what: str = "the type and shape it should") -> None:
        if not condition:
            raise FormatError(
                f"{self.path}: {dataset.name} does not have {what} (it has {dataset.dtype}, {dataset.shape})"
            )

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Convert errors of HDF5, JSON and NumPy, which mean here that the file is damaged."""
        try:
            yield
        except (FormatError, MemoryError):
            raise
        except Exception as error:
            raise IntegrityError(f"{self.path}: {what}: damaged: {error_reason(error)}") from error


def content_digest(file: CorpusFile) -> str:
    """Compute the content digest from the content of a file.

    Parameters
    ----------
    file
        An open corpus file.

    Returns
    -------
    str
        SHA-256 in hexadecimal; equal to `file.content_digest` unless the file was changed.

    Examples
    --------
    See `write_corpus`.
    """
    hashed = hashlib.sha256()
    for block in file.wiring_blocks():
        hashed.update(block.tobytes())
    return digest(file.vocabulary, file.attributes, file.columns, hashed.digest())
