"""The sweeps of `GatedGNN` level by level, the nodes of a level of all graphs at once: for GPUs (see `gated_gnn`).

There, time goes by the number of operations, small as they are, and a meta-batch has some two hundred levels.
So a level is only what must be done in order: ten operations, and seven on the way back, which is written out here,
because autograd would take some sixty.  What concerns every node alone is done for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from deepnets.graph import Graph
from ghn_model.encoders.sweep import find_heights

if TYPE_CHECKING:
    from ghn_model.encoders.gated_gnn import GatedGNN

__all__ = ["Schedule", "propagate_by_levels"]


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

    def to(self, device: torch.device) -> Sweep:
        """The same with its tensors on a device."""
        return self._replace(places=self.places.to(device), distances=self.distances.to(device))


class Schedule(NamedTuple):
    """Both sweeps of a `GatedGNN`."""

    forward: Sweep
    backward: Sweep

    @classmethod
    def of(cls, graphs: Sequence[Graph], virtual_edges: int) -> Schedule:
        """The schedule of several graphs; paths longer than `virtual_edges` are left out."""
        distances = [graph.distances(virtual_edges) for graph in graphs]
        heights = [find_heights(graph.edges, graph.num_nodes) for graph in graphs]
        return cls(
            Sweep.of([graph.levels for graph in graphs], [matrix.T for matrix in distances]),
            Sweep.of(heights, distances),
        )


def propagate_by_levels(gnn: GatedGNN, x: Tensor, schedule: Schedule) -> Tensor:
    """`(N, hidden)` on any device -> a new tensor like it, with gradients by `x` and the weights."""
    layers = _message_layers(gnn)
    for sweep in schedule:
        x = _swept(gnn, x, sweep.to(x.device), layers)
    return x


def _message_layers(gnn: GatedGNN) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases of the two layers that make the messages of both kinds at once."""
    w1, b1, w2, b2 = gnn.mlp.parameters()
    if gnn.virtual_edges == 1:
        return w1, b1, w2, b2
    far_w1, far_b1, far_w2, far_b2 = gnn.mlp_ve.parameters()
    last: Tensor = torch.block_diag(w2, far_w2)  # type: ignore[no-untyped-call]
    return torch.cat([w1, far_w1]), torch.cat([b1, far_b1]), last, torch.cat([b2, far_b2])


def _swept(gnn: GatedGNN, x: Tensor, sweep: Sweep, layers: tuple[Tensor, ...]) -> Tensor:
    """One sweep; what every node needs of its old state is computed before, what it receives in `_Levels`."""
    graphs, places = sweep.distances.shape[:2]
    width, cell = x.shape[1], gnn.gru
    lengths = sweep.distances.to(x.dtype)
    shares = (lengths == 1).to(x.dtype)  # (B, P, P), of messages along edges
    if gnn.virtual_edges > 1:
        shares = torch.stack([shares, (lengths > 0) / lengths.clamp(min=1)], dim=3)
    state = x.new_zeros(graphs * places, width).index_copy(0, sweep.places, x).view(graphs, places, width)
    gates, new = torch.split(F.linear(state, cell.weight_hh, cell.bias_hh), [2 * width, width], dim=2)
    gates = torch.cat([gates, torch.zeros_like(new)], dim=2) + cell.bias_ih  # (B, P, 3h), but for what is received
    result: Tensor = _Levels.apply(  # type: ignore[no-untyped-call]
        state, gates, new, shares.flatten(2), sweep.levels, cell.weight_ih, *layers
    )
    return result.flatten(0, 1)[sweep.places]


class _Levels(torch.autograd.Function):
    """What is done in order: nodes receive, their states change, they send.  States are `(B, P, h)`."""

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
        graphs, places, width = state.shape
        w1, b1, w2, b2 = layers
        kinds = shares.shape[2] // places
        # Products are added to what is there already, since this is one operation less.
        gates = gates.clone()
        inner, sent = (bias.expand(graphs, places, -1).contiguous() for bias in (b1, b2))
        received, turns, result = torch.zeros_like(state), torch.empty_like(gates[..., width:]), torch.empty_like(state)
        new = torch.empty_like(state)
        messages = sent.view(graphs, kinds * places, width)  # of both kinds in turn
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
        graphs, places, width = state.shape
        kinds = shares.shape[2] // places
        reset, update = turns.chunk(2, dim=2)
        # A state's gradient times these is that of the sums in reset, update and new.
        by_new = (1 - update) * (1 - new * new)
        by_reset = by_new * new_from_state * reset * (1 - reset)
        slopes = torch.stack([by_reset, (state - new) * update * (1 - update), by_new], dim=2)  # (B, P, 3, h)
        by_now = by_result.clone(memory_format=torch.contiguous_format)
        by_gates, by_inner, by_sent = torch.empty_like(slopes), torch.empty_like(inner), torch.zeros_like(sent)
        by_messages = by_sent.view(graphs, kinds * places, width)
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
    """A matrix, as one for each graph, without copies."""
    return weight.expand(graphs, -1, -1)


def _views(levels: Iterable[tuple[int, int]], *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Of each level, its part of the places of tensors `(B, P, ...)`."""
    sizes = [end - start for start, end in levels]
    return zip(*(torch.split(tensor, sizes, dim=1) for tensor in tensors))
