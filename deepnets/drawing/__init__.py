"""Pictures of graphs: `draw` for one graph, `draw_grid` for several on a page, `draw_legend` for a legend alone.

layout    positions of nodes and edges
looks     colours, outlines and labels of node types
modules   boxes of pictures: cells, or the modules of traced networks
painting  painting a layout with matplotlib, and the legend
tooltips  titles of nodes in SVG files
pictures  `draw`, `draw_grid` and `draw_legend`
picture_files
          formats and files
"""

from __future__ import annotations

from deepnets.drawing.layout import Points, arrange, node_positions
from deepnets.drawing.looks import LOOKS, node_titles
from deepnets.drawing.modules import boxes_of
from deepnets.drawing.picture_files import FORMATS, check_matplotlib, check_picture
from deepnets.drawing.pictures import draw, draw_grid, draw_legend

__all__ = [
    "FORMATS",
    "LOOKS",
    "Points",
    "arrange",
    "boxes_of",
    "check_matplotlib",
    "check_picture",
    "draw",
    "draw_grid",
    "draw_legend",
    "node_positions",
    "node_titles",
]
