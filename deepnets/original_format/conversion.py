"""Conversion between corpus files and files of the original release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import ARCHITECTURE, decode, encode
from deepnets.corpus import (
    STATISTICS,
    CorpusFile,
    compute_statistics,
    corpus_path,
    decode_wiring,
    evaluation_widths,
    write_corpus,
)
from deepnets.graph import Graph, parameter_slots
from deepnets.original_format.metadata import official_file
from deepnets.original_format.network import OfficialReport
from deepnets.original_format.reader import list_splits, read_official
from deepnets.original_format.writer import write_official
from deepnets.support import STORED_SPLITS, ConfigError, MissingDataError, ProgressBar

__all__ = ["export_official", "find_official", "import_official"]

_BLOCK = 4_096


def export_official(
    source: Path | str, target: Path | str, splits: Sequence[str], *, overwrite: bool = False, progress: bool = False
) -> tuple[Path, ...]:
    """Write splits of a corpus in the format of the original release, which PPUDA and GHN-3 read.

    Splits that an existing file holds and that are not written are kept: the evaluation splits share a file.

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
        Whether to replace splits that an existing file holds.
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
        If an existing file holds a split, and `overwrite` is not set.
    FormatError, IntegrityError
        If an existing file is damaged; it is not changed.

    Examples
    --------
    >>> export_official("data", "original-format", ["val", "test"])  # doctest: +SKIP
    (PosixPath('original-format/deepnets1m_eval.hdf5'),)
    """
    for split in splits:
        if not corpus_path(source, split).exists():
            raise MissingDataError(
                f"{corpus_path(source, split)}: no such file; build it with `deepnets build --splits {split} "
                f"--out {source}`"
            )
    return write_official(
        target,
        {split: _stored_graphs(source, split, progress) for split in splits},
        overwrite=overwrite,
        keep_others=True,
    )


def _stored_graphs(folder: Path | str, split: str, progress: bool) -> Iterator[Graph]:
    """Iterate over the graphs of a split at the stored widths; readers of both formats change widths on load."""
    with CorpusFile(corpus_path(folder, split)) as file:
        for i in ProgressBar(range(file.num_networks), desc=f"export {split}", show=progress):
            record = file.architectures(np.array([i]))[0]
            config = decode(record)
            node_types, cells, names, in_degrees, sources = decode_wiring(file.wiring(i, i + 1))
            slots = partial(parameter_slots, record, 10, 32)
            yield Graph(node_types, cells, in_degrees, sources, names=names, config=config, slots=slots, index=i)


def find_official(folder: Path | str) -> dict[str, Path]:
    """Find the file of every split in a folder with files of the original release.

    Parameters
    ----------
    folder : Path or str
        The folder.  The original generator leaves files of single splits, such as `deepnets1m_val.hdf5`, beside
        `deepnets1m_eval.hdf5`, into which it merges the evaluation splits.

    Returns
    -------
    dict of str to Path
        The HDF5 file of each split: the one that the original tools read (`official_file`) if it holds the split, and
        otherwise the only file that does.

    Raises
    ------
    MissingDataError
        If the folder holds no such files.
    FormatError
        If a file with the suffix `.hdf5` is not one of the original release.
    ConfigError
        If several files hold a split, and none of them is the one that the original tools read.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    ...     _ = write_official(folder, {"val": [graph], "train": [graph]})
    ...     {split: path.name for split, path in find_official(folder).items()}
    {'train': 'deepnets1m_train.hdf5', 'val': 'deepnets1m_eval.hdf5'}
    """
    folder = Path(folder)
    files = {path: list_splits(path) for path in sorted(folder.glob("*.hdf5"))}
    if not files:
        raise MissingDataError(f"{folder}: holds no .hdf5 files of the original release")
    found = {}
    for split in STORED_SPLITS:
        holders = [path for path, splits in files.items() if split in splits]
        usual = official_file(folder, split)
        if usual in holders:
            found[split] = usual
        elif len(holders) > 1:
            names = ", ".join(path.name for path in holders)
            raise ConfigError(f"{folder}: {names} hold the split {split}; name one of the files instead of the folder")
        elif holders:
            found[split] = holders[0]
    return found


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
        The HDF5 file, with its metadata in the same folder; or this folder, in which `find_official` finds the file.
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

    Notes
    -----
    Networks of evaluation splits without a width, as the public generator writes them, get the smallest width, 32 plus
    a multiple of 16, with at least 2.5 million parameters on CIFAR-10 (10 classes): the rule by which the widths of
    the original release were chosen.  The report says how many.  The widths of `train` are drawn when it is loaded.

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
    if Path(source).is_dir():
        source = find_official(source).get(split, official_file(source, split))
    with read_official(source, split, rebuild=True) as networks:
        report = networks.report(np.linspace(0, len(networks) - 1, min(check, len(networks)), dtype=int).tolist())
        records, statistics = [], []
        chosen = 0
        blocks = range(0, len(networks), _BLOCK)
        for start in ProgressBar(blocks, desc=f"import {split}", show=progress):
            stop = min(start + _BLOCK, len(networks))
            read = [networks[i] for i in range(start, stop)]
            block = encode([network.config for network in read])
            measured, _ = compute_statistics(block)
            if split != "train" and (missing := np.flatnonzero([not network.has_width for network in read])).size:
                block["C"][missing] = evaluation_widths(block[missing], measured[missing])
                measured, _ = compute_statistics(block)
                chosen += missing.size
            measured["candidate"] = np.arange(start, stop)
            records.append(block)
            statistics.append(measured)
        Path(target).mkdir(parents=True, exist_ok=True)
        origin = f"original release ({networks.path.name})"
        if chosen:
            origin += f"; widths of {chosen} networks chosen for 2.5 million parameters"
        attributes = {"split": split, "size": len(networks), "origin": origin}
        wiring = (compute_statistics(block)[1] for block in records)  # computed again to save memory
        write_corpus(path, attributes, _columns(records, statistics), wiring)
    return replace(report, widths_chosen=chosen)


def _columns(records: Iterable[npt.NDArray[np.void]], statistics: Iterable[npt.NDArray[np.void]]) -> dict[str, Any]:
    parts = (np.concatenate(list(records)), np.concatenate(list(statistics)))
    assert parts[0].dtype == ARCHITECTURE  # noqa: S101
    assert parts[1].dtype == STATISTICS  # noqa: S101
    return {name: part[name] for part in parts for name in part.dtype.names or ()}
