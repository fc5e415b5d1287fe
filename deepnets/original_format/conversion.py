"""From our corpus files to those of the original release, and back."""

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
from deepnets.original_format.reader import OfficialReport, read_official
from deepnets.original_format.writer import write_official
from deepnets.support import ConfigError

__all__ = ["export_official", "import_official"]

_BLOCK = 4_096


def export_official(
    source: Path | str, target: Path | str, splits: Sequence[str], *, overwrite: bool = False, progress: bool = False
) -> tuple[Path, ...]:
    """Write splits of a corpus in the format of the original release, for PPUDA and GHN-3 to read.

    Parameters
    ----------
    source
        The corpus folder.
    target
        Folder of the new files: `deepnets1m_train.hdf5`, `..._search.hdf5` and, for all evaluation splits together,
        `..._eval.hdf5`, each with its `_meta.json`.
    splits
        Which.
    overwrite
        Replace files that are there.
    progress
        Show a bar.

    Returns
    -------
    The HDF5 files.
    """
    for split in splits:
        if not corpus_path(source, split).exists():
            raise ConfigError(
                f"{corpus_path(source, split)}: no such file; build it with `make dataset SPLITS={split}`"
            )
    return write_official(
        target, {split: _stored_graphs(source, split, progress) for split in splits}, overwrite=overwrite
    )


def _stored_graphs(folder: Path | str, split: str, progress: bool) -> Iterator[Graph]:
    """The graphs of a split at the widths that the file states, which readers of either format change when loading."""
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
    """Make a corpus file from a split of the original release.

    Graphs are built from the configurations in the metadata, with dead nodes kept; those in the HDF5 file, which have
    known defects, are only compared.

    Parameters
    ----------
    source
        The HDF5 file or its folder; the metadata must be beside it.
    target
        The corpus folder.
    split
        Which.
    check
        Compare the graphs of so many networks, evenly spread, with the file's.
    overwrite
        Replace a file that is there.
    progress
        Show a bar.

    Returns
    -------
    What the comparison found.
    """
    path = corpus_path(target, split)
    if path.exists() and not overwrite:
        raise ConfigError(f"{path}: already there; remove it, or allow overwriting")
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
        wiring = (compute_statistics(block)[1] for block in records)  # computed again, to save memory
        write_corpus(path, attributes, _columns(records, statistics), wiring)
    return report


def _columns(records: Iterable[npt.NDArray[np.void]], statistics: Iterable[npt.NDArray[np.void]]) -> dict[str, Any]:
    parts = (np.concatenate(list(records)), np.concatenate(list(statistics)))
    assert parts[0].dtype == ARCHITECTURE  # noqa: S101
    assert parts[1].dtype == STATISTICS  # noqa: S101
    return {name: part[name] for part in parts for name in part.dtype.names or ()}
