"""Pictures of graphs for publications: `draw` for one graph, `draw_grid` for several, `draw_legend` for the legend.

Everything is drawn in the units of the layout (`deepnets.drawing.layout`), so pictures of different sizes look alike.
The global state of matplotlib is not changed, and the style that the user has set does not matter: the same graph gives
the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from deepnets.architecture import GENOTYPES
from deepnets.drawing.layout import ASPECT, Layout, arrange
from deepnets.drawing.looks import slots_of
from deepnets.drawing.modules import boxes_of
from deepnets.drawing.painting import (
    Titles,
    all_entries,
    legend_entries,
    legend_height,
    legend_style,
    paint_cells,
    paint_edges,
    paint_nodes,
    select_virtual_edges,
)
from deepnets.drawing.picture_files import check_matplotlib, check_picture, own_style, save_figure
from deepnets.graph import Graph
from deepnets.support import ConfigError, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "draw_grid", "draw_legend"]

PAGE = np.array([10.5, 9.0])  # largest width and height of a layout, in inches
TITLE = 0.35  # height of a title, in inches
MAX_UNIT = 0.55  # largest unit of the layout, in inches
SIZES = (1.0, 200.0)  # smallest and largest width and height that users can choose, in inches
LEGIBLE = 17.0  # smallest unit at which nodes get labels, in points
SHAPES_LEGIBLE = 34.0  # smallest unit at which nodes get the shapes of their parameters, in points


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
    size: tuple[float, float] | None = None,
    modules: bool = True,
) -> Figure:
    """Draw a graph, cell by cell, and traced networks module by module.

    Parameters
    ----------
    graph : Graph
        The graph.  If it has a config, reduction cells are tinted.  If it knows its parameters, nodes with more
        parameters are larger, and convolutions are labelled with their kernel sizes.
    path : Path or str, optional
        File to save the picture to.  The suffix, one of `FORMATS`, selects the format.  In SVG files, text is text, and
        nodes have tooltips with their parameters.
    title : str, optional
        Text above the picture; by default the name of the network as far as it is known (`Graph.label`), and the
        numbers of nodes, edges and parameters.  It is plain text: dollar signs do not start formulas.
    virtual_edges : int, default 1
        Largest distance of two nodes, in edges, that are connected by a faint arc; 1 for no arcs.  If there are
        thousands, only every second, third, ... arc is drawn, as the legend says.
    dead : bool, default True
        Whether to draw nodes that do not reach the output; they are faded, with dashed outlines.
    labels : bool or "auto", default "auto"
        Whether to label the nodes; with "auto", if the labels are large enough to read.  Convolutions have their kernel
        sizes as labels.  If there is room for it, the shape of its parameter is below each node.
    legend : bool, default True
        Whether to add a legend of node types, with the number of nodes of each type.
    axes : matplotlib.axes.Axes, optional
        Axes to draw on; by default those of a new figure, whose size depends on the graph.
    size : (float, float), optional
        Largest width and height of the graph in inches, instead of 10.5 x 9, in which nodes of small graphs do not grow
        beyond 0.55.  In larger pictures, more labels are large enough to read.
    modules : bool, default True
        Whether the modules of a traced network have boxes.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If the suffix, `labels`, `virtual_edges` or `size` is not allowed, or both `axes` and `size` are given.
    MissingDependencyError
        If matplotlib is not installed (`pip install "deepnets1m[plotting]"`).

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph, draw
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=6))
    >>> draw(graph, title="DARTS").axes[0].get_title()
    'DARTS'
    """
    check_matplotlib()
    file = None if path is None else check_picture(path)
    if labels not in (True, False, "auto"):
        raise ConfigError(f"labels: expected True, False or 'auto', got {labels!r}")
    if size is not None and (axes is not None or not _is_size(size)):
        raise ConfigError(f"size: expected a width and a height from 1 to 200 inches, and no axes, got {size!r}")
    graph = graph if dead else graph.pruned()
    titles: Titles = {}
    with own_style():
        options = _Options(title, virtual_edges, labels, legend, modules, size)
        figure = _drawn(graph, options, axes, titles)
    if file:
        save_figure(figure, file, titles)
    return figure


def _is_size(size: Any) -> bool:
    numbers = isinstance(size, (tuple, list)) and all(isinstance(each, Real) for each in size)
    return numbers and len(size) == 2 and all(SIZES[0] <= each <= SIZES[1] for each in size)


class _Options(NamedTuple):
    """The options of `draw`."""

    title: str | None = None
    virtual_edges: int = 1
    labels: bool | Literal["auto"] = "auto"
    legend: bool = True
    modules: bool = True
    size: tuple[float, float] | None = None


def _drawn(graph: Graph, options: _Options, axes: Axes | None, titles: Titles) -> Figure:
    title, virtual_edges, labels, legend, modules, size = options
    arcs, step = select_virtual_edges(graph, virtual_edges)
    entries = legend_entries([graph], virtual_edges, step) if legend else []
    boxes = boxes_of(graph, modules)
    if axes is None:
        aspect = ASPECT if size is None else size[0] / size[1]
        layout = arrange(graph, aspect, boxes.groups)
        axes = _new_axes(layout, len(entries), size)
    else:
        window = axes.get_window_extent()
        layout = arrange(graph, window.width / window.height, boxes.groups)
    width = axes.get_window_extent().width / axes.figure.dpi
    unit = _set_scale(axes, layout)
    paint_cells(axes, graph, layout, boxes, unit)
    paint_edges(axes, graph, layout, layout.positions[arcs], unit)
    are_labelled = labels is True or (labels == "auto" and unit >= LEGIBLE)
    shapes = are_labelled and unit >= SHAPES_LEGIBLE
    paint_nodes(axes, graph, layout, unit, labels=are_labelled, shapes=shapes, titles=titles)
    text = printable(_summary(graph) if title is None else title)
    axes.set_title(text, fontsize=min(11.0, 2.4 * width, 125 * width / max(len(text), 1)), parse_math=False)
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
    check_matplotlib()
    file = None if path is None else check_picture(path)
    if not graphs or columns < 1:
        raise ConfigError(f"draw_grid: expected graphs and columns, 1 or more; got {len(graphs)} and {columns}")
    if titles is not None and len(titles) != len(graphs):
        raise ConfigError(f"titles: expected one for each of {len(graphs)} graphs, got {len(titles)}")
    with own_style():
        tooltips: Titles = {}
        figure = _drawn_grid(graphs, min(columns, len(graphs)), titles, tooltips)
    if file:
        save_figure(figure, file, tooltips)
    return figure


def _drawn_grid(graphs: Sequence[Graph], columns: int, titles: Sequence[str] | None, tooltips: Titles) -> Figure:
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
        _drawn(graph, _Options(titles[i] if titles else None, legend=False), axes, tooltips)
    figure.legend(handles=entries, loc="lower center", **style)
    return figure


def draw_legend(path: str | Path | None = None, graphs: Sequence[Graph] | None = None, *, columns: int = 4) -> Figure:
    """Draw a legend alone, for a page with several pictures that are drawn with `legend=False`.

    Parameters
    ----------
    path : Path or str, optional
        File to save the legend to, as in `draw`.
    graphs : sequence of Graph, optional
        The graphs whose node types are explained, with their numbers of nodes; by default all node types.
    columns : int, default 4
        Number of columns.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If there are no graphs, `columns` is less than 1, or the suffix is not allowed.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> figure = draw_legend(graphs=[build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2))])
    >>> figure.legends[0].get_texts()[0].get_text()
    'max_pool (5)'
    """
    check_matplotlib()
    file = None if path is None else check_picture(path)
    if columns < 1 or (graphs is not None and not graphs):
        raise ConfigError(f"draw_legend: expected columns and graphs, 1 or more; got {columns} and {graphs!r}")
    with own_style():
        entries = all_entries() if graphs is None else legend_entries(graphs)
        style = legend_style(len(entries), 1.3 * columns)
        figure = _new_figure(1.7 * style["ncols"], legend_height(style, len(entries)) + 0.1)
        figure.legend(handles=entries, loc="center", **style)
    if file:
        save_figure(figure, file, {})
    return figure


# --- figures ---


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _new_axes(layout: Layout, entries: int, size: tuple[float, float] | None) -> Axes:
    """Create axes on a figure that fits the layout, a title and a legend with a number of entries."""
    low, high = layout.extent
    page, largest = (PAGE, MAX_UNIT) if size is None else (np.array(size), math.inf)
    width, height = (high - low) * min(largest, *(page / (high - low)))
    across = max(width, 4.5)
    below = legend_height(legend_style(entries, across), entries)
    total = TITLE + height + below
    return _new_figure(across, total).add_axes((0, below / total, 1, height / total))


def _set_scale(axes: Axes, layout: Layout) -> float:
    """Fit the layout into the axes; return the size of its unit in points, the unit of line widths and fonts."""
    low, high = layout.extent
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set_axis_off()
    window = axes.get_window_extent()
    return float(np.min((window.width, window.height) / (high - low))) * 72 / axes.figure.dpi


def _summary(graph: Graph) -> str:
    name = _name(graph)
    text = f"{name}{': ' * bool(name)}{graph.num_nodes:,} nodes, {graph.num_edges:,} edges"
    slots = [slot for node in slots_of(graph) for slot in node]
    return f"{text}, {sum(slot.numel for slot in (*slots, *graph.unused)):,} parameters" if slots else text


def _name(graph: Graph) -> str:
    """Return the label of a graph, its index, or the name of its genotype; empty if nothing is known."""
    if graph.label or graph.index is not None:
        return graph.label or f"network {graph.index}"
    try:
        config = graph.config
    except ConfigError:
        return ""
    return next((name for name, genotype in GENOTYPES.items() if genotype == config.genotype), "")
