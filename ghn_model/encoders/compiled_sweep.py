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
        `MLP.weights()`; `path_mlp` is None without virtual edges.
    gru
        `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` of a `torch.nn.GRUCell`.

    Returns
    -------
    `(N, hidden)`, the new states, differentiable with respect to `x` and the weights.
    """
    mlps = [edge_mlp] if path_mlp is None else [edge_mlp, path_mlp]
    w1, b1, w2, b2 = zip(*mlps)  # of the layers that compute messages of all kinds
    joined = (*gru, torch.cat(w1), torch.cat(b1), torch.stack(w2), torch.cat(b2))
    arrays = tuple(_array(tensor, transposed=tensor.dim() > 1) for tensor in joined)
    from_nodes = [matrix.numpy() for matrix in distances]
    from_senders = [np.ascontiguousarray(matrix.T) for matrix in from_nodes]
    sweeps = ((from_senders, False), (from_nodes, True))
    if not torch.is_grad_enabled():
        result = _array(x)
        for matrices, reverse in sweeps:
            result = _sweep(result, matrices, reverse, arrays, kept=1)[0]
        return torch.from_numpy(result).to(x.dtype)
    state, *weights = (tensor.double() for tensor in (x, *joined))
    for matrices, reverse in sweeps:
        state = _Sweep.apply(state, matrices, reverse, arrays, *weights)  # type: ignore[no-untyped-call]
    return state.to(x.dtype)


def _sweep(
    state: Array, matrices: list[npt.NDArray[np.uint8]], reverse: bool, weights: tuple[Array, ...], kept: int
) -> list[Array]:
    """The new states, and what the backward pass needs of `kept` nodes: of all, or of one, since memory takes time."""
    width, inner, sent = state.shape[1], len(weights[5]), len(weights[7])
    sizes = ((len(state), width), (len(state), sent), (kept, width), (kept, 4 * width), (kept, inner))
    found = [np.empty(size) for size in sizes]
    start = 0
    for matrix in matrices:
        end = start + len(matrix)
        rows = (array[start:end] if len(array) == len(state) else array for array in found)
        _update(matrix, reverse, weights, state[start:end], *rows)
        start = end
    return found


class _Sweep(torch.autograd.Function):
    """A sweep: nodes receive messages, update their states `(N, h)` and send messages."""

    @staticmethod
    def forward(
        ctx: Any,
        state: Tensor,
        matrices: list[npt.NDArray[np.uint8]],
        reverse: bool,
        arrays: tuple[Array, ...],
        *weights: Tensor,
    ) -> Tensor:
        found = _sweep(_array(state), matrices, reverse, arrays, kept=len(state))
        result, sent, received, turns, inner = map(torch.from_numpy, found)
        w_ih, w_hh, _, _, w1, _, w2, _ = weights
        ctx.matrices, ctx.reverse = matrices, reverse
        ctx.save_for_backward(w_ih, w_hh, w1, w2, state, received, turns, result, inner, sent)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_result: Tensor) -> tuple[Tensor | None, ...]:
        w_ih, w_hh, w1, w2, state, received, turns, result, inner, sent = ctx.saved_tensors
        width = state.shape[1]
        by_result = by_result.contiguous()
        by_turns, by_state = torch.empty_like(turns), torch.empty_like(state)
        by_inner, by_sent = torch.empty_like(inner), torch.zeros_like(sent)
        weights = _array(w_ih), _array(w1), _array(w2)
        tensors = (state, turns, inner, sent, by_result, by_turns, by_state, by_inner, by_sent)
        arrays = [_array(tensor) for tensor in tensors]
        start = 0
        for matrix in ctx.matrices:
            end = start + len(matrix)
            _update_backward(matrix, ctx.reverse, weights, *(array[start:end] for array in arrays))
            start = end
        by_gates = by_turns[:, : 3 * width]
        by_recurrent = torch.cat([by_turns[:, : 2 * width], by_turns[:, 3 * width :]], dim=1)
        by_state.addmm_(by_recurrent, w_hh)
        pairs = ((by_gates, received), (by_recurrent, state), (by_inner, result))
        by_w_ih, by_w_hh, by_w1 = (out.t() @ into for out, into in pairs)
        by_b_ih, by_b_hh, by_b1, by_b2 = (out.sum(0) for out in (by_gates, by_recurrent, by_inner, by_sent))
        by_kind, inner_by_kind = (rows.view(len(rows), len(w2), -1).transpose(0, 1) for rows in (by_sent, inner))
        by_w2 = by_kind.transpose(1, 2) @ inner_by_kind
        return by_state, None, None, None, by_w_ih, by_w_hh, by_b_ih, by_b_hh, by_w1, by_b1, by_w2, by_b2


def _array(tensor: Tensor, transposed: bool = False) -> Array:
    """A contiguous array in double precision, optionally of `tensor.mT`; without a copy if the tensor is all that."""
    tensor = tensor.detach()
    array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # NumPy has no bfloat16
    return np.ascontiguousarray(array.swapaxes(-1, -2) if transposed else array, dtype=np.float64)


@compiled
def _multiply_add(x: Array, weight: Array, out: Array) -> None:
    """Add the product of a vector and a matrix to `out`."""
    for i in range(weight.shape[0]):
        factor = x[i]
        if factor != 0:
            for j in range(weight.shape[1]):
                out[j] += factor * weight[i, j]


@compiled
def _update(
    distances: npt.NDArray[np.uint8],
    reverse: bool,
    weights: tuple[Array, ...],
    state: Array,
    result: Array,
    sent: Array,
    received: Array,
    turns: Array,
    inner: Array,
) -> None:
    """Update the nodes of a graph; row v of `distances` holds the distances of its senders.

    A row of `turns` holds the values of the reset gate, the update gate, the new state, and what the reset gate
    multiplied.  `received`, `turns` and `inner` have a row for each node, or one row.  The weights are transposed.
    """
    w_ih, w_hh, b_ih, b_hh, w1, b1, w2, b2 = weights
    n, width = state.shape
    kinds, size = w2.shape[0], w2.shape[1]
    # Vectors of their own are faster than rows, which the compiler must expect to overlap.
    total, old, now = np.empty(width), np.empty(width), np.empty(width)
    gates, recurrent = np.empty(3 * width), np.empty(3 * width)
    middle, part, message = np.empty(len(b1)), np.empty(size), np.empty(width)
    for step in range(n):
        v = n - 1 - step if reverse else step
        row = v if len(received) == n else 0
        first, last = (v + 1, n) if reverse else (0, v)
        total[:] = 0
        for u in range(first, last):
            distance = distances[v, u]
            if distance == 0:
                continue
            if distance == 1:
                for i in range(width):
                    total[i] += sent[u, i]
            if kinds > 1:
                factor = 1.0 / distance
                for i in range(width):
                    total[i] += factor * sent[u, width + i]
        for i in range(width):
            received[row, i], old[i] = total[i], state[v, i]
        gates[:] = b_ih
        _multiply_add(total, w_ih, gates)
        recurrent[:] = b_hh
        _multiply_add(old, w_hh, recurrent)
        for i in range(width):
            reset = 1.0 / (1.0 + math.exp(-(gates[i] + recurrent[i])))
            update = 1.0 / (1.0 + math.exp(-(gates[width + i] + recurrent[width + i])))
            new = math.tanh(gates[2 * width + i] + reset * recurrent[2 * width + i])
            now[i] = new + update * (old[i] - new)
            turns[row, i], turns[row, width + i], turns[row, 2 * width + i] = reset, update, new
            turns[row, 3 * width + i], result[v, i] = recurrent[2 * width + i], now[i]
        middle[:] = b1
        _multiply_add(now, w1, middle)
        for i in range(len(middle)):
            middle[i] = max(middle[i], 0.0)
            inner[row, i] = middle[i]
        for kind in range(kinds):
            for i in range(size):
                part[i] = middle[kind * size + i]
            for i in range(width):
                message[i] = b2[kind * width + i]
            _multiply_add(part, w2[kind], message)
            for i in range(width):
                sent[v, kind * width + i] = max(message[i], 0.0)


@compiled
def _update_backward(
    distances: npt.NDArray[np.uint8],
    reverse: bool,
    weights: tuple[Array, Array, Array],
    state: Array,
    turns: Array,
    inner: Array,
    sent: Array,
    by_result: Array,
    by_turns: Array,
    by_state: Array,
    by_inner: Array,
    by_sent: Array,
) -> None:
    """Compute the gradients of `_update`, from the last node to the first; `by_sent` starts as zeros.

    A row of `by_turns` holds the gradients of the sums in the reset gate, the update gate and the new state, and of
    what the reset gate multiplies; `by_state` lacks what passes through `w_hh`.
    """
    w_ih, w1, w2 = weights
    n, width = state.shape
    kinds, size = w2.shape[0], w2.shape[2]
    by_received, by_gates, by_now = np.empty(width), np.empty(3 * width), np.empty(width)
    by_middle, by_part, by_message = np.empty(kinds * size), np.empty(size), np.empty(width)
    for step in range(n):
        v = step if reverse else n - 1 - step
        first, last = (v + 1, n) if reverse else (0, v)
        for kind in range(kinds):
            by_part[:] = 0
            for i in range(width):
                if sent[v, kind * width + i] <= 0:
                    by_sent[v, kind * width + i] = 0
                by_message[i] = by_sent[v, kind * width + i]
            _multiply_add(by_message, w2[kind], by_part)
            for i in range(size):
                by_middle[kind * size + i] = by_part[i] if inner[v, kind * size + i] > 0 else 0.0
        for i in range(kinds * size):
            by_inner[v, i] = by_middle[i]
        for i in range(width):
            by_now[i] = by_result[v, i]
        _multiply_add(by_middle, w1, by_now)
        for i in range(width):
            reset, update, new = turns[v, i], turns[v, width + i], turns[v, 2 * width + i]
            by_new = by_now[i] * (1 - update) * (1 - new * new)
            by_gates[i] = by_new * turns[v, 3 * width + i] * reset * (1 - reset)
            by_gates[width + i] = by_now[i] * (state[v, i] - new) * update * (1 - update)
            by_gates[2 * width + i] = by_new
            by_turns[v, 3 * width + i] = by_new * reset
            by_state[v, i] = by_now[i] * update
        for i in range(3 * width):
            by_turns[v, i] = by_gates[i]
        by_received[:] = 0
        _multiply_add(by_gates, w_ih, by_received)
        for u in range(first, last):
            distance = distances[v, u]
            if distance == 0:
                continue
            if distance == 1:
                for i in range(width):
                    by_sent[u, i] += by_received[i]
            if kinds > 1:
                factor = 1.0 / distance
                for i in range(width):
                    by_sent[u, width + i] += factor * by_received[i]
