"""Conversion of graphs to networkx and PyTorch Geometric."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NODE_TYPES
from deepnets.graph.parameters import ParameterSlot
from deepnets.support import MissingDependencyError, install_command

if TYPE_CHECKING:
    import networkx
    from torch_geometric.data import Data

__all__ = ["NUM_SIZES", "parameter_sizes", "to_networkx", "to_pyg"]

NUM_SIZES = 4
"""Number of sizes by which `parameter_sizes` describes a tensor: output channels, input channels, height, width."""


class Convertible(Protocol):
    """The part of `deepnets.Graph` that is converted."""

    @property
    def num_nodes(self) -> int: ...
    @property
    def node_types(self) -> npt.NDArray[np.uint8]: ...
    @property
    def cells(self) -> npt.NDArray[np.uint8]: ...
    @property
    def edges(self) -> npt.NDArray[np.int32]: ...
    @property
    def live(self) -> npt.NDArray[np.bool_]: ...
    @property
    def knows_parameters(self) -> bool: ...
    @property
    def parameters(self) -> tuple[tuple[ParameterSlot, ...], ...]: ...
    def distances(self, cutoff: int = 50) -> npt.NDArray[np.uint8]: ...


def to_networkx(graph: Convertible, virtual_edges: int = 1, *, plain: bool = False) -> networkx.DiGraph:
    """Convert a graph to networkx; see `Graph.to_networkx`.

    Examples
    --------
    >>> from deepnets import Graph
    >>> list(to_networkx(Graph([9, 4], [0, 0], [0, 1], [0])).edges)
    [(0, 1)]
    """
    import networkx

    converted = networkx.DiGraph()
    parameters = graph.parameters if graph.knows_parameters else [()] * graph.num_nodes
    for node in range(graph.num_nodes):
        converted.add_node(
            node,
            type=NODE_TYPES[graph.node_types[node]],
            cell=int(graph.cells[node]),
            live=bool(graph.live[node]),
            parameters=_text(parameters[node]) if plain else parameters[node],
        )
    pairs, distances = _pairs(graph, virtual_edges)
    for (source, target), distance in zip(pairs.tolist(), distances.tolist()):
        converted.add_edge(source, target, distance=distance)
    return converted


def _text(slots: tuple[ParameterSlot, ...]) -> str:
    return ", ".join(f"{slot.name} ({'x'.join(map(str, slot.shape))})" for slot in slots)


def to_pyg(graph: Convertible, virtual_edges: int = 1, *, shapes: bool = False) -> Data:
    """Convert a graph to PyTorch Geometric; see `Graph.to_pyg`.

    Examples
    --------
    >>> from deepnets import Graph
    >>> try:
    ...     edges = to_pyg(Graph([9, 4], [0, 0], [0, 1], [0])).edge_index.tolist()
    ... except MissingDependencyError:
    ...     edges = [[0], [1]]
    >>> edges
    [[0], [1]]
    """
    try:
        from torch_geometric.data import Data
    except ImportError as error:
        raise MissingDependencyError(f"to_pyg needs PyTorch Geometric: {install_command('pyg')}") from error
    import torch

    pairs, distances = _pairs(graph, virtual_edges)
    more: dict[str, Any] = {}
    if shapes:
        sizes, counts = parameter_sizes(graph)
        more = {"shape": torch.from_numpy(sizes), "num_params": torch.from_numpy(counts)}
    return Data(
        x=torch.from_numpy(graph.node_types.astype(np.int64)),
        cell=torch.from_numpy(graph.cells.astype(np.int64)),
        edge_index=torch.from_numpy(np.ascontiguousarray(pairs.T)),
        edge_attr=torch.from_numpy(distances),
        num_nodes=graph.num_nodes,
        **more,
    )


def parameter_sizes(graph: Convertible) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the sizes of the parameters of every node, as features of nodes.

    Parameters
    ----------
    graph
        A graph that knows its parameters.

    Returns
    -------
    sizes
        `(N, 4) int64`, shape of the largest tensor of each node; 0 for axes that it does not have.  Of tensors with
        more than four axes, the last number is the product of the other sizes.
    counts
        `(N,) int64`, number of elements of all tensors of each node.

    Raises
    ------
    ConfigError
        If the parameters are unknown.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> sizes, counts = parameter_sizes(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=32)))
    >>> sizes[1].tolist(), int(counts[1])
    ([96, 3, 3, 3], 2592)
    """
    sizes = np.zeros((graph.num_nodes, NUM_SIZES), np.int64)
    counts = np.zeros(graph.num_nodes, np.int64)
    for node, slots in enumerate(graph.parameters):
        if slots:
            shape = max(slots, key=lambda slot: slot.numel).shape
            if len(shape) > NUM_SIZES:
                shape = (*shape[: NUM_SIZES - 1], math.prod(shape[NUM_SIZES - 1 :]))
            sizes[node, : len(shape)] = shape
            counts[node] = sum(slot.numel for slot in slots)
    return sizes, counts


def _pairs(graph: Convertible, virtual_edges: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return `(E, 2)` pairs of nodes, sorted by source, then target, and their distances `(E,)`."""
    if virtual_edges == 1 and not isinstance(virtual_edges, bool):  # without the matrix of distances
        edges = graph.edges[np.lexsort((graph.edges[:, 1], graph.edges[:, 0]))].astype(np.int64)
        return edges, np.ones(len(edges), np.int64)
    distances = graph.distances(virtual_edges)
    pairs = np.argwhere(distances)
    return pairs, distances[pairs[:, 0], pairs[:, 1]].astype(np.int64)
