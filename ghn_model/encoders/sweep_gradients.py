"""The sweeps of `GatedGNN` with gradients, node by node, for training on a CPU (`gated_gnn` says what they are).

What goes along edges is done here, in order and in machine code; products that concern every node alone are matrix
products of all nodes at once, before or after.  Numbers are of double precision, as in `sweep`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepnets.graph import Graph
from deepnets.support import compiled
from ghn_model.encoders.sweep import _multiply_add, _perceive

if TYPE_CHECKING:
    from ghn_model.encoders.gated_gnn import GatedGNN

__all__ = ["propagate_differentiably"]

Array = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


def propagate_differentiably(gnn: GatedGNN, x: Tensor, graphs: Sequence[Graph]) -> Tensor:
    """`(N, hidden)` on the CPU -> a new tensor like it, with gradients by `x` and the weights."""
    distances = [np.ascontiguousarray(graph.distances(gnn.virtual_edges)) for graph in graphs]
    cell = gnn.gru
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh, *gnn.mlp.parameters()]
    if gnn.virtual_edges > 1:
        weights += gnn.mlp_ve.parameters()
    to_node = [np.ascontiguousarray(matrix.T) for matrix in distances]
    for matrices, descending in ((to_node, False), (distances, True)):
        x = _Sweep.apply(x, matrices, descending, *weights)  # type: ignore[no-untyped-call]
    return x


class _Weights(NamedTuple):
    """Of the two layers that make messages: `w1 (k, h)`, `b1 (k,)`, `w2 (h, k)`, `b2 (h,)`."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array

    @property
    def turned(self) -> tuple[Array, Array, Array, Array]:
        """Matrices with a row for every input."""
        return np.ascontiguousarray(self.w1.T), self.b1, np.ascontiguousarray(self.w2.T), self.b2


class _Memory(NamedTuple):
    """What a sweep has computed for every node: `(N, ...)` each."""

    total: Array
    gates: Array  # reset, update, new
    state: Array  # after the update
    near_inner: Array
    near: Array
    far_inner: Array
    far: Array


