"""Pictures: files are compared as bytes; figures are checked for their titles, legends, labels and colours."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from deepnets import GENOTYPES, NODE_TYPES, ConfigError, Graph, NetworkConfig, build_graph
from tests.oracles.worked_examples import EXAMPLES

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.image import imread  # noqa: E402

from deepnets.drawing import FORMATS, LOOKS, draw, draw_grid, draw_legend, node_titles  # noqa: E402
from deepnets.drawing.pictures import LEGIBLE  # noqa: E402
from tests.support.drawn_graphs import DEAD, MAKERS, graph, residual  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


def texts(artist: object) -> list[str]:
    return [text.get_text() for text in artist.get_texts()]


# --- files ---


@pytest.mark.sampled(10)
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


def test_titles_are_text(tmp_path: Path) -> None:
    """Readers can search and copy the text of vector graphics."""
    draw(graph("V1"), tmp_path / "a.svg", title="Figure 1: V1")
    assert ">Figure 1: V1</text>" in (tmp_path / "a.svg").read_text()


def test_nodes_of_svg_files_have_tooltips(tmp_path: Path) -> None:
    """Every node, and its label, has the title of its node, also on a page with several graphs."""
    names = {"svg": "http://www.w3.org/2000/svg"}
    drawn = graph("V1")
    draw(drawn, tmp_path / "a.svg", labels=True)
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    nodes = root.find(".//svg:g[@id='nodes0']", names)
    assert [title.text for title in nodes.findall(".//svg:title", names)] == node_titles(drawn)
    label = root.find(".//svg:g[@id='nodes0-1']", names)
    assert label.find("svg:title", names).text == node_titles(drawn)[1] == "conv stem.0.weight 32×3×3×3"
    assert "".join(label.itertext()).strip().endswith("3×3")
    draw_grid([graph("one node"), drawn], tmp_path / "b.svg")
    root = ElementTree.parse(tmp_path / "b.svg").getroot()
    for name, expected in (("nodes0", ["input"]), ("nodes1", node_titles(drawn))):
        nodes = root.find(f".//svg:g[@id='{name}']", names)
        assert [title.text for title in nodes.findall(".//svg:title", names)] == expected


# --- what is in the picture ---


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", MAKERS)
def test_legend_and_title_are_complete_and_not_clipped(name: str) -> None:
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
    assert f"{drawn.num_nodes} nodes, {drawn.num_edges} edges" in axes.get_title()

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


def test_title_names_the_network() -> None:
    import torch

    from deepnets import DeepNets1M, trace

    def title(drawn: Graph) -> str:
        return draw(drawn, legend=False).axes[0].get_title()

    assert title(graph("DARTS")).startswith("DARTS: ")
    assert title(DeepNets1M(split="predefined")[1]).startswith("ViT: 129 nodes")
    assert title(trace(torch.nn.Sequential(torch.nn.Linear(3, 2)), torch.zeros(1, 3))).startswith("Sequential: ")
    assert title(graph("one node").replace(index=3)).startswith("network 3: 1 node")
    assert title(graph("one node").replace(label="$mine$")).startswith("$mine$: ")


def test_graph_without_config_has_no_reduction_cells_and_no_parameters() -> None:
    axes = draw(residual(2)).axes[0]
    assert axes.get_title() == "12 nodes, 13 edges"
    assert "reduction cell" not in texts(axes.get_legend())
    assert {text.get_text() for text in axes.texts} == {"in", "conv", "BN", "GAP", ""}


def test_dead_nodes_can_be_left_out() -> None:
    axes = draw(graph(DEAD), dead=False).axes[0]
    assert "23 nodes, 22 edges" in axes.get_title()
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


def test_labels_that_would_be_too_small_are_omitted() -> None:
    def labels(name: str, **options: object) -> list[str]:
        return [text.get_text() for text in draw(graph(name), **options).axes[0].texts if text.get_fontsize() < LEGIBLE]

    assert "BN" not in labels("DARTS")
    assert "BN" in labels("DARTS", labels=True)
    assert "BN" in labels("V2")
    assert "BN" not in labels("V2", labels=False)


def test_labels_and_shapes_depend_on_the_size_of_the_picture() -> None:
    """The same graph has more text in a larger picture."""

    def texts_of(**options: object) -> set[str]:
        return {text.get_text() for text in draw(graph("DARTS"), **options).axes[0].texts}

    small, large, huge = texts_of(), texts_of(size=(24, 18)), texts_of(size=(60, 45))
    assert "BN" not in small
    assert "BN" in large
    assert not any("36×36×1×1" in found for found in (small, large))
    assert {"BN", "1×1", "36×36×1×1", "36"} <= huge
    assert "64×3×7×7" not in huge


@pytest.mark.parametrize("size", [5, "ab", (1, 2, 3), (0.5, 5), ("5", 5), {5, 6}])
def test_invalid_sizes(size: Any) -> None:
    with pytest.raises(ConfigError, match="size: expected a width and a height"):
        draw(graph("V2"), size=size)


def test_size_bounds_the_graph() -> None:
    for size in ((6.0, 30.0), (30.0, 4.0)):
        figure = draw(graph("V2"), size=size, legend=False, title="")
        axes = figure.axes[0]
        box = axes.get_window_extent()
        assert box.width <= size[0] * figure.dpi + 1
        assert box.height <= size[1] * figure.dpi + 1


def test_legend_alone(tmp_path: Path) -> None:
    everything = texts(draw_legend(tmp_path / "a.svg").legends[0])
    assert everything[: len(NODE_TYPES)] == list(NODE_TYPES)
    assert "virtual edge" in everything
    assert all(f">{name}</text>" in (tmp_path / "a.svg").read_text() for name in everything)
    own = draw_legend(graphs=[graph("V1"), graph("V3")], columns=2)
    both = np.concatenate([graph(name).node_types for name in ("V1", "V3")])
    assert f"conv ({np.sum(both == NODE_TYPES.index('conv'))})" in texts(own.legends[0])
    own.draw_without_rendering()
    box = own.legends[0].get_window_extent()
    assert own.bbox.x0 <= box.x0 < box.x1 <= own.bbox.x1
    assert own.bbox.y0 <= box.y0 < box.y1 <= own.bbox.y1
    for options in ({"columns": 0}, {"graphs": []}, {"path": "a.txt"}):
        with pytest.raises(ConfigError):
            draw_legend(**options)


def test_cells_are_numbered_once() -> None:
    axes = draw(graph("DARTS")).axes[0]
    assert [text.get_text() for text in axes.texts] == [str(cell) for cell in range(20)]


@pytest.mark.slow
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


def test_given_axes() -> None:
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
    [
        *(({"labels": "all"}, "labels"), ({"virtual_edges": 0}, "1 to 254"), ({"virtual_edges": 255}, "1 to 254")),
        *(({"size": (0, 5)}, "size"), ({"size": (5, 900)}, "size"), ({"size": (5, 5, 5)}, "size")),
        ({"size": (math.nan, 5)}, "size"),
    ],
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


STYLES = (
    *({"figure.facecolor": "0.2", "axes.titlecolor": "red"}, {"lines.linewidth": 9, "patch.force_edgecolor": True}),
    *({"font.size": 20, "mathtext.fontset": "stix"}, {"legend.fontsize": 3, "figure.dpi": 40, "savefig.dpi": 30}),
    *({"text.usetex": True}, {"path.effects": []}, {"svg.fonttype": "path"}, {"savefig.transparent": True}),
)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_style_of_the_user_does_not_matter(tmp_path: Path, suffix: str) -> None:
    def pictures() -> list[bytes]:
        draw(graph("V1"), tmp_path / f"a.{suffix}", title="a")
        draw_grid([graph("V1")] * 2, tmp_path / f"b.{suffix}")
        return [(tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab"]

    expected = pictures()
    for style in STYLES:
        with matplotlib.rc_context(style):
            assert pictures() == expected


@pytest.mark.sampled(2)
@pytest.mark.parametrize("title", [r"$\frac$", "costs $5, or $6", "a_b^{c", "%"])
def test_titles_are_no_formulas(tmp_path: Path, title: str) -> None:
    figure = draw(graph("V1"), tmp_path / "a.svg", title=title)
    assert figure.axes[0].get_title() == title
    assert title in (tmp_path / "a.svg").read_text()
    draw_grid([graph("V1")], tmp_path / "b.pdf", titles=[title])


@pytest.mark.slow
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


@pytest.mark.slow
def test_deep_networks_take_seconds(tmp_path: Path) -> None:
    deep = build_graph(NetworkConfig(GENOTYPES["PDARTS"], n_cells=36, C=16))
    assert deep.num_nodes > 1400
    start = time.perf_counter()
    draw(deep, tmp_path / "deep.pdf")
    assert time.perf_counter() - start < 10


def test_svg_files_of_figures_with_several_graphs(tmp_path: Path) -> None:
    """Nodes of every picture have their own titles, whichever call has written the file."""
    figure = Figure()
    first, second = figure.subplots(1, 2)
    small, large = graph("DARTS"), graph("ViT")
    draw(small, axes=first)
    draw(large, tmp_path / "x.svg", axes=second)
    assert (tmp_path / "x.svg").read_text().count("<title>") >= large.num_nodes


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    draw(graph("DARTS"), tmp_path / "x.svg", title="a\x1bb")
    text = (tmp_path / "x.svg").read_text()
    assert "\x1b" not in text
    assert "a\\x1bb" in text
