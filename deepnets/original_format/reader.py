"""Reading the original files, one network at a time, with every network checked against its configuration."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.architecture import NAMES, NetworkConfig
from deepnets.graph import Graph, ParameterSlot, Slots, build_graph
from deepnets.original_format.diagnosis import DEFECTS, Layout, diagnose
from deepnets.original_format.metadata import index_metadata, metadata_file, official_file, read_entry
from deepnets.original_format.untrusted_hdf5 import child, located, open_file, read_array
from deepnets.support import ConfigError, FormatError, IntegrityError

__all__ = ["OfficialNetwork", "OfficialReport", "OfficialSplit", "list_splits", "read_official"]

Rebuild = bool | Literal["auto"]


@dataclass(frozen=True)
class OfficialNetwork:
    """One network of an original file.

    Attributes
    ----------
    config
        Its configuration.  `C` of the `wide` split is as stored; users multiply it by 4 (32-pixel images) or 2.
    has_width
        Whether the file stores `C`.  Training files do not: there, `config.C` and `config.fc_dim` are placeholders.
    graph
        Its graph, in canonical order unless the file was read with `rebuild=False`.
    index
        Its position in the split.
    num_params
        Parameters by image set (`cifar10`, `imagenet`) as stored: at C=32, fc_dim=256 and 10 classes.
    stored_nodes
        Nodes in the file.  The graph has more of them if the file lacks some.
    defects
        Keys of `DEFECTS` that the file's graph has; `graph` has them only if it was read with `rebuild=False`.  Empty
        as well if nothing was compared, with `rebuild=True`.
    """

    config: NetworkConfig
    has_width: bool
    graph: Graph
    index: int
    num_params: Mapping[str, int]
    stored_nodes: int
    defects: tuple[str, ...]

    @property
    def scrambled(self) -> bool:
        """Whether the file gives nodes the edges of others."""
        return "scrambled" in self.defects


@dataclass(frozen=True)
class OfficialReport:
    """How sound the graphs of a split are.

    Attributes
    ----------
    networks
        Networks that were compared with their configurations.
    exact
        Those that have the same nodes, edges and distances in canonical order.
    with_dead_nodes
        Those whose graph has nodes that do not reach the output.
    defects
        For every key of `DEFECTS`, the networks that have it; one may have several.
    """

    networks: int
    exact: int
    with_dead_nodes: int
    defects: Mapping[str, int]

    def __str__(self) -> str:
        lines = [f"{self.networks} networks, {self.exact} exact, {self.with_dead_nodes} with dead nodes"]
        lines += [f"{count:8} {defect}: {DEFECTS[defect]}" for defect, count in self.defects.items() if count]
        return "\n".join(lines)


def list_splits(path: str | Path) -> tuple[str, ...]:
    """The splits that an HDF5 file of the original release holds.

    Raises
    ------
    FormatError
        If the file is missing, or is no such file.
    """
    path = Path(path)
    with open_file(path) as file, located(str(path)):
        splits = tuple(file)
        for split in splits:
            child(file, split, h5py.Group)
        return splits


def read_official(path: str | Path, split: str | None = None, *, rebuild: Rebuild = "auto") -> OfficialSplit:
    """Open a split of the original release, or of files in its format.

    Parameters
    ----------
    path
        The HDF5 file; its metadata `..._meta.json` must be beside it.  Or the folder both are in.
    split
        Which split, if the file holds several or a folder is given.
    rebuild
        `"auto"`: the graph in the file is compared with the one that the configuration makes; where they differ, the
        latter counts, and the reason is in `OfficialNetwork.defects`.  `False`: the file's graph is given as it is.
        `True`: graphs are made from the configurations, and those in the file are neither read nor compared.

    Raises
    ------
    FormatError
        If either file is missing or not of the expected form; reading a network may find more.
    IntegrityError
        If a file is damaged, or the two do not belong together.
    ConfigError
        If `split` is none of the file's, or needed and missing.

    Examples
    --------
    >>> networks = read_official("data/deepnets1m_eval.hdf5", "val")   # doctest: +SKIP
    >>> networks[0].graph, networks[0].defects                         # doctest: +SKIP
    (Graph(559 nodes, 676 edges), ('scrambled',))
    """
    return OfficialSplit(path, split, rebuild=rebuild)


class OfficialSplit:
    """The networks of one split; made by `read_official`, whose parameters it takes.

    It is a sequence of `OfficialNetwork`.  It can be sent to other processes, where it opens the file anew.

    Attributes
    ----------
    path
        The HDF5 file.
    split
        Name of the split.
    num_nodes
        `(n,) int32`, nodes of each network in the file.
    """

    def __init__(self, path: str | Path, split: str | None = None, *, rebuild: Rebuild = "auto") -> None:
        if not isinstance(rebuild, bool) and rebuild != "auto":
            raise ConfigError(f'rebuild: expected True, False or "auto", got {rebuild!r}')
        path = Path(path)
        if path.is_dir():
            if split is None:
                raise ConfigError(f"split: needed to find a file in the folder {path}")
            path = official_file(path, split)
        splits = list_splits(path)
        if split is None and len(splits) == 1:
            split = splits[0]
        if split not in splits:
            raise ConfigError(f"split: {path} holds {', '.join(splits) or 'none'}; got {split!r}")
        self.path = path
        self.split = split
        self.rebuild = rebuild
        self._metadata = metadata_file(path)
        self._index = index_metadata(self._metadata, split)
        self.num_nodes: npt.NDArray[np.int32] = self._index.num_nodes
        self._file: h5py.File | None = None
        self._process = 0
        with located(self._where()):
            stored = len(self._networks())
        if stored != len(self):
            raise IntegrityError(
                f"{self._where()}: {stored} networks, but {len(self)} in {self._metadata.name}; get both files anew"
            )

    def __len__(self) -> int:
        return len(self.num_nodes)

    def __getitem__(self, index: int) -> OfficialNetwork:
        """The network at a position; `FormatError` (or `IntegrityError`) if it is not fit to be read."""
        return self._read(index, self.rebuild)

    def __iter__(self) -> Iterator[OfficialNetwork]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"OfficialSplit({str(self.path)!r}, {self.split!r}, {len(self)} networks)"

    def report(self, indices: Iterable[int] | None = None) -> OfficialReport:
        """Compare networks (all, unless told which) with their configurations, and count what is wrong with them."""
        defects = Counter(dict.fromkeys(DEFECTS, 0))
        networks = exact = dead = 0
        for index in range(len(self)) if indices is None else indices:
            network = self._read(index, "auto")
            networks += 1
            exact += not network.defects
            dead += not network.graph.live.all()
            defects.update(network.defects)
        return OfficialReport(networks, exact, dead, dict(defects))

    def close(self) -> None:
        """Close the file; reading another network opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> OfficialSplit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    # --- one network ---

    def _read(self, index: int, rebuild: Rebuild) -> OfficialNetwork:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self._where()}: no network {index} among {len(self)}")
        index %= len(self)
        with located(f"{self._where()}, network {index}"):
            entry = read_entry(self._metadata, self._index, index)
            config = NetworkConfig.from_official(entry)
            stored_nodes = int(self.num_nodes[index])
            defects: tuple[str, ...] = ()
            if rebuild is True:
                graph = _rebuilt(config, stored_nodes)
            else:
                layout, distances = self._layout(index, stored_nodes)
                graph, defects = diagnose(layout, distances, config)
                if rebuild is False:
                    graph = _as_stored(layout, config)
            graph = graph.replace(index=index)
            return OfficialNetwork(
                config=config,
                has_width="C" in entry,
                graph=graph,
                index=index,
                num_params=_counts(entry),
                stored_nodes=stored_nodes,
                defects=defects,
            )

    def _layout(self, index: int, n: int) -> tuple[Layout, npt.NDArray[np.uint8]]:
        network = child(self._networks(), str(index), h5py.Group)
        rows = read_array(network, "nodes", (n, 3), "u2")
        distances = read_array(network, "adj", (n, n), "u1")
        if np.tril(distances).any():
            raise FormatError(
                "adj: a node has an edge to itself or to an earlier one, so that the order is not topological; "
                "read with rebuild=True to get the graph of the configuration"
            )
        types, names = self._index.tables.translate(rows)
        targets, sources = np.nonzero(distances.T == 1)
        edges = np.stack([sources, targets], axis=1).astype(np.int32)
        return Layout(types, rows[:, 1], names, edges), distances

    def _networks(self) -> h5py.Group:
        # Neither a fork nor a thread of another process may use a file that this process has opened.
        if self._file is None or self._process != os.getpid():
            self._file = open_file(self.path)
            self._process = os.getpid()
        return child(self._file, self.split, h5py.Group)

    def _where(self) -> str:
        return f"{self.path}: split {self.split}"


