"""Arrays that hold a graph while compiled code assembles it, and the functions that add nodes to them.

Nodes are numbered in the order in which they are added.  An absent tensor, the result of the operation `none`, is
represented by `ABSENT`: a layer that would read it receives no data, so its parameter is recorded as unused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.architecture import codes as names
from deepnets.support import compiled

__all__ = [
    "ABSENT",
    "CELL",
    "NODE",
    "NO_INPUT",
    "N_EDGES",
    "N_NODES",
    "N_PARAMETERS",
    "N_UNUSED",
    "GraphBuffer",
    "append_layer",
    "append_node",
    "append_plain",
    "concatenate",
    "join",
    "new_graph_buffer",
]

ABSENT = -1  # a tensor that is never computed
NO_INPUT = -2  # source of nodes without inputs

NODE = np.dtype(
    [
        ("node_type", "u1"),
        ("cell", "u1"),
        ("in_degree", "u1"),
        ("name", "<u2"),  # index into names.NAMES
        # Shape of the parameter: all four for a convolution, the first two for a linear layer, the first for a vector.
        ("out", "<i4"),
        ("inputs", "<i4"),
        ("height", "<i4"),
        ("width", "<i4"),
    ],
    align=True,
)


class GraphBuffer(NamedTuple):
    """Arrays into which `assemble` writes a graph.

    Attributes
    ----------
    nodes
        `(capacity,)` records of `NODE`, in canonical order.
    sources
        Source nodes of all edges, node by node, in increasing order.
    unused
        `(capacity,)` records of `NODE`, for layers that receive no data.
    counters
        `(5,) int64`: number of nodes, edges, unused layers and parameters, and the current cell, indexed by `N_NODES`,
        `N_EDGES`, `N_UNUSED`, `N_PARAMETERS` and `CELL`.

    Examples
    --------
    A convolution that reads the input:

    >>> buffer = new_graph_buffer(n_cells=1, steps=1)
    >>> x = append_node(buffer, names.INPUT, NO_INPUT)
    >>> append_layer(buffer, names.CONV, names.STEM_0, x, 16, 3, 5, 5)
    1
    >>> int(buffer.counters[N_EDGES]), int(buffer.counters[N_PARAMETERS])
    (1, 1200)
    """

    nodes: npt.NDArray[np.void]
    sources: npt.NDArray[np.int32]
    unused: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]


N_NODES, N_EDGES, N_UNUSED, N_PARAMETERS, CELL = range(5)


MAX_OPERATION_NODES = 12
"""Largest number of nodes of a primitive, that of attention.  The capacity of buffers depends on it."""


def new_graph_buffer(n_cells: int, steps: int) -> GraphBuffer:
    """Allocate a buffer.

    Parameters
    ----------
    n_cells, steps
        Largest number of cells and of steps per cell of the networks to be assembled.

    Returns
    -------
    GraphBuffer

    Examples
    --------
    >>> len(new_graph_buffer(n_cells=4, steps=1).nodes)
    153
    """
    # Per cell: preprocessing, two operations and a sum per step, and a concatenation.
    per_cell = 2 * 4 + steps * (2 * MAX_OPERATION_NODES + 1) + 1
    capacity = 1 + 7 + n_cells * per_cell + 1 + 2 * names.MAX_CLASSIFIER_LAYERS
    # One edge into every node, and further ones into sums (one per step, two per msa), concatenations and products.
    more_edges = 1 + n_cells * (1 + steps * (1 + 2 * 2) + steps)
    return GraphBuffer(
        np.zeros(capacity, NODE),
        np.zeros(capacity + more_edges, np.int32),
        np.zeros(capacity, NODE),
        np.zeros(5, np.int64),
    )


# `_describe` and `_connect` take arrays instead of the buffer, because numba inlines them without reference counting.


@compiled
def _describe(
    rows: npt.NDArray[np.void],
    n: int,
    node_type: int,
    cell: int,
    name: int,
    out: int,
    inputs: int,
    height: int,
    width: int,
) -> None:
    row = rows[n]
    row.node_type = node_type
    row.cell = cell
    row.name = name
    row.out = out
    row.inputs = inputs
    row.height = height
    row.width = width


@compiled
def _connect(
    nodes: npt.NDArray[np.void],
    sources: npt.NDArray[np.int32],
    counters: npt.NDArray[np.int64],
    node: int,
    source: int,
) -> None:
    """Add the first edge into a node, unless the node has no inputs."""
    row = nodes[node]
    if source == NO_INPUT:
        row.in_degree = 0
    else:
        row.in_degree = 1
        edge = counters[N_EDGES]
        sources[edge] = source
        counters[N_EDGES] = edge + 1


@compiled
def append_node(buffer: GraphBuffer, node_type: int, source: int) -> int:
    """Add a node without parameters.

    Parameters
    ----------
    buffer
        The graph.
    node_type
        Code of the node type.
    source
        Number of the source node, or `NO_INPUT`.

    Returns
    -------
    int
        Number of the new node.

    Examples
    --------
    See `GraphBuffer`.
    """
    counters = buffer.counters
    n = counters[N_NODES]
    counters[N_NODES] = n + 1
    _describe(buffer.nodes, n, node_type, counters[CELL], node_type, 0, 0, 0, 0)
    _connect(buffer.nodes, buffer.sources, counters, n, source)
    return n  # type: ignore[no-any-return]


@compiled
def append_plain(buffer: GraphBuffer, node_type: int, source: int) -> int:
    """Add a node without parameters, unless its input is absent.

    Parameters
    ----------
    buffer, node_type
        As in `append_node`.
    source
        Number of the source node, or `ABSENT`.

    Returns
    -------
    int
        Number of the new node, or `ABSENT`.

    Examples
    --------
    >>> append_plain(new_graph_buffer(n_cells=1, steps=1), names.MAX_POOL, ABSENT) == ABSENT
    True
    """
    return ABSENT if source == ABSENT else append_node(buffer, node_type, source)


@compiled
def append_layer(
    buffer: GraphBuffer,
    node_type: int,
    name: int,
    source: int,
    out: int,
    inputs: int = 0,
    height: int = 0,
    width: int = 0,
) -> int:
    """Add a node with a parameter.  If its input is absent, the parameter is recorded as unused.

    Parameters
    ----------
    buffer, node_type
        As in `append_node`.
    name
        Code of the parameter name.
    source
        Number of the source node, `NO_INPUT` or `ABSENT`.
    out, inputs, height, width
        Shape of the parameter; trailing zeros are omitted dimensions.

    Returns
    -------
    int
        Number of the new node, or `ABSENT`.

    Examples
    --------
    See `GraphBuffer`.
    """
    counters = buffer.counters
    tensors = 2 if node_type in (names.NORM, names.LN) else 1  # the weight and the bias of a norm share a node
    counters[N_PARAMETERS] += tensors * out * max(inputs, 1) * max(height, 1) * max(width, 1)
    if source == ABSENT:
        n = counters[N_UNUSED]
        counters[N_UNUSED] = n + 1
        _describe(buffer.unused, n, node_type, counters[CELL], name, out, inputs, height, width)
        return ABSENT
    n = counters[N_NODES]
    counters[N_NODES] = n + 1
    _describe(buffer.nodes, n, node_type, counters[CELL], name, out, inputs, height, width)
    _connect(buffer.nodes, buffer.sources, counters, n, source)
    return n  # type: ignore[no-any-return]


@compiled
def join(buffer: GraphBuffer, node_type: int, a: int, b: int) -> int:
    """Add a sum, product or concatenation of two tensors, unless one is absent or both are the same.

    Parameters
    ----------
    buffer, node_type
        As in `append_node`.
    a, b
        Numbers of nodes, or `ABSENT`.

    Returns
    -------
    int
        Number of the node that represents the result, or `ABSENT`.

    Examples
    --------
    >>> join(new_graph_buffer(n_cells=1, steps=1), names.SUM, ABSENT, 3)
    3
    """
    if a in (ABSENT, b):
        return b
    if b == ABSENT:
        return a
    node = append_node(buffer, node_type, min(a, b))
    _add_source(buffer, node, max(a, b))
    return node


@compiled
def _add_source(buffer: GraphBuffer, node: int, source: int) -> None:
    """Add an edge into the last node.  Sources must be added in increasing order."""
    buffer.nodes[node].in_degree += 1
    buffer.sources[buffer.counters[N_EDGES]] = source
    buffer.counters[N_EDGES] += 1


@compiled
def concatenate(buffer: GraphBuffer, tensors: npt.NDArray[np.int64]) -> int:
    """Add the concatenation of the distinct present tensors, unless there is only one.

    The network replaces absent tensors by zeros, which the graph does not show.

    Parameters
    ----------
    buffer
        The graph.
    tensors
        `(n,) int64`, numbers of nodes or `ABSENT`.  The array is sorted in place.

    Returns
    -------
    int
        Number of the node that represents the result, or `ABSENT`.

    Examples
    --------
    >>> concatenate(new_graph_buffer(n_cells=1, steps=1), np.array([3, ABSENT, 3]))
    3
    """
    tensors.sort()
    node = first = previous = ABSENT
    for tensor in tensors:
        if tensor == previous:  # a duplicate, or absent
            continue
        if first == ABSENT:
            first = tensor
        else:
            if node == ABSENT:
                node = append_node(buffer, names.CONCAT, first)
            _add_source(buffer, node, tensor)
        previous = tensor
    return first if node == ABSENT else node
