"""The sweeps of `GatedGNN` node by node in compiled code, for predictions on a CPU (see `gated_gnn`).

The inner loops run over consecutive outputs so that the compiler can vectorize them.  Numbers are in double precision,
because rounding errors accumulate along paths of hundreds of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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
    """Run the forward and the reverse sweep without gradients.

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
    `(N, hidden)`, the new states; `x` is unchanged.
    """
    h = _as_array(x)
    edge_layers = _transposed(edge_mlp)
    path_layers = edge_layers if path_mlp is None else _transposed(path_mlp)
    weight_ih, weight_hh, bias_ih, bias_hh = gru
    cell = (_as_array(weight_ih.t()), _as_array(weight_hh.t()), _as_array(bias_ih), _as_array(bias_hh))
    virtual = path_mlp is not None
    end = 0
    for matrix in distances:
        start, end = end, end + len(matrix)
        from_node = matrix.numpy()
        _sweep(h[start:end], np.ascontiguousarray(from_node.T), False, virtual, edge_layers, path_layers, cell)
        _sweep(h[start:end], from_node, True, virtual, edge_layers, path_layers, cell)
    return torch.from_numpy(h).to(x.dtype)


def _transposed(layers: Sequence[Tensor]) -> tuple[Array, Array, Array, Array]:
    """Weights `(inputs, outputs)` and biases of two linear layers."""
    w1, b1, w2, b2 = layers
    return _as_array(w1.t()), _as_array(b1), _as_array(w2.t()), _as_array(b2)


def _as_array(tensor: Tensor) -> Array:
    """A contiguous copy in double precision."""
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
def _mlp(x: Array, layers: tuple[Array, Array, Array, Array], inner: Array, out: Array) -> None:
    """Two linear layers, each followed by a ReLU."""
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
    edge_layers: tuple[Array, Array, Array, Array],
    path_layers: tuple[Array, Array, Array, Array],
    gru: tuple[Array, Array, Array, Array],
) -> None:
    """Update the states `(n, hidden)` of a graph in place; row v of `distances` holds the distances of its senders."""
    n, width = h.shape
    edge_messages = np.zeros((n, width))
    path_messages = np.zeros((n if virtual else 0, width))
    inner = np.empty(len(edge_layers[1]))
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
        _mlp(h[v], edge_layers, inner, edge_messages[v])
        if virtual:
            _mlp(h[v], path_layers, inner, path_messages[v])
