"""Painting a layout with matplotlib, layer by layer from the background to the front, and the legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NODE_TYPES
from deepnets.drawing.layout import Layout, Points
from deepnets.drawing.looks import (
    CELL,
    CELL_NUMBER,
    DEAD,
    EDGE,
    LOOKS,
    OUTLINE,
    REDUCTION_CELL,
    VIRTUAL,
    looks_of,
    node_label,
    node_outline,
    node_scales,
    node_titles,
    reduction_cells,
    shape_text,
    slots_of,
)
from deepnets.drawing.modules import Boxes
from deepnets.graph import Graph
from deepnets.support import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import PathPatch

__all__ = [
    *("Titles", "all_entries", "legend_entries", "legend_height", "legend_style"),
    *("paint_cells", "paint_edges", "paint_nodes", "select_virtual_edges"),
]

MAX_ARCS = 4000
"""Largest number of virtual edges that are drawn; more are unreadable and take minutes."""

Style = dict[str, Any]  # options of matplotlib
Titles = dict[str, list[str]]  # for SVG files: the title of each node, by the id (`gid`) of the nodes


# --- layers ---


def paint_cells(axes: Axes, graph: Graph, layout: Layout, boxes: Boxes, unit: float) -> None:
    """Paint the backgrounds and the labels of cells or modules; `unit` is the unit of the layout in points."""
    from matplotlib.patches import FancyBboxPatch

    if not boxes.labels:
        return
    reductions, numbered = () if boxes.are_modules else reduction_cells(graph), set()
    size = (0.34 if boxes.are_modules else 0.48) * unit
    for cell, left, bottom, right, top in layout.boxes:
        style: Style = {"color": REDUCTION_CELL if cell in reductions else CELL, "linewidth": 0, "zorder": 0}
        corners = "round,pad=0,rounding_size=0.3"
        axes.add_patch(FancyBboxPatch((left, bottom), right - left, top - bottom, corners, **style))
        if cell not in numbered:
            text = printable(boxes.labels[cell])
            if boxes.are_modules:
                text = _clipped(text, (right - left - 0.3) / 0.21)
            axes.text(left + 0.15, top - 0.1, text, color=CELL_NUMBER, fontsize=size, va="top", parse_math=False)
        numbered.add(cell)


def _clipped(text: str, length: float) -> str:
    """Shorten the name of a module to its end, which tells modules apart."""
    return text if len(text) <= length else "\u2026" + text[len(text) + 1 - max(2, int(length)) :]


def select_virtual_edges(graph: Graph, virtual_edges: int) -> tuple[npt.NDArray[np.intp], int]:
    """Select the virtual edges to draw.

    Returns
    -------
    arcs : numpy array
        `(A, 2)`, source and target of the arcs, at most `MAX_ARCS`.
    step : int
        One virtual edge in `step` is drawn.
    """
    if virtual_edges == 1:
        return np.zeros((0, 2), np.intp), 1
    pairs = np.argwhere(graph.distances(virtual_edges) > 1)
    step = max(1, math.ceil(len(pairs) / MAX_ARCS))
    return pairs[::step], step


def paint_edges(axes: Axes, graph: Graph, layout: Layout, arcs: Points, unit: float) -> None:
    """Paint virtual edges as arcs `(A, 2, 2)` from point to point, then the lines of the layout with arrow heads."""
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.path import Path as Outline

    curves = []
    for start, end in arcs:
        across = (end - start)[::-1] * (-1, 1)
        bow = across * min(0.15, 1.5 / math.hypot(*across))
        curves.append(Outline([start, (start + end) / 2 + bow, end], (1, 3, 3)))
    style: Style = {"facecolors": "none", "edgecolors": VIRTUAL, "linewidths": 0.03 * unit, "zorder": 1}
    axes.add_collection(PathCollection(curves, alpha=min(0.5, max(0.1, 100 / (len(arcs) + 1))), **style))

    reaches = [look.outline[:, 0].min() * scale for look, scale in zip(looks_of(graph), node_scales(graph))]
    for live, colour, dashes in ((False, DEAD, (0, (3, 2))), (True, EDGE, "solid")):
        lines = [line for line in layout.lines if line.live == live]
        style = {"facecolors": "none", "edgecolors": colour, "linewidths": 0.05 * unit, "linestyles": [dashes]}
        axes.add_collection(PathCollection([Outline(*line.curve) for line in lines], zorder=2, **style))
        ends = [line.target for line in lines if line.target >= 0]
        tips = [layout.positions[node] + (reaches[node] - 0.02, 0) for node in ends]
        heads = [tip + np.array([(0, 0), (-0.2, 0.085), (-0.2, -0.085)]) for tip in tips]
        axes.add_collection(PolyCollection(heads, facecolors=colour, linewidths=0, zorder=2))


def paint_nodes(
    axes: Axes, graph: Graph, layout: Layout, unit: float, *, labels: bool, shapes: bool, titles: Titles
) -> None:
    """Paint the nodes, their labels if `labels` is set, and the shapes of their parameters if `shapes` is set.

    `titles` gets a title for each node, for SVG files.
    """
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgb

    looks = looks_of(graph)
    colours = np.array([to_rgb(look.colour) for look in looks])
    colours[~graph.live] = 0.75 + 0.25 * colours[~graph.live]
    style: Style = {
        "facecolors": colours,
        "edgecolors": [OUTLINE if live else DEAD for live in graph.live],
        "linestyles": ["solid" if live else (0, (2, 1.5)) for live in graph.live],
        "linewidths": 0.04 * unit,
    }
    outlines = [node_outline(*node) for node in zip(looks, node_scales(graph), layout.positions)]
    others = [artist.get_gid() for each in axes.figure.axes for artist in each.collections]
    name = f"nodes{sum(str(gid).startswith('nodes') for gid in others)}"  # distinct in the figure
    titles[name] = node_titles(graph)
    axes.add_collection(PathCollection(outlines, zorder=3, gid=name, **style))
    texts = zip(looks, slots_of(graph), colours, graph.live, layout.positions)
    for node, (look, slots, colour, live, (x, y)) in enumerate(texts):
        alpha = 1.0 if live else 0.6
        if shapes and (shape := shape_text(slots)):
            axes.text(x, y - 0.47, shape, fontsize=0.13 * unit, color=OUTLINE, alpha=alpha, ha="center", va="top")
        if not labels:
            continue
        text = node_label(look, slots)
        size = {1: 0.26, 2: 0.26, 3: 0.23}.get(len(text), 0.19) * unit
        ink = OUTLINE if colour @ (0.299, 0.587, 0.114) > 0.5 else "white"  # luminance as in ITU-R BT.601
        place: Style = {"ha": "center", "va": "center_baseline", "zorder": 4}
        axes.text(x, y, text, fontsize=size, color=ink, alpha=alpha, gid=f"{name}-{node}", **place)


# --- legend ---


def legend_entries(graphs: Sequence[Graph], virtual_edges: int = 1, step: int = 1) -> list[Any]:
    """Return the entries of the legend: node types with their counts, dead nodes, virtual edges, reduction cells."""
    counts = np.bincount(np.concatenate([graph.node_types for graph in graphs]), minlength=len(NODE_TYPES))
    entries = [_type_entry(name, f"{name} ({count:,})") for name, count in zip(NODE_TYPES, counts.tolist()) if count]
    dead = sum(int(np.sum(~graph.live)) for graph in graphs)
    if dead:
        entries.append(_dead_entry(f"dead ({dead:,})"))
    if virtual_edges > 1:
        note = f", 1 in {step}" if step > 1 else ""
        entries.append(_virtual_entry(f"virtual (up to {virtual_edges}{note})"))
    if any(reduction_cells(graph) for graph in graphs):
        entries.append(_reduction_entry())
    return entries


def all_entries() -> list[Any]:
    """Return the entries of a legend that does not belong to a graph: all node types, and what else occurs."""
    types = [_type_entry(name, name) for name in NODE_TYPES]
    return [*types, _dead_entry("does not reach the output"), _virtual_entry("virtual edge"), _reduction_entry()]


def _type_entry(name: str, label: str) -> Any:
    from matplotlib.patches import PathPatch

    style: Style = {"facecolor": LOOKS[name].colour, "edgecolor": OUTLINE, "linewidth": 0.8}
    return PathPatch(node_outline(LOOKS[name]), label=label, **style)


def _dead_entry(label: str) -> Any:
    from matplotlib.patches import PathPatch

    style: Style = {"facecolor": "white", "edgecolor": DEAD, "linestyle": (0, (2, 1.5))}
    return PathPatch(node_outline(LOOKS["bn"]), label=label, **style)


def _virtual_entry(label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=VIRTUAL, linewidth=0.6, label=label)


def _reduction_entry() -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=REDUCTION_CELL, label="reduction cell")


def legend_style(entries: int, width: float) -> Style:
    """Return the options of a legend of `width` inches, with columns of about the same length."""
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


def legend_height(style: Style, entries: int) -> float:
    """Return the height of a legend, in inches."""
    return 0.2 * math.ceil(entries / style["ncols"]) + 0.15 if entries else 0.05
