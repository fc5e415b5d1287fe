"""The corpus file: one immutable HDF5 file per split, which plain h5py can read and this module checks.

    /                   attributes: format, format_version, num_networks, content_digest, licence, and `attributes`,
                        what describes the split, as JSON: its name, seed, rules, counts
    /vocabulary/...     what the numbers mean: node_types, primitives, norms, names
    /networks/...       one column per property, one entry per network: its configuration, sizes, fingerprint
    /wiring             the graphs, one after the other, in the rows of `deepnets.corpus.wiring`; network i has
                        `num_rows[i]` of them

The data card documents every column.  Nothing here follows a link out of the file, nothing is read before its size is
known to be sane, and every block of data has a checksum that HDF5 verifies when it is read.  Texts are of fixed length,
because HDF5 keeps those of variable length in a place without checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.architecture import ARCHITECTURE, MAX_STEPS, NAMES, NORMS, PADDING, PRIMITIVES, PUBLISHED_NODE_TYPES
from deepnets.corpus.statistics import MEASURE
from deepnets.corpus.wiring import MAX_NODES, WIRING
from deepnets.support import (
    DeepNetsError,
    FormatError,
    IntegrityError,
    create,
    create_group,
    open_hdf5,
    read_attribute,
    reason,
    safe_datasets,
    safe_group,
)

__all__ = ["COLUMNS", "FORMAT_VERSION", "CorpusFile", "content_digest", "corpus_path", "write_corpus"]

FORMAT_VERSION = 1
_FORMAT = "DeepNets-1M corpus"
_LICENCE = "CC0-1.0"

_GENES = ("ops", "states")  # stored without the padding that no network of the split needs

COLUMNS: dict[str, np.dtype[Any]] = {
    name: record[name].base for record in (ARCHITECTURE, MEASURE) for name in record.names or ()
}
"""Every column of `/networks`, in the order in which the content digest takes them, with its type."""

_VOCABULARY: dict[str, tuple[str, ...]] = {
    "node_types": PUBLISHED_NODE_TYPES,
    "primitives": PRIMITIVES,
    "norms": tuple(str(norm) for norm in NORMS),
    "names": NAMES,
}

_COLUMN_CHUNK = 16_384
_WIRING_CHUNK = 4_096  # about 19 networks: larger ones compress little better and are slower to read at random
_COMPRESSION_LEVEL = 6

_ATTRIBUTES = {"format": str, "format_version": int, "num_networks": int, "content_digest": str, "attributes": str}

_LARGEST = {"norm": len(NORMS) - 1, "stem_pool": 1, "preproc": 1, "glob_avg": 1, "steps": MAX_STEPS}
"""What the numbers of some columns stop at, where a larger one would pass for something else."""

Columns = dict[str, npt.NDArray[Any]]


def corpus_path(folder: Path | str, split: str) -> Path:
    """Where the file of a split lies in a corpus folder."""
    return Path(folder) / f"deepnets1m_{split}.h5"


def write_corpus(
    path: Path,
    attributes: Mapping[str, Any],
    columns: Columns,
    wiring: Iterable[npt.NDArray[np.void]],
) -> str:
    """Write the finished file of a split, atomically.

    Parameters
    ----------
    path
        The file; replaced if it exists.
    attributes
        What describes the split: at least `split` and `seed`; numbers and strings.
    columns
        `COLUMNS`, each of shape `(n, ...)`.
    wiring
        Blocks of `WIRING` rows, in the order of networks, together `columns["num_rows"].sum()` rows.

    Returns
    -------
    The content digest, which does not depend on how the content was cut into blocks.
    """
    columns = _trimmed(columns)
    num_rows = int(columns["num_rows"].sum(dtype=np.int64))
    digest = ""

    def check(written: Path) -> None:
        with CorpusFile(written) as file:
            if content_digest(file) != digest:
                raise IntegrityError(f"{path}: what was written does not read back the same; is the disk sound?")

    with create(path, check) as file:
        vocabulary = create_group(file, "vocabulary")
        for name, words in _VOCABULARY.items():
            entries = np.array(words, dtype="S")
            vocabulary.create_dataset(name, data=entries, **_filters(len(entries)))
        networks = create_group(file, "networks")
        for name in COLUMNS:
            networks.create_dataset(name, data=columns[name], **_filters(_COLUMN_CHUNK, columns[name].shape))
        rows = file.create_dataset("wiring", (num_rows,), WIRING, **_filters(_WIRING_CHUNK, (num_rows,)))
        hashed = hashlib.sha256()
        written = 0
        for block in _blocks(wiring):
            hashed.update(block.tobytes())
            written += len(block)
            if written <= num_rows:
                rows[written - len(block) : written] = block
        if written != num_rows:
            raise ValueError(f"wiring has {written} rows, the columns announce {num_rows}")
        digest = _digest(_VOCABULARY, attributes, columns, hashed)
        file.attrs.update(
            {
                "format": np.bytes_(_FORMAT),
                "format_version": FORMAT_VERSION,
                "num_networks": len(columns["num_rows"]),
                "licence": np.bytes_(_LICENCE),
                "content_digest": np.bytes_(digest),
                "attributes": np.bytes_(json.dumps(dict(attributes), sort_keys=True)),
            }
        )
    return digest


class CorpusFile:
    """The file of one split, opened and checked, for reading.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    path
        The same.
    attributes
        What the generator wrote about the split: `split`, `seed`, the rules, the versions it ran with.
    split
        Its name.
    vocabulary
        What the numbers in the file mean; that of this version, or the beginning of it.
    num_networks
        Number of networks.
    content_digest
        SHA-256 of the content, equal for equal corpora.

    Raises
    ------
    FormatError, IntegrityError
        If the file is no corpus file, of a newer format, damaged, or made to do harm.  Its layout, types and sizes are
        checked before any data is read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
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
        attributes = {name: read_attribute(self._file, name, kind) for name, kind in _ATTRIBUTES.items()}
        if attributes["format"] != _FORMAT:
            raise FormatError(
                f"{self.path}: not a corpus file of this toolkit; files of the original release are read with "
                "`python -m deepnets import`"
            )
        version = attributes["format_version"]
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{self.path}: has format version {version}, this version of deepnets1m reads {FORMAT_VERSION}; "
                "install the version that wrote it, or build the corpus again"
            )
        if None in attributes.values():
            raise FormatError(
                f"{self.path}: its attributes {', '.join(_ATTRIBUTES)} are not the texts and numbers they should be"
            )
        self.attributes: dict[str, Any] = json.loads(attributes["attributes"])
        self.split = self.attributes["split"]
        if not isinstance(self.split, str):
            raise FormatError(f"{self.path}: its split should have a name, not {self.split!r}")
        self.content_digest: str = attributes["content_digest"]
        self.num_networks: int = attributes["num_networks"]

        safe_group(self._file, {"vocabulary", "networks", "wiring"})
        vocabulary = safe_group(self._file["vocabulary"], set(_VOCABULARY))
        self.vocabulary = {
            name: self._words(dataset, _VOCABULARY[name])
            for name, dataset in safe_datasets(vocabulary, _VOCABULARY).items()
        }
        networks = safe_group(self._file["networks"], set(COLUMNS))
        for name, dataset in safe_datasets(networks, COLUMNS).items():
            dtype = COLUMNS[name]
            inner = ARCHITECTURE[name].shape if name in (ARCHITECTURE.names or ()) else ()
            if name in _GENES:
                self._expect(dataset, dataset.ndim == 3 and 2 <= dataset.shape[2] <= 2 * MAX_STEPS)
                inner = (2, dataset.shape[2])
            self._expect(dataset, dataset.dtype == dtype and dataset.shape == (self.num_networks, *inner))
        self._wiring = safe_datasets(self._file, ["wiring"])["wiring"]
        self._expect(self._wiring, self._wiring.dtype == WIRING and self._wiring.ndim == 1)
        self.offsets = np.zeros(self.num_networks + 1, np.int64)
        np.cumsum(self.column("num_rows"), out=self.offsets[1:])
        self._expect(self._wiring, len(self._wiring) == self.offsets[-1], "as many rows as its networks have")

    # --- reading ---

    def column(self, name: str) -> npt.NDArray[Any]:
        """One column of `COLUMNS`, of shape `(num_networks, ...)`; read once and kept."""
        if name not in self._columns:
            self._ensure_open()
            with self._reading(f"split {self.split}, column {name}"):
                values = self._file["networks"][name][:]
            if name in _LARGEST and values.max(initial=0) > _LARGEST[name]:
                network = int(np.argmax(values > _LARGEST[name]))
                raise IntegrityError(
                    f"{self.path}: split {self.split}, network {network}: {name}: expected 0 to {_LARGEST[name]}, "
                    f"got {values[network]}"
                )
            self._columns[name] = values
        return self._columns[name]

    @property
    def columns(self) -> Columns:
        """All columns."""
        return {name: self.column(name) for name in COLUMNS}

    def architectures(self, indices: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.void]:
        """Encoded configurations, records of `deepnets.architecture.ARCHITECTURE`, of some networks."""
        parts = {name: self.column(name)[indices] for name in ARCHITECTURE.names or ()}
        records = np.zeros(len(parts["n_cells"]), ARCHITECTURE)
        for name, values in parts.items():
            if name in _GENES:
                records[name] = PADDING
                records[name][:, :, : values.shape[2]] = values
            else:
                records[name] = values
        return records

    def wiring(self, start: int, stop: int) -> npt.NDArray[np.void]:
        """The rows of the networks `start ... stop - 1`, one after the other."""
        self._ensure_open()
        networks = f"network {start}" if stop == start + 1 else f"networks {start} to {stop - 1}"
        with self._reading(f"split {self.split}, {networks}"):
            return self._wiring[self.offsets[start] : self.offsets[stop]]  # type: ignore[no-any-return]

    def wiring_blocks(self, size: int = 1 << 18) -> Iterator[npt.NDArray[np.void]]:
        """All rows, in blocks of `size`: memory that does not depend on what the file says of its networks."""
        self._ensure_open()
        for start in range(0, int(self.offsets[-1]), size):
            with self._reading(f"split {self.split}, rows from {start} on"):
                block = self._wiring[start : start + size]
            yield block

    def close(self) -> None:
        """Close the file; what was read stays."""
        if self._process == os.getpid():
            with contextlib.suppress(OSError, RuntimeError):  # HDF5 finds fault with broken files here, too
                self._file.close()

    def __enter__(self) -> CorpusFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- processes ---
    # An HDF5 handle does not survive a fork and cannot be sent to another process: each process opens its own.

    def _ensure_open(self) -> None:
        if self._process != os.getpid():
            mine = CorpusFile(self.path)
            if mine.content_digest != self.content_digest:
                mine.close()
                raise IntegrityError(f"{self.path}: was replaced by another corpus since it was opened")
            self.__dict__.update({**vars(mine), "_columns": {**mine._columns, **self._columns}})
        if not self._file:
            raise DeepNetsError(f"{self.path}: was closed")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "content_digest": self.content_digest, "_columns": {}, "_process": -1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._ensure_open()

    # --- checking ---

    def _words(self, dataset: h5py.Dataset, known: tuple[str, ...]) -> tuple[str, ...]:
        """A list of words: those that this version knows, or only the first of them, as later versions may add some."""
        expected = np.array(known, dtype="S")
        self._expect(dataset, dataset.ndim == 1 and dataset.dtype.kind == "S" and dataset.nbytes <= expected.nbytes)
        found = dataset[:]
        same = (found == expected[: len(found)]) | (found == b"")  # a place that later versions may have filled
        self._expect(dataset, bool(same.all()), "a vocabulary that this version knows")
        return known[: len(dataset)]

    def _expect(self, dataset: h5py.Dataset, condition: bool, what: str = "the type and shape it should") -> None:
        if not condition:
            raise FormatError(
                f"{self.path}: {dataset.name} does not have {what} (it has {dataset.dtype}, {dataset.shape})"
            )

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Say what cannot be read, whatever HDF5, JSON or NumPy stumble over: by then, it is the file's fault."""
        try:
            yield
        except (FormatError, MemoryError):
            raise
        except Exception as error:
            raise IntegrityError(f"{self.path}: {what}: damaged: {reason(error)}") from error


