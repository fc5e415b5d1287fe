"""Pictures of graphs that can go into a paper: `draw` for one, `draw_grid` for several on a page.

Everything is drawn in the units of the layout (`deepnets.drawing.layout`), so that a picture of any size is the same
picture.  No global state of matplotlib is used or changed, and the same graph gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NODE_TYPES
from deepnets.drawing.layout import ASPECT, Layout, Points, arrange, node_positions
from deepnets.graph import Graph, ParameterSlot
from deepnets.support import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Outline

__all__ = ["FORMATS", "draw", "draw_grid", "node_positions"]

FORMATS = ("png", "svg", "pdf")
"""Suffixes of the files that pictures can be saved to."""

PAGE = np.array([10.5, 9.0])  # most inches of width and height that a layout gets
TITLE = 0.35  # inches
LARGEST, LEGIBLE = 0.36, 17.0  # a unit of the layout is at most this many inches; nodes get labels from so many points
MOST_ARCS = 4000  # more virtual edges than that are a grey haze that takes minutes to draw

Style = dict[str, Any]  # options for matplotlib


class _Look(NamedTuple):
    label: str
    colour: str
    outline: Points  # a polygon around (0, 0); arrows end at its left


def _regular(corners: int, radius: float, turn: float = 0.0, stretch: float = 1.0) -> Points:
    angles = 2 * math.pi * (np.arange(corners) + turn) / corners
    return np.stack([radius * np.cos(angles), stretch * radius * np.sin(angles)], axis=1)


def _upright(left: float, right: float, width: float = 0.31) -> Points:
    """A quadrilateral with upright sides of these half-heights."""
    return np.array([(-width, -left), (-width, left), (width, right), (width, -right)])


LOOKS = {  # mostly the colours of Okabe and Ito, which everyone can tell apart; without colours, the outlines differ
    "conv": _Look("conv", "#0072b2", _upright(0.31, 0.31)),
    "sep_conv": _Look("sep", "#56b4e9", _regular(4, 0.42)),
    "dil_conv": _Look("dil", "#009e73", _regular(6, 0.38)),
    "max_pool": _Look("max", "#e69f00", _upright(0.38, 0.2)),
    "avg_pool": _Look("avg", "#f0e442", _upright(0.2, 0.38)),
    "glob_avg": _Look("GAP", "#d55e00", _upright(0.4, 0.12)),
    "bn": _Look("BN", "#d0d0d0", _regular(24, 0.33)),
    "ln": _Look("LN", "#9a9a9a", _regular(24, 0.24, stretch=1.5)),
    "bias": _Look("b", "#fbe3d6", _regular(24, 0.22)),
    "msa": _Look("MSA", "#cc79a7", _regular(8, 0.42, turn=0.5)),
    "cse": _Look("CSE", "#8f5a3c", _regular(5, 0.42)),
    "sum": _Look("", "#ffffff", _regular(24, 0.25)),
    "concat": _Look("", "#1a1a1a", _upright(0.38, 0.38, 0.09)),
    "input": _Look("in", "#ffffff", np.array([(-0.33, -0.3), (-0.33, 0.3), (0.1, 0.3), (0.38, 0.0), (0.1, -0.3)])),
    "pos_enc": _Look("PE", "#ffffff", _regular(6, 0.36, turn=0.5)),
    "scale": _Look("*", "#c9dfec", _regular(24, 0.24)),
    "token": _Look("tok", "#f4d7e8", _regular(6, 0.34, turn=0.5)),
    "gn": _Look("GN", "#d0d0d0", _regular(5, 0.34, turn=0.5)),
    "rms": _Look("RMS", "#9a9a9a", _regular(7, 0.33)),
    "rel_pos": _Look("RP", "#e8f3d6", _regular(6, 0.36)),
    "embed": _Look("E", "#d9efe8", _regular(8, 0.36)),
    "rnn": _Look("RNN", "#4b6a88", _upright(0.42, 0.25, 0.09)),
    "mul": _Look("", "#8f5a3c", _regular(4, 0.24)),
    "matmul": _Look("@", "#dfb3cd", _regular(8, 0.3)),
    "const": _Look("c", "#ffffff", _upright(0.2, 0.2)),
    "other": _Look("?", "#f2f2f2", _regular(3, 0.4)),
}
CELL, REDUCTION_CELL, CELL_NUMBER = "#eef1f5", "#f8ecdc", "#6b7280"
EDGE, DEAD, VIRTUAL, OUTLINE = "#4d4d4d", "#a6a6a6", "#8c8c8c", "#222222"


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
    """A picture of a graph, cell by cell.

    Parameters
    ----------
    graph
        The graph.  If it has a config, reduction cells are tinted; if it knows its parameters, nodes with more of them
        are larger, and labels of convolutions are their kernel sizes.
    path
        File to save the picture to; the suffix, one of `FORMATS`, decides the format.
    title
        Text above; by default the numbers of nodes, edges and parameters.
    virtual_edges
        Largest distance of nodes that gets a virtual edge, drawn as a faint arc; 1 for none.  Of several thousands,
        every second, third ... is drawn.
    dead
        Whether to draw the nodes that do not reach the output (faded, with dashed outlines).
    labels
        Whether to write a label into every node; `"auto"`: if there is room to read them.
    legend
        Whether to say what the outlines and colours mean, and how many nodes there are of each type.
    axes
        Where to draw; by default on a new figure, as large as the graph needs.

    Returns
    -------
    The `matplotlib.figure.Figure`.

    Raises
    ------
    ConfigError
        For another suffix, other `labels`, or `virtual_edges` out of range.
    ImportError
        If matplotlib is not installed (`pip install "deepnets1m[plotting]"`).

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph, draw
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=6))
    >>> draw(graph, title="DARTS").axes[0].get_title()
    'DARTS'
    """
    _require_matplotlib()
    file = _checked(path)
    if labels not in (True, False, "auto"):
        raise ConfigError(f"labels: expected True, False or 'auto', got {labels!r}")
    graph = graph if dead else graph.pruned()
    arcs, omitted = _virtual_edges(graph, virtual_edges)
    entries = _entries([graph], virtual_edges, omitted) if legend else []
    if axes is None:
        layout = arrange(graph, ASPECT)
        axes = _new_axes(layout, len(entries))
    else:
        window = axes.get_window_extent()
        layout = arrange(graph, window.width / window.height)
    width = axes.get_window_extent().width / axes.figure.dpi
    unit = _set_scale(axes, layout)
    _paint_cells(axes, graph, layout, unit)
    _paint_edges(axes, graph, layout, layout.positions[arcs], unit)
    _paint_nodes(axes, graph, layout, unit, labels is True or (labels == "auto" and unit >= LEGIBLE))
    axes.set_title(_summary(graph) if title is None else title, fontsize=min(11.0, 2.4 * width))
    if entries:
        axes.legend(handles=entries, loc="upper center", bbox_to_anchor=(0.5, 0), **_legend_style(len(entries), width))
    figure = axes.figure.figure  # not the part of it that the axes may be on
    if file:
        _save(figure, file)
    return figure


def draw_grid(
    graphs: Sequence[Graph],
    path: str | Path | None = None,
    columns: int = 3,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Several graphs on a page, with one legend for all.

    Parameters
    ----------
    graphs
        The graphs, row by row.
    path
        File to save the picture to, as in `draw`.
    columns
        Graphs in a row.
    titles
        A text for each graph; by default its numbers of nodes, edges and parameters.

    Returns
    -------
    The `matplotlib.figure.Figure`.

    Raises
    ------
    ConfigError
        Without graphs, for fewer than 1 column, another number of titles than of graphs, or a wrong suffix.
    ImportError
        If matplotlib is not installed.
    """
    _require_matplotlib()
    file = _checked(path)
    if not graphs or columns < 1:
        raise ConfigError(f"draw_grid: expected graphs and columns, 1 or more; got {len(graphs)} and {columns}")
    if titles is not None and len(titles) != len(graphs):
        raise ConfigError(f"titles: expected one for each of {len(graphs)} graphs, got {len(titles)}")
    columns = min(columns, len(graphs))
    entries = _entries(graphs)
    width = max(PAGE[0] / columns, 3.5)
    height = width / ASPECT
    style = _legend_style(len(entries), width * columns)
    total = (height + TITLE) * math.ceil(len(graphs) / columns) + _legend_height(style, len(entries))
    figure = _new_figure(width * columns, total)
    for i, graph in enumerate(graphs):
        bottom = total - (height + TITLE) * (i // columns + 1)
        axes = figure.add_axes(((i % columns + 0.02) / columns, bottom / total, 0.96 / columns, height / total))
        axes.set_anchor("N")
        draw(graph, title=titles[i] if titles else None, legend=False, axes=axes)
    figure.legend(handles=entries, loc="lower center", **style)
    if file:
        _save(figure, file)
    return figure


# --- files and figures ---


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "deepnets1m[plotting]"') from error


def _checked(path: str | Path | None) -> Path | None:
    if path is None:
        return None
    if Path(path).suffix[1:].lower() not in FORMATS:
        allowed = ", ".join(f".{suffix}" for suffix in FORMATS)
        raise ConfigError(f"picture {str(path)!r}: expected a file name that ends in one of {allowed}")
    return Path(path)


def _save(figure: Figure, file: Path) -> None:
    """The same bytes for the same picture: no dates, no random names.  Fonts as publishers want them."""
    import matplotlib

    suffix = file.suffix[1:].lower()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "deepnets", "pdf.fonttype": 42}):
        figure.savefig(file, format=suffix, dpi=200, metadata=undated.get(suffix))


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _new_axes(layout: Layout, entries: int) -> Axes:
    """Axes on a figure that is as large as suits the layout, with a title and a legend of so many entries."""
    low, high = layout.extent
    width, height = (high - low) * min(LARGEST, *(PAGE / (high - low)))
    page = max(width, 4.5)
    below = _legend_height(_legend_style(entries, page), entries)
    total = TITLE + height + below
    return _new_figure(page, total).add_axes((0, below / total, 1, height / total))


