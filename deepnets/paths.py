"""What follows from the edges of a graph alone: validity, liveness, levels and distances.  Compiled.

Edges come as `indptr (N + 1,)` and `sources (E,)`: those into node v are `sources[indptr[v]:indptr[v + 1]]`, each from
a node before v, so that one sweep over the nodes in order (or in reverse) is enough for everything here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deepnets.compiled import compiled

__all__ = ["FAULTS", "find_distances", "find_fault", "find_levels", "find_live"]

FAULTS = (
    "it has no nodes",
    "node_types and cells have different lengths",
    "in_degrees do not add up to the number of sources",
    "a node type is out of range",
    "cells decrease along the order",
    "the sources of a node are not nodes before it, in increasing order",
)


@compiled
def find_fault(
    node_types: npt.NDArray[np.uint8],
    cells: npt.NDArray[np.uint8],
    indptr: npt.NDArray[np.int32],
    sources: npt.NDArray[np.int32],
    num_types: int,
) -> int:
    """Index into `FAULTS` of what is wrong with a graph's arrays, -1 if nothing is."""
    n = len(node_types)
    if n == 0:
        return 0
    if len(cells) != n:
        return 1
    if indptr[n] != len(sources):
        return 2
    for v in range(n):
        if node_types[v] >= num_types:
            return 3
        if v > 0 and cells[v] < cells[v - 1]:
            return 4
        if indptr[v + 1] < indptr[v]:
            return 2
        previous = -1
        for e in range(indptr[v], indptr[v + 1]):
            if not previous < sources[e] < v:
                return 5
            previous = sources[e]
    return -1


@compiled
def find_live(indptr: npt.NDArray[np.int32], sources: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
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
    n = len(indptr) - 1
    levels = np.zeros(n, np.int32)
    for v in range(n):
        for e in range(indptr[v], indptr[v + 1]):
            levels[v] = max(levels[v], levels[sources[e]] + 1)
    return levels


@compiled
def find_distances(indptr: npt.NDArray[np.int32], sources: npt.NDArray[np.int32], cutoff: int) -> npt.NDArray[np.uint8]:
    """Row v holds the distances *to* v: one more than the smallest of those to v's sources."""
    n = len(indptr) - 1
    distances = np.zeros((n, n), np.uint8)
    for v in range(n):
        for e in range(indptr[v], indptr[v + 1]):
            u = sources[e]
            for s in range(u):
                through = distances[u, s]
                # 0 means no path and wraps around to the largest number when one is taken off
                if through != 0 and through < cutoff and np.uint8(through) < np.uint8(distances[v, s] - 1):
                    distances[v, s] = through + 1
            distances[v, u] = 1
    return distances
