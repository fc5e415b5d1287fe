"""`GraphBatch`: several graphs as torch tensors, the input of a hypernetwork."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    """Several graphs as one disconnected graph.

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
        The B graphs, with their configs and parameter slots.
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
    edges
        `(E, 2) int64`, source and target of 1-hop and virtual edges, sorted by graph, source and target.
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
        cutoff = graphs[0].virtual_edges if virtual_edges is None else virtual_edges
        self.graphs = graphs
        sizes = [graph.num_nodes for graph in graphs]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self.node_types = _joined([graph.node_types for graph in graphs])
        self.cells = _joined([graph.cells for graph in graphs])
        self.levels = _joined([graph.levels for graph in graphs])
        self.graph_index = torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes))
        self.offsets = torch.from_numpy(starts)
        pairs, distances = [], []
        for graph, start in zip(graphs, starts):
            matrix = np.ascontiguousarray(graph.distances(cutoff))
            places = np.flatnonzero(matrix)
            pairs.append(np.stack(np.divmod(places, graph.num_nodes), axis=1) + start)
            distances.append(matrix.ravel()[places])
        self.edges = torch.from_numpy(np.concatenate(pairs))
        self.distances = torch.from_numpy(np.concatenate(distances))

    def __len__(self) -> int:
        return len(self.graphs)

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
        distances = self.distances.new_zeros((*shape, shape[1]))
        source, target = self.edges.unbind(1)
        graph = self.graph_index[source]
        distances[graph, source - self.offsets[graph], target - self.offsets[graph]] = self.distances
        return PaddedGraphs(node_types, distances, mask)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GraphBatch:
        """Copy the tensors to a device.

        Parameters
        ----------
        device, non_blocking
            As in `torch.Tensor.to`.

        Returns
        -------
        GraphBatch
        """
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