def _set_scale(axes: Axes, layout: Layout) -> float:
    """Fit the layout into the axes; how many points, the unit of line widths and fonts, one of its units then has."""
    low, high = layout.extent
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set_axis_off()
    window = axes.get_window_extent()
    return float(np.min((window.width, window.height) / (high - low))) * 72 / axes.figure.dpi


def _summary(graph: Graph) -> str:
    text = f"{graph.num_nodes:,} nodes, {graph.num_edges:,} edges"
    slots = [slot for node in _slots(graph) for slot in node]
    return f"{text}, {sum(slot.numel for slot in (*slots, *graph.unused)):,} parameters" if slots else text


def _slots(graph: Graph) -> tuple[tuple[ParameterSlot, ...], ...]:
    try:
        return graph.parameters
    except ConfigError:
        return ((),) * graph.num_nodes


def _reduction_cells(graph: Graph) -> tuple[int, ...]:
    try:
        return graph.config.reduction_cells
    except ConfigError:
        return ()


# --- legend ---


def _entries(graphs: Sequence[Graph], virtual_edges: int = 1, omitted: int = 1) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch, PathPatch

    entries: list[Any] = []
    counts = np.bincount(np.concatenate([graph.node_types for graph in graphs]), minlength=len(NODE_TYPES))
    for name, count in zip(NODE_TYPES, counts.tolist()):
        if count:
            style: Style = {"facecolor": LOOKS[name].colour, "edgecolor": OUTLINE, "linewidth": 0.8}
            entries.append(PathPatch(_outline(LOOKS[name]), label=f"{name} ({count:,})", **style))
    dead = sum(int(np.sum(~graph.live)) for graph in graphs)
    if dead:
        style = {"facecolor": "white", "edgecolor": DEAD, "linestyle": (0, (2, 1.5))}
        entries.append(PathPatch(_outline(LOOKS["bn"]), label=f"dead ({dead:,})", **style))
    if virtual_edges > 1:
        note = f", 1 in {omitted}" if omitted > 1 else ""
        entries.append(Line2D([], [], color=VIRTUAL, linewidth=0.6, label=f"virtual (up to {virtual_edges}{note})"))
    if any(_reduction_cells(graph) for graph in graphs):
        entries.append(Patch(facecolor=REDUCTION_CELL, label="reduction cell"))
    return entries


