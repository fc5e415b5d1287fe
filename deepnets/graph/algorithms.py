"""Compiled graph algorithms: validity, liveness, levels and shortest paths.

Edges are given as `indptr (N + 1,)` and `sources (E,)`: the edges into node v come from the nodes
`sources[indptr[v]:indptr[v + 1]]`.  All of these come before v, so every algorithm is one loop over the nodes in
topological order, or in reverse.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deepnets.support import compiled

__all__ = ["GRAPH_ERRORS", "find_distances", "find_graph_error", "find_levels", "find_live"]

GRAPH_ERRORS = (
    "in_degrees do not add up to the number of sources",
    "a node type is out of range",
    "cells decrease along the order",
    "the sources of a node are not nodes before it, in increasing order",
)
"""What can be wrong with the arrays of a graph; see `find_graph_error`."""


@compiled
def find_graph_error(
    node_types: npt.NDArray[np.uint8],
    cells: npt.NDArray[np.uint8],
    in_degrees: npt.NDArray[np.int32],
    sources: npt.NDArray[np.int32],
    num_types: int,
) -> int:
    """Check the arrays of a graph.

    Parameters
    ----------
    node_types, cells, in_degrees
        `(N,)` arrays, as in `deepnets.Graph`.
    sources
        `(E,)`, as in `deepnets.Graph`.
    num_types
        Number of valid node types.

    Returns
    -------
    int
        Index into `GRAPH_ERRORS`, or -1 if the graph is valid.

    Examples
    --------
    >>> one, loop = np.zeros(1, np.uint8), np.zeros(1, np.int32)
    >>> find_graph_error(one, one, np.ones(1, np.int32), loop, 1)
    3
    """
    start = 0
    for v in range(len(node_types)):
        if in_degrees[v] < 0 or in_degrees[v] > len(sources) - start:
            return 0
        if node_types[v] >= num_types:
            return 1
        if v > 0 and cells[v] < cells[v - 1]:
            return 2
        previous = -1
        for e in range(start, start + in_degrees[v]):
            if not previous < sources[e] < v:
                return 3
            previous = sources[e]
        start += in_degrees[v]
    return -1 if start == len(sources) else 0


@compiled
def find_live(indptr: npt.NDArray[np.int32], sources: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Find the nodes from which there is a path to the last node.

    Parameters
    ----------
    indptr, sources
        The edges, `(N + 1,)` and `(E,)`.

    Returns
    -------
    numpy.ndarray
        `(N,) bool`.

    Examples
    --------
    >>> find_live(np.array([0, 0, 1, 2], np.int32), np.array([0, 0], np.int32))
    array([ True, False,  True])
    """
    n = len(indptr) - 1
    live = np.zeros(n, np.bool_)
    live[n - 1] = True
    for v in range(n - 1, -1, -1):
        if live[v]:
            for e in range(indptr[v], indptr[v + 1]):
                live[sources[e]] = True
    return live


@compiled
def find_levels(indptr: npt.NDArray[np.int32], sources: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the number of edges on the longest path into each node.

    Parameters
    ----------
    indptr, sources
        The edges, `(N + 1,)` and `(E,)`.

    Returns
    -------
    numpy.ndarray
        `(N,) int32`.

    Examples
    --------
    >>> find_levels(np.array([0, 0, 1, 3], np.int32), np.array([0, 0, 1], np.int32))
    array([0, 1, 2], dtype=int32)
    """
    n = len(indptr) - 1
    levels = np.zeros(n, np.int32)
    for v in range(n):
        for e in range(indptr[v], indptr[v + 1]):
            levels[v] = max(levels[v], levels[sources[e]] + 1)
    return levels


@compiled
def find_distances(indptr: npt.NDArray[np.int32], sources: npt.NDArray[np.int32], cutoff: int) -> npt.NDArray[np.uint8]:
    """Return the lengths of all shortest paths.

    The distance from s to v is one more than the smallest distance from s to a source of v.

    Parameters
    ----------
    indptr, sources
        The edges, `(N + 1,)` and `(E,)`.
    cutoff
        Longest path, at most 254.

    Returns
    -------
    numpy.ndarray
        `(N, N) uint8`.  Row v holds the distances *to* v, and 0 where there is no path.

    Examples
    --------
    >>> find_distances(np.array([0, 0, 1, 2], np.int32), np.array([0, 1], np.int32), 50)[2]
    array([2, 1, 0], dtype=uint8)
    """
    n = len(indptr) - 1
    distances = np.zeros((n, n), np.uint8)
    for v in range(n):
        for e in range(indptr[v], indptr[v + 1]):
            u = sources[e]
            for s in range(u):
                through = distances[u, s]
                # `distances[v, s] - 1` wraps around to the largest number if there is no path yet
                if through != 0 and through < cutoff and np.uint8(through) < np.uint8(distances[v, s] - 1):
                    distances[v, s] = through + 1
            distances[v, u] = 1
    return distances