def content_digest(file: CorpusFile) -> str:
    """Compute the content digest again from what the file holds."""
    hashed = hashlib.sha256()
    for block in file.wiring_blocks():
        hashed.update(block.tobytes())
    return _digest(file.vocabulary, file.attributes, file.columns, hashed)


def _digest(
    vocabulary: Mapping[str, tuple[str, ...]], attributes: Mapping[str, Any], columns: Columns, wiring: Any
) -> str:
    """SHA-256 over the vocabulary, the split's own attributes, every column and the wiring.

    Library versions are left out: the same corpus made with other versions is the same corpus.
    """
    identity = {name: value for name, value in attributes.items() if name != "versions"}
    total = hashlib.sha256(json.dumps([FORMAT_VERSION, vocabulary, identity], sort_keys=True).encode())
    for name, dtype in COLUMNS.items():
        values = columns[name]
        total.update(f"{name} {dtype.str} {values.shape}".encode())
        total.update(np.ascontiguousarray(values, dtype).tobytes())
    total.update(wiring.digest())
    return total.hexdigest()


def _trimmed(columns: Columns) -> Columns:
    """Columns in their stored types, genes without the padding that no network needs."""
    pairs = 2 * int(columns["steps"].max(initial=1))
    stored = {name: np.ascontiguousarray(columns[name], dtype) for name, dtype in COLUMNS.items()}
    for name in _GENES:
        stored[name] = np.ascontiguousarray(stored[name][:, :, :pairs])
    if int(columns["num_nodes"].max(initial=0)) > MAX_NODES:
        raise ValueError(f"a graph has more than {MAX_NODES} nodes")
    return stored


def _blocks(wiring: Iterable[npt.NDArray[np.void]]) -> Iterable[npt.NDArray[np.void]]:
    """The same rows in blocks of whole chunks, so that no chunk is compressed twice."""
    pending: list[npt.NDArray[np.void]] = []
    size = 0
    for block in wiring:
        pending.append(block)
        size += len(block)
        whole = size - size % _WIRING_CHUNK
        if whole >= 64 * _WIRING_CHUNK:
            rows = np.concatenate(pending)
            yield rows[:whole]
            pending, size = [rows[whole:]], size - whole
    if size:
        yield np.concatenate(pending)


def _filters(chunk: int, shape: tuple[int, ...] | None = None) -> dict[str, Any]:
    length = chunk if shape is None else min(chunk, shape[0])
    return {
        "chunks": (max(1, length), *(shape or (1,))[1:]),
        "shuffle": True,
        "compression": "gzip",
        "compression_opts": _COMPRESSION_LEVEL,
        "fletcher32": True,
        "track_times": False,
    }
