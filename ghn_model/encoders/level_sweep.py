"""The sweeps of `GatedGNN` level by level, with gradients, for GPUs (see `gated_gnn`).

A level consists of the nodes at the same distance from the inputs, of all graphs; they are updated at once.  A
meta-batch has some two hundred levels, and on a GPU the time is proportional to the number of operations.  A level
therefore consists only of what depends on earlier levels: ten operations, and seven in the backward pass.  The backward
pass is written by hand because autograd would need some sixty operations.  Everything else is done for all nodes at
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from deepnets.graph import GraphBatch
from deepnets.support import compiled

__all__ = ["LevelSchedule", "propagate_by_levels"]


class Levels(NamedTuple):
    """The levels of B graphs side by side, for one sweep; level i of all graphs has the same positions.

    Attributes
    ----------
    positions
        `(N,) int64`, position of each node among the `B * P` positions of all graphs.
    distances
        `(B, P, P) uint8`, shortest-path distance to a node (row) from each sender (column); 0 if there is no path.
    levels
        Start and end of each level among the P positions.
    """

    positions: Tensor
    distances: Tensor
    levels: list[tuple[int, int]]

    @classmethod
    def from_arrays(cls, levels: Sequence[npt.NDArray[Any]], distances: Sequence[npt.NDArray[np.uint8]]) -> Levels:
        """Arrange graphs, given the level of each node `(n,)` and its distances from senders `(n, n)`, per graph."""
        count = max(int(level.max()) for level in levels) + 1
        widths = np.stack([np.bincount(level, minlength=count) for level in levels]).max(axis=0)
        bounds = np.concatenate([[0], np.cumsum(widths)])
        padded = np.zeros((len(levels), bounds[-1], bounds[-1]), np.uint8)
        positions = []
        for number, (level, lengths) in enumerate(zip(levels, distances)):
            order = np.argsort(level, kind="stable")
            sizes = np.bincount(level)
            position = np.empty(len(level), np.int64)
            position[order] = np.arange(len(level)) + np.repeat(bounds[: len(sizes)] - np.cumsum(sizes) + sizes, sizes)
            padded[number][np.ix_(position, position)] = lengths
            positions.append(position + number * bounds[-1])
        steps = list(zip(bounds[:-1].tolist(), bounds[1:].tolist()))
        return cls(torch.from_numpy(np.concatenate(positions)), torch.from_numpy(padded), steps)


class LevelSchedule(NamedTuple):
    """The levels of both sweeps of a `GatedGNN`.

    Examples
    --------
    >>> from deepnets import GENOTYPES, GraphBatch, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> schedule = LevelSchedule.from_batch(GraphBatch([graph], virtual_edges=50))
    >>> len(schedule.forward.levels) == int(graph.levels.max()) + 1
    True
    """

    forward: Levels
    reverse: Levels

    @classmethod
    def from_batch(cls, batch: GraphBatch) -> LevelSchedule:
        """The schedule of the graphs of a batch on the CPU."""
        distances = [matrix.numpy() for matrix in batch.distance_matrices()]
        levels = torch.split(batch.levels, [len(matrix) for matrix in distances])
        heights = [find_heights(graph.edges, graph.num_nodes) for graph in batch.graphs]
        return cls(
            Levels.from_arrays([level.numpy() for level in levels], [matrix.T for matrix in distances]),
            Levels.from_arrays(heights, distances),
        )


@compiled
def find_heights(edges: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int32]:
    """Number of edges on the longest path out of each of n nodes, from the edges `(E, 2)` sorted by target."""
    heights = np.zeros(n, np.int32)
    for e in range(len(edges) - 1, -1, -1):
        heights[edges[e, 0]] = max(heights[edges[e, 0]], heights[edges[e, 1]] + 1)
    return heights


def propagate_by_levels(
    x: Tensor,
    schedule: LevelSchedule,
    edge_mlp: Sequence[Tensor],
    path_mlp: Sequence[Tensor] | None,
    gru: Sequence[Tensor],
) -> Tensor:
    """Run the forward and the reverse sweep.

    Parameters
    ----------
    x
        `(N, hidden)` on any device, states of the nodes of all graphs.
    schedule
        The levels of the graphs; its tensors are copied to the device of `x` if necessary.
    edge_mlp, path_mlp, gru
        Weights, as in `compiled_sweep.propagate`.

    Returns
    -------
    `(N, hidden)`, the new states, differentiable with respect to `x` and the weights.
    """
    layers = _message_layers(edge_mlp, path_mlp)
    for levels in schedule:
        levels = levels._replace(positions=levels.positions.to(x.device), distances=levels.distances.to(x.device))
        x = _sweep(x, levels, layers, gru, virtual=path_mlp is not None)
    return x


def _message_layers(
    edge_mlp: Sequence[Tensor], path_mlp: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases of two layers that compute the messages of both kinds at once.

    Parameters
    ----------
    edge_mlp, path_mlp
        Weights and biases of the layers that compute messages along edges and along shortest paths; `path_mlp` is None
        without virtual edges.
    """
    w1, b1, w2, b2 = edge_mlp
    if path_mlp is None:
        return w1, b1, w2, b2
    path_w1, path_b1, path_w2, path_b2 = path_mlp
    last: Tensor = torch.block_diag(w2, path_w2)  # type: ignore[no-untyped-call]
    return torch.cat([w1, path_w1]), torch.cat([b1, path_b1]), last, torch.cat([b2, path_b2])


