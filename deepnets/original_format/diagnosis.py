"""Diagnosis of the networks in original files: comparison of nodes and edges with the graph of the configuration.

The correct graph can always be built from the configuration.  `diagnose` determines which of the known defects the
graph in the file has.  It applies the defects, alone or combined, to the correct graph, and compares the results with
the file, first position by position, then with hashes that do not depend on the order of the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NAMES, PUBLISHED_NODE_TYPES, NetworkConfig
from deepnets.graph import Graph, build_graph
from deepnets.support import compiled

__all__ = ["DEFECTS", "Layout", "diagnose"]

DEFECTS = {
    "order": "the graph is right, but its nodes are not in canonical order",
    "scrambled": "node rows and adjacency matrix have different orders, so that nodes have the edges of other nodes",
    "stem edge": "the second cell reads the first half of a two-part stem, not its end",
    "extra inputs": "nodes that have one input have several; all but the first are wrong",
    "missing nodes": "attention or squeeze-excite products are missing; their sources are connected to their targets",
    "names": "nodes have names of parameters that the configuration does not have, or no names",
    "cells": "nodes are in other cells than in the configuration",
    "distances": "distances above 1 are not those of shortest paths",
    "unrecognised": "nodes or edges differ from the configuration in an unknown way",
}
"""The known defects of networks in original files, with descriptions."""

_NAME = {name: index for index, name in enumerate(NAMES)}
_MERGES = [PUBLISHED_NODE_TYPES.index(name) for name in ("sum", "concat", "cse")]
_PRODUCTS = [PUBLISHED_NODE_TYPES.index(name) for name in ("msa", "cse")]


class Layout(NamedTuple):
    """Nodes and edges in the order of a file.

    Attributes
    ----------
    types : numpy array
        `(N,) uint8`, indices into `PUBLISHED_NODE_TYPES`.
    cells : numpy array
        `(N,) uint16`, cell indices.
    names : numpy array
        `(N,) uint16`, indices into `deepnets.architecture.NAMES`.
    edges : numpy array
        `(E, 2) int32`, source and target, with source < target; sorted by target, then by source.
    """

    types: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.uint16]
    names: npt.NDArray[np.uint16]
    edges: npt.NDArray[np.int32]

    @property
    def in_degrees(self) -> npt.NDArray[np.int64]:
        """`(N,) int64`, number of edges into each node."""
        return np.bincount(self.edges[:, 1], minlength=len(self.types))


Labels = Callable[[Layout], npt.NDArray[np.uint64]]


def diagnose(found: Layout, distances: npt.NDArray[np.uint8], config: NetworkConfig) -> tuple[Graph, tuple[str, ...]]:
    """Compare a network of a file with its configuration.

    Parameters
    ----------
    found : Layout
        Nodes and edges in the file.
    distances : numpy array
        `(N, N) uint8`, the matrix of distances in the file.
    config : NetworkConfig
        The configuration of the network.

    Returns
    -------
    graph : Graph
        The correct graph in canonical order, with dead nodes if the file has them.
    defects : tuple of str
        Keys of `DEFECTS` that apply to the file; empty if nodes, edges and distances are equal, in the same order.

    Raises
    ------
    ConfigError
        If the configuration has no graph.

    Examples
    --------
    >>> from deepnets import GENOTYPES
    >>> config = NetworkConfig(GENOTYPES["DARTS"], n_cells=2)
    >>> graph = build_graph(config)
    >>> found = Layout(graph.node_types, graph.cells.astype(np.uint16), np.asarray(graph.names), graph.edges)
    >>> diagnose(found, graph.distances(50), config)[1]
    ()
    >>> diagnose(found._replace(cells=found.cells + 1), graph.distances(50), config)[1]
    ('cells',)
    """
    whole = build_graph(config)
    for graph in _versions(whole):
        if _same(found, _layout(graph)):
            cutoff = int(distances.max())
            fitting = cutoff < 255 and np.array_equal(graph.distances(max(cutoff, 1)), distances)
            return graph, () if fitting else ("distances",)
    return _find_defects(found, whole)


def _find_defects(found: Layout, whole: Graph) -> tuple[Graph, tuple[str, ...]]:
    truths = list(_truths(whole))
    candidates = [truth for truth in truths if len(truth.layout.types) == len(found.types)]
    trimmed = _first_inputs(found)
    trims = [(found, ())] if trimmed is found else [(found, ()), (trimmed, ("extra inputs",))]
    for labels, (same, order) in product((_named, _typed), ((_in_order, ()), (_in_any_order, ("order",)))):
        for (trim, extra), truth in product(trims, candidates):
            if same(trim, truth.layout, labels):
                return truth.graph, _disorder(found, truth.layout, labels, order) + extra + truth.defects
    for truth in candidates:
        if _same_nodes(found, truth.layout, _typed) and _in_any_order(found, truth.layout, _unlabelled):
            return truth.graph, _disorder(found, truth.layout, _unlabelled, ()) + truth.defects
    for truth in truths:
        if _lacks_only_products(found, truth.layout):
            return truth.graph, ("missing nodes", *_defects_beside_missing(found, truth))
    right = [truth for truth in truths if not truth.defects]
    return min(right, key=lambda truth: _difference(found, truth.layout)).graph, ("unrecognised",)


# --- the correct graph, with and without known defects ---


class _Truth(NamedTuple):
    layout: Layout
    graph: Graph  # the correct graph, without the defects of the layout
    defects: tuple[str, ...]


def _versions(whole: Graph) -> Iterator[Graph]:
    """Iterate over the graph with dead nodes, as in published files, and without, as in those of the generator."""
    yield whole
    if not whole.live.all():
        yield whole.pruned()


def _truths(whole: Graph) -> Iterator[_Truth]:
    for graph in _versions(whole):
        yield _Truth(_layout(graph), graph, ())
    wired = _wrongly_wired(whole)
    if wired is not None:
        for version, graph in zip(_versions(wired), (whole, whole.pruned())):
            yield _Truth(_layout(version), graph, ("stem edge",))


def _layout(graph: Graph) -> Layout:
    return Layout(graph.node_types, graph.cells.astype(np.uint16), np.asarray(graph.names), graph.edges)


def _wrongly_wired(graph: Graph) -> Graph | None:
    """Return the graph in which the second cell reads `stem0` instead of `stem1`; None if it does not read `stem1`."""
    config = graph.config
    if config.is_vit or config.stem_type != 1:
        return None
    names = np.asarray(graph.names)
    ends = ("stem0.4.weight", "stem1.2.weight") if config.norm else ("stem0.3.weight", "stem1.1.weight")
    stem0, stem1 = (int(np.flatnonzero(names == _NAME[end])[0]) for end in ends)
    edges = graph.edges.copy()
    wrong = (edges[:, 0] == stem1) & (graph.cells[edges[:, 1]] == 1)
    if not wrong.any():
        return None
    edges[wrong, 0] = stem0
    edges = np.unique(edges[:, ::-1], axis=0)[:, ::-1]
    in_degrees = np.bincount(edges[:, 1], minlength=graph.num_nodes)
    return Graph(graph.node_types, graph.cells, in_degrees, edges[:, 0].copy(), names=names)


def _first_inputs(layout: Layout) -> Layout:
    """Remove all inputs but the first of nodes that have only one."""
    targets = layout.edges[:, 1]
    merging = np.isin(layout.types, _MERGES)[targets]
    first = np.r_[True, targets[1:] != targets[:-1]] if len(targets) else np.zeros(0, bool)
    keep = merging | first
    return layout if keep.all() else layout._replace(edges=layout.edges[keep])


# --- comparison ---


def _named(layout: Layout) -> npt.NDArray[np.uint64]:
    """Label nodes by type, and by the name and the cell of their parameters."""
    parametrised = layout.names >= len(PUBLISHED_NODE_TYPES)
    return _typed(layout) + _shifted(layout.names, 8) + parametrised * _shifted(layout.cells, 24)


def _typed(layout: Layout) -> npt.NDArray[np.uint64]:
    return layout.types.astype(np.uint64)


def _celled(layout: Layout) -> npt.NDArray[np.uint64]:
    return _typed(layout) + _shifted(layout.cells, 24)


def _shifted(values: npt.NDArray[np.uint16], bits: int) -> npt.NDArray[np.uint64]:
    return values.astype(np.uint64) * np.uint64(1 << bits)


def _unlabelled(layout: Layout) -> npt.NDArray[np.uint64]:
    return np.zeros(len(layout.types), np.uint64)


def _same(a: Layout, b: Layout) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Layout._fields)


def _same_nodes(a: Layout, b: Layout, labels: Labels) -> bool:
    return np.array_equal(np.sort(labels(a)), np.sort(labels(b)))


def _in_order(a: Layout, b: Layout, labels: Labels) -> bool:
    return np.array_equal(a.edges, b.edges) and np.array_equal(labels(a), labels(b))


def _in_any_order(a: Layout, b: Layout, labels: Labels) -> bool:
    """Return whether the nodes have the same labels, ancestors and descendants, in any order."""
    return len(a.edges) == len(b.edges) and np.array_equal(_signature(a, labels), _signature(b, labels))


def _disorder(found: Layout, truth: Layout, labels: Labels, order: tuple[str, ...]) -> tuple[str, ...]:
    """Return the defects of the nodes of a layout that matches another one with these labels and this order."""
    names = () if np.array_equal(np.sort(found.names), np.sort(truth.names)) else ("names",)
    cells = () if _same_nodes(found, truth, _celled) else ("cells",)
    misplaced = labels is _unlabelled or (labels is _typed and not names and _same_nodes(found, truth, _named))
    return (("scrambled",) if misplaced else order) + names + cells


def _signature(layout: Layout, labels: Labels) -> npt.NDArray[np.uint64]:
    indptr = np.r_[0, np.cumsum(layout.in_degrees)]
    return np.sort(_hash_surroundings(indptr, layout.edges[:, 0].copy(), labels(layout)))


@compiled
def _mix(x: Any) -> Any:
    """Mix 64 bits with the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def _hash_surroundings(
    indptr: npt.NDArray[np.int64], sources: npt.NDArray[np.int32], labels: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Hash every node by its label, its ancestors and its descendants."""
    n = len(labels)
    salt = np.uint64(0x9E3779B97F4A7C15)
    hashes: npt.NDArray[np.uint64] = np.zeros(n, np.uint64)
    for v in range(n):
        leading_here = np.uint64(0)
        for e in range(indptr[v], indptr[v + 1]):
            leading_here += _mix(hashes[sources[e]] + salt)
        hashes[v] = _mix(_mix(labels[v] + salt) + leading_here)
    led_to: npt.NDArray[np.uint64] = np.zeros(n, np.uint64)
    for v in range(n - 1, -1, -1):
        hashes[v] = _mix(hashes[v] + _mix(led_to[v] + salt))
        for e in range(indptr[v], indptr[v + 1]):
            led_to[sources[e]] += _mix(hashes[v] + salt)
    return hashes


# --- missing nodes ---


def _lacks_only_products(found: Layout, truth: Layout) -> bool:
    lacking = _counts(truth) - _counts(found)
    others = np.delete(lacking, _PRODUCTS)
    return bool((lacking >= 0).all() and lacking.any() and not others.any())


def _defects_beside_missing(found: Layout, truth: _Truth) -> tuple[str, ...]:
    """Return other defects, found by comparing the graphs without products."""
    rest, true_rest = _without_products(found), _without_products(truth.layout)
    for labels in (_named, _typed):
        if _in_any_order(rest, true_rest, labels):
            order = () if _in_order(rest, true_rest, labels) else ("order",)
            return _disorder(rest, true_rest, labels, order) + truth.defects
    merges_of_one = np.isin(found.types, _MERGES) & (found.in_degrees < 2)
    return ("scrambled" if merges_of_one.any() else "unrecognised",)


def _without_products(layout: Layout) -> Layout:
    """Remove attention and squeeze-excite products; their sources are connected to their targets."""
    gone = np.isin(layout.types, _PRODUCTS)
    sources: list[set[int]] = [set() for _ in gone]
    for source, target in layout.edges.tolist():  # edges are sorted by target, so the sources of a source are complete
        sources[target] |= sources[source] if gone[source] else {source}
    edges = [(source, target) for target, into in enumerate(sources) if not gone[target] for source in sorted(into)]
    renumbered = np.cumsum(~gone, dtype=np.int32) - 1
    return Layout(
        layout.types[~gone],
        layout.cells[~gone],
        layout.names[~gone],
        renumbered[np.array(edges, np.int32).reshape(-1, 2)],
    )


def _counts(layout: Layout) -> npt.NDArray[np.int64]:
    return np.bincount(layout.types, minlength=len(PUBLISHED_NODE_TYPES))


def _difference(found: Layout, truth: Layout) -> int:
    return int(np.abs(_counts(found) - _counts(truth)).sum())
