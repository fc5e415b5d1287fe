"""The computational graph of a network: typed nodes in topological order, edges, and the parameters nodes stand for.

A `Graph` is a value: arrays that are never changed after construction.  What costs time (distances, parameter
names and shapes, statistics) is computed when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NODE_TYPES, NetworkConfig
from deepnets.graph.algorithms import FAULTS, find_distances, find_fault, find_levels, find_live
from deepnets.support import ConfigError, FormatError, IntegrityError, checked_integer

if TYPE_CHECKING:
    import networkx
    from torch_geometric.data import Data

__all__ = ["MAX_DISTANCE", "ROLES", "Graph", "GraphStatistics", "ParameterSlot", "Slots"]

MAX_DISTANCE = 254
"""Largest distance that `Graph.distances` can be asked for; larger ones do not fit its type."""

ROLES = (
    *("weight", "bias", "norm_weight", "norm_bias", "pos_enc"),
    *("class_weight", "class_bias"),  # of the layer whose outputs are the classes
    *("scale", "token", "rel_pos", "embed"),  # of traced networks
)
"""What a parameter does."""


_WINDOWS = np.zeros((len(NODE_TYPES), 2), np.uint8)
_WINDOWS[[NODE_TYPES.index("max_pool"), NODE_TYPES.index("avg_pool")]] = 3


class ParameterSlot(NamedTuple):
    """A parameter tensor that a node stands for.

    Attributes
    ----------
    name
        Its name in the network, as in `Network.named_parameters()`.
    shape
        Its shape.
    role
        One of `ROLES`.
    """

    name: str
    shape: tuple[int, ...]
    role: str

    @property
    def numel(self) -> int:
        """Number of scalars."""
        return math.prod(self.shape)


class Slots(NamedTuple):
    """Parameters by node, those without a node, and the node types they were made for (to check that they fit)."""

    nodes: tuple[tuple[ParameterSlot, ...], ...]
    unused: tuple[ParameterSlot, ...]
    node_types: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class GraphStatistics:
    """Numbers that describe a graph, in the definitions of Knyazev et al. (NeurIPS 2021), table 1.

    Attributes
    ----------
    dead_included
        Whether nodes that do not reach the output are part of these numbers.
    num_nodes, num_edges, num_dead
        Nodes, 1-hop edges, and nodes that do not reach the output (0 for a pruned graph).
    average_degree
        Mean number of neighbours of a node, whatever the direction of edges: `2 * num_edges / num_nodes`.
    average_path
        Mean shortest path between two nodes, whatever the direction of edges; infinite if some pair has none.
    longest_path
        Edges on the longest directed path.
    """

    dead_included: bool
    num_nodes: int
    num_edges: int
    num_dead: int
    average_degree: float
    average_path: float
    longest_path: int


class Graph:
    """A directed acyclic graph of operations, with the parameters that each of them has.

    Parameters
    ----------
    node_types
        `(N,) uint8`, indices into `deepnets.NODE_TYPES`, in topological order.
    cells
        `(N,) uint8`, the cell that each node is in, never decreasing.
    in_degrees
        `(N,)`, number of edges into each node.
    sources
        `(E,)`, the nodes those edges come from, node after node; each smaller than the node it leads to.
    names
        `(N,) uint16`, indices into `deepnets.architecture.NAMES`, if known.
    config
        The architecture, if the graph is that of a `NetworkConfig`.
    slots
        Called once, when `parameters` or `unused` are asked for.
    index
        Position in the split that the graph was read from.
    virtual_edges
        Largest distance that gets a virtual edge where graphs are batched (1: none).
    windows
        `(N, 2)`, height and width of what a pooling node pools over, 0 for all others; by default 3 x 3, as in all
        networks of DeepNets-1M.

    Raises
    ------
    FormatError
        If the arrays are no such graph.

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
    ) -> None:
        self.index = index
        self.node_types = self._list("node_types", node_types, np.uint8)
        self.cells = self._list("cells", cells, np.uint8)
        self.sources = self._list("sources", sources, np.int32)
        self.names = None if names is None else self._list("names", names, np.uint16)
        self.virtual_edges = virtual_edges
        self._config = config
        self._resolve = slots
        degrees = self._list("in_degrees", in_degrees, np.int32)
        if self.num_nodes == 0:
            raise self._fault("it has no nodes")
        for name, array in (("cells", self.cells), ("in_degrees", degrees), ("names", self.names)):
            if array is not None and len(array) != self.num_nodes:
                raise self._fault(f"{name} has {len(array)} entries, node_types {self.num_nodes}")
        fault = find_fault(self.node_types, self.cells, degrees, self.sources, len(NODE_TYPES))
        if fault >= 0:
            raise self._fault(FAULTS[fault])
        if windows is None:
            self.windows = _WINDOWS[self.node_types]
        else:
            self.windows = self._list("windows", np.ravel(windows), np.uint8).reshape(-1, 2)
            if len(self.windows) != self.num_nodes:
                raise self._fault(f"windows has {len(self.windows)} rows, node_types {self.num_nodes} entries")
        self._indptr = np.zeros(self.num_nodes + 1, np.int32)
        np.cumsum(degrees, out=self._indptr[1:])

    def _list(self, name: str, values: npt.ArrayLike, dtype: type[np.integer[Any]]) -> npt.NDArray[Any]:
        """An own copy of a list of integers, of the type in which compiled code expects them."""
        try:
            array = np.array(values)
        except (ValueError, TypeError) as error:
            raise self._fault(f"{name} is not a list of integers: {error}") from error
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise self._fault(f"{name} is not a list of integers, but {array.dtype}, of shape {array.shape}")
        if array.dtype != dtype:
            least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
            if array.size and not least <= array.min() <= array.max() <= most:
                raise self._fault(f"{name} has values outside {least} to {most}")
            array = array.astype(dtype)
        return array

    def _fault(self, what: str) -> FormatError:
        return FormatError(f"graph{'' if self.index is None else f' {self.index}'}: {what}")

    # --- size and structure ---

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
        """`(N,) int32`, edges into each node."""
        return np.diff(self._indptr)

    @cached_property
    def edges(self) -> npt.NDArray[np.int32]:
        """`(E, 2) int32`, source and target of every 1-hop edge, sorted by target, then source."""
        targets = np.repeat(np.arange(self.num_nodes, dtype=np.int32), self.in_degrees)
        return np.stack([self.sources, targets], axis=1)

    @cached_property
    def live(self) -> npt.NDArray[np.bool_]:
        """`(N,) bool`, whether a node reaches the output (the last node).  The others are *dead*."""
        return find_live(self._indptr, self.sources)

    @cached_property
    def levels(self) -> npt.NDArray[np.int32]:
        """`(N,) int32`, edges on the longest path into each node: nodes of a level do not depend on each other."""
        return find_levels(self._indptr, self.sources)

    def distances(self, cutoff: int = 50) -> npt.NDArray[np.uint8]:
        """Lengths of shortest directed paths: edges (1) and virtual edges (more).

        Parameters
        ----------
        cutoff
            Paths longer than this count as none; 1 to `MAX_DISTANCE`.

        Returns
        -------
        `(N, N) uint8`, row = source: 0 where there is no path (or no short enough one), 1 for an edge, else its length.

        Notes
        -----
        Knyazev et al. (NeurIPS 2021), section 4.2, "virtual edges".
        """
        cutoff = checked_integer("cutoff", cutoff, range(1, MAX_DISTANCE + 1))
        return find_distances(self._indptr, self.sources, cutoff).T

    # --- meaning ---

    @property
    def config(self) -> NetworkConfig:
        """The architecture this is the graph of; `ConfigError` if it was not made from one."""
        if self._config is None:
            raise ConfigError("this graph has no config: it was not made from a NetworkConfig")
        if not isinstance(self._config, NetworkConfig):
            self._config = self._config()
        return self._config

    @cached_property
    def _slots(self) -> Slots:
        if self._resolve is None:
            raise ConfigError("this graph does not know the parameters of its nodes")
        slots = self._resolve()
        if not np.array_equal(slots.node_types, self.node_types):
            raise IntegrityError(
                f"graph{'' if self.index is None else f' {self.index}'}: its nodes are not those of its config; "
                "the file was changed, or written by an incompatible version"
            )
        return slots

    @property
    def parameters(self) -> tuple[tuple[ParameterSlot, ...], ...]:
        """For each node, the parameter tensors it stands for: none, one, or the weight and bias of a norm."""
        return self._slots.nodes

    @property
    def unused(self) -> tuple[ParameterSlot, ...]:
        """The network's parameters without a node: `none` keeps all data from them (or `pruned` dropped the node)."""
        return self._slots.unused

    def pruned(self) -> Graph:
        """The graph without its dead nodes; their parameters become `unused`."""
        if self.live.all():
            return self
        keep = self.live
        renumbered = np.cumsum(keep, dtype=np.int32) - 1
        kept_edges = keep[self.edges[:, 1]]  # every source of a live node is live
        return Graph(
            self.node_types[keep],
            self.cells[keep],
            self.in_degrees[keep],
            renumbered[self.sources[kept_edges]],
            names=None if self.names is None else self.names[keep],
            config=self._config,
            slots=_PrunedSlots(self) if self._resolve else None,
            index=self.index,
            virtual_edges=self.virtual_edges,
            windows=self.windows[keep],
        )

    def statistics(self, dead: bool = True) -> GraphStatistics:
        """Size, degree and path lengths, with dead nodes (as the original files count) or without."""
        graph = self if dead else self.pruned()
        n = graph.num_nodes
        return GraphStatistics(
            dead_included=dead,
            num_nodes=n,
            num_edges=graph.num_edges,
            num_dead=int(n - graph.live.sum()),
            average_degree=2 * graph.num_edges / n,
            average_path=_average_path(graph),
            longest_path=int(graph.levels.max()),
        )

    # --- conversion ---

    def to_networkx(self, virtual_edges: int = 1) -> networkx.DiGraph:
        """A `networkx.DiGraph` with attributes `type`, `cell`, `live`, `parameters` (nodes) and `distance` (edges).

        Parameters
        ----------
        virtual_edges
            Longest distance that gets an edge; 1 for the graph as it is.
        """
        import networkx

        graph = networkx.DiGraph()
        parameters = self.parameters if self._resolve else ((),) * self.num_nodes
        for node in range(self.num_nodes):
            graph.add_node(
                node,
                type=NODE_TYPES[self.node_types[node]],
                cell=int(self.cells[node]),
                live=bool(self.live[node]),
                parameters=parameters[node],
            )
        distances = self.distances(virtual_edges)
        for source, target in np.argwhere(distances).tolist():
            graph.add_edge(source, target, distance=int(distances[source, target]))
        return graph

    def to_pyg(self, virtual_edges: int = 1) -> Data:
        """A PyTorch Geometric `Data`: `x` (N,) types, `cell` (N,), `edge_index` (2, E), `edge_attr` (E,) distances.

        Raises
        ------
        ImportError
            If PyTorch Geometric is not installed (`pip install "deepnets1m[pyg]"`).
        """
        try:
            from torch_geometric.data import Data
        except ImportError as error:
            raise ImportError('to_pyg needs PyTorch Geometric: pip install "deepnets1m[pyg]"') from error
        import torch

        distances = self.distances(virtual_edges)
        pairs = np.argwhere(distances)
        return Data(
            x=torch.from_numpy(self.node_types.astype(np.int64)),
            cell=torch.from_numpy(self.cells.astype(np.int64)),
            edge_index=torch.from_numpy(np.ascontiguousarray(pairs.T)),
            edge_attr=torch.from_numpy(distances[pairs[:, 0], pairs[:, 1]].astype(np.int64)),
            num_nodes=self.num_nodes,
        )

    def __eq__(self, other: object) -> bool:
        """Equal nodes, cells and edges, in the same order."""
        return isinstance(other, Graph) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("node_types", "cells", "_indptr", "sources")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Graph({self.num_nodes} nodes, {self.num_edges} edges)"


class _PrunedSlots:
    """Slots of a pruned graph, from those of the whole one; a class, so that graphs can be sent between processes."""

    def __init__(self, whole: Graph) -> None:
        self.whole = whole

    def __call__(self) -> Slots:
        live = self.whole.live
        nodes = self.whole.parameters
        dropped = tuple(slot for node, keep in zip(nodes, live) if not keep for slot in node)
        kept = tuple(node for node, keep in zip(nodes, live) if keep)
        return Slots(kept, self.whole.unused + dropped, self.whole.node_types[live])


def _average_path(graph: Graph) -> float:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    n = graph.num_nodes
    if n < 2:
        return 0.0
    ones = np.ones(graph.num_edges, np.int8)
    adjacency = csr_array((ones, (graph.edges[:, 0], graph.edges[:, 1])), shape=(n, n))
    return float(shortest_path(adjacency, directed=False, unweighted=True).sum() / (n * (n - 1)))
