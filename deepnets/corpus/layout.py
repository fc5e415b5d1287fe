"""The layout of a corpus file: one HDF5 file per split.

    /                   attributes: format, format_version, num_networks, content_digest, licence, and `attributes`,
                        JSON that describes the split: its name, seed, rules, and counts
    /vocabulary/...     meaning of the numbers: node_types, primitives, norms, names
    /networks/...       one dataset per column, one entry per network: configuration, sizes, fingerprint
    /wiring             the edges of all graphs as rows of `deepnets.corpus.wiring`; network i has `num_rows[i]` rows

docs/file-formats.md documents every column.  Every chunk of data has a checksum, which HDF5 verifies when it is read.
Strings have fixed lengths, because HDF5 stores strings of variable length without checksums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import ARCHITECTURE, MAX_STEPS, NAMES, NORMS, PRIMITIVES, PUBLISHED_NODE_TYPES
from deepnets.corpus.statistics import STATISTICS
from deepnets.support import NETWORK_SPLITS, corpus_path

__all__ = [
    "ATTRIBUTES",
    "COLUMNS",
    "FORMAT",
    "FORMAT_VERSION",
    "GENES",
    "LARGEST",
    "LICENCE",
    "NETWORK_SPLITS",
    "VOCABULARY",
    "Columns",
    "corpus_path",
    "digest",
]

FORMAT = "DeepNets-1M corpus"
FORMAT_VERSION = 1
LICENCE = "CC0-1.0"

ATTRIBUTES = {"format": str, "format_version": int, "num_networks": int, "content_digest": str, "attributes": str}
"""Attributes of the file that readers need, with their types."""

COLUMNS: dict[str, np.dtype[Any]] = {
    name: record[name].base for record in (ARCHITECTURE, STATISTICS) for name in record.names or ()
}
"""Type of every column of `/networks`, in the order of the content digest."""

GENES = ("ops", "states")
"""Columns that are stored without the padding that no network of the split needs."""

LARGEST = {"norm": len(NORMS) - 1, "stem_pool": 1, "preproc": 1, "glob_avg": 1, "steps": MAX_STEPS}
"""Largest valid values of columns in which a larger value could be mistaken for another one."""

VOCABULARY: dict[str, tuple[str, ...]] = {
    "node_types": PUBLISHED_NODE_TYPES,
    "primitives": PRIMITIVES,
    "norms": tuple(str(norm) for norm in NORMS),
    "names": NAMES,
}
"""Lists of words; files store indices into them."""

Columns = dict[str, npt.NDArray[Any]]


def digest(
    vocabulary: Mapping[str, tuple[str, ...]], attributes: Mapping[str, Any], columns: Columns, wiring_digest: bytes
) -> str:
    """Compute the content digest of a split.

    Versions of libraries have no influence: the same corpus made with other versions has the same digest.

    Parameters
    ----------
    vocabulary
        As in `VOCABULARY`.
    attributes
        Description of the split.
    columns
        Arrays of all `COLUMNS`.
    wiring_digest
        SHA-256 of the wiring of all graphs.

    Returns
    -------
    str
        SHA-256 in hexadecimal.

    Examples
    --------
    >>> columns = {name: np.zeros(0, dtype) for name, dtype in COLUMNS.items()}
    >>> len(digest(VOCABULARY, {"split": "test"}, columns, b""))
    64
    """
    identity = {name: value for name, value in attributes.items() if name != "versions"}
    total = hashlib.sha256(json.dumps([FORMAT_VERSION, vocabulary, identity], sort_keys=True).encode())
    for name, dtype in COLUMNS.items():
        values = columns[name]
        total.update(f"{name} {dtype.str} {values.shape}".encode())
        total.update(np.ascontiguousarray(values, dtype).tobytes())
    total.update(wiring_digest)
    return total.hexdigest()
