"""`GraphBatch`: several graphs as one, in tensors ready for a hypernetwork."""

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
    """The graphs of a batch side by side, padded to the largest.

    Attributes
    ----------
    node_types
        `(B, N) int64`, 0 in the padding.
    distances
        `(B, N, N) uint8`, row = source: 0 no edge, 1 an edge, more a virtual edge.
    mask
        `(B, N) bool`, true for nodes.
    """

    node_types: Tensor
    distances: Tensor
    mask: Tensor


class GraphBatch:
    """Several graphs as one graph without edges between them.

    Parameters
    ----------
    graphs
        One or more graphs.
    virtual_edges
        Largest distance that gets an edge; by default that of the first graph (`DeepNets1M(virtual_edges=...)`).

    Attributes
    ----------
    graphs
        The graphs themselves, with their configs and parameters.
    node_types
        `(N,) int64`, indices into `deepnets.NODE_TYPES`, of all nodes of all graphs.
    cells
        `(N,) int64`.
    levels
        `(N,) int64`, edges on the longest path into each node: nodes of a level do not depend on each other.
    graph_index
        `(N,) int64`, which graph each node belongs to.
    offsets
        `(B + 1,) int64`, where the nodes of each graph begin.
    edges
        `(E, 2) int64`, source and target, numbered through all graphs, sorted by graph, source, target; virtual edges
        among them.
    distances
        `(E,) uint8`, 1 for an edge, the length of the shortest path for a virtual one.
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
        """Number of nodes of all graphs together."""
        return len(self.node_types)

    def padded(self) -> PaddedGraphs:
        """The same graphs side by side, as transformers read them."""
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
        """The batch with its tensors on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> GraphBatch:
        """The batch with its tensors in page-locked memory, for fast copies to a GPU."""
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