def _legend_style(entries: int, width: float) -> Style:
    """Options of a legend of about as many columns as fit into that many inches, all rows equally long."""
    from matplotlib.legend_handler import HandlerPatch
    from matplotlib.patches import PathPatch
    from matplotlib.transforms import Affine2D

    def patch(**box: Any) -> PathPatch:
        middle = box["width"] / 2 - box["xdescent"], box["height"] / 2 - box["ydescent"]
        return PathPatch(box["orig_handle"].get_path().transformed(Affine2D().scale(12).translate(*middle)))

    rows = max(1, math.ceil(entries / max(1, int(width / 1.3))))
    options: Style = {"handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 1.6, "fontsize": 8.5}
    handlers = {PathPatch: HandlerPatch(patch_func=patch)}
    return {"ncols": max(1, math.ceil(entries / rows)), "handler_map": handlers, "frameon": False, **options}


def _legend_height(style: Style, entries: int) -> float:
    return 0.2 * math.ceil(entries / style["ncols"]) + 0.15 if entries else 0.05


# --- painting, from the back to the front ---


def _paint_cells(axes: Axes, graph: Graph, layout: Layout, unit: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    if not graph.cells.any():
        return
    reductions, numbered = _reduction_cells(graph), set()
    for cell, left, bottom, right, top in layout.boxes:
        style: Style = {"color": REDUCTION_CELL if cell in reductions else CELL, "linewidth": 0, "zorder": 0}
        corners = "round,pad=0,rounding_size=0.3"
        axes.add_patch(FancyBboxPatch((left, bottom), right - left, top - bottom, corners, **style))
        if cell not in numbered:
            axes.text(left + 0.15, top - 0.1, str(cell), color=CELL_NUMBER, fontsize=0.48 * unit, va="top")
        numbered.add(cell)


def _virtual_edges(graph: Graph, virtual_edges: int) -> tuple[npt.NDArray[np.intp], int]:
    """`(A, 2)` nodes to join by arcs, and one of how many pairs each of them stands for."""
    if virtual_edges == 1:
        return np.zeros((0, 2), np.intp), 1
    pairs = np.argwhere(graph.distances(virtual_edges) > 1)
    step = max(1, math.ceil(len(pairs) / MOST_ARCS))
    return pairs[::step], step


def _paint_edges(axes: Axes, graph: Graph, layout: Layout, arcs: Points, unit: float) -> None:
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.path import Path as Outline

    curves = []
    for start, end in arcs:
        across = (end - start)[::-1] * (-1, 1)
        bow = across * min(0.15, 1.5 / math.hypot(*across))
        curves.append(Outline([start, (start + end) / 2 + bow, end], (1, 3, 3)))
    style: Style = {"facecolors": "none", "edgecolors": VIRTUAL, "linewidths": 0.03 * unit, "zorder": 1}
    axes.add_collection(PathCollection(curves, alpha=min(0.5, max(0.1, 100 / (len(arcs) + 1))), **style))

    reaches = [look.outline[:, 0].min() * scale for look, scale in zip(_looks(graph), _scales(graph))]
    for live, colour, dashes in ((False, DEAD, (0, (3, 2))), (True, EDGE, "solid")):
        lines = [line for line in layout.lines if line.live == live]
        style = {"facecolors": "none", "edgecolors": colour, "linewidths": 0.05 * unit, "linestyles": [dashes]}
        axes.add_collection(PathCollection([Outline(*line.curve) for line in lines], zorder=2, **style))
        ends = [line.target for line in lines if line.target >= 0]
        tips = [layout.positions[node] + (reaches[node] - 0.02, 0) for node in ends]
        heads = [tip + np.array([(0, 0), (-0.2, 0.085), (-0.2, -0.085)]) for tip in tips]
        axes.add_collection(PolyCollection(heads, facecolors=colour, linewidths=0, zorder=2))


def _paint_nodes(axes: Axes, graph: Graph, layout: Layout, unit: float, labels: bool) -> None:
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgb

    looks = _looks(graph)
    colours = np.array([to_rgb(look.colour) for look in looks])
    colours[~graph.live] = 0.75 + 0.25 * colours[~graph.live]
    style: Style = {
        "facecolors": colours,
        "edgecolors": [OUTLINE if live else DEAD for live in graph.live],
        "linestyles": ["solid" if live else (0, (2, 1.5)) for live in graph.live],
        "linewidths": 0.04 * unit,
    }
    outlines = [_outline(*node) for node in zip(looks, _scales(graph), layout.positions)]
    axes.add_collection(PathCollection(outlines, zorder=3, **style))
    texts = zip(looks, _slots(graph), colours, graph.live, layout.positions)
    for look, slots, colour, live, (x, y) in texts if labels else ():
        text = _label(look, slots)
        size = {1: 0.26, 2: 0.26, 3: 0.23}.get(len(text), 0.19) * unit
        ink = OUTLINE if colour @ (0.299, 0.587, 0.114) > 0.5 else "white"  # luminance, as in ITU-R BT.601
        place: Style = {"ha": "center", "va": "center_baseline", "zorder": 4}
        axes.text(x, y, text, fontsize=size, color=ink, alpha=1.0 if live else 0.6, **place)


def _looks(graph: Graph) -> list[_Look]:
    return [LOOKS[NODE_TYPES[node_type]] for node_type in graph.node_types]


def _scales(graph: Graph) -> list[float]:
    """How large nodes are: from 0.75 to 1.1, by the order of magnitude of their number of parameters."""
    sizes = [sum(slot.numel for slot in slots) for slots in _slots(graph)]
    return [min(0.75 + 0.055 * math.log10(size), 1.1) if size else 1.0 for size in sizes]


def _label(look: _Look, slots: tuple[ParameterSlot, ...]) -> str:
    if not slots or look.label not in ("conv", "sep", "dil"):
        return look.label
    return "\u00d7".join(map(str, slots[0].shape[2:])) or "fc"


def _outline(look: _Look, scale: float = 1.0, centre: Sequence[float] = (0.0, 0.0)) -> Outline:
    """The outline of a node; a sum has a plus inside."""
    from matplotlib.path import Path as Outline

    strokes = [np.concatenate([look.outline, look.outline[:1]])]
    if look is LOOKS["sum"]:
        strokes += [look.outline[[0, 12]], look.outline[[6, 18]]]
    return Outline.make_compound_path(*(Outline(stroke * scale + centre) for stroke in strokes))
