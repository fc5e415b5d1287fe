"""Conversion between corpus files and files of the original release."""

from __future__ import annotations

import contextlib
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
from deepnets.original_format.network import OfficialReport
from deepnets.original_format.reader import read_official
from deepnets.original_format.writer import write_official
from deepnets.support import (
    STORED_SPLITS,
    ConfigError,
    FormatError,
    MissingDataError,
    ProgressBar,
    at_least,
    checked_integer,
)

__all__ = ["export_official", "import_official"]

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
        Number of networks, evenly spaced, whose graphs are compared with the file; 0 for none.
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
    the original release were chosen.  The report says how many.  The widths of `train` are drawn when it is loaded;
    those that its metadata hold are not kept.

    Raises
    ------
    ConfigError
        If the corpus file exists, and `overwrite` is not set; if the folder holds files of a generated corpus, whose
        networks may be those of the imported one; or if `check` is negative.
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
    check = checked_integer("check", check, at_least(0))
    path = corpus_path(target, split)
    if path.exists() and not overwrite:
        raise ConfigError(
            f"{path}: already exists; leave out this split, or replace the file (--overwrite, overwrite=True)"
        )
    _check_neighbours(Path(target))
    with read_official(source, split, rebuild=True) as networks:
        if not len(networks):
            raise FormatError(f"{networks.path}: the split {split} holds no networks; leave it out")
        report = networks.report(np.linspace(0, len(networks) - 1, min(check, len(networks)), dtype=int).tolist())
        records, statistics = [], []
        chosen = 0
        blocks = range(0, len(networks), _BLOCK)
        for start in ProgressBar(blocks, desc=f"import {split}", show=progress):
            stop = min(start + _BLOCK, len(networks))
            read = [networks[i] for i in range(start, stop)]
            block = encode([network.config for network in read])
            if split == "train":  # widths in the file were drawn, by rules that need the numbers at this width
                block["C"], block["fc_dim"] = 32, 256
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


def _check_neighbours(folder: Path) -> None:
    """Raise `ConfigError` if a folder holds files that were not imported: a folder holds one corpus."""
    for split in STORED_SPLITS:
        with contextlib.suppress(FormatError):  # a file that is missing, or no corpus file, does not matter
            with CorpusFile(corpus_path(folder, split)) as file:
                found = file.attributes
            if "seed" in found:
                raise ConfigError(
                    f"{corpus_path(folder, split)}: belongs to a corpus that was generated; one folder holds one "
                    "corpus, so import into another"
                )


def _columns(records: Iterable[npt.NDArray[np.void]], statistics: Iterable[npt.NDArray[np.void]]) -> dict[str, Any]:
    parts = (np.concatenate(list(records)), np.concatenate(list(statistics)))
    assert parts[0].dtype == ARCHITECTURE  # noqa: S101
    assert parts[1].dtype == STATISTICS  # noqa: S101
    return {name: part[name] for part in parts for name in part.dtype.names or ()}
