"""The layout of graphs, checked as geometry."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings

from deepnets import Graph, NetworkConfig, build_graph
from tests.support.drawn_graphs import DEAD, MAKERS, graph, residual
from tests.support.strategies import configs

pytest.importorskip("matplotlib")

from matplotlib.path import Path as Outline

from deepnets.drawing import arrange, layout, node_positions


def assert_readable(graph: Graph) -> None:
    layout = arrange(graph)
    assert layout.positions.shape == (graph.num_nodes, 2)
    assert np.isfinite(layout.positions).all()

    apart = np.abs(layout.positions[:, None] - layout.positions).max(axis=2) + np.eye(graph.num_nodes) * 9
    assert apart.min() > 1 - 1e-6, "two nodes overlap"

    homes = np.zeros(graph.num_nodes, np.int64)
    for cell, left, bottom, right, top in layout.boxes:
        inside = ((layout.positions > (left, bottom)) & (layout.positions < (right, top))).all(axis=1)
        assert (graph.cells[inside] == cell).all(), "cells interleave"
        homes += inside
    assert (homes == 1).all(), "a node is in no box, or in several"
    for a, b in combinations(layout.boxes, 2):
        assert a.right <= b.left or b.right <= a.left or a.bottom >= b.top or b.bottom >= a.top, "two boxes overlap"

    assert drawn_edges(layout) == {(int(s), int(t)) for s, t in graph.edges}
    for line in layout.lines:
        ends = {tuple(line.curve[0][0]), tuple(line.curve[0][-1])}
        for points in Outline(*line.curve).to_polygons(closed_only=False):
            near = np.abs(layout.positions[:, None] - points).max(axis=2).min(axis=1) < 0.3
            assert {tuple(p) for p in layout.positions[near]} <= ends, "a line runs through a node"


def drawn_edges(layout: object) -> set[tuple[int, int]]:
    """Return the edges that are found by following the lines from every node."""
    onwards = defaultdict(list)
    for line in layout.lines:
        onwards[tuple(line.curve[0][0])].append((tuple(line.curve[0][-1]), line.target))
    edges = set()
    for node, position in enumerate(layout.positions):
        ahead = list(onwards[tuple(position)])
        while ahead:
            point, target = ahead.pop()
            if target < 0:
                ahead += onwards[point]
            else:
                assert point == tuple(layout.positions[target])
                edges.add((node, target))
    return edges


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", MAKERS)
def test_layout_is_readable(name: str) -> None:
    assert_readable(graph(name))


@given(configs(with_output=True))
@settings(max_examples=15, deadline=None)
def test_layout_of_any_network_is_readable(config: NetworkConfig) -> None:
    assert_readable(build_graph(config))


def test_positions_are_those_of_the_layout_and_do_not_depend_on_what_was_drawn_before() -> None:
    first = node_positions(graph("PDARTS"))
    node_positions(graph("V2"))
    layout._shape.cache_clear()
    assert np.array_equal(node_positions(graph("PDARTS")), first)
    assert np.array_equal(layout.arrange(graph("PDARTS")).positions, first)


def test_data_flows_to_the_right_within_a_box() -> None:
    darts = graph("DARTS")
    s, t = darts.edges.T
    same = darts.cells[s] == darts.cells[t]
    x = node_positions(darts)[:, 0]
    assert (x[s[same]] < x[t[same]]).all()


def test_equal_cells_look_equal() -> None:
    darts = graph("DARTS")
    positions = node_positions(darts)
    first, second = (positions[darts.cells == cell] for cell in (9, 10))
    assert np.allclose(first - first[0], second - second[0])


def test_page_has_the_shape_asked_for() -> None:
    narrow, wide = (np.ptp(node_positions(graph("DARTS"), aspect), axis=0) for aspect in (0.5, 4.0))
    assert narrow[0] / narrow[1] < 1 < 2.5 < wide[0] / wide[1]


def test_long_cell_is_cut_where_few_edges_are() -> None:
    layout = arrange(residual(40))
    assert len(layout.boxes) > 3
    crossing = [line for line in layout.lines if line.curve[1].count(3)]
    assert len(crossing) == len(layout.boxes) - 1  # one line from row to row: never within a block


@pytest.mark.parametrize("name", [DEAD, "ten steps", "ViT"])
def test_lines_are_dead_that_lead_to_dead_nodes_only(name: str) -> None:
    live, lines = graph(name).live, layout.arrange(graph(name)).lines
    starts = defaultdict(list)
    for line in lines:
        starts[tuple(line.curve[0][0])].append(line)

    def leads_to_life(line: object) -> bool:
        if line.target >= 0:
            return bool(live[line.target])
        return any(leads_to_life(following) for following in starts[tuple(line.curve[0][-1])])

    assert [line.live for line in lines] == [leads_to_life(line) for line in lines]
    assert any(not line.live for line in lines if line.target < 0) == (not live.all())
    assert all(line.live for line in layout.arrange(graph(name).pruned()).lines)
