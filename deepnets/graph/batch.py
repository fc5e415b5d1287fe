"""`GraphBatch`: several graphs as torch tensors, the input of a hypernetwork."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from deepnets.graph.graph import Graph
from deepnets.support import ConfigError

__all__ = ["GraphBatch", "PaddedGraphs"]


class PaddedGraphs(NamedTuple):
    """Graphs padded to the size of the largest, in dense tensors.

    Attributes
    ----------
    node_types
        `(B, N) int64`, indices into `deepnets.NODE_TYPES`; 0 in the padding.
    distances
        `(B, N, N) uint8`.  Row i, column j: 0 without an edge from i to j, 1 for an edge, larger for a virtual edge.
    mask
        `(B, N) bool`, True for nodes, False for padding.

    Examples
    --------
    See `GraphBatch`.
    """

    node_types: Tensor
    distances: Tensor
    mask: Tensor


class GraphBatch:
    """Several graphs as one disconnected graph, and a sequence of these graphs.

    `DeepNets1M.loader` yields batches, and a hypernetwork (`ghn_model.GHN`) reads their tensors.

    Parameters
    ----------
    graphs
        One or more graphs.
    virtual_edges
        Largest distance that becomes an edge; 1 for none but 1-hop edges.  By default that of the first graph, which
        `DeepNets1M(virtual_edges=...)` sets.

    Attributes
    ----------
    graphs
        The B graphs, with their configs and parameter slots.  Iterating over the batch yields them.
    virtual_edges
        As given.
    node_types
        `(N,) int64`, indices into `deepnets.NODE_TYPES`, for the nodes of all graphs.
    cells
        `(N,) int64`, the cell of each node.
    levels
        `(N,) int64`, number of edges on the longest path into each node.  Nodes of a level are independent.
    graph_index
        `(N,) int64`, the graph of each node.
    offsets
        `(B + 1,) int64`.  The nodes of graph b are `offsets[b] ... offsets[b + 1] - 1`.
    path_lengths
        `(S,) uint8`, the elements of the matrices `Graph.distances(virtual_edges)` of all graphs, row by row; see
        `distance_matrices`.  S is the sum of the squared numbers of nodes.
    edges
        `(E, 2) int64`, source and target of 1-hop and virtual edges, sorted by graph, source and target.  Computed from
        `path_lengths` on first use.
    distances
        `(E,) uint8`, 1 for a 1-hop edge, and the length of the shortest path for a virtual edge.

    Raises
    ------
    ConfigError
        If there are no graphs, or `virtual_edges` is out of range.

    Examples
    --------
    >>> from deepnets import GENOTYPES, GraphBatch, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=4))
    >>> batch = GraphBatch([graph, graph], virtual_edges=1)
    >>> batch
    GraphBatch(2 graphs, 244 nodes, 302 edges)
    >>> batch.padded().distances.shape
    torch.Size([2, 122, 122])
    """

    def __init__(self, graphs: Iterable[Graph], virtual_edges: int | None = None) -> None:
        graphs = list(graphs)
        if not graphs:
            raise ConfigError("graphs: a batch needs at least one")
        self.graphs = graphs
        self.virtual_edges = graphs[0].virtual_edges if virtual_edges is None else virtual_edges
        sizes = [graph.num_nodes for graph in graphs]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self.node_types = _joined([graph.node_types for graph in graphs])
        self.cells = _joined([graph.cells for graph in graphs])
        self.levels = _joined([graph.levels for graph in graphs])
        self.graph_index = torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes))
        self.offsets = torch.from_numpy(starts)
        matrices = [graph.distances(self.virtual_edges).ravel() for graph in graphs]
        self.path_lengths = torch.from_numpy(np.concatenate(matrices))

    @classmethod
    def of(cls, graphs: GraphBatch | Iterable[Graph], virtual_edges: int) -> GraphBatch:
        """Return graphs as a batch with given virtual edges, without searching paths that a given batch already holds.

        Parameters
        ----------
        graphs
            A batch, which may have other virtual edges, or one or more graphs.
        virtual_edges
            As in the constructor.

        Returns
        -------
        GraphBatch
            The given batch if it has these virtual edges, and a new one otherwise.

        Examples
        --------
        >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
        >>> batch = GraphBatch([build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=4))])
        >>> GraphBatch.of(batch, batch.virtual_edges) is batch, GraphBatch.of(batch, 2).distances.max()
        (True, tensor(2, dtype=torch.uint8))
        """
        if not isinstance(graphs, GraphBatch):
            return cls(graphs, virtual_edges)
        if graphs.virtual_edges == virtual_edges:
            return graphs
        if not 1 <= virtual_edges < graphs.virtual_edges:
            return cls(graphs.graphs, virtual_edges).to(graphs.node_types.device)
        batch = copy.copy(graphs)
        for name in ("edges", "distances"):
            vars(batch).pop(name, None)
        batch.virtual_edges = virtual_edges
        batch.path_lengths = graphs.path_lengths * (graphs.path_lengths <= virtual_edges)
        return batch

    @cached_property
    def edges(self) -> Tensor:
        """Source and target of every edge."""
        starts = self.offsets.tolist()
        return torch.cat([matrix.nonzero() + start for matrix, start in zip(self.distance_matrices(), starts)])

    @cached_property
    def distances(self) -> Tensor:
        """Length of the shortest path of every edge."""
        return self.path_lengths[self.path_lengths > 0]

    def distance_matrices(self) -> list[Tensor]:
        """Return `Graph.distances(virtual_edges)` of each graph.

        Returns
        -------
        list of Tensor
            `(N_b, N_b) uint8` for graph b, views of `path_lengths`.  Row i, column j: 0 without an edge from i to j, 1
            for an edge, larger for a virtual edge.

        Examples
        --------
        >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
        >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=4))
        >>> matrices = GraphBatch([graph, graph], virtual_edges=50).distance_matrices()
        >>> (matrices[1].numpy() == graph.distances(50)).all()
        np.True_
        """
        sizes = [graph.num_nodes for graph in self.graphs]
        parts = torch.split(self.path_lengths, [size * size for size in sizes])
        return [part.view(size, size) for part, size in zip(parts, sizes)]

    def __len__(self) -> int:
        return len(self.graphs)

    def __iter__(self) -> Iterator[Graph]:
        return iter(self.graphs)

    def __getitem__(self, index: int) -> Graph:
        return self.graphs[index]

    @property
    def num_nodes(self) -> int:
        """Total number of nodes, N."""
        return len(self.node_types)

    def padded(self) -> PaddedGraphs:
        """Return the graphs in dense, padded tensors, as transformers read them.

        Returns
        -------
        PaddedGraphs
        """
        sizes = self.offsets.diff()
        shape = (len(self), int(sizes.max()))
        mask = torch.arange(shape[1], device=sizes.device) < sizes[:, None]
        node_types = self.node_types.new_zeros(shape)
        node_types[mask] = self.node_types
        distances = self.path_lengths.new_zeros((*shape, shape[1]))
        for padded, matrix in zip(distances, self.distance_matrices()):
            padded[: len(matrix), : len(matrix)] = matrix
        return PaddedGraphs(node_types, distances, mask)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GraphBatch:
        """Return the batch with its tensors on a device, or itself if they are there.

        Parameters
        ----------
        device, non_blocking
            As in `torch.Tensor.to`.

        Returns
        -------
        GraphBatch
        """
        if torch.device(device) == self.node_types.device:
            return self
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> GraphBatch:
        """Copy the tensors to page-locked memory, for fast copies to a GPU.  A `DataLoader` calls this method."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> GraphBatch:
        batch = object.__new__(GraphBatch)
        for name, value in vars(self).items():
            setattr(batch, name, change(value) if isinstance(value, Tensor) else value)
        return batch

    def __repr__(self) -> str:
        return f"GraphBatch({len(self)} graphs, {self.num_nodes} nodes, {len(self.edges)} edges)"


def _joined(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays).astype(np.int64))
