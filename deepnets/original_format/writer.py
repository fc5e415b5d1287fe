"""Writer of files in the format of the original release; memory does not depend on the number of networks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import h5py
import numpy as np

from deepnets.architecture import NetworkConfig
from deepnets.graph import MAX_DISTANCE, Graph, build_graph, count_parameters
from deepnets.original_format.contents import list_splits
from deepnets.original_format.metadata import MAX_NODES, metadata_file, official_file
from deepnets.original_format.output import OutputFile
from deepnets.original_format.reader import OfficialSplit
from deepnets.original_format.vocabulary import Vocabulary
from deepnets.support import STORED_SPLITS, ConfigError, exclusive, naming_full_disk, sync

__all__ = ["OfficialWriter", "write_official"]

_Stored = tuple[Any, Any, dict[str, Any]]
"""Distances, node rows and metadata entry of a network."""


def write_official(
    folder: str | Path,
    splits: Mapping[str, Iterable[Graph]],
    *,
    cutoff: int = 250,
    compression: str | None = "gzip",
    overwrite: bool = False,
    keep_others: bool = False,
) -> tuple[Path, ...]:
    """Write splits as files of the original release: one for `train`, one for `search`, one for all others.

    Parameters
    ----------
    folder : Path or str
        The folder, created if necessary.
    splits : mapping of str to iterable of Graph
        The networks of each split, as for `OfficialWriter.write`.
    cutoff, compression, overwrite
        As for `OfficialWriter`.
    keep_others : bool, default False
        Whether to keep the splits of existing files that are not in `splits`.  `overwrite` is then needed only to
        replace a split.

    Returns
    -------
    tuple of Path
        The HDF5 files; each has its `_meta.json` in the same folder.

    Raises
    ------
    ConfigError
        If a split or a network cannot be written, or a file (with `keep_others`, a split) exists and `overwrite` is not
        set.
    BusyError
        If another process writes one of the files.
    FormatError, IntegrityError
        If a split that is kept is damaged.
    OSError
        If a file cannot be written, for example because the disk is full; existing files are kept.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = write_official(folder, {"train": [graph], "val": [graph], "test": [graph]})
    ...     [path.name for path in paths]
    ['deepnets1m_train.hdf5', 'deepnets1m_eval.hdf5']
    """
    by_file: dict[Path, dict[str, Iterable[Graph]]] = {}
    for split, networks in splits.items():
        by_file.setdefault(official_file(folder, split), {})[split] = networks
    if keep_others:  # all files, before the first one is written
        for path, members in by_file.items():
            _kept_splits(path, members, overwrite)
    writers = {
        path: OfficialWriter(
            path, cutoff=cutoff, compression=compression, overwrite=overwrite or (keep_others and path.exists())
        )
        for path in by_file
    }
    for path, members in by_file.items():
        with writers[path] as writer:
            for split in _kept_splits(path, members, overwrite) if keep_others else ():
                with OfficialSplit(path, split, rebuild=True) as existing:
                    writer.copy(existing)
            for split, networks in members.items():
                writer.write(split, networks)
    return tuple(by_file)


def _kept_splits(path: Path, new: Iterable[str], overwrite: bool) -> list[str]:
    """Return the splits of an existing file that are not written again."""
    existing = list_splits(path) if path.exists() else ()
    if (again := [split for split in new if split in existing]) and not overwrite:
        raise ConfigError(
            f"{path}: already exists, with the split {', '.join(again)}; leave out this split, or replace it "
            "(--overwrite, overwrite=True)"
        )
    return [split for split in existing if split not in set(new)]


class OfficialWriter:
    """Writes one HDF5 file and its metadata; use it in a `with` statement.

    Both files appear when the block ends without an exception.  Until then, only `.partial` files are written, which
    are removed after an exception.

    Parameters
    ----------
    path : Path or str
        The HDF5 file; `official_file` gives its name.
    cutoff : int, default 250
        Largest distance that is stored, 1 to 254; the original release has 250.
    compression : "gzip" or None, default "gzip"
        With None, the files are four times as large and have no checksums of the data.
    overwrite : bool, default False
        Whether to replace existing files.

    Raises
    ------
    ConfigError
        If an argument is not allowed, or a file exists and `overwrite` is not set.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graphs = (build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=n)) for n in (4, 5, 6))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with OfficialWriter(official_file(folder, "val")) as writer:
    ...         writer.write("val", graphs)
    3
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
        self._overwrite = overwrite
        self._check_targets()
        self._cutoff = cutoff
        self._compression = compression
        self._splits: list[str] = []
        self._open: tuple[h5py.File, TextIO] | None = None
        self._failed = False
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> OfficialWriter:
        """Begin to write.

        Raises
        ------
        BusyError
            If another process writes this file.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(exclusive(self.path))
            self._check_targets()  # again: another process may have written them
            for partial in self._partial:
                stack.callback(partial.unlink, missing_ok=True)
            self._output = OutputFile(self._partial[0], self.path)
            stack.callback(self._output.close)
            # This version of the format has checksums of the structure of the file.
            file = stack.enter_context(h5py.File(self._output, "w", libver=("v110", "v110")))
            file.attrs["title"] = "DeepNets-1M"
            metadata = stack.enter_context(self._partial[1].open("w", encoding="utf-8", newline="\n"))
            self._resources = stack.pop_all()
        self._open = file, metadata
        return self

    def _check_targets(self) -> None:
        for target in self._targets:
            if target.exists() and not self._overwrite:
                raise ConfigError(f"{target}: already exists; remove it, or overwrite it")

    def write(self, split: str, networks: Iterable[Graph]) -> int:
        """Write a split, network by network.

        Parameters
        ----------
        split : str
            One of `deepnets.support.STORED_SPLITS`, which has not been written yet.
        networks : iterable of Graph
            Graphs with a config, in canonical order, with or without dead nodes.  `config.C` and `config.fc_dim` are
            stored unchanged; for `wide`, they are those of the `test` network, which readers multiply.  `C` is not
            stored for `train`, because readers draw it at random.

        Returns
        -------
        int
            The number of networks.

        Raises
        ------
        ConfigError
            If the split has been written already, or a graph has no config or differs from the graph of its config.
        """
        vocabulary = Vocabulary()

        def stored() -> Iterator[_Stored]:
            for number, graph in enumerate(networks):
                try:
                    graph = _canonical(graph)
                except ConfigError as error:
                    raise ConfigError(f"{self.path}: split {split}, network {number}: {error}") from error
                entry = _entry(graph, with_width=split != "train")
                yield graph.distances(self._cutoff), vocabulary.rows(graph), entry

        return self._write(split, stored(), vocabulary.meta)

    def copy(self, networks: OfficialSplit) -> int:
        """Copy a split of another file, network by network, without changing its content.

        Parameters
        ----------
        networks : OfficialSplit
            The split, from `read_official`; a split of this name must not have been written yet.

        Returns
        -------
        int
            The number of networks.

        Raises
        ------
        ConfigError
            If the split has been written already.
        FormatError, IntegrityError
            If the split is damaged.
        """
        stored = (networks.stored(index) for index in range(len(networks)))
        return self._write(networks.split, stored, networks.stored_tables)

    def _write(self, split: str, networks: Iterable[_Stored], tables: Callable[[], Any]) -> int:
        """Write a split from matrices, node rows and metadata entries; `tables` is called after the last network."""
        if self._open is None:
            raise ConfigError("writer: is not open; use it in a `with` statement")
        if split not in STORED_SPLITS or split in self._splits:
            raise ConfigError(f"split: expected one of {', '.join(STORED_SPLITS)}, once; got {split!r}")
        self._failed = True  # until the split is complete
        file, metadata = self._open
        group = file.create_group(split)
        metadata.write(f'{"," if self._splits else "{"}\n"{split}": {{"nets": [')
        count = 0
        for distances, rows, entry in networks:
            network = group.create_group(str(count))
            self._store(network, "adj", distances)
            self._store(network, "nodes", rows)
            self._output.check()
            metadata.write(("," if count else "") + "\n" + json.dumps(entry))
            count += 1
        metadata.write(f'], "meta": {json.dumps(tables())}}}')
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
        with naming_full_disk(self.path), self._resources:
            if error is not None:
                raise error
            if complete:
                metadata.write("\n}\n")
                metadata.close()
                file.close()
                self._output.check()
                self._publish()
        if kind is None and not complete:
            reason = "writing a split failed" if self._failed else "no split was written"
            raise ConfigError(f"{self.path}: not written, because {reason}")

    def _publish(self) -> None:
        for partial in self._partial:
            sync(partial)
        # Old metadata is removed first, so that an old file is never paired with a new one.
        self._targets[1].unlink(missing_ok=True)
        for partial, target in zip(self._partial, self._targets):
            partial.replace(target)
        sync(self.path.parent)


def _canonical(graph: Graph) -> Graph:
    """Build the graph of the config, with names and parameters, and check that the given graph is equal."""
    whole = build_graph(graph.config)
    canonical = whole if graph.num_nodes == whole.num_nodes else whole.pruned()
    if graph != canonical:
        raise ConfigError("the graph is not that of its config in canonical order; pass build_graph(graph.config)")
    if graph.num_nodes > MAX_NODES:
        raise ConfigError(f"the graph has {graph.num_nodes} nodes; the format allows up to {MAX_NODES}")
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
    """Count the parameters at the width of the original release."""
    config = config.replace(C=32, fc_dim=256)
    return {
        "cifar10": count_parameters(config, num_classes=10, image_size=32),
        "imagenet": count_parameters(config, num_classes=10, image_size=224),
    }
