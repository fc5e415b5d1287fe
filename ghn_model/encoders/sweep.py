"""The sweeps of `GatedGNN` node by node, compiled, for predictions on a CPU (`gated_gnn` says what is computed).

Inner loops run over consecutive outputs, so that the compiler turns them into vector instructions.  Numbers are of
double precision: errors would add up along the hundreds of nodes of a path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from deepnets.graph import Graph
from deepnets.support import compiled

if TYPE_CHECKING:
    from ghn_model.encoders.gated_gnn import MLP, GatedGNN

__all__ = ["find_heights", "propagate"]

Array = npt.NDArray[np.float64]


def propagate(gnn: GatedGNN, x: Tensor, graphs: Sequence[Graph]) -> Tensor:
    """The same as the level-parallel sweeps: `(N, hidden)` on the CPU -> a new tensor like it."""
    h = _numbers(x)
    virtual = gnn.virtual_edges > 1
    near = _weights(gnn.mlp)
    far = _weights(gnn.mlp_ve) if virtual else near
    cell = gnn.gru
    gru = (_numbers(cell.weight_ih.t()), _numbers(cell.weight_hh.t()), _numbers(cell.bias_ih), _numbers(cell.bias_hh))
    end = 0
    for graph in graphs:
        start, end = end, end + graph.num_nodes
        to_node = np.ascontiguousarray(graph.distances(gnn.virtual_edges).T)
        _sweep(h[start:end], to_node, False, virtual, near, far, gru)
        _sweep(h[start:end], np.ascontiguousarray(to_node.T), True, virtual, near, far, gru)
    return torch.from_numpy(h).to(x.dtype)


def _weights(mlp: MLP) -> tuple[Array, Array, Array, Array]:
    (w1, b1), (w2, b2) = ((layer.weight, layer.bias) for layer in mlp.fc if isinstance(layer, nn.Linear))
    return _numbers(w1.t()), _numbers(b1), _numbers(w2.t()), _numbers(b2)


def _numbers(tensor: Tensor) -> Array:
    """A copy, in memory order."""
    return tensor.detach().to(torch.float64, memory_format=torch.contiguous_format, copy=True).contiguous().numpy()


@compiled
def _multiply_add(x: Array, weight: Array, out: Array) -> None:
    """Add the product of a vector and a matrix to `out`."""
    for i in range(weight.shape[0]):
        factor = x[i]
        if factor != 0:
            for j in range(weight.shape[1]):
                out[j] += factor * weight[i, j]


@compiled
def _perceive(x: Array, layers: tuple[Array, Array, Array, Array], inner: Array, out: Array) -> None:
    """A multilayer perceptron with two layers, both with ReLU."""
    inner[:] = layers[1]
    _multiply_add(x, layers[0], inner)
    for i in range(len(inner)):
        inner[i] = max(inner[i], 0.0)
    out[:] = layers[3]
    _multiply_add(inner, layers[2], out)
    for i in range(len(out)):
        out[i] = max(out[i], 0.0)


@compiled
def _sweep(
    h: Array,
    distances: npt.NDArray[np.uint8],
    backward: bool,
    virtual: bool,
    near: tuple[Array, Array, Array, Array],
    far: tuple[Array, Array, Array, Array],
    gru: tuple[Array, Array, Array, Array],
) -> None:
    """Update the embeddings of one graph in place; row v of `distances` has the paths between v and its senders."""
    n, width = h.shape
    edge_messages = np.zeros((n, width))
    path_messages = np.zeros((n if virtual else 0, width))
    inner = np.empty(len(near[1]))
    total = np.empty(width)
    from_input, from_state = np.empty(3 * width), np.empty(3 * width)
    for step in range(n):
        v = n - 1 - step if backward else step
        first, last = (v + 1, n) if backward else (0, v)
        total[:] = 0
        for u in range(first, last):
            distance = distances[v, u]
            if distance == 0:
                continue
            if distance == 1:
                for i in range(width):
                    total[i] += edge_messages[u, i]
            if virtual:
                weight = 1.0 / distance
                for i in range(width):
                    total[i] += weight * path_messages[u, i]
        from_input[:] = gru[2]
        _multiply_add(total, gru[0], from_input)
        from_state[:] = gru[3]
        _multiply_add(h[v], gru[1], from_state)
        for i in range(width):
            reset = 1.0 / (1.0 + math.exp(-(from_input[i] + from_state[i])))
            update = 1.0 / (1.0 + math.exp(-(from_input[width + i] + from_state[width + i])))
            new = math.tanh(from_input[2 * width + i] + reset * from_state[2 * width + i])
            h[v, i] = new + update * (h[v, i] - new)
        _perceive(h[v], near, inner, edge_messages[v])
        if virtual:
            _perceive(h[v], far, inner, path_messages[v])


@compiled
def find_heights(edges: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int32]:
    """Edges on the longest path out of each of n nodes, from the edges `(E, 2)`, sorted by target."""
    heights = np.zeros(n, np.int32)
    for e in range(len(edges) - 1, -1, -1):
        heights[edges[e, 0]] = max(heights[edges[e, 0]], heights[edges[e, 1]] + 1)
    return heights
