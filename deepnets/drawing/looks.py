"""How nodes look: colours, outlines, sizes and labels by node type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deepnets.architecture import NODE_TYPES
from deepnets.drawing.layout import Points
from deepnets.graph import Graph, ParameterSlot
from deepnets.support import ConfigError

if TYPE_CHECKING:
    from matplotlib.path import Path as Outline

__all__ = [
    *("CELL", "CELL_NUMBER", "DEAD", "EDGE", "LOOKS", "OUTLINE", "REDUCTION_CELL", "VIRTUAL", "Look"),
    *("looks_of", "node_label", "node_outline", "node_scales", "node_titles", "reduction_cells", "shape_text"),
    "slots_of",
]


class Look(NamedTuple):
    """How the nodes of a type look.

    Attributes
    ----------
    label : str
        Text inside the node.
    colour : str
        Its colour, in hexadecimal.
    outline : numpy array
        `(K, 2)`, a polygon around (0, 0) in units of the layout; arrows end at its left side.
    """

    label: str
    colour: str
    outline: Points


def _regular(corners: int, radius: float, turn: float = 0.0, stretch: float = 1.0) -> Points:
    angles = 2 * math.pi * (np.arange(corners) + turn) / corners
    return np.stack([radius * np.cos(angles), stretch * radius * np.sin(angles)], axis=1)


def _upright(left: float, right: float, width: float = 0.31) -> Points:
    """Return a trapezoid with vertical sides of these half heights."""
    return np.array([(-width, -left), (-width, left), (width, right), (width, -right)])


# Mostly the colours of Okabe and Ito, which colour-blind readers can tell apart; similar greys have different outlines.
LOOKS = {
    "conv": Look("conv", "#0072b2", _upright(0.31, 0.31)),
    "sep_conv": Look("sep", "#56b4e9", _regular(4, 0.42)),
    "dil_conv": Look("dil", "#009e73", _regular(6, 0.38)),
    "max_pool": Look("max", "#e69f00", _upright(0.38, 0.2)),
    "avg_pool": Look("avg", "#f0e442", _upright(0.2, 0.38)),
    "glob_avg": Look("GAP", "#d55e00", _upright(0.4, 0.12)),
    "bn": Look("BN", "#d0d0d0", _regular(24, 0.33)),
    "ln": Look("LN", "#9a9a9a", _regular(24, 0.24, stretch=1.5)),
    "bias": Look("b", "#fbe3d6", _regular(24, 0.22)),
    "msa": Look("MSA", "#cc79a7", _regular(8, 0.42, turn=0.5)),
    "cse": Look("CSE", "#8f5a3c", _regular(5, 0.42)),
    "sum": Look("", "#ffffff", _regular(24, 0.25)),
    "concat": Look("", "#1a1a1a", _upright(0.38, 0.38, 0.09)),
    "input": Look("in", "#ffffff", np.array([(-0.33, -0.3), (-0.33, 0.3), (0.1, 0.3), (0.38, 0.0), (0.1, -0.3)])),
    "pos_enc": Look("PE", "#ffffff", _regular(6, 0.36, turn=0.5)),
    "scale": Look("*", "#c9dfec", _regular(24, 0.24)),
    "token": Look("tok", "#f4d7e8", _regular(6, 0.34, turn=0.5)),
    "gn": Look("GN", "#d0d0d0", _regular(5, 0.34, turn=0.5)),
    "rms": Look("RMS", "#9a9a9a", _regular(7, 0.33)),
    "rel_pos": Look("RP", "#e8f3d6", _regular(6, 0.36)),
    "embed": Look("E", "#d9efe8", _regular(8, 0.36)),
    "rnn": Look("RNN", "#4b6a88", _upright(0.42, 0.25, 0.09)),
    "mul": Look("", "#8f5a3c", _regular(4, 0.24)),
    "matmul": Look("@", "#dfb3cd", _regular(8, 0.3)),
    "const": Look("c", "#ffffff", _upright(0.2, 0.2)),
    "rot": Look("rot", "#ffffff", _regular(9, 0.34)),
    "other": Look("?", "#f2f2f2", _regular(3, 0.4)),
}
CELL, REDUCTION_CELL, CELL_NUMBER = "#eef1f5", "#f8ecdc", "#6b7280"
EDGE, DEAD, VIRTUAL, OUTLINE = "#4d4d4d", "#a6a6a6", "#8c8c8c", "#222222"


def looks_of(graph: Graph) -> list[Look]:
    """Return the look of every node."""
    return [LOOKS[NODE_TYPES[node_type]] for node_type in graph.node_types]


def node_scales(graph: Graph) -> list[float]:
    """Return the scale of every node, from 0.75 to 1.1 by the logarithm of its number of parameters."""
    sizes = [sum(slot.numel for slot in slots) for slots in slots_of(graph)]
    return [min(0.75 + 0.055 * math.log10(size), 1.1) if size else 1.0 for size in sizes]


def node_label(look: Look, slots: tuple[ParameterSlot, ...]) -> str:
    """Return the text inside a node: for a convolution its kernel size, if it is known."""
    if not slots or look.label not in ("conv", "sep", "dil"):
        return look.label
    return "\u00d7".join(map(str, slots[0].shape[2:])) or "fc"


def node_outline(look: Look, scale: float = 1.0, centre: Sequence[float] = (0.0, 0.0)) -> Outline:
    """Return the outline of a node as a path of matplotlib; that of a sum contains a plus."""
    from matplotlib.path import Path as Outline

    strokes = [np.concatenate([look.outline, look.outline[:1]])]
    if look is LOOKS["sum"]:
        strokes += [look.outline[[0, 12]], look.outline[[6, 18]]]
    return Outline.make_compound_path(*(Outline(stroke * scale + centre) for stroke in strokes))


def shape_text(slots: tuple[ParameterSlot, ...]) -> str:
    """Return the shape of the first parameter of a node, such as 64 x 3 x 7 x 7; empty without parameters."""
    return "\u00d7".join(map(str, slots[0].shape)) if slots else ""


def node_titles(graph: Graph) -> list[str]:
    """Return a line about every node: its type, and the name and the shape of its first parameter.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> node_titles(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2)))[2]
    'bn stem.1.weight 96'
    """
    titles = []
    for node_type, slots in zip(graph.node_types.tolist(), slots_of(graph)):
        about = f" {slots[0].name} {shape_text(slots)}" if slots else ""
        titles.append(f"{NODE_TYPES[node_type]}{about}")
    return titles


def slots_of(graph: Graph) -> tuple[tuple[ParameterSlot, ...], ...]:
    """Return the parameters of every node; none if the graph does not know them."""
    try:
        return graph.parameters
    except ConfigError:
        return ((),) * graph.num_nodes


def reduction_cells(graph: Graph) -> tuple[int, ...]:
    """Return the indices of the reduction cells; none if the graph has no config."""
    try:
        return graph.config.reduction_cells
    except ConfigError:
        return ()
