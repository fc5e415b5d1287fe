"""Conversion between corpus files and files of the original release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepnets.architecture import ARCHITECTURE, decode, encode
from deepnets.corpus import STATISTICS, CorpusFile, compute_statistics, corpus_path, decode_wiring, write_corpus
from deepnets.graph import Graph, parameter_slots
from deepnets.original_format.network import OfficialReport
from deepnets.original_format.reader import read_official
from deepnets.original_format.writer import write_official
from deepnets.support import ConfigError, MissingDataError

__all__ = ["export_official", "import_official"]

_BLOCK = 4_096


def export_official(
    source: Path | str, target: Path | str, splits: Sequence[str], *, overwrite: bool = False, progress: bool = False
) -> tuple[Path, ...]:
    """Write splits of a corpus in the format of the original release, which PPUDA and GHN-3 read.

    Parameters
    ----------
    source : Path or str
        The corpus folder.
    target : Path or str
        Folder for the files: `deepnets1m_train.hdf5`, `deepnets1m_search.hdf5`, and `deepnets1m_eval.hdf5` for all
        evaluation splits, each with its `_meta.json`.
    splits : sequence of str
        The splits.
    overwrite : bool, default False
        Whether to replace existing files.
    progress : bool, default False
        Whether to show a progress bar.

    Returns
    -------
    tuple of Path
        The HDF5 files.

    Raises
    ------
    MissingDataError
        If the corpus does not hold a split.
    ConfigError
        If a file exists, and `overwrite` is not set.

    Examples
    --------
    >>> export_official("data", "original-format", ["val", "test"])  # doctest: +SKIP
    (PosixPath('original-format/deepnets1m_eval.hdf5'),)
    """
    for split in splits:
        if not corpus_path(source, split).exists():
            raise MissingDataError(
                f"{corpus_path(source, split)}: no such file; build it with `make dataset SPLITS={split}`"
            )
    return write_official(
        target, {split: _stored_graphs(source, split, progress) for split in splits}, overwrite=overwrite
    )


def _stored_graphs(folder: Path | str, split: str, progress: bool) -> Iterator[Graph]:
    """Iterate over the graphs of a split at the stored widths; readers of both formats change widths on load."""
    with CorpusFile(corpus_path(folder, split)) as file:
        for i in tqdm(range(file.num_networks), desc=f"export {split}", disable=None if progress else True):
            record = file.architectures(np.array([i]))[0]
            config = decode(record)
            node_types, cells, names, in_degrees, sources = decode_wiring(file.wiring(i, i + 1))
            slots = partial(parameter_slots, record, 10, 32)
            yield Graph(node_types, cells, in_degrees, sources, names=names, config=config, slots=slots, index=i)


def import_official(
    source: Path | str,
    target: Path | str,
    split: str,
    *,
    check: int = 100,
    overwrite: bool = False,
    progress: bool = False,
) -> OfficialReport:
    """Convert a split of the original release to a corpus file.

    Graphs are built from the configurations in the metadata, including dead nodes.  The graphs in the HDF5 file have
    known defects (`DEFECTS`) and are only compared with them.

    Parameters
    ----------
    source : Path or str
        The HDF5 file, with its metadata in the same folder; or this folder.
    target : Path or str
        The corpus folder, created if necessary.
    split : str
        The split.
    check : int, default 100
        Number of networks, evenly spaced, whose graphs are compared with the file.
    overwrite : bool, default False
        Whether to replace an existing corpus file.
    progress : bool, default False
        Whether to show a progress bar.

    Returns
    -------
    OfficialReport
        Result of the comparison.

    Raises
    ------
    ConfigError
        If the corpus file exists, and `overwrite` is not set.
    MissingDataError, FormatError, IntegrityError
        As for `read_official`.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, DeepNets1M, NetworkConfig, build_graph
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    ...     _ = write_official(folder, {"val": [graph]})
    ...     print(import_official(folder, folder, "val"))
    ...     len(DeepNets1M(folder, "val"))
    1 networks, 1 exact, 0 with dead nodes
    1
    """
    path = corpus_path(target, split)
    if path.exists() and not overwrite:
        raise ConfigError(f"{path}: already exists; remove it, or overwrite it")
    with read_official(source, split, rebuild=True) as networks:
        report = networks.report(np.linspace(0, len(networks) - 1, min(check, len(networks)), dtype=int).tolist())
        records, statistics = [], []
        blocks = range(0, len(networks), _BLOCK)
        for start in tqdm(blocks, desc=f"import {split}", disable=None if progress else True):
            stop = min(start + _BLOCK, len(networks))
            block = encode([networks[i].config for i in range(start, stop)])
            measured, _ = compute_statistics(block)
            measured["candidate"] = np.arange(start, stop)
            records.append(block)
            statistics.append(measured)
        Path(target).mkdir(parents=True, exist_ok=True)
        attributes = {"split": split, "size": len(networks), "origin": f"original release ({networks.path.name})"}
        wiring = (compute_statistics(block)[1] for block in records)  # computed again to save memory
        write_corpus(path, attributes, _columns(records, statistics), wiring)
    return report


def _columns(records: Iterable[npt.NDArray[np.void]], statistics: Iterable[npt.NDArray[np.void]]) -> dict[str, Any]:
    parts = (np.concatenate(list(records)), np.concatenate(list(statistics)))
    assert parts[0].dtype == ARCHITECTURE  # noqa: S101
    assert parts[1].dtype == STATISTICS  # noqa: S101
    return {name: part[name] for part in parts for name in part.dtype.names or ()}
