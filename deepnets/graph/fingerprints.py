"""Fingerprints: 64-bit numbers that identify equal networks.

Every live node (one with a path to the output) is hashed from its type, the shape of its parameters and the hashes of
its sources in any order.  The fingerprint combines the hash of the output with the number of live nodes.  Graphs with
equal live nodes and equal parameter shapes therefore have equal fingerprints, whatever the order of their nodes and
their dead branches.  Properties that are neither in the graph nor in the shapes, such as strides, have no influence.

The definition is part of the file format and must not change between versions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.graph.algorithms import find_live
from deepnets.graph.buffer import N_NODES, GraphBuffer
from deepnets.support import compiled

__all__ = ["fingerprint"]


@compiled
def _mix(x: Any) -> Any:
    """Mix 64 bits with the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def fingerprint(buffer: GraphBuffer) -> Any:
    """Compute the fingerprint of the graph in a buffer.

    Parameters
    ----------
    buffer
        Filled by `deepnets.graph.assemble`.

    Returns
    -------
    numpy.uint64

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> from deepnets.graph import assemble, new_graph_buffer
    >>> buffer = new_graph_buffer(n_cells=4, steps=4)
    >>> net = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])[0]
    >>> _ = assemble(net, 32, 256, 10, 32, buffer)
    >>> bool(fingerprint(buffer) == fingerprint(buffer))
    True
    """
    n = buffer.counters[N_NODES]
    indptr = np.zeros(n + 1, np.int32)
    for v in range(n):
        indptr[v + 1] = indptr[v] + buffer.nodes[v].in_degree
    live = find_live(indptr, buffer.sources)
    hashes: npt.NDArray[np.uint64] = np.zeros(n, np.uint64)
    count = np.uint64(0)
    for v in range(n):
        if not live[v]:
            continue
        count += np.uint64(1)
        node = buffer.nodes[v]
        h = _mix(np.uint64(node.node_type) + np.uint64(1))
        for size in (node.out, node.inputs, node.height, node.width):
            h = _mix(h + np.uint64(size))
        from_sources = np.uint64(0)
        for e in range(indptr[v], indptr[v + 1]):
            from_sources += _mix(hashes[buffer.sources[e]] + np.uint64(0x9E3779B97F4A7C15))
        hashes[v] = _mix(h + from_sources)
    return _mix(hashes[n - 1] + count)