class _Sweep(torch.autograd.Function):
    """One sweep over several graphs; row v of a matrix has the paths between v and its senders."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: list[Bytes], descending: bool, *weights: Tensor) -> Tensor:
        w_ih, w_hh, b_ih, b_hh, *layers = (_numbers(weight) for weight in weights)
        near, virtual = _Weights(*layers[:4]), len(layers) > 4
        far = _Weights(*layers[4:]) if virtual else near
        h = _numbers(x)
        n, width = h.shape
        inner = len(near.b1)
        sizes = ((width,), (3 * width,), (width,), (inner,), (width,), (inner,), (width,))
        memory = _Memory(*(np.empty((n, *size)) for size in sizes))
        from_state = _product(h, w_hh.T) + b_hh
        turned = (np.ascontiguousarray(w_ih.T), b_ih, near.turned, far.turned)
        for rows, matrix in _rows(matrices):
            parts: Any = tuple(array[rows] for array in memory)
            _ascend(h[rows], from_state[rows], matrix, descending, virtual, *turned, parts)
        ctx.known = (h, from_state, memory, matrices, descending, w_ih, w_hh, near, far, virtual)
        return torch.from_numpy(memory.state.copy()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        h, from_state, memory, matrices, descending, w_ih, w_hh, near, far, virtual = ctx.known
        dtype = gradients[0].dtype
        by_state = _numbers(gradients[0])
        n, width = h.shape
        by_input, by_hidden, direct = np.empty((n, 3 * width)), np.empty((n, 3 * width)), np.empty((n, width))
        by_near, by_far = np.zeros((n, width)), np.zeros((n, width))
        by_near_inner, by_far_inner = np.empty_like(memory.near_inner), np.empty_like(memory.far_inner)
        results = (by_state, by_input, by_hidden, direct, by_near, by_near_inner, by_far, by_far_inner)
        layers = (near.w1, near.w2, far.w1, far.w2)
        for rows, matrix in _rows(matrices):
            parts: Any = tuple(array[rows] for array in memory)
            changes: Any = tuple(array[rows] for array in results)
            _descend(h[rows], from_state[rows], matrix, descending, virtual, w_ih, layers, parts, changes)
        by_x = direct + _product(by_hidden, w_hh)
        by_weights = [_product(by_input.T, memory.total), _product(by_hidden.T, h)]
        by_weights += [by_input.sum(0), by_hidden.sum(0)]
        kinds = [(by_near, by_near_inner, memory.near_inner), (by_far, by_far_inner, memory.far_inner)]
        for outer, inner, values in kinds[: 1 + virtual]:
            by_weights += [_product(inner.T, memory.state), inner.sum(0), _product(outer.T, values), outer.sum(0)]
        tensors = [torch.from_numpy(np.ascontiguousarray(array)).to(dtype) for array in (by_x, *by_weights)]
        return (tensors[0], None, None, *tensors[1:])


def _rows(matrices: Sequence[Bytes]) -> Iterator[tuple[slice, Bytes]]:
    """The matrix of each graph, and where its nodes are."""
    start = 0
    for matrix in matrices:
        yield slice(start, start + len(matrix)), matrix
        start += len(matrix)


def _numbers(tensor: Tensor) -> Array:
    """A copy, in memory order."""
    array: Array = tensor.detach().numpy().astype(np.float64, order="C", copy=True)
    return array


def _product(a: Array, b: Array) -> Array:
    """Of matrices, by PyTorch's threads: those of NumPy would wait for cores that PyTorch holds busy."""
    product: Array = (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return product


Layers = tuple[Array, Array, Array, Array]
Parts = tuple[Array, Array, Array, Array, Array, Array, Array]
Gradients = tuple[Array, Array, Array, Array, Array, Array, Array, Array]


@compiled
def _ascend(
    h: Array,
    from_state: Array,
    distances: Bytes,
    descending: bool,
    virtual: bool,
    w_ih: Array,
    b_ih: Array,
    near: Layers,
    far: Layers,
    memory: Parts,
) -> None:
    """Node after node of one graph, into `memory`."""
    total, gates, state, near_inner, near_sent, far_inner, far_sent = memory
    n, width = h.shape
    from_input = np.empty(3 * width)
    for step in range(n):
        v = n - 1 - step if descending else step
        first, last = (v + 1, n) if descending else (0, v)
        total[v] = 0
        for u in range(first, last):
            distance = distances[v, u]
            if distance == 0:
                continue
            if distance == 1:
                for i in range(width):
                    total[v, i] += near_sent[u, i]
            if virtual:
                weight = 1.0 / distance
                for i in range(width):
                    total[v, i] += weight * far_sent[u, i]
        from_input[:] = b_ih
        _multiply_add(total[v], w_ih, from_input)
        for i in range(width):
            reset = 1.0 / (1.0 + math.exp(-(from_input[i] + from_state[v, i])))
            update = 1.0 / (1.0 + math.exp(-(from_input[width + i] + from_state[v, width + i])))
            new = math.tanh(from_input[2 * width + i] + reset * from_state[v, 2 * width + i])
            gates[v, i], gates[v, width + i], gates[v, 2 * width + i] = reset, update, new
            state[v, i] = new + update * (h[v, i] - new)
        _perceive(state[v], near, near_inner[v], near_sent[v])
        if virtual:
            _perceive(state[v], far, far_inner[v], far_sent[v])


@compiled
def _return(by_out: Array, out: Array, by_inner: Array, inner: Array, w1: Array, w2: Array, by_x: Array) -> None:
    """Back through two layers with ReLU: gradients before each ReLU take the place of those behind it."""
    for i in range(len(out)):
        if out[i] <= 0:
            by_out[i] = 0
    by_inner[:] = 0
    _multiply_add(by_out, w2, by_inner)
    for i in range(len(inner)):
        if inner[i] <= 0:
            by_inner[i] = 0
    _multiply_add(by_inner, w1, by_x)


@compiled
def _descend(
    h: Array,
    from_state: Array,
    distances: Bytes,
    descending: bool,
    virtual: bool,
    w_ih: Array,
    layers: Layers,
    memory: Parts,
    gradients: Gradients,
) -> None:
    """The way of `_ascend` back, into `gradients`."""
    _, gates, _, near_inner, near_sent, far_inner, far_sent = memory
    by_state, by_input, by_hidden, direct, by_near, by_near_inner, by_far, by_far_inner = gradients
    n, width = h.shape
    by_total = np.empty(width)
    for step in range(n):
        v = step if descending else n - 1 - step
        _return(by_near[v], near_sent[v], by_near_inner[v], near_inner[v], layers[0], layers[1], by_state[v])
        if virtual:
            _return(by_far[v], far_sent[v], by_far_inner[v], far_inner[v], layers[2], layers[3], by_state[v])
        for i in range(width):
            reset, update, new = gates[v, i], gates[v, width + i], gates[v, 2 * width + i]
            gradient = by_state[v, i]
            by_new = gradient * (1 - update) * (1 - new * new)
            by_update = gradient * (h[v, i] - new) * update * (1 - update)
            by_reset = by_new * from_state[v, 2 * width + i] * reset * (1 - reset)
            direct[v, i] = gradient * update
            by_input[v, i], by_input[v, width + i], by_input[v, 2 * width + i] = by_reset, by_update, by_new
            by_hidden[v, i], by_hidden[v, width + i] = by_reset, by_update
            by_hidden[v, 2 * width + i] = by_new * reset
        by_total[:] = 0
        _multiply_add(by_input[v], w_ih, by_total)
        first, last = (v + 1, n) if descending else (0, v)
        for u in range(first, last):
            distance = distances[v, u]
            if distance == 0:
                continue
            if distance == 1:
                for i in range(width):
                    by_near[u, i] += by_total[i]
            if virtual:
                weight = 1.0 / distance
                for i in range(width):
                    by_far[u, i] += weight * by_total[i]