def _rebuilt(config: NetworkConfig, stored_nodes: int) -> Graph:
    """The graph of the configuration, with dead nodes if the file has more nodes than there are without."""
    graph = build_graph(config)
    pruned = graph.pruned()
    return graph if stored_nodes > pruned.num_nodes else pruned


def _as_stored(layout: Layout, config: NetworkConfig) -> Graph:
    known = bool((layout.names < len(NAMES)).all())
    try:
        return Graph(
            layout.types,
            layout.cells,
            layout.in_degrees,
            layout.edges[:, 0].copy(),
            names=layout.names if known else None,
            config=config,
            slots=partial(_linked_slots, layout.types, layout.cells, layout.names, config),
        )
    except FormatError as error:
        raise FormatError(f"{error}; read with rebuild=True to get the graph of the configuration") from error


def _linked_slots(
    types: npt.NDArray[np.uint8],
    cells: npt.NDArray[np.uint16],
    names: npt.NDArray[np.uint16],
    config: NetworkConfig,
) -> Slots:
    """The parameters of a file's nodes, looked up by cell and name; none for a node that has no match."""
    graph = build_graph(config)
    places = zip(graph.cells.tolist(), np.asarray(graph.names).tolist())
    table: dict[tuple[int, int], tuple[ParameterSlot, ...]] = dict(zip(places, graph.parameters))
    nodes = tuple(table.pop(place, ()) for place in zip(cells.tolist(), names.tolist()))
    unmatched = tuple(slot for slots in table.values() for slot in slots)
    return Slots(nodes, graph.unused + unmatched, types)


def _counts(entry: Mapping[str, Any]) -> dict[str, int]:
    counts = entry.get("num_params", {})
    if not isinstance(counts, Mapping) or not all(type(count) is int and count >= 0 for count in counts.values()):
        raise FormatError(f"num_params: expected an object of counts, got {str(counts)[:80]}")
    return dict(counts)
