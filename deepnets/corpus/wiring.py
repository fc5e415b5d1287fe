"""The *wiring* of a graph: its edges as rows of fixed size, as stored in corpus files.

Rows are sorted by target node, then source.  A node with k inputs has k consecutive rows, numbered by `input` from 0; a
node without inputs has one row with `back` 0.  Nodes are stored cell by cell.  An edge leads from node `v - back` to
node v.  Equal cells therefore have equal rows, which compress well, and rows cannot describe a cycle.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NAMES, PUBLISHED_NODE_TYPES
from deepnets.graph import N_EDGES, N_NODES, GraphBuffer
from deepnets.support import IntegrityError, compiled

__all__ = ["MAX_NODES", "WIRING", "decode_wiring", "num_rows", "write_wiring"]

WIRING = np.dtype(
    [
        ("node_type", "u1"),  # index into PUBLISHED_NODE_TYPES
        ("cell", "u1"),
        ("input", "u1"),  # number of the edge among the inputs of the node
        ("name", "<u2"),  # index into NAMES
        ("back", "<u2"),  # number of the node minus the number of the source; 0: no input
    ]
)
"""Data type of a row."""

MAX_NODES = 65_535
"""Largest number of nodes of a graph in a file."""

_MAX_INPUTS = 255  # in-degrees are stored as uint8


@compiled
def num_rows(buffer: GraphBuffer) -> int:
    """Return the number of rows of the graph in a buffer: one per edge and per node without inputs.

    Parameters
    ----------
    buffer
        Filled by `deepnets.graph.assemble`.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> from deepnets.graph import assemble, new_graph_buffer
    >>> net, buffer = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])[0], new_graph_buffer(n_cells=4, steps=4)
    >>> _ = assemble(net, 32, 256, 10, 32, buffer)
    >>> rows = np.zeros(num_rows(buffer), WIRING)
    >>> write_wiring(buffer, rows)
    >>> len(rows), int((rows["back"] > 0).sum())
    (152, 151)
    """
    rows = buffer.counters[N_EDGES]
    for v in range(buffer.counters[N_NODES]):
        rows += buffer.nodes[v].in_degree == 0
    return rows  # type: ignore[no-any-return]


@compiled
def write_wiring(buffer: GraphBuffer, rows: npt.NDArray[np.void]) -> None:
    """Write the wiring of the graph in a buffer.

    Parameters
    ----------
    buffer
        Filled by `deepnets.graph.assemble`.
    rows
        `(num_rows(buffer),)` of `WIRING`, overwritten.

    Examples
    --------
    See `num_rows`.
    """
    row = edge = 0
    for v in range(buffer.counters[N_NODES]):
        node = buffer.nodes[v]
        for i in range(max(1, node.in_degree)):
            rows[row].node_type = node.node_type
            rows[row].cell = node.cell
            rows[row].name = node.name
            rows[row].input = i
            rows[row].back = 0
            if node.in_degree > 0:
                rows[row].back = v - buffer.sources[edge]
                edge += 1
            row += 1


Arrays = tuple[
    npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint16], npt.NDArray[np.uint8], npt.NDArray[np.int32]
]


@compiled
def _decode(rows: npt.NDArray[np.void], num_types: int, num_names: int) -> tuple[int, Arrays]:
    n = len(rows)
    node_types, cells, in_degrees = np.empty(n, np.uint8), np.empty(n, np.uint8), np.zeros(n, np.uint8)
    names, sources = np.empty(n, np.uint16), np.empty(n, np.int32)
    invalid = -1
    v, edges, source = -1, 0, -1
    for i in range(n):
        row = rows[i]
        if row.input == 0:
            sound = row.node_type < num_types and row.name < num_names and (v < 0 or row.cell >= cells[v])
            v += 1
            node_types[v], cells[v], names[v] = row.node_type, row.cell, row.name
            source = -1
        else:
            sound = (
                v >= 0
                and row.input == in_degrees[v]  # also refuses a second row of a node without inputs
                and row.input < _MAX_INPUTS
                and row.node_type == node_types[v]
                and row.cell == cells[v]
                and row.name == names[v]
                and row.back > 0
            )
        if not sound or (row.back > 0 and v - row.back <= source):
            invalid = i
            break
        if row.back > 0:
            source = v - row.back
            sources[edges] = source
            in_degrees[v] += 1
            edges += 1
    n = v + 1
    return invalid, (node_types[:n], cells[:n], names[:n], in_degrees[:n], sources[:edges])


def decode_wiring(rows: npt.NDArray[np.void]) -> Arrays:
    """Return the arrays of a graph from its wiring.

    Parameters
    ----------
    rows
        All rows of one graph, an array of `WIRING`.

    Returns
    -------
    node_types, cells, names, in_degrees, sources
        `(N,) uint8`, `(N,) uint8`, `(N,) uint16`, `(N,) uint8` and `(E,) int32`, as in `deepnets.Graph`.

    Raises
    ------
    IntegrityError
        If the rows do not describe a graph; the message says which row is invalid.

    Examples
    --------
    >>> rows = np.array([(9, 0, 0, 9, 0), (4, 0, 0, 64, 1)], WIRING)
    >>> decode_wiring(rows)[-1]
    array([0], dtype=int32)
    """
    if len(rows) == 0:
        raise IntegrityError("there are no rows: a graph has at least one node")
    invalid, arrays = _decode(rows, len(PUBLISHED_NODE_TYPES), len(NAMES))
    if invalid >= 0:
        raise IntegrityError(f"row {invalid} of {len(rows)} is not part of any graph: {rows[invalid]}")
    return arrays
