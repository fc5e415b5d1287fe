"""Reader of the original release's files: one network at a time, each compared with its configuration."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from deepnets.architecture import NAMES, NetworkConfig
from deepnets.graph import Graph, ParameterSlot, Slots, build_graph
from deepnets.original_format.contents import find_official, list_splits, located, open_official
from deepnets.original_format.diagnosis import DEFECTS, Layout, diagnose
from deepnets.original_format.metadata import (
    MAX_NODES,
    index_metadata,
    metadata_file,
    official_file,
    read_entry,
    read_tables,
)
from deepnets.original_format.network import OfficialNetwork, OfficialReport
from deepnets.support import (
    Budget,
    ConfigError,
    FormatError,
    IntegrityError,
    get_member,
    read_array,
)

__all__ = ["OfficialSplit", "read_official"]

Rebuild = bool | Literal["auto"]

_MAX_CHUNK = 2 * MAX_NODES**2  # bytes


def read_official(path: str | Path, split: str | None = None, *, rebuild: Rebuild = "auto") -> OfficialSplit:
    """Open a split of the original release, or of files in its format.

    Parameters
    ----------
    path : Path or str
        The HDF5 file, with its metadata `..._meta.json` in the same folder; or this folder.
    split : str, optional
        The split; needed if the file holds several, or a folder is given.
    rebuild : bool or "auto", default "auto"
        - `"auto"`: every graph in the file is compared with the graph of its configuration.  If they differ, the
          latter is returned, and `OfficialNetwork.defects` says why.
        - `False`: the graph in the file is returned as it is; it is compared as well.
        - `True`: the graph of the configuration is returned; the graph in the file is not read.

    Returns
    -------
    OfficialSplit
        A sequence of `OfficialNetwork`.

    Raises
    ------
    MissingDataError
        If the HDF5 file does not exist.
    FormatError
        If a file does not have the expected format.  Reading a network may raise it as well.
    IntegrityError
        If a file is damaged, or the two files do not belong together.
    ConfigError
        If the file does not hold `split`, or `split` is needed and missing.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from deepnets.original_format import write_official
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    ...     _ = write_official(folder, {"val": [graph]})
    ...     with read_official(folder, "val") as networks:
    ...         len(networks), networks[0].graph == graph
    (1, True)
    """
    return OfficialSplit(path, split, rebuild=rebuild)


class _WrongOrderError(FormatError):
    """The matrix of a network in the file has edges to earlier nodes."""


class OfficialSplit:
    """The networks of one split of the original release; made by `read_official`, which has the same parameters.

    It is a sequence of `OfficialNetwork`: `networks[0]`, `len(networks)`, `for network in networks`.  It can be
    pickled; each process opens the file for itself.

    Attributes
    ----------
    path : Path
        The HDF5 file.
    split : str
        Name of the split.
    num_nodes : numpy array
        `(n,) int32`, nodes of each network according to the metadata.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from deepnets.original_format import write_official
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    ...     (path,) = write_official(folder, {"val": [graph]})
    ...     with OfficialSplit(path) as networks:
    ...         print(networks.report())
    1 networks, 1 exact, 0 with dead nodes
    """

    def __init__(self, path: str | Path, split: str | None = None, *, rebuild: Rebuild = "auto") -> None:
        if not isinstance(rebuild, bool) and rebuild != "auto":
            raise ConfigError(f'rebuild: expected True, False or "auto", got {rebuild!r}')
        path = Path(path)
        if path.is_dir():
            if split is None:
                raise ConfigError(f"split: needed to find the file in the folder {path}")
            usual = official_file(path, split)
            held = usual.exists() and split in list_splits(usual)
            path = usual if held else find_official(path).get(split, usual)
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
            _check_sizes(self.num_nodes, path)
            stored = len(self._networks())
        if stored != len(self):
            raise IntegrityError(
                f"{self._where()}: {stored} networks, but {len(self)} in {self._metadata.name}; get both files again"
            )

    def __len__(self) -> int:
        return len(self.num_nodes)

    def __getitem__(self, index: int) -> OfficialNetwork:
        """Read a network.

        Raises
        ------
        IndexError
            If the index is out of range.
        FormatError, IntegrityError
            If the network does not have the expected format, or is damaged.
        """
        return self._read(index, self.rebuild)

    def __iter__(self) -> Iterator[OfficialNetwork]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"OfficialSplit({str(self.path)!r}, {self.split!r}, {len(self)} networks)"

    def report(self, indices: Iterable[int] | None = None) -> OfficialReport:
        """Compare networks with their configurations and count the defects.

        Parameters
        ----------
        indices : iterable of int, optional
            The networks; by default all.

        Returns
        -------
        OfficialReport
            Number of networks by defect.
        """
        defects = Counter(dict.fromkeys(DEFECTS, 0))
        networks = exact = dead = 0
        for index in range(len(self)) if indices is None else indices:
            try:
                network = self._read(index, "auto")
                found = network.defects
            except _WrongOrderError:
                network = self._read(index, True)
                found = ("unrecognised",)
            networks += 1
            exact += not found
            dead += not network.graph.live.all()
            defects.update(found)
        return OfficialReport(networks, exact, dead, dict(defects))

    def stored(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16], dict[str, Any]]:
        """Return what the files hold about a network, unchanged, to copy it.

        Returns
        -------
        distances, rows : numpy array
            `(N, N) uint8` and `(N, 3) uint16`, the datasets `adj` and `nodes`.
        entry : dict
            The metadata entry.

        Raises
        ------
        FormatError, IntegrityError
            As for reading a network.
        """
        with located(f"{self._where()}, network {index}"):
            rows, distances = self._datasets(index, int(self.num_nodes[index]))
            return distances, rows, read_entry(self._metadata, self._index, index)

    def stored_tables(self) -> Any:
        """Return the vocabulary of the split as it is in the metadata file, to copy it."""
        with located(self._where()):
            return read_tables(self._metadata, self.split)

    def close(self) -> None:
        """Close the file.  Reading another network opens it again."""
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
        rows, distances = self._datasets(index, n)
        if np.tril(distances).any():
            raise _WrongOrderError(
                "adj: a node has an edge to itself or to an earlier one, so that the order is not topological; "
                "read with rebuild=True to get the graph of the configuration"
            )
        types, names = self._index.tables.translate(rows)
        targets, sources = np.nonzero(distances.T == 1)
        edges = np.stack([sources, targets], axis=1).astype(np.int32)
        return Layout(types, rows[:, 1], names, edges), distances

    def _datasets(self, index: int, n: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
        network = get_member(self._networks(), str(index), h5py.Group)
        rows = read_array(network, "nodes", (n, 3), "u2", _MAX_CHUNK)
        return rows, read_array(network, "adj", (n, n), "u1", _MAX_CHUNK)

    def _networks(self) -> h5py.Group:
        # An HDF5 file must not be used by a forked process.
        if self._file is None or self._process != os.getpid():
            self._file = open_official(self.path)
            self._process = os.getpid()
        return get_member(self._file, self.split, h5py.Group)

    def _where(self) -> str:
        return f"{self.path}: split {self.split}"


def _check_sizes(num_nodes: npt.NDArray[np.int32], path: Path) -> None:
    cells = int((num_nodes.astype(np.int64) ** 2).sum())
    if cells > Budget(path.stat().st_size).limit:
        raise FormatError(f"its networks claim matrices of {cells:,} bytes, more than its size allows; refused")


def _rebuilt(config: NetworkConfig, stored_nodes: int) -> Graph:
    """Return the graph of a configuration, with dead nodes if the file has too many nodes for a graph without them."""
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
    """Return the parameters of the nodes of a file, looked up by cell and name; nodes without a match have none."""
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