def _gates_from_state(state: Tensor, gru: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What the old states add to the gates of a GRU.

    Parameters
    ----------
    state
        `(..., h)`, old states.
    gru
        `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` of a `torch.nn.GRUCell`.

    Returns
    -------
    gates
        `(..., 3h)`, preactivations of reset, update and new state without the received messages and without the part of
        the new state that the reset gate multiplies.
    new
        `(..., h)`, this part.
    """
    _, weight_hh, bias_ih, bias_hh = gru
    width = state.shape[-1]
    gates, new = torch.split(F.linear(state, weight_hh, bias_hh), [2 * width, width], dim=-1)
    return torch.cat([gates, torch.zeros_like(new)], dim=-1) + bias_ih, new


def _sweep(x: Tensor, sweep: Levels, layers: tuple[Tensor, ...], gru: Sequence[Tensor], virtual: bool) -> Tensor:
    """One sweep.  What a node needs of its old state is computed before, for all nodes at once."""
    graphs, positions = sweep.distances.shape[:2]
    width = x.shape[1]
    lengths = sweep.distances.to(x.dtype)
    shares = (lengths == 1).to(x.dtype)  # (B, P, P), factors of the messages along edges
    if virtual:
        shares = torch.stack([shares, (lengths > 0) / lengths.clamp(min=1)], dim=3)
    state = x.new_zeros(graphs * positions, width).index_copy(0, sweep.positions, x).view(graphs, positions, width)
    gates, new = _gates_from_state(state, gru)
    result: Tensor = _LevelSweep.apply(  # type: ignore[no-untyped-call]
        state, gates, new, shares.flatten(2), sweep.levels, gru[0], *layers
    )
    return result.flatten(0, 1)[sweep.positions]


class _LevelSweep(torch.autograd.Function):
    """The sequential part of a sweep: nodes receive messages, update their states `(B, P, h)` and send messages."""

    @staticmethod
    def forward(
        ctx: Any,
        state: Tensor,
        gates: Tensor,
        new_from_state: Tensor,
        shares: Tensor,
        levels: list[tuple[int, int]],
        w_ih: Tensor,
        *layers: Tensor,
    ) -> Tensor:
        graphs, positions, width = state.shape
        w1, b1, w2, b2 = layers
        kinds = shares.shape[2] // positions
        # Products are accumulated in place, which saves one operation each.
        gates = gates.clone()
        inner, sent = (bias.expand(graphs, positions, -1).contiguous() for bias in (b1, b2))
        received, turns, result = torch.zeros_like(state), torch.empty_like(gates[..., width:]), torch.empty_like(state)
        new = torch.empty_like(state)
        messages = sent.view(graphs, kinds * positions, width)  # both kinds alternate
        by_input, by_state, by_inner = (_for_each(graphs, weight.t()) for weight in (w_ih, w1, w2))
        views = _views(levels, state, gates, new_from_state, received, turns, new, result, inner, sent)
        for (start, end), (old, gate, from_state, total, turn, fresh, now, middle, out) in zip(levels, views):
            if start:
                torch.bmm(shares[:, start:end, : kinds * start], messages[:, : kinds * start], out=total)
                gate.baddbmm_(total, by_input)
            torch.sigmoid(gate[..., : 2 * width], out=turn)
            torch.addcmul(gate[..., 2 * width :], turn[..., :width], from_state, out=fresh).tanh_()
            torch.lerp(fresh, old, turn[..., width:], out=now)
            middle.baddbmm_(now, by_state).relu_()
            out.baddbmm_(middle, by_inner).relu_()
        ctx.levels = levels
        ctx.save_for_backward(state, new_from_state, shares, w_ih, w1, w2, received, turns, new, result, inner, sent)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_result: Tensor) -> tuple[Tensor | None, ...]:
        state, new_from_state, shares, w_ih, w1, w2, received, turns, new, result, inner, sent = ctx.saved_tensors
        graphs, positions, width = state.shape
        kinds = shares.shape[2] // positions
        reset, update = turns.chunk(2, dim=2)
        # The gradient of a state times these is the gradient of the preactivations of reset, update and new.
        by_new = (1 - update) * (1 - new * new)
        by_reset = by_new * new_from_state * reset * (1 - reset)
        slopes = torch.stack([by_reset, (state - new) * update * (1 - update), by_new], dim=2)  # (B, P, 3, h)
        by_now = by_result.clone(memory_format=torch.contiguous_format)
        by_gates, by_inner, by_sent = torch.empty_like(slopes), torch.empty_like(inner), torch.zeros_like(sent)
        by_messages = by_sent.view(graphs, kinds * positions, width)
        inner_passes, sent_passes = (inner > 0).to(inner.dtype), (sent > 0).to(sent.dtype)
        to_input, to_state, to_inner = (_for_each(graphs, weight) for weight in (w_ih, w1, w2))
        views = _views(ctx.levels, by_now, slopes, by_gates, by_inner, inner_passes, by_sent, sent_passes)
        steps = list(zip(ctx.levels, views))
        for (start, end), (now, slope, gate, middle, middle_passes, out, out_passes) in reversed(steps):
            torch.bmm(out.mul_(out_passes), to_inner, out=middle).mul_(middle_passes)
            now.baddbmm_(middle, to_state)
            torch.mul(now[:, :, None], slope, out=gate)
            if start:
                by_received = torch.bmm(gate.flatten(2), to_input)
                given = shares[:, start:end, : kinds * start].transpose(1, 2)
                by_messages[:, : kinds * start].baddbmm_(given, by_received)
        by_sums = by_gates.flatten(2)
        pairs = ((by_sums, received), (by_inner, result), (by_sent, inner))
        by_w_ih, by_w1, by_w2 = (out.flatten(0, 1).t() @ into.flatten(0, 1) for out, into in pairs)
        by_b1, by_b2 = by_inner.sum((0, 1)), by_sent.sum((0, 1))
        by_old = by_now * update
        return by_old, by_sums, by_gates[:, :, 2] * reset, None, None, by_w_ih, by_w1, by_b1, by_w2, by_b2


def _for_each(graphs: int, weight: Tensor) -> Tensor:
    """A view of a matrix as `(graphs, rows, columns)`."""
    return weight.expand(graphs, -1, -1)


def _views(levels: Iterable[tuple[int, int]], *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """For each level, its part of the positions of tensors `(B, P, ...)`."""
    sizes = [end - start for start, end in levels]
    return zip(*(torch.split(tensor, sizes, dim=1) for tensor in tensors))
