"""Helpers shared by the tests of corpus files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from deepnets.architecture import NetworkConfig, encode
from deepnets.corpus import (
    CorpusFile,
    DeepNets1M,
    compute_statistics,
    verify,
)
from deepnets.support import FormatError

SPLIT = "bnfree"
FILTERS = {"compression": "gzip", "shuffle": True, "fletcher32": True}
HEAPS = (b"FRHP", b"FHDB", b"BTHD", b"BTLF", b"GCOL", b"TREE", b"HEAP")  # of HDF5: where damage is most severe
SPLITS = ("train", "val", "test", "search", "wide", "deep", "dense", "bnfree")

Columns = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.void]
Change = Callable[[h5py.File], object]


def corpus_of(networks: list[NetworkConfig]) -> tuple[Columns, Rows]:
    """Return the columns and rows of a corpus of these networks."""
    records = encode(networks)
    statistics, rows = compute_statistics(records)
    statistics["candidate"] = np.arange(len(networks))
    return {name: part[name] for part in (records, statistics) for name in part.dtype.names or ()}, rows


def read_back(path: Path) -> tuple[Columns, Rows, dict[str, Any]]:
    with CorpusFile(path) as file:
        return dict(file.columns), file.wiring(0, file.num_networks), file.attributes


def run_program(module: str, code: str, *arguments: object, seconds: float = 300) -> str:
    """Run a program with the names of a test module, check that it succeeds, and return its output."""
    start = f"import sys\nsys.path[:0] = [{str(Path(__file__).parents[3])!r}]\nfrom {module} import *\n"
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-500:]
    return done.stdout


def refused(path: Path, match: str | None = None, kind: type[FormatError] = FormatError) -> None:
    """Check that every way to open the file raises an error of one line with the name of the file."""
    for opening in (CorpusFile, verify, lambda path: verify(path, quick=True)):
        with pytest.raises(kind, match=match) as caught:
            opening(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def put(file: h5py.File, name: str, data: Any = None, **options: Any) -> None:
    """Replace a dataset by another one with default storage."""
    if name in file:
        del file[name]
    shape = np.shape(data) if data is not None else options["shape"]
    chunks = tuple(max(1, min(side, 1_000)) for side in shape)
    maxshape = (None,) * len(shape) if 0 in shape else None
    file.create_dataset(name, data=data, **{"chunks": chunks, "maxshape": maxshape, **FILTERS, **options})


def attribute(name: str, value: Any) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


def about(text: str | bytes) -> Change:
    return attribute("attributes", np.bytes_(text))


def link(name: str, target: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = target(file) if callable(target) else target

    return change


def snapshot(folder: Path, split: str) -> str:
    """Return a digest of all data of a file."""
    nets = DeepNets1M(folder, split)
    file = nets.file
    assert file is not None
    digest = hashlib.sha256(repr((file.attributes, file.content_digest, file.num_networks, file.vocabulary)).encode())
    for name, values in file.columns.items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    for graph in nets:
        for array in (graph.node_types, graph.cells, graph.names, graph.in_degrees, graph.sources):
            digest.update(array.tobytes())
        digest.update(repr(graph.config).encode())
    nets.close()
    return digest.hexdigest()
