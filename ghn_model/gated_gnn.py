"""The gated graph network of GHN-1 and GHN-2: one sweep along the edges of a graph, and one back.

    m_v = sum over edges u -> v of MLP(h_u)  +  sum over paths u -> v of d edges of MLP_ve(h_u) / d
    h_v = GRU(m_v, h_v)

(Knyazev et al., NeurIPS 2021, equations 3 and 4; the second sum has the edges, too.)  Nodes are updated one after the
other, each from neighbours that were updated in the same sweep.  A message depends on its sender alone, so it is
computed once per node.  There are two ways to go through the nodes:

- level by level, the nodes of a level of all graphs at once: in PyTorch, differentiable, on any device;
- node by node, in compiled code, many times faster on a CPU: `ghn_model.sweep` for predictions,
  `ghn_model.sweep_gradients` for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets.graph import Graph
from ghn_model import sweep, sweep_gradients

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

    def schedule(self, graphs: Sequence[Graph]) -> None:
        """Nothing, as edges are ignored."""

    def forward(self, x: Tensor, graphs: Sequence[Graph], schedule: None = None) -> Tensor:  # type: ignore[override]
        """`(N, hidden)` -> `(N, hidden)`; the graphs are ignored."""
        return super().forward(x)


class Sweep(NamedTuple):
    """One sweep over several graphs, side by side, with equal levels in equal places.

    Attributes
    ----------
    places
        `(N,) int64`, place of each node among the `B * P` of all graphs, P per graph, level after level.
    distances
        `(B, P, P) uint8`, length of the path to a node (row) from each of its senders (column); 0 where there is none.
    levels
        Where each level begins and ends among the P places.
    """

    places: Tensor
    distances: Tensor
    levels: list[tuple[int, int]]

    @classmethod
    def of(cls, levels: Sequence[npt.NDArray[np.int32]], distances: Sequence[npt.NDArray[np.uint8]]) -> Sweep:
        """From the level of each node `(N_b,)` and its distances from senders `(N_b, N_b)`, for each graph."""
        count = max(int(level.max()) for level in levels) + 1
        widths = np.stack([np.bincount(level, minlength=count) for level in levels]).max(axis=0)
        bounds = np.concatenate([[0], np.cumsum(widths)])
        padded = np.zeros((len(levels), bounds[-1], bounds[-1]), np.uint8)
        places = []
        for number, (level, lengths) in enumerate(zip(levels, distances)):
            order = np.argsort(level, kind="stable")
            sizes = np.bincount(level)
            place = np.empty(len(level), np.int64)
            place[order] = np.arange(len(level)) + np.repeat(bounds[: len(sizes)] - np.cumsum(sizes) + sizes, sizes)
            padded[number][np.ix_(place, place)] = lengths
            places.append(place + number * bounds[-1])
        steps = list(zip(bounds[:-1].tolist(), bounds[1:].tolist()))
        return cls(torch.from_numpy(np.concatenate(places)), torch.from_numpy(padded), steps)


class Schedule(NamedTuple):
    """Both sweeps of a `GatedGNN`."""

    forward: Sweep
    backward: Sweep

    @classmethod
    def of(cls, graphs: Sequence[Graph], virtual_edges: int) -> Schedule:
        """The schedule of several graphs; paths longer than `virtual_edges` are left out."""
        distances = [graph.distances(virtual_edges) for graph in graphs]
        heights = [sweep.find_heights(graph.edges, graph.num_nodes) for graph in graphs]
        return cls(
            Sweep.of([graph.levels for graph in graphs], [matrix.T for matrix in distances]),
            Sweep.of(heights, distances),
        )


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

    def schedule(self, graphs: Sequence[Graph]) -> Schedule:
        """What `forward` needs to go level by level; made before, it can be made elsewhere."""
        return Schedule.of(graphs, self.virtual_edges)

    def forward(self, x: Tensor, graphs: Sequence[Graph], schedule: Schedule | None = None) -> Tensor:
        """`(N, hidden)` -> `(N, hidden)` for the nodes of several graphs, which do not interact.

        `schedule` is that of the graphs, with its tensors on the device of `x`.  On a CPU, things are faster without.
        """
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            return sweep.propagate(self, x, graphs)
        if x.device.type == "cpu" and schedule is None:
            return sweep_gradients.propagate_differentiably(self, x, graphs)
        for step in schedule or self.schedule(graphs):
            x = self._swept(x, step._replace(places=step.places.to(x.device), distances=step.distances.to(x.device)))
        return x

    def _swept(self, x: Tensor, step: Sweep) -> Tensor:
        """One sweep, level after level."""
        size, hidden = step.distances.shape[:2], x.shape[1]
        lengths = step.distances.to(x.dtype)
        weights = (lengths == 1).to(x.dtype)  # (B, P, P), of messages along edges
        if self.virtual_edges > 1:
            weights = torch.stack([weights, (lengths > 0) / lengths.clamp(min=1)], dim=3)
        state = x.new_zeros(size[0] * size[1], hidden).index_copy(0, step.places, x).view(*size, hidden)  # (B, P, h)
        from_state = F.linear(state, self.gru.weight_hh, self.gru.bias_hh)  # (B, P, 3h)
        first, last = self._message_weights()
        kinds = len(last[1]) // hidden
        messages = x.new_zeros(size[0], size[1] * kinds, hidden)  # of both kinds in turn
        results = []
        for start, end in step.levels:
            received = torch.bmm(weights[:, start:end, :start].flatten(2), messages[:, : kinds * start])  # (B, n, h)
            from_messages = F.linear(received, self.gru.weight_ih, self.gru.bias_ih)
            h = _gated(from_messages, from_state[:, start:end], state[:, start:end])
            sent = F.linear(F.linear(h, *first).relu(), *last).relu()  # (B, n, kinds * h)
            messages[:, kinds * start : kinds * end] = sent.view(size[0], -1, hidden)
            results.append(h)
        return torch.cat(results, dim=1).flatten(0, 1)[step.places]

    def _message_weights(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Weights and biases of the two layers that make the messages of both kinds at once."""
        w1, b1, w2, b2 = self.mlp.parameters()
        if self.virtual_edges == 1:
            return (w1, b1), (w2, b2)
        w1_ve, b1_ve, w2_ve, b2_ve = self.mlp_ve.parameters()
        last: Tensor = torch.block_diag(w2, w2_ve)  # type: ignore[no-untyped-call]
        return (torch.cat([w1, w1_ve]), torch.cat([b1, b1_ve])), (last, torch.cat([b2, b2_ve]))


def _gated(from_messages: Tensor, from_state: Tensor, state: Tensor) -> Tensor:
    """The rest of a GRU cell, once the products with its two matrices are known."""
    width = state.shape[-1]
    reset, update = (from_messages[..., : 2 * width] + from_state[..., : 2 * width]).sigmoid().chunk(2, dim=-1)
    new = torch.addcmul(from_messages[..., 2 * width :], reset, from_state[..., 2 * width :]).tanh()
    return torch.lerp(new, state, update)
