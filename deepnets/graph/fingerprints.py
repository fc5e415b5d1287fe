"""One number per architecture, by which duplicates are found.

Two networks have the same fingerprint if what they compute is written the same way: every live node (one that reaches
the output) is hashed from its type, the shape of its parameters and the hashes of its sources in any order, and the
fingerprint is the hash of the output together with the number of live nodes.  So equal graphs with equal parameter
shapes have equal fingerprints, however their nodes are ordered and whatever dead branches hang on them; strides, kernel
sizes of pooling and the like, which are neither in the graph nor in the shapes, do not count.

The definition is part of the file format: it must not change between versions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.graph.algorithms import find_live
from deepnets.graph.assembly import N_NODES, Tape
from deepnets.support import compiled

__all__ = ["fingerprint"]


@compiled
def _mix(x: Any) -> Any:
    """Scramble 64 bits; the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def fingerprint(tape: Tape) -> Any:
    """The fingerprint, a `uint64`, of the graph that `deepnets.graph.assembly.assemble` left on the tape."""
    n = tape.counters[N_NODES]
    indptr = np.zeros(n + 1, np.int32)
    for v in range(n):
        indptr[v + 1] = indptr[v] + tape.nodes[v].in_degree
    live = find_live(indptr, tape.sources)
    hashes: npt.NDArray[np.uint64] = np.zeros(n, np.uint64)
    count = np.uint64(0)
    for v in range(n):
        if not live[v]:
            continue
        count += np.uint64(1)
        node = tape.nodes[v]
        h = _mix(np.uint64(node.node_type) + np.uint64(1))
        for size in (node.out, node.inputs, node.height, node.width):
            h = _mix(h + np.uint64(size))
        from_sources = np.uint64(0)
        for e in range(indptr[v], indptr[v + 1]):
            from_sources += _mix(hashes[tape.sources[e]] + np.uint64(0x9E3779B97F4A7C15))
        hashes[v] = _mix(h + from_sources)
    return _mix(hashes[n - 1] + count)
