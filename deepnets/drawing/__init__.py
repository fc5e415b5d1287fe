"""Pictures of graphs: `draw` for one graph, `draw_grid` for several on a page.

layout    positions of nodes and edges
pictures  drawing with matplotlib
"""

from __future__ import annotations

from deepnets.drawing.layout import Points, arrange
from deepnets.drawing.pictures import LOOKS, draw, draw_grid

__all__ = [
    "LOOKS",
    "Points",
    "arrange",
    "draw",
    "draw_grid",
]
