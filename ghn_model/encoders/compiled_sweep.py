"""The sweeps of `GatedGNN` node by node in compiled code, with gradients, on a CPU (see `gated_gnn`).

A node is updated by a few hundred multiplications, for which a call of PyTorch takes longer than the arithmetic.  The
inner loops run over consecutive outputs so that the compiler can vectorize them.  Numbers are in double precision,
because rounding errors accumulate along paths of hundreds of nodes.  What does not depend on earlier nodes, the
gradients of the weights included, is computed by PyTorch for all nodes at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deepnets.support import compiled
from ghn_model.encoders.message_layers import gates_from_state, message_layers

__all__ = ["propagate"]

Array = npt.NDArray[np.float64]


def propagate(
    x: Tensor,
    distances: Sequence[Tensor],
    edge_mlp: Sequence[Tensor],
    path_mlp: Sequence[Tensor] | None,
    gru: Sequence[Tensor],
) -> Tensor:
    """Run the forward and the reverse sweep.

    Parameters
    ----------
    x
        `(N, hidden)` on the CPU, states of the nodes of all graphs.
    distances
        `(n, n) uint8` on the CPU for each graph: shortest-path distances from nodes (rows) to nodes (columns) over
        which messages are passed, and 0 for all others.
    edge_mlp, path_mlp
        Weights and biases of the two layers that compute messages along edges and along shortest paths, as in
        `MLP.parameters()`; `path_mlp` is None without virtual edges.
    gru
        `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` of a `torch.nn.GRUCell`.

    Returns
    -------
    `(N, hidden)`, the new states, differentiable with respect to `x` and the weights.
    """
    state = x.double()
    layers = [tensor.double() for tensor in message_layers(edge_mlp, path_mlp)]
    weights = [tensor.double() for tensor in gru]
    from_nodes = [matrix.numpy() for matrix in distances]
    from_senders = [np.ascontiguousarray(matrix.T) for matrix in from_nodes]
    for matrices, reverse in ((from_senders, False), (from_nodes, True)):
        gates, new = gates_from_state(state, weights)
        state = _Sweep.apply(state, gates, new, matrices, reverse, weights[0], *layers)  # type: ignore[no-untyped-call]
    return state.to(x.dtype)


class _Sweep(torch.autograd.Function):
    """The sequential part of a sweep: nodes receive messages, update their states `(N, h)` and send messages."""

    @staticmethod
    def forward(
        ctx: Any,
        state: Tensor,
        gates: Tensor,
        new_from_state: Tensor,
        matrices: list[npt.NDArray[np.uint8]],
        reverse: bool,
        w_ih: Tensor,
        *layers: Tensor,
    ) -> Tensor:
        nodes = len(state)
        w1, b1, w2, b2 = layers
        inner, sent = (bias.detach().expand(nodes, -1).contiguous() for bias in (b1, b2))
        received, new, result = torch.zeros_like(state), torch.empty_like(state), torch.empty_like(state)
        turns = gates.detach().clone()  # becomes the values of the reset gate, the update gate and the new state
        weights = _array(w_ih.t()), _array(w1.t()), _array(w2.t())
        arrays = [_array(tensor) for tensor in (state, new_from_state, received, turns, new, result, inner, sent)]
        start = 0
        for matrix in matrices:
            end = start + len(matrix)
            _update(matrix, reverse, weights, *(array[start:end] for array in arrays))
            start = end
        ctx.matrices, ctx.reverse = matrices, reverse
        ctx.save_for_backward(state, new_from_state, w_ih, w1, w2, received, turns, new, result, inner, sent)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_result: Tensor) -> tuple[Tensor | None, ...]:
        state, new_from_state, w_ih, w1, w2, received, turns, new, result, inner, sent = ctx.saved_tensors
        by_now = by_result.clone(memory_format=torch.contiguous_format)
        by_gates, by_new_from_state, by_old = torch.empty_like(turns), torch.empty_like(new), torch.empty_like(new)
        by_inner, by_sent = torch.zeros_like(inner), torch.zeros_like(sent)
        weights = _array(w_ih), _array(w1), _array(w2)
        known = (state, new_from_state, turns, new, inner, sent)
        found = (by_now, by_gates, by_new_from_state, by_old, by_inner, by_sent)
        arrays = [_array(tensor) for tensor in (*known, *found)]
        start = 0
        for matrix in ctx.matrices:
            end = start + len(matrix)
            _update_backward(matrix, ctx.reverse, weights, *(array[start:end] for array in arrays))
            start = end
        pairs = ((by_gates, received), (by_inner, result), (by_sent, inner))
        by_w_ih, by_w1, by_w2 = (out.t() @ into for out, into in pairs)
        by_layers = (by_w1, by_inner.sum(0), by_w2, by_sent.sum(0))
        return by_old, by_gates, by_new_from_state, None, None, by_w_ih, *by_layers


def _array(tensor: Tensor) -> Array:
    """A contiguous array, without a copy if the tensor is contiguous."""
    return tensor.detach().contiguous().numpy()


@compiled
def _multiply_add(x: Array, weight: Array, out: Array) -> None:
    """Add the product of a vector and a matrix to `out`."""
    for i in range(weight.shape[0]):
        factor = x[i]
        if factor != 0:
            for j in range(weight.shape[1]):
                out[j] += factor * weight[i, j]


@compiled
def _rectify(x: Array, y: Array) -> None:
    """Set the elements of `x` to 0 where those of `y` are not positive."""
    for i in range(len(x)):
        if y[i] <= 0:
            x[i] = 0


@compiled
def _update(
    distances: npt.NDArray[np.uint8],
    reverse: bool,
    weights: tuple[Array, Array, Array],
    state: Array,
    new_from_state: Array,
    received: Array,
    turns: Array,
    new: Array,
    result: Array,
    inner: Array,
    sent: Array,
) -> None:
    """Update the nodes of a graph; row v of `distances` holds the distances of its senders.

    Before the call, `turns` holds the gates without messages, and `inner` and `sent` the biases of the message layers.
    """
    w_ih, w1, w2 = weights  # transposed
    n, width = state.shape
    for step in range(n):
        v = n - 1 - step if reverse else step
        first, last = (v + 1, n) if reverse else (0, v)
        for u in range(first, last):
            distance = distances[v, u]
            if distance == 0:
                continue
            if distance == 1:
                for i in range(width):
                    received[v, i] += sent[u, i]
            if sent.shape[1] > width:
                factor = 1.0 / distance
                for i in range(width):
                    received[v, i] += factor * sent[u, width + i]
        _multiply_add(received[v], w_ih, turns[v])
        for i in range(width):
            turns[v, i] = 1.0 / (1.0 + math.exp(-turns[v, i]))
            turns[v, width + i] = 1.0 / (1.0 + math.exp(-turns[v, width + i]))
            new[v, i] = math.tanh(turns[v, 2 * width + i] + turns[v, i] * new_from_state[v, i])
            result[v, i] = new[v, i] + turns[v, width + i] * (state[v, i] - new[v, i])
        _multiply_add(result[v], w1, inner[v])
        _rectify(inner[v], inner[v])
        _multiply_add(inner[v], w2, sent[v])
        _rectify(sent[v], sent[v])


@compiled
def _update_backward(
    distances: npt.NDArray[np.uint8],
    reverse: bool,
    weights: tuple[Array, Array, Array],
    state: Array,
    new_from_state: Array,
    turns: Array,
    new: Array,
    inner: Array,
    sent: Array,
    by_now: Array,
    by_gates: Array,
    by_new_from_state: Array,
    by_old: Array,
    by_inner: Array,
    by_sent: Array,
) -> None:
    """Compute the gradients of `_update`, from the last node to the first; `by_inner` and `by_sent` start as zeros."""
    w_ih, w1, w2 = weights
    n, width = state.shape
    by_received = np.empty(width)
    for step in range(n):
        v = step if reverse else n - 1 - step
        first, last = (v + 1, n) if reverse else (0, v)
        _rectify(by_sent[v], sent[v])
        _multiply_add(by_sent[v], w2, by_inner[v])
        _rectify(by_inner[v], inner[v])
        _multiply_add(by_inner[v], w1, by_now[v])
        for i in range(width):
            reset, update, slope = turns[v, i], turns[v, width + i], by_now[v, i]
            by_new = slope * (1 - update) * (1 - new[v, i] * new[v, i])
            by_gates[v, i] = by_new * new_from_state[v, i] * reset * (1 - reset)
            by_gates[v, width + i] = slope * (state[v, i] - new[v, i]) * update * (1 - update)
            by_gates[v, 2 * width + i] = by_new
            by_new_from_state[v, i] = by_new * reset
            by_old[v, i] = slope * update
        by_received[:] = 0
        _multiply_add(by_gates[v], w_ih, by_received)
        for u in range(first, last):
            distance = distances[v, u]
            if distance == 0:
                continue
            if distance == 1:
                for i in range(width):
                    by_sent[u, i] += by_received[i]
            if sent.shape[1] > width:
                factor = 1.0 / distance
                for i in range(width):
                    by_sent[u, width + i] += factor * by_received[i]
