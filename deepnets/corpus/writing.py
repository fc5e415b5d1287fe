"""`write_corpus`: write the corpus file of a split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.corpus.layout import COLUMNS, FORMAT, FORMAT_VERSION, GENES, LICENCE, VOCABULARY, Columns, digest
from deepnets.corpus.storage import CorpusFile, content_digest
from deepnets.corpus.wiring import MAX_NODES, WIRING
from deepnets.support import IntegrityError, create_group, create_hdf5

__all__ = ["write_corpus"]

_COLUMN_CHUNK = 16_384
_WIRING_CHUNK = 4_096  # about 19 networks; larger chunks compress little better and slow down random access
_COMPRESSION_LEVEL = 6


def write_corpus(
    path: Path,
    attributes: Mapping[str, Any],
    columns: Columns,
    wiring: Iterable[npt.NDArray[np.void]],
) -> str:
    """Write the file of a split atomically, and verify it by reading it back.

    Parameters
    ----------
    path
        The file; replaced if it exists.
    attributes
        Description of the split: at least `split` and `seed`; values that JSON can represent.
    columns
        Arrays of all `COLUMNS`, each of shape `(n, ...)`.
    wiring
        Arrays of `deepnets.corpus.WIRING`, in the order of the networks; together `columns["num_rows"].sum()` rows.

    Returns
    -------
    str
        The content digest, which does not depend on how the wiring is divided into arrays.

    Raises
    ------
    DeepNetsError
        If the file cannot be written.
    IntegrityError
        If the file does not read back the same.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> from deepnets.corpus import compute_statistics
    >>> architectures = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])
    >>> statistics, wiring = compute_statistics(architectures)
    >>> columns = {name: part[name] for part in (architectures, statistics) for name in part.dtype.names}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "test.h5")
    ...     written = write_corpus(path, {"split": "test", "seed": 0}, columns, [wiring])
    ...     with CorpusFile(path) as file:
    ...         file.content_digest == written == content_digest(file)
    True
    """
    columns = _trimmed(columns)
    num_rows = int(columns["num_rows"].sum(dtype=np.int64))
    expected = ""

    def check(written: Path) -> None:
        with CorpusFile(written) as file:
            if content_digest(file) != expected:
                raise IntegrityError(f"{path}: what was written does not read back the same; is the disk sound?")

    with create_hdf5(path, check) as file:
        vocabulary = create_group(file, "vocabulary")
        for name, words in VOCABULARY.items():
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
        expected = digest(VOCABULARY, attributes, columns, hashed.digest())
        file.attrs.update(
            {
                "format": np.bytes_(FORMAT),
                "format_version": FORMAT_VERSION,
                "num_networks": len(columns["num_rows"]),
                "licence": np.bytes_(LICENCE),
                "content_digest": np.bytes_(expected),
                "attributes": np.bytes_(json.dumps(dict(attributes), sort_keys=True)),
            }
        )
    return expected


def _trimmed(columns: Columns) -> Columns:
    """Columns in their stored types, without unused padding of genes."""
    pairs = 2 * int(columns["steps"].max(initial=1))
    stored = {name: np.ascontiguousarray(columns[name], dtype) for name, dtype in COLUMNS.items()}
    for name in GENES:
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
