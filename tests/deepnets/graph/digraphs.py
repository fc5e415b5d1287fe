"""Directed acyclic graphs of networkx, as inputs of `Graph`."""

from __future__ import annotations

from typing import Any

import networkx as nx
from hypothesis import strategies as st

from deepnets import (
    NODE_TYPES,
    Graph,
)

SOUND = {"node_types": [9, 4, 7, 4], "cells": [0, 0, 1, 1], "in_degrees": [0, 1, 2, 1], "sources": [0, 0, 1, 2]}
"""Arrays of a valid graph of four nodes."""

MAX_NODES = 24


@st.composite
def dags(draw: st.DrawFn, max_nodes: int = MAX_NODES) -> nx.DiGraph:
    """Draw a directed acyclic graph with nodes in topological order; it may be disconnected."""
    n = draw(st.integers(1, max_nodes))
    density = draw(st.sampled_from((1, 2, 4, 10)))  # approximate number of candidate edges per node
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda pair: pair[0] < pair[1])
    digraph = nx.DiGraph()
    digraph.add_nodes_from(range(n))
    digraph.add_edges_from(draw(st.lists(pairs, max_size=density * n)) if n > 1 else [])
    return digraph


def chain(n: int) -> nx.DiGraph:
    return nx.path_graph(n, create_using=nx.DiGraph)


def arrays(digraph: nx.DiGraph) -> dict[str, Any]:
    """Return the arguments of `Graph` as lists of integers."""
    n = len(digraph)
    return {
        "node_types": [v % len(NODE_TYPES) for v in range(n)],
        "cells": [v // 3 for v in range(n)],
        "in_degrees": [digraph.in_degree(v) for v in range(n)],
        "sources": [u for v in range(n) for u in sorted(digraph.predecessors(v))],
    }


def graph_of(digraph: nx.DiGraph, **options: Any) -> Graph:
    return Graph(**arrays(digraph), **options)
