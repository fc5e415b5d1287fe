"""What follows from the edges of a graph alone: validity, liveness, levels and distances.  Compiled.

Edges come as `indptr (N + 1,)` and `sources (E,)`: those into node v are `sources[indptr[v]:indptr[v + 1]]`, each from
a node before v, so that one sweep over the nodes in order (or in reverse) is enough for everything here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deepnets.support import compiled

__all__ = ["FAULTS", "find_distances", "find_fault", "find_levels", "find_live"]

FAULTS = (
    "in_degrees do not add up to the number of sources",
    "a node type is out of range",
    "cells decrease along the order",
    "the sources of a node are not nodes before it, in increasing order",
)


@compiled
def find_fault(
    node_types: npt.NDArray[np.uint8],
    cells: npt.NDArray[np.uint8],
    in_degrees: npt.NDArray[np.int32],
    sources: npt.NDArray[np.int32],
    num_types: int,
) -> int:
    """Index into `FAULTS` of what is wrong with a graph's arrays, -1 if nothing is; the first three have one length."""
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
    """Whether each node reaches the last one."""
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
    """Edges on the longest path into each node."""
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
