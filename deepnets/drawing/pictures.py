"""Pictures of graphs for publications: `draw` for one graph, `draw_grid` for several on a page.

Everything is drawn in the units of the layout (`deepnets.drawing.layout`), so pictures of different sizes look alike.
The global state of matplotlib is not changed, and the style that the user has set does not matter: the same graph gives
the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from deepnets.drawing.layout import ASPECT, Layout, arrange
from deepnets.drawing.looks import slots_of
from deepnets.drawing.painting import (
    legend_entries,
    legend_height,
    legend_style,
    paint_cells,
    paint_edges,
    paint_nodes,
    select_virtual_edges,
)
from deepnets.graph import Graph
from deepnets.support import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "draw", "draw_grid"]

FORMATS = ("png", "svg", "pdf")
"""Suffixes of the files that pictures can be saved to."""

PAGE = np.array([10.5, 9.0])  # largest width and height of a layout, in inches
TITLE = 0.35  # height of a title, in inches
MAX_UNIT = 0.36  # largest unit of the layout, in inches
LEGIBLE = 17.0  # smallest unit at which nodes get labels, in points


def draw(
    graph: Graph,
    path: str | Path | None = None,
    *,
    title: str | None = None,
    virtual_edges: int = 1,
    dead: bool = True,
    labels: bool | Literal["auto"] = "auto",
    legend: bool = True,
    axes: Axes | None = None,
) -> Figure:
    """Draw a graph, cell by cell.

    Parameters
    ----------
    graph : Graph
        The graph.  If it has a config, reduction cells are tinted.  If it knows its parameters, nodes with more
        parameters are larger, and convolutions are labelled with their kernel sizes.
    path : Path or str, optional
        File to save the picture to.  The suffix, one of `FORMATS`, selects the format.
    title : str, optional
        Text above the picture; by default the numbers of nodes, edges and parameters.  It is plain text: dollar signs
        do not start formulas.
    virtual_edges : int, default 1
        Largest distance of two nodes, in edges, that are connected by a faint arc; 1 for no arcs.  If there are
        thousands, only every second, third, ... arc is drawn, as the legend says.
    dead : bool, default True
        Whether to draw nodes that do not reach the output; they are faded, with dashed outlines.
    labels : bool or "auto", default "auto"
        Whether to label the nodes; with "auto", if the labels are large enough to read.
    legend : bool, default True
        Whether to add a legend of node types, with the number of nodes of each type.
    axes : matplotlib.axes.Axes, optional
        Axes to draw on; by default those of a new figure, whose size depends on the graph.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If the suffix, `labels` or `virtual_edges` is not allowed.
    MissingDependencyError
        If matplotlib is not installed (`pip install "deepnets1m[plotting]"`).

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph, draw
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=6))
    >>> draw(graph, title="DARTS").axes[0].get_title()
    'DARTS'
    """
    _import_matplotlib()
    file = _checked(path)
    if labels not in (True, False, "auto"):
        raise ConfigError(f"labels: expected True, False or 'auto', got {labels!r}")
    graph = graph if dead else graph.pruned()
    with _own_style():
        figure = _drawn(graph, title, virtual_edges, labels, legend, axes)
    if file:
        _save(figure, file)
    return figure


def _drawn(
    graph: Graph,
    title: str | None,
    virtual_edges: int,
    labels: bool | Literal["auto"],
    legend: bool,
    axes: Axes | None,
) -> Figure:
    arcs, step = select_virtual_edges(graph, virtual_edges)
    entries = legend_entries([graph], virtual_edges, step) if legend else []
    if axes is None:
        layout = arrange(graph, ASPECT)
        axes = _new_axes(layout, len(entries))
    else:
        window = axes.get_window_extent()
        layout = arrange(graph, window.width / window.height)
    width = axes.get_window_extent().width / axes.figure.dpi
    unit = _set_scale(axes, layout)
    paint_cells(axes, graph, layout, unit)
    paint_edges(axes, graph, layout, layout.positions[arcs], unit)
    paint_nodes(axes, graph, layout, unit, labels is True or (labels == "auto" and unit >= LEGIBLE))
    text = _summary(graph) if title is None else title
    axes.set_title(text, fontsize=min(11.0, 2.4 * width), parse_math=False)
    if entries:
        axes.legend(handles=entries, loc="upper center", bbox_to_anchor=(0.5, 0), **legend_style(len(entries), width))
    return axes.figure.figure  # the whole figure, if the axes are on a part of it


def draw_grid(
    graphs: Sequence[Graph],
    path: str | Path | None = None,
    columns: int = 3,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draw several graphs on a page, with one legend.

    Parameters
    ----------
    graphs : sequence of Graph
        The graphs, row by row.
    path : Path or str, optional
        File to save the picture to, as in `draw`.
    columns : int, default 3
        Graphs in a row.
    titles : sequence of str, optional
        A title for each graph; by default its numbers of nodes, edges and parameters.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If there are no graphs, `columns` is less than 1, the number of titles differs from that of graphs, or the
        suffix is not allowed.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graphs = [build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=n)) for n in (2, 3)]
    >>> [axes.get_title() for axes in draw_grid(graphs, titles=["two cells", "three cells"]).axes]
    ['two cells', 'three cells']
    """
    _import_matplotlib()
    file = _checked(path)
    if not graphs or columns < 1:
        raise ConfigError(f"draw_grid: expected graphs and columns, 1 or more; got {len(graphs)} and {columns}")
    if titles is not None and len(titles) != len(graphs):
        raise ConfigError(f"titles: expected one for each of {len(graphs)} graphs, got {len(titles)}")
    with _own_style():
        figure = _drawn_grid(graphs, min(columns, len(graphs)), titles)
    if file:
        _save(figure, file)
    return figure


