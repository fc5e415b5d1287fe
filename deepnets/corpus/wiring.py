"""How a graph lies in a file: its *wiring*, one fixed-size row per edge, and how rows become arrays again.

Rows are sorted by target node, then source.  A node with k inputs has k consecutive rows, numbered by `input` from 0;
a node without inputs has one row, with `back` 0.  Nodes come cell by cell.  An edge leads from node `v - back` to node
v, so that equal cells have equal rows, which compress well, and a cycle cannot be written down.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NAMES, PUBLISHED_NODE_TYPES
from deepnets.graph import N_EDGES, N_NODES, Tape
from deepnets.support import IntegrityError, compiled

__all__ = ["MAX_NODES", "WIRING", "decode_wiring", "num_rows", "write_wiring"]

WIRING = np.dtype(
    [
        ("node_type", "u1"),  # index into PUBLISHED_NODE_TYPES
        ("cell", "u1"),
        ("input", "u1"),  # which of its node's inputs this edge is
        ("name", "<u2"),  # index into NAMES
        ("back", "<u2"),  # distance to the source in the order of nodes; 0: no input
    ]
)

MAX_NODES = 65_535
"""Most nodes a graph in a file can have."""

_MAX_INPUTS = 255  # of a node, that their number fits its type


@compiled
def num_rows(tape: Tape) -> int:
    """Number of rows that the graph on a tape needs: its edges, and its nodes without any."""
    rows = tape.counters[N_EDGES]
    for v in range(tape.counters[N_NODES]):
        rows += tape.nodes[v].in_degree == 0
    return rows  # type: ignore[no-any-return]


@compiled
def write_wiring(tape: Tape, rows: npt.NDArray[np.void]) -> None:
    """Write the graph on a tape into `rows`, of length `num_rows(tape)`."""
    row = edge = 0
    for v in range(tape.counters[N_NODES]):
        node = tape.nodes[v]
        for i in range(max(1, node.in_degree)):
            rows[row].node_type = node.node_type
            rows[row].cell = node.cell
            rows[row].name = node.name
            rows[row].input = i
            rows[row].back = 0
            if node.in_degree > 0:
                rows[row].back = v - tape.sources[edge]
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
    fault = -1
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
            fault = i
            break
        if row.back > 0:
            source = v - row.back
            sources[edges] = source
            in_degrees[v] += 1
            edges += 1
    n = v + 1
    return fault, (node_types[:n], cells[:n], names[:n], in_degrees[:n], sources[:edges])


def decode_wiring(rows: npt.NDArray[np.void]) -> Arrays:
    """The arrays of a graph from its rows.

    Returns
    -------
    node_types `(N,) uint8`, cells `(N,) uint8`, names `(N,) uint16`, in_degrees `(N,) uint8`, sources `(E,) int32`, as
    `deepnets.Graph` takes them.

    Raises
    ------
    IntegrityError
        If the rows break the rules of this module; the message says which row.
    """
    if len(rows) == 0:
        raise IntegrityError("there are no rows: a graph has at least one node")
    fault, arrays = _decode(rows, len(PUBLISHED_NODE_TYPES), len(NAMES))
    if fault >= 0:
        raise IntegrityError(f"row {fault} of {len(rows)} is not part of any graph: {rows[fault]}")
    return arrays
