"""Writing files in the original release's format, network by network, so that a million need no memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import h5py
import numpy as np

from deepnets.architecture import NetworkConfig
from deepnets.graph import MAX_DISTANCE, Graph, build_graph, count_parameters
from deepnets.original_format.metadata import MAX_NODES, SPLITS, metadata_file, official_file
from deepnets.original_format.vocabulary import Vocabulary
from deepnets.support import ConfigError, sync

__all__ = ["OfficialWriter", "write_official"]


def write_official(
    folder: str | Path,
    splits: Mapping[str, Iterable[Graph]],
    *,
    cutoff: int = 250,
    compression: str | None = "gzip",
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write splits in the original release's layout: `train` and `search` have their own files, the rest share one.

    Parameters
    ----------
    folder
        Where the files go; made if need be.
    splits
        The networks of each split, as `OfficialWriter.write` takes them.
    cutoff, compression, overwrite
        As for `OfficialWriter`.

    Returns
    -------
    The HDF5 files; each has its `_meta.json` beside it.

    Raises
    ------
    ConfigError
        If a split or a network cannot be written, or a file is there and is not to be overwritten.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    >>> write_official("data", {"train": [graph]})   # doctest: +SKIP
    (PosixPath('data/deepnets1m_train.hdf5'),)
    """
    by_file: dict[Path, dict[str, Iterable[Graph]]] = {}
    for split, networks in splits.items():
        by_file.setdefault(official_file(folder, split), {})[split] = networks
    writers = {
        path: OfficialWriter(path, cutoff=cutoff, compression=compression, overwrite=overwrite) for path in by_file
    }
    for path, members in by_file.items():
        with writers[path] as writer:
            for split, networks in members.items():
                writer.write(split, networks)
    return tuple(by_file)


class OfficialWriter:
    """Writes one HDF5 file and the metadata beside it; to be used in a `with` statement.

    Both files appear when the statement ends without an error; until then, and if it ends with one, nothing is changed
    except for `.partial` files, which a later writer replaces.

    Parameters
    ----------
    path
        The HDF5 file, as named by `official_file`.
    cutoff
        Longest distance that is stored, 1 to 254; the original release has 250.
    compression
        `"gzip"`, or `None` for plain data (four times the size, and silent about damage).
    overwrite
        Whether files of these names may be replaced.

    Raises
    ------
    ConfigError
        If an option is not allowed, or one of the files is there and `overwrite` is not set.
    """

    def __init__(
        self, path: str | Path, *, cutoff: int = 250, compression: str | None = "gzip", overwrite: bool = False
    ) -> None:
        if not 1 <= cutoff <= MAX_DISTANCE:
            raise ConfigError(f"cutoff: expected 1 to {MAX_DISTANCE}, got {cutoff!r}")
        if compression not in (None, "gzip"):
            raise ConfigError(f'compression: expected "gzip" or None, got {compression!r}')
        self.path = Path(path)
        self._targets = (self.path, metadata_file(self.path))
        self._partial = tuple(target.with_name(f"{target.name}.partial") for target in self._targets)
        for target in self._targets:
            if target.exists() and not overwrite:
                raise ConfigError(f"{target}: already there; remove it, or allow overwriting")
        self._cutoff = cutoff
        self._compression = compression
        self._splits: list[str] = []
        self._open: tuple[h5py.File, TextIO] | None = None
        self._failed = False

    def __enter__(self) -> OfficialWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # With these bounds every damaged byte of the file's own structure is noticed.
        file = h5py.File(self._partial[0], "w", libver=("v110", "v110"))
        file.attrs["title"] = "DeepNets-1M"
        self._open = file, self._partial[1].open("w", encoding="utf-8", newline="\n")
        return self

    def write(self, split: str, networks: Iterable[Graph]) -> int:
        """Write a split, one network after the other.

        Parameters
        ----------
        split
            One of `SPLITS`, not yet written.
        networks
            Graphs with a config, in canonical order, with or without dead nodes.  `config.C` and `config.fc_dim` are
            stored as they are; for `wide` that is the width of the `test` network, which readers multiply.  `train`
            stores no `C`: readers draw it.

        Returns
        -------
        The number of networks.

        Raises
        ------
        ConfigError
            If the split was written already, or a graph has no config or is not what `build_graph` makes of it.
        """
        if self._open is None:
            raise ConfigError("writer: not open; use it in a `with` statement")
        if split not in SPLITS or split in self._splits:
            raise ConfigError(f"split: expected one of {', '.join(SPLITS)}, once; got {split!r}")
        self._failed = True  # until all is written
        file, metadata = self._open
        group = file.create_group(split)
        vocabulary = Vocabulary()
        metadata.write(f'{"," if self._splits else "{"}\n"{split}": {{"nets": [')
        count = 0
        for graph in networks:
            try:
                graph = _canonical(graph)
            except ConfigError as error:
                raise ConfigError(f"{self.path}: split {split}, network {count}: {error}") from error
            network = group.create_group(str(count))
            self._store(network, "adj", graph.distances(self._cutoff))
            self._store(network, "nodes", vocabulary.rows(graph))
            metadata.write(("," if count else "") + "\n" + json.dumps(_entry(graph, with_width=split != "train")))
            count += 1
        metadata.write(f'], "meta": {json.dumps(vocabulary.meta())}}}')
        self._splits.append(split)
        self._failed = False
        return count

    def _store(self, group: h5py.Group, name: str, values: Any) -> None:
        options = {} if self._compression is None else {"chunks": values.shape, "compression": self._compression}
        group.create_dataset(name, data=np.ascontiguousarray(values), fletcher32=bool(options), **options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is None:
            return
        file, metadata = self._open
        self._open = None
        complete = kind is None and not self._failed and bool(self._splits)
        try:
            if complete:
                metadata.write("\n}\n")
            metadata.close()
            file.close()
            if complete:
                self._publish()
        finally:
            for partial in self._partial:
                partial.unlink(missing_ok=True)
        if kind is None and not complete:
            reason = "writing a split failed" if self._failed else "no split was written"
            raise ConfigError(f"{self.path}: not made, because {reason}")

    def _publish(self) -> None:
        for partial in self._partial:
            sync(partial)
        # Old metadata goes first: at no moment do an old and a new file lie side by side.
        self._targets[1].unlink(missing_ok=True)
        for partial, target in zip(self._partial, self._targets):
            partial.replace(target)
        sync(self.path.parent)


def _canonical(graph: Graph) -> Graph:
    """The graph as `build_graph` makes it, with names and parameters, after a check that it is the same."""
    whole = build_graph(graph.config)
    canonical = whole if graph.num_nodes == whole.num_nodes else whole.pruned()
    if graph != canonical:
        raise ConfigError("the graph is not the one of its config in canonical order; give build_graph(graph.config)")
    if graph.num_nodes > MAX_NODES:
        raise ConfigError(f"{graph.num_nodes} nodes; the format is for up to {MAX_NODES}")
    return canonical


def _entry(graph: Graph, with_width: bool) -> dict[str, Any]:
    config = graph.config
    entry = config.to_official()
    if not with_width:
        del entry["C"]
    entry["num_nodes"] = graph.num_nodes
    entry["num_params"] = _counts(config)
    return entry


def _counts(config: NetworkConfig) -> dict[str, int]:
    """Parameters at the width that the original release counts them at."""
    config = config.replace(C=32, fc_dim=256)
    return {
        "cifar10": count_parameters(config, num_classes=10, image_size=32),
        "imagenet": count_parameters(config, num_classes=10, image_size=224),
    }