def _drawn_grid(graphs: Sequence[Graph], columns: int, titles: Sequence[str] | None) -> Figure:
    entries = legend_entries(graphs)
    width = max(PAGE[0] / columns, 3.5)
    height = width / ASPECT
    style = legend_style(len(entries), width * columns)
    total = (height + TITLE) * math.ceil(len(graphs) / columns) + legend_height(style, len(entries))
    figure = _new_figure(width * columns, total)
    for i, graph in enumerate(graphs):
        bottom = total - (height + TITLE) * (i // columns + 1)
        axes = figure.add_axes(((i % columns + 0.02) / columns, bottom / total, 0.96 / columns, height / total))
        axes.set_anchor("N")
        draw(graph, title=titles[i] if titles else None, legend=False, axes=axes)
    figure.legend(handles=entries, loc="lower center", **style)
    return figure


# --- files and figures ---


def _import_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError('pictures need matplotlib: pip install "deepnets1m[plotting]"') from error


@contextmanager
def _own_style() -> Iterator[None]:
    """Use the default style of matplotlib, instead of the user's, for a block."""
    import matplotlib.style

    with matplotlib.style.context("default"):  # leaves the backend and other settings that are no style
        yield


def _checked(path: str | Path | None) -> Path | None:
    if path is None:
        return None
    if Path(path).suffix[1:].lower() not in FORMATS:
        allowed = ", ".join(f".{suffix}" for suffix in FORMATS)
        raise ConfigError(f"picture {str(path)!r}: expected a file name that ends in one of {allowed}")
    return Path(path)


def _save(figure: Figure, file: Path) -> None:
    """Save a figure, with the same bytes for the same picture: without dates and random names.

    Text is saved as text, so that it can be searched and edited; PDF files embed TrueType fonts.
    """
    import matplotlib

    suffix = file.suffix[1:].lower()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    own = {"svg.hashsalt": "deepnets", "svg.fonttype": "none", "pdf.fonttype": 42}
    with _own_style(), matplotlib.rc_context(own):
        figure.savefig(file, format=suffix, dpi=200, metadata=undated.get(suffix))


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _new_axes(layout: Layout, entries: int) -> Axes:
    """Create axes on a figure that fits the layout, a title and a legend with a number of entries."""
    low, high = layout.extent
    width, height = (high - low) * min(MAX_UNIT, *(PAGE / (high - low)))
    page = max(width, 4.5)
    below = legend_height(legend_style(entries, page), entries)
    total = TITLE + height + below
    return _new_figure(page, total).add_axes((0, below / total, 1, height / total))


def _set_scale(axes: Axes, layout: Layout) -> float:
    """Fit the layout into the axes; return the size of its unit in points, the unit of line widths and fonts."""
    low, high = layout.extent
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set_axis_off()
    window = axes.get_window_extent()
    return float(np.min((window.width, window.height) / (high - low))) * 72 / axes.figure.dpi


def _summary(graph: Graph) -> str:
    text = f"{graph.num_nodes:,} nodes, {graph.num_edges:,} edges"
    slots = [slot for node in slots_of(graph) for slot in node]
    return f"{text}, {sum(slot.numel for slot in (*slots, *graph.unused)):,} parameters" if slots else text
