"""Statistics of large graphs, whose distances do not fit into memory at once."""

from __future__ import annotations

import math

import networkx
import numpy as np
import pytest

from deepnets.graph import statistics
from deepnets.graph.statistics import average_path
from tests.support.limits import limited


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 22])
@pytest.mark.parametrize("seed", range(4))
def test_the_average_path_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch, block: int, seed: int) -> None:
    monkeypatch.setattr(statistics, "_BLOCK", block)
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    edges = [(int(rng.integers(target)), target) for target in range(1, n)]
    edges += [
        (int(a), int(b)) for a, b in np.sort(rng.integers(0, n, (5, 2)), axis=1) if a != b and (a, b) not in edges
    ]
    graph = networkx.Graph(edges)
    expected = networkx.average_shortest_path_length(graph)
    assert average_path(n, np.array(sorted(set(edges)), np.int32)) == pytest.approx(expected, rel=1e-12)
    assert average_path(n + 1, np.array(edges, np.int32)) == math.inf


@pytest.mark.slow
def test_a_large_graph_takes_little_memory() -> None:
    """All distances of 8,000 nodes would take 512 MB."""
    nodes = np.arange(1, 8000, dtype=np.int32)
    edges = np.stack([nodes // 10, nodes], axis=1)
    outcome = limited(lambda: average_path(8000, edges), megabytes=200, seconds=60)
    assert outcome == ("returned", "float")
