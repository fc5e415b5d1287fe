"""Pictures of graphs: `draw` for one graph, `draw_grid` for several on a page.

layout    positions of nodes and edges
looks     colours, outlines and labels of node types
painting  painting a layout with matplotlib, and the legend
pictures  `draw`, `draw_grid` and files
"""

from __future__ import annotations

from deepnets.drawing.layout import Points, arrange, node_positions
from deepnets.drawing.looks import LOOKS
from deepnets.drawing.pictures import FORMATS, draw, draw_grid

__all__ = [
    "FORMATS",
    "LOOKS",
    "Points",
    "arrange",
    "draw",
    "draw_grid",
    "node_positions",
]
