"""Statistics of graphs, as defined by Knyazev et al. (NeurIPS 2021), table 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["GraphStatistics", "average_path"]

_BLOCK = 1 << 22  # distances that are computed at a time


@dataclass(frozen=True)
class GraphStatistics:
    """Numbers that describe a graph.

    Attributes
    ----------
    dead_included
        Whether dead nodes, which do not reach the output, are included in the numbers.
    num_nodes, num_edges
        Number of nodes and of 1-hop edges.
    num_dead
        Number of dead nodes; 0 for a pruned graph.
    average_degree
        Mean number of neighbours of a node in the undirected graph: `2 * num_edges / num_nodes`.
    average_path
        Mean length of the shortest path between two nodes in the undirected graph; infinite if it is not connected.
    longest_path
        Number of edges on the longest directed path.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> vit = NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)
    >>> build_graph(vit).statistics().longest_path
    127
    """

    dead_included: bool
    num_nodes: int
    num_edges: int
    num_dead: int
    average_degree: float
    average_path: float
    longest_path: int


def average_path(num_nodes: int, edges: npt.NDArray[np.int32]) -> float:
    """Return the mean length of the shortest paths between all pairs of nodes of an undirected graph.

    Parameters
    ----------
    num_nodes
        Number of nodes, N.
    edges
        `(E, 2)`, pairs of nodes.

    Returns
    -------
    float
        Infinite if the graph is not connected, 0 for fewer than two nodes.

    Examples
    --------
    >>> round(average_path(3, np.array([[0, 1], [1, 2]], np.int32)), 4)
    1.3333
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    if num_nodes < 2:
        return 0.0
    ones = np.ones(len(edges), np.int8)
    adjacency = csr_array((ones, (edges[:, 0], edges[:, 1])), shape=(num_nodes, num_nodes))
    block = max(1, _BLOCK // num_nodes)  # sources at a time: all distances of 30,000 nodes are 7 GB
    total = 0.0  # sums of integers below 2^53 are exact, in any order
    for start in range(0, num_nodes, block):
        sources = np.arange(start, min(start + block, num_nodes))
        total += float(shortest_path(adjacency, directed=False, unweighted=True, indices=sources).sum())
    return total / (num_nodes * (num_nodes - 1))
