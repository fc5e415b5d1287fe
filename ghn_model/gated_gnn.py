"""The gated graph network of GHN-1 and GHN-2: one sweep along the edges of a graph, and one back.

    m_v = sum over edges u -> v of MLP(h_u)  +  sum over paths u -> v of d edges of MLP_ve(h_u) / d
    h_v = GRU(m_v, h_v)

(Knyazev et al., NeurIPS 2021, equations 3 and 4; the second sum has the edges, too.)  Nodes are updated one after the
other, each from neighbours that were updated in the same sweep.  A message depends on its sender alone, so it is
computed once per node.  There are two ways to go through the nodes:

- level by level, the nodes of a level of all graphs at once: in PyTorch, differentiable, on any device;
- node by node, in compiled code (`ghn_model.sweep`): many times faster, for predictions on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from deepnets.batch import GraphBatch
from ghn_model import sweep

__all__ = ["MLP", "GatedGNN", "NodeMLP", "Schedule"]


class MLP(nn.Module):
    """Two linear layers, each followed by a ReLU, the last one if `last_relu`."""

    def __init__(self, inputs: int, hidden: int, outputs: int, last_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs)]
        self.fc = nn.Sequential(*layers, *([nn.ReLU()] if last_relu else []))

    def forward(self, x: Tensor) -> Tensor:
        """`(..., inputs)` -> `(..., outputs)`."""
        output: Tensor = self.fc(x)
        return output


class NodeMLP(MLP):
    """The baseline "MLP": embeddings change, but nodes do not learn of each other."""

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden, hidden, hidden)

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:  # type: ignore[override]
        """`(N, hidden)` -> `(N, hidden)`; the graphs are ignored."""
        return super().forward(x)


class Level(NamedTuple):
    """The nodes of one step of a sweep and what they receive.

    Attributes
    ----------
    nodes
        `(n,)`.
    senders, receivers
        `(E,)`, nodes that messages come from, and places in `nodes` that they go to.
    weights
        `(E, 1) float64`, 1 over the number of edges.
    edges
        `(E1,)`, which of those messages go along an edge.
    """

    nodes: Tensor
    senders: Tensor
    receivers: Tensor
    weights: Tensor
    edges: Tensor


class Schedule(NamedTuple):
    """The levels of both sweeps, for all graphs of a batch together."""

    forward: list[Level]
    backward: list[Level]

    @classmethod
    def of(cls, batch: GraphBatch, virtual_edges: int) -> Schedule:
        """The schedule of a batch; paths longer than `virtual_edges` are left out."""
        near = batch.distances <= virtual_edges
        pairs, distances = batch.edges[near], batch.distances[near]
        depth = batch.levels
        height = _heights(batch)
        return cls(_levels(depth, pairs, distances), _levels(height, pairs.flip(1), distances))


def _heights(batch: GraphBatch) -> Tensor:
    """`(N,)`, edges on the longest path out of each node."""
    heights = torch.zeros_like(batch.levels)
    edges = batch.edges[batch.distances == 1]
    order = batch.levels[edges[:, 0]].argsort(descending=True, stable=True)
    counts = torch.bincount(batch.levels[edges[:, 0]]).flip(0).tolist()
    for part in torch.split(edges[order], counts):
        heights.scatter_reduce_(0, part[:, 0], heights[part[:, 1]] + 1, "amax")
    return heights


def _levels(level: Tensor, pairs: Tensor, distances: Tensor) -> list[Level]:
    """One `Level` after the other; messages go to the second of every pair."""
    order = level.argsort(stable=True)
    sizes = torch.bincount(level).tolist()
    place = torch.empty_like(level)
    place[order] = torch.cat([torch.arange(size, device=level.device) for size in sizes])
    receiving = level[pairs[:, 1]]
    by_level = receiving.argsort(stable=True)
    counts = torch.bincount(receiving, minlength=len(sizes)).tolist()
    senders, receivers = pairs[by_level].unbind(1)
    distances = distances[by_level]
    messages = (torch.split(tensor, counts) for tensor in (senders, place[receivers], distances))
    parts = zip(torch.split(order, sizes), *messages)
    return [
        Level(nodes, sender, receiver, distance.double().reciprocal()[:, None], (distance == 1).nonzero().squeeze(1))
        for nodes, sender, receiver, distance in parts
    ]


class GatedGNN(nn.Module):
    """Message passing along edges and virtual edges, in one sweep forward and one back.

    Parameters
    ----------
    hidden
        Width of the node embeddings.
    virtual_edges
        Longest shortest path that messages travel; 1 for edges alone.
    """

    def __init__(self, hidden: int, virtual_edges: int) -> None:
        super().__init__()
        self.virtual_edges = virtual_edges
        inner = hidden // 2 if virtual_edges > 1 else hidden
        self.mlp = MLP(hidden, inner, hidden)
        if virtual_edges > 1:
            self.mlp_ve = MLP(hidden, inner, hidden)
        self.gru = nn.GRUCell(hidden, hidden)

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """`(N, hidden)` -> `(N, hidden)` for the nodes of all graphs of a batch, which do not interact."""
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            return sweep.propagate(self, x, batch)
        schedule = Schedule.of(batch, self.virtual_edges)
        for levels in schedule:
            x = self._swept(x, levels)
        return x

    def _swept(self, x: Tensor, levels: list[Level]) -> Tensor:
        """One sweep, level after level."""
        hidden = x.shape[1]
        messages = x.new_zeros(len(x), 2 * hidden if self.virtual_edges > 1 else hidden)
        result = torch.zeros_like(x)
        for level in levels:
            received = messages[level.senders]  # (E, hidden or 2 * hidden)
            along_edges = received[level.edges, :hidden]  # (E1, hidden)
            total = x.new_zeros(len(level.nodes), hidden)
            total = total.index_add(0, level.receivers[level.edges], along_edges)
            if self.virtual_edges > 1:
                total = total.index_add(0, level.receivers, received[:, hidden:] * level.weights.to(x.dtype))
            h = self.gru(total, x[level.nodes])
            result = result.index_copy(0, level.nodes, h)
            sent = torch.cat([self.mlp(h), self.mlp_ve(h)], dim=1) if self.virtual_edges > 1 else self.mlp(h)
            messages = messages.index_copy(0, level.nodes, sent)
        return result
