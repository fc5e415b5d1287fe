"""Pictures: the layout is checked as geometry, the files as bytes, the figures for what they say."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from deepnets import GENOTYPES, NODE_TYPES, ConfigError, Genotype, Graph, NetworkConfig, build_graph
from tests.oracles.worked_examples import EXAMPLES
from tests.support.strategies import configs

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.image import imread  # noqa: E402
from matplotlib.path import Path as Outline  # noqa: E402

from deepnets.drawing import (  # noqa: E402
    LOOKS,
    arrange,
    draw,
    draw_grid,
    layout,
)
from deepnets.drawing.pictures import FORMATS, LEGIBLE, node_positions  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


def graph_of(types: list[str], sources: list[list[int]], cells: list[int] | None = None) -> Graph:
    """A graph that knows neither its config nor its parameters."""
    numbers = [NODE_TYPES.index(name) for name in types]
    return Graph(numbers, cells or [0] * len(types), [len(s) for s in sources], [v for s in sources for v in sorted(s)])


def residual(blocks: int) -> Graph:
    types, sources = ["input"], [[]]
    for _ in range(blocks):
        first = len(types) - 1
        types += ["conv", "bn", "conv", "bn", "sum"]
        sources += [[first], [first + 1], [first + 2], [first + 3], [first, first + 4]]
    return graph_of([*types, "glob_avg"], [*sources, [len(types) - 1]])


def densely_connected(layers: int) -> Graph:
    types, sources = ["input", "conv"], [[], [0]]
    outputs = [1]
    for _ in range(layers):
        types += ["concat", "conv"]
        sources += [list(outputs), [len(types) - 2]]
        outputs.append(len(types) - 1)
    return graph_of([*types, "glob_avg"], [*sources, [len(types) - 1]])


def ten_steps() -> Graph:
    rng = random.Random(3)
    operations = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7", "conv_3x3", "cse"]
    genes = [[(rng.choice(operations), s) for i in range(10) for s in rng.sample(range(2 + i), 2)] for _ in range(2)]
    genotype = Genotype(normal=genes[0], normal_concat=[7, 9, 11], reduce=genes[1], reduce_concat=[7, 9, 11])
    return build_graph(NetworkConfig(genotype, n_cells=5))


MAKERS = {
    "one node": lambda: graph_of(["input"], [[]]),
    "chain": lambda: graph_of(["input", *["conv"] * 199], [[], *([i] for i in range(199))]),
    "two sources": lambda: graph_of(["input", "pos_enc", "sum", "conv"], [[], [], [0, 1], [2]]),
    "one cell": lambda: residual(16),
    "dense connections": lambda: densely_connected(12),
    "far cells": lambda: graph_of(["input", *["conv"] * 4], [[], [0], [0], [0, 1], [0, 1, 2, 3]], [0, 2, 5, 5, 9]),
    "ViT": lambda: build_graph(NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)),
    "DARTS": lambda: build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=20, C=36)),
    "PDARTS": lambda: build_graph(NetworkConfig(GENOTYPES["PDARTS"], n_cells=4, stem_type=1, fc_layers=2)),
    "ten steps": ten_steps,
    **{name: lambda name=name: build_graph(EXAMPLES[name].config) for name in EXAMPLES},
}
DEAD = "V4"  # `none` keeps twenty of its nodes from the output


@cache
def graph(name: str) -> Graph:
    return MAKERS[name]()


def texts(artist: object) -> list[str]:
    return [text.get_text() for text in artist.get_texts()]


# --- layout ---


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
    """What a reader sees who follows the lines from every node."""
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


# --- files ---


@pytest.mark.parametrize("suffix", [*FORMATS, "PNG"])
@pytest.mark.parametrize("name", ["V2", DEAD, "ViT"])
def test_same_graph_gives_the_same_file(tmp_path: Path, suffix: str, name: str) -> None:
    files = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for file in files:
        draw(graph(name), file, virtual_edges=3)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix.lower()]
    assert files[0].read_bytes().startswith(start)
    assert files[0].stat().st_size > 5000
    assert files[0].read_bytes() == files[1].read_bytes()


def test_path_may_be_a_string(tmp_path: Path) -> None:
    draw(graph("V1"), str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("name", ["picture.jpg", "picture", "archive.png.gz"])
def test_other_suffixes_are_refused_before_anything_is_drawn(tmp_path: Path, name: str) -> None:
    for function in (draw, draw_grid):
        with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf"):
            function(None, tmp_path / name)
    assert not list(tmp_path.iterdir())


# --- what is in the picture ---


@pytest.mark.parametrize("name", MAKERS)
def test_legend_and_title_say_what_is_there_and_are_not_cut_off(name: str) -> None:
    drawn = graph(name)
    figure = draw(drawn, virtual_edges=2)
    (axes,) = figure.axes
    counts = np.bincount(drawn.node_types, minlength=len(NODE_TYPES))
    expected = [f"{kind} ({n})" for kind, n in zip(NODE_TYPES, counts) if n]
    if not drawn.live.all():
        expected.append(f"dead ({np.sum(~drawn.live)})")
    expected.append("virtual (up to 2)")
    if drawn.cells.any() and name != "far cells":
        expected.append("reduction cell")
    assert texts(axes.get_legend()) == expected
    assert axes.get_title().startswith(f"{drawn.num_nodes} nodes, {drawn.num_edges} edges")

    figure.draw_without_rendering()
    page, middle = figure.bbox, axes.get_window_extent()
    for artist, low, high in ((axes.title, middle.y1, page.y1), (axes.get_legend(), page.y0, middle.y0)):
        box = artist.get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert low - 1 <= box.y0 < box.y1 <= high + 1


def test_title_counts_every_parameter_of_the_network() -> None:
    count = EXAMPLES[DEAD].num_params[0]
    for dead in (True, False):
        assert f", {count:,} parameters" in draw(graph(DEAD), dead=dead).axes[0].get_title()
    assert draw(graph("V1"), title="Figure 1").axes[0].get_title() == "Figure 1"
    assert draw(graph("V1"), title="").axes[0].get_title() == ""


def test_graph_without_config_has_no_reduction_cells_and_no_parameters() -> None:
    axes = draw(residual(2)).axes[0]
    assert axes.get_title() == "12 nodes, 13 edges"
    assert "reduction cell" not in texts(axes.get_legend())
    assert {text.get_text() for text in axes.texts} == {"in", "conv", "BN", "GAP", ""}


def test_dead_nodes_can_be_left_out() -> None:
    axes = draw(graph(DEAD), dead=False).axes[0]
    assert axes.get_title().startswith("23 nodes, 22 edges")
    assert not any("dead" in text for text in texts(axes.get_legend()))


def test_labels_show_kernel_sizes_and_fit_into_their_nodes() -> None:
    drawn = graph("V5")
    figure = draw(drawn)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    cells = [str(cell) for cell in range(4)]
    labels = [text for text in axes.texts if text.get_text() not in (*cells, "")]
    assert {text.get_text() for text in labels} == {"in", "1×1", "3×3", "5×5", "BN", "max", "fc", "b"}
    unit = np.ptp(axes.transData.transform([(0, 0), (1, 0)])[:, 0])
    assert max(text.get_window_extent().width for text in labels) < 0.62 * unit


def test_labels_are_left_out_where_nobody_could_read_them() -> None:
    def labels(name: str, **options: object) -> list[str]:
        return [text.get_text() for text in draw(graph(name), **options).axes[0].texts if text.get_fontsize() < LEGIBLE]

    assert "BN" not in labels("DARTS")
    assert "BN" in labels("DARTS", labels=True)
    assert "BN" in labels("V2")
    assert "BN" not in labels("V2", labels=False)


def test_cells_are_numbered_once() -> None:
    axes = draw(graph("DARTS")).axes[0]
    assert [text.get_text() for text in axes.texts] == [str(cell) for cell in range(20)]


def test_virtual_edges_are_thinned_out_and_the_legend_says_so() -> None:
    def entry(name: str, distance: int) -> str:
        legend = draw(graph(name), virtual_edges=distance).axes[0].get_legend()
        return next(text for text in texts(legend) if text.startswith("virtual"))

    assert entry("V2", 5) == "virtual (up to 5)"
    assert entry("DARTS", 50) == "virtual (up to 50, 1 in 74)"
    assert not any("virtual" in text for text in texts(draw(graph("V2")).axes[0].get_legend()))


def test_types_differ_in_colour_or_outline_and_in_outline_if_similarly_bright() -> None:
    assert set(LOOKS) == set(NODE_TYPES)
    for a, b in combinations(LOOKS.values(), 2):
        same_outline = a.outline.shape == b.outline.shape and np.allclose(a.outline, b.outline)
        grey_a, grey_b = (np.dot(matplotlib.colors.to_rgb(c), (0.299, 0.587, 0.114)) for c in (a.colour, b.colour))
        assert not same_outline or abs(grey_a - grey_b) > 0.2


def test_axes_of_ones_own() -> None:
    figure = Figure(figsize=(8, 3))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    assert draw(graph("V1"), axes=left, legend=False) is figure
    assert draw(graph("V2"), axes=right) is figure
    assert left.get_legend() is None
    assert right.get_legend() is not None
    part = figure.subfigures(1, 1)
    assert draw(graph("V1"), axes=part.subplots()) is figure


@pytest.mark.parametrize(
    ("options", "message"),
    [({"labels": "all"}, "labels"), ({"virtual_edges": 0}, "1 to 254"), ({"virtual_edges": 255}, "1 to 254")],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(graph("V1"), **options)


# --- grids ---


def test_grid_has_one_legend_for_all(tmp_path: Path) -> None:
    names = ["V1", "V3", DEAD, "one cell"]
    file = tmp_path / "grid.png"
    figure = draw_grid([graph(name) for name in names], file, columns=3, titles=names)
    assert [axes.get_title() for axes in figure.axes] == names
    assert all(axes.get_legend() is None for axes in figure.axes)
    entries = texts(figure.legends[0])
    kinds = {NODE_TYPES[kind] for name in names for kind in graph(name).node_types}
    assert {entry.partition(" (")[0] for entry in entries} == {*kinds, "dead", "reduction cell"}
    height, width, _ = imread(file).shape
    assert 0.4 < height / width < 1
    for a, b in combinations([axes.get_tightbbox() for axes in figure.axes], 2):
        assert not a.overlaps(b)
    before = file.read_bytes()
    draw_grid([graph(name) for name in names], file, columns=3, titles=names)
    assert file.read_bytes() == before


def test_wrong_grids_are_refused() -> None:
    for graphs, options in (([], {}), ([graph("V1")], {"columns": 0}), ([graph("V1")], {"titles": ["a", "b"]})):
        with pytest.raises(ConfigError, match="expected"):
            draw_grid(graphs, **options)


# --- neighbours ---


def test_global_state_of_matplotlib_stays_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for suffix in FORMATS:
        draw(graph("V1"), tmp_path / f"a.{suffix}")
    assert dict(matplotlib.rcParams) == before


def test_matplotlib_is_imported_late_and_pyplot_never() -> None:
    code = """if True:
        import sys
        from deepnets import Graph, draw
        assert "matplotlib" not in sys.modules
        draw(Graph([9, 4], [0, 0], [0, 1], [0]))
        assert "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
    """
    environment = {**os.environ, "MPLBACKEND": "tkagg", "DISPLAY": ""}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def test_missing_matplotlib_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for function in (draw, draw_grid):
        with pytest.raises(ImportError, match=r'pip install "deepnets1m\[plotting\]"'):
            function(graph("V1"))


def test_deep_networks_take_seconds(tmp_path: Path) -> None:
    deep = build_graph(NetworkConfig(GENOTYPES["PDARTS"], n_cells=36, C=16))
    assert deep.num_nodes > 1400
    start = time.perf_counter()
    draw(deep, tmp_path / "deep.pdf")
    assert time.perf_counter() - start < 10
