"""`Graph`: the computational graph of a network, with typed nodes in topological order.

A `Graph` is immutable: its arrays are never changed after construction.  Distances, parameter slots and statistics are
computed on first use.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NODE_TYPES, NetworkConfig
from deepnets.graph import conversion
from deepnets.graph.algorithms import GRAPH_ERRORS, find_distances, find_graph_error, find_levels, find_live
from deepnets.graph.parameters import ParameterSlot, Slots
from deepnets.graph.statistics import GraphStatistics, average_path
from deepnets.support import ConfigError, FormatError, IntegrityError, checked_integer

if TYPE_CHECKING:
    import networkx
    from torch_geometric.data import Data

__all__ = ["MAX_DISTANCE", "Graph"]

MAX_DISTANCE = 254
"""Largest cutoff of `Graph.distances`; larger distances do not fit into `uint8`."""

_WINDOWS = np.zeros((len(NODE_TYPES), 2), np.uint8)
_WINDOWS[[NODE_TYPES.index("max_pool"), NODE_TYPES.index("avg_pool")]] = 3


class Graph:
    """A directed acyclic graph of operations, with descriptions of their parameters.

    Graphs are usually made by `DeepNets1M`, `build_graph` or `trace`.

    Parameters
    ----------
    node_types
        `(N,)` integers, indices into `deepnets.NODE_TYPES`, in topological order.
    cells
        `(N,)` integers, the cell of each node, never decreasing.
    in_degrees
        `(N,)` integers, the number of edges into each node.
    sources
        `(E,)` integers, the source nodes of these edges, node by node and in increasing order.  Each is smaller than
        the node that its edge leads to.
    names
        `(N,)` integers, indices into `deepnets.architecture.NAMES`.  None, the default, if unknown.
    config
        The architecture, or a function that returns it, called on first use.  None, the default, if the graph was not
        made from a `NetworkConfig`.
    slots
        Function that returns the parameter slots, called on first use.  None, the default, if they are unknown.
    index
        Position of the network in its split.  None by default.
    virtual_edges
        Largest distance for which `GraphBatch` adds virtual edges; 1 for none.  50 by default.
    windows
        `(N, 2)` integers, height and width of the windows of pooling nodes, 0 for other nodes.  By default 3 x 3, as in
        all networks of DeepNets-1M.
    label
        What the network is called in pictures, such as "ResNet".  Empty by default.

    Raises
    ------
    FormatError
        If the arrays do not describe such a graph.

    Examples
    --------
    >>> from deepnets import Genotype, NetworkConfig, build_graph
    >>> genotype = Genotype(normal=[("conv_3x3", 0), ("skip_connect", 1)], normal_concat=[2],
    ...                     reduce=[("max_pool_3x3", 0), ("avg_pool_3x3", 1)], reduce_concat=[2])
    >>> graph = build_graph(NetworkConfig(genotype, n_cells=4, C_mult=1, preproc=False, norm=None))
    >>> graph.num_nodes, graph.num_edges
    (15, 18)
    >>> graph.parameters[1]
    (ParameterSlot(name='stem.0.weight', shape=(32, 3, 3, 3), role='weight'),)
    >>> graph.distances(cutoff=5)[0, :4]
    array([0, 1, 2, 2], dtype=uint8)
    """

    def __init__(
        self,
        node_types: npt.ArrayLike,
        cells: npt.ArrayLike,
        in_degrees: npt.ArrayLike,
        sources: npt.ArrayLike,
        *,
        names: npt.ArrayLike | None = None,
        config: NetworkConfig | Callable[[], NetworkConfig] | None = None,
        slots: Callable[[], Slots] | None = None,
        index: int | None = None,
        virtual_edges: int = 50,
        windows: npt.ArrayLike | None = None,
        label: str = "",
    ) -> None:
        self.index = index
        self.label = label
        self.node_types = self._array("node_types", node_types, np.uint8)
        self.cells = self._array("cells", cells, np.uint8)
        self.sources = self._array("sources", sources, np.int32)
        self.names = None if names is None else self._array("names", names, np.uint16)
        self.virtual_edges = virtual_edges
        self._config = config
        self._make_slots = slots
        degrees = self._array("in_degrees", in_degrees, np.int32)
        if self.num_nodes == 0:
            raise self._error("it has no nodes")
        for name, array in (("cells", self.cells), ("in_degrees", degrees), ("names", self.names)):
            if array is not None and len(array) != self.num_nodes:
                raise self._error(f"{name} has {len(array)} entries, node_types {self.num_nodes}")
        error = find_graph_error(self.node_types, self.cells, degrees, self.sources, len(NODE_TYPES))
        if error >= 0:
            raise self._error(GRAPH_ERRORS[error])
        if windows is None:
            self.windows = _WINDOWS[self.node_types]
        else:
            self.windows = self._array("windows", np.ravel(windows), np.uint8).reshape(-1, 2)
            if len(self.windows) != self.num_nodes:
                raise self._error(f"windows has {len(self.windows)} rows, node_types {self.num_nodes} entries")
        self._indptr = np.zeros(self.num_nodes + 1, np.int32)
        np.cumsum(degrees, out=self._indptr[1:])

    def _array(self, name: str, values: npt.ArrayLike, dtype: type[np.integer[Any]]) -> npt.NDArray[Any]:
        """A copy of a list of integers, in the type that compiled code expects."""
        try:
            array = np.array(values)
        except (ValueError, TypeError) as error:
            raise self._error(f"{name} is not a list of integers: {error}") from error
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise self._error(f"{name} is not a list of integers, but {array.dtype}, of shape {array.shape}")
        if array.dtype != dtype:
            least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
            if array.size and not least <= array.min() <= array.max() <= most:
                raise self._error(f"{name} has values outside {least} to {most}")
            array = array.astype(dtype)
        return array

    def _error(self, message: str) -> FormatError:
        return FormatError(f"graph{'' if self.index is None else f' {self.index}'}: {message}")

    def replace(self, *, index: int | None = None, virtual_edges: int | None = None, label: str | None = None) -> Graph:
        """Return a copy with another index, label, or number of virtual edges.  The copy shares the arrays.

        Parameters
        ----------
        index, virtual_edges, label
            New values; None, the default, keeps the old one.

        Examples
        --------
        >>> graph = Graph(node_types=[9, 4], cells=[0, 0], in_degrees=[0, 1], sources=[0])
        >>> graph.replace(index=3).index
        3
        """
        changed = copy.copy(self)
        changed.index = self.index if index is None else index
        changed.label = self.label if label is None else label
        changed.virtual_edges = self.virtual_edges if virtual_edges is None else virtual_edges
        return changed

    @property
    def num_nodes(self) -> int:
        """Number of nodes, N."""
        return len(self.node_types)

    @property
    def num_edges(self) -> int:
        """Number of 1-hop edges, E."""
        return len(self.sources)

    @property
    def in_degrees(self) -> npt.NDArray[np.int32]:
        """`(N,) int32`, number of edges into each node."""
        return np.diff(self._indptr)

    @cached_property
    def edges(self) -> npt.NDArray[np.int32]:
        """`(E, 2) int32`, source and target of every 1-hop edge, sorted by target, then source."""
        targets = np.repeat(np.arange(self.num_nodes, dtype=np.int32), self.in_degrees)
        return np.stack([self.sources, targets], axis=1)

    @cached_property
    def live(self) -> npt.NDArray[np.bool_]:
        """`(N,) bool`, whether there is a path from a node to the output, which is the last node.

        The other nodes are *dead*.
        """
        return find_live(self._indptr, self.sources)

    @cached_property
    def levels(self) -> npt.NDArray[np.int32]:
        """`(N,) int32`, number of edges on the longest path into each node.  Nodes of a level are independent."""
        return find_levels(self._indptr, self.sources)

    def distances(self, cutoff: int = 50) -> npt.NDArray[np.uint8]:
        """Return the lengths of the shortest directed paths between all pairs of nodes.

        Pairs with a path of more than one edge get *virtual edges* (Knyazev et al., NeurIPS 2021, section 4.2).

        Parameters
        ----------
        cutoff
            Longest path, from 1 to `MAX_DISTANCE`.

        Returns
        -------
        numpy.ndarray
            `(N, N) uint8`.  Row i, column j: 1 for an edge from i to j, the length of the shortest path if there is one
            of at most `cutoff` edges, and 0 otherwise.

        Raises
        ------
        ConfigError
            If the cutoff is out of range.
        """
        cutoff = checked_integer("cutoff", cutoff, range(1, MAX_DISTANCE + 1))
        return find_distances(self._indptr, self.sources, cutoff).T

    @property
    def config(self) -> NetworkConfig:
        """The architecture of the graph.

        Raises
        ------
        ConfigError
            If the graph was not made from a `NetworkConfig`.
        """
        if self._config is None:
            raise ConfigError("this graph has no config: it was not made from a NetworkConfig")
        if not isinstance(self._config, NetworkConfig):
            self._config = self._config()
        return self._config

    @cached_property
    def _slots(self) -> Slots:
        if self._make_slots is None:
            raise ConfigError("this graph does not know the parameters of its nodes")
        slots = self._make_slots()
        if not np.array_equal(slots.node_types, self.node_types):
            raise IntegrityError(
                f"graph{'' if self.index is None else f' {self.index}'}: its nodes are not those of its config; "
                "the file was changed, or written by an incompatible version"
            )
        return slots

    @property
    def knows_parameters(self) -> bool:
        """Whether the parameters of the nodes are known."""
        return self._make_slots is not None

    @property
    def parameters(self) -> tuple[tuple[ParameterSlot, ...], ...]:
        """For each node, the slots of its parameters: none, one, or two (the weight and the bias of a norm).

        Raises
        ------
        ConfigError
            If the parameters are unknown.
        IntegrityError
            If the graph is not the one of its config.
        """
        return self._slots.nodes

    @property
    def unused(self) -> tuple[ParameterSlot, ...]:
        """Slots of the network's parameters that no node stands for.

        No data reaches them because of a `none` operation, or `pruned` removed their nodes.
        """
        return self._slots.unused

    def pruned(self) -> Graph:
        """Return the graph without dead nodes.  Their parameters become `unused`.

        Returns
        -------
        Graph
            The same object if there are no dead nodes.
        """
        if self.live.all():
            return self
        keep = self.live
        new_numbers = np.cumsum(keep, dtype=np.int32) - 1
        kept_edges = keep[self.edges[:, 1]]  # every source of a live node is live
        return Graph(
            self.node_types[keep],
            self.cells[keep],
            self.in_degrees[keep],
            new_numbers[self.sources[kept_edges]],
            names=None if self.names is None else self.names[keep],
            config=self._config,
            slots=self._live_slots if self._make_slots else None,
            index=self.index,
            virtual_edges=self.virtual_edges,
            windows=self.windows[keep],
            label=self.label,
        )

    def _live_slots(self) -> Slots:
        dead = tuple(slot for slots, keep in zip(self.parameters, self.live) if not keep for slot in slots)
        kept = tuple(slots for slots, keep in zip(self.parameters, self.live) if keep)
        return Slots(kept, self.unused + dead, self.node_types[self.live])

    def statistics(self, dead: bool = True) -> GraphStatistics:
        """Return the size, the degree and the path lengths of the graph.

        Parameters
        ----------
        dead
            Whether to include dead nodes, as in the statistics of the original release.

        Returns
        -------
        GraphStatistics
        """
        graph = self if dead else self.pruned()
        n = graph.num_nodes
        return GraphStatistics(
            dead_included=dead,
            num_nodes=n,
            num_edges=graph.num_edges,
            num_dead=int(n - graph.live.sum()),
            average_degree=2 * graph.num_edges / n,
            average_path=average_path(n, graph.edges),
            longest_path=int(graph.levels.max()),
        )

    def to_networkx(self, virtual_edges: int = 1, *, plain: bool = False) -> networkx.DiGraph:
        """Convert to networkx.

        Parameters
        ----------
        virtual_edges
            Largest distance that becomes an edge; 1, the default, for 1-hop edges only.
        plain
            Whether all attributes are numbers and texts, which networkx can write to files: `parameters` is then a text
            of names and shapes.

        Returns
        -------
        networkx.DiGraph
            Nodes have the attributes `type`, `cell`, `live` and `parameters`, edges the attribute `distance`.

        Examples
        --------
        >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
        >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=32))
        >>> graph.to_networkx(plain=True).nodes[1]["parameters"]
        'stem.0.weight (96x3x3x3)'
        """
        return conversion.to_networkx(self, virtual_edges, plain=plain)

    def to_pyg(self, virtual_edges: int = 1, *, shapes: bool = False) -> Data:
        """Convert to PyTorch Geometric.

        Parameters
        ----------
        virtual_edges
            As in `to_networkx`.
        shapes
            Whether to add the sizes of parameters.

        Returns
        -------
        torch_geometric.data.Data
            `x` (N,) node types, `cell` (N,), `edge_index` (2, E) and `edge_attr` (E,) distances, all `int64`.  With
            `shapes`, also `shape` (N, 4), the shape of the largest parameter of each node, 0 for axes that it does not
            have, and `num_params` (N,), the number of elements of all its parameters.

        Raises
        ------
        MissingDependencyError
            If PyTorch Geometric is not installed (`pip install "deepnets1m[pyg]"`).
        """
        return conversion.to_pyg(self, virtual_edges, shapes=shapes)

    def __eq__(self, other: object) -> bool:
        """Whether two graphs have equal nodes, cells and edges, in the same order."""
        return isinstance(other, Graph) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("node_types", "cells", "_indptr", "sources")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Graph({self.num_nodes} nodes, {self.num_edges} edges)"
