"""Drawings of architectures as SVG elements of the page, with the layout and the colours of `deepnets.drawing`.

A page contains about two dozen drawings, so each is kept small: coordinates are integers, all edges are one path, and
nodes refer to one shared shape per node type.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from benchmark.results import NAMES, Board, Cell
from deepnets.architecture import NODE_TYPES
from deepnets.corpus import NETWORK_SPLITS, DeepNets1M
from deepnets.drawing import LOOKS, Points, arrange
from deepnets.graph import Graph
from deepnets.support import ConfigError, DeepNetsError

__all__ = ["Drawing", "NodeShape", "draw_architectures", "node_shapes"]

UNIT = 24  # SVG units per unit of the layout, which is the size of a node
SEGMENTS = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3)}  # matplotlib path code: SVG command, number of points


class Drawing(NamedTuple):
    """A drawing of a network.

    Attributes
    ----------
    split, network
        The split, and the index of the network in it.
    role
        Why it is shown: "best", "median", "worst", or the name of the network.
    value, num_params
        Accuracy with the parameters of the predictor, NaN if it failed, and number of parameters.
    svg
        The SVG element.
    types
        The node types that occur.
    """

    split: str
    network: int
    role: str
    value: float
    num_params: float
    svg: Markup
    types: frozenset[int]


class NodeShape(NamedTuple):
    """The shape of a node type: its index in `NODE_TYPES`, its name, its fill colour and its outline in SVG units."""

    kind: int
    name: str
    colour: str
    points: str


def draw_architectures(board: Board, predictor: str, data: Path) -> tuple[list[Drawing], list[str]]:
    """Draw the best, the median and the worst network of a predictor in each split, and the predefined networks.

    Parameters
    ----------
    board
        Results on one image set.
    predictor
        The predictor whose accuracies select the networks.
    data
        The folder of the corpus.

    Returns
    -------
    drawings
        The drawings, by split.
    problems
        An error message for each split that could not be drawn.
    """
    drawings: list[Drawing] = []
    problems: list[str] = []
    for column in board.columns:
        cell = board.cells.get((predictor, column))
        is_drawn = any(drawing.split == column.split for drawing in drawings)  # with another part of the images
        if cell is None or column.split not in NETWORK_SPLITS or is_drawn:
            continue
        try:
            with contextlib.closing(DeepNets1M(data, column.split)) as nets:
                drawings += [_draw(nets, index, role, cell) for role, index in _selected(cell, column.split)]
        except (DeepNetsError, ImportError, OSError) as error:
            problems.append(f"{column.split}: {' '.join(str(error).split())}")
    return drawings, problems


def _selected(cell: Cell, split: str) -> Iterator[tuple[str, int]]:
    if split == "predefined":
        for row in cell.rows.itertuples():
            yield NAMES.get(row.network.lower(), row.network) or f"#{row.index}", int(row.index)
        return
    indices = cell.fine["index"].to_numpy()
    order = np.argsort(-cell.values, kind="stable")
    for role, place in (("best", 0), ("median", len(order) // 2), ("worst", len(order) - 1)):
        if len(order) >= 3 or (len(order) and place == 0):
            yield role, int(indices[order[place]])


def _draw(nets: DeepNets1M, index: int, role: str, cell: Cell) -> Drawing:
    if index >= len(nets):
        raise ConfigError(f"the corpus has {len(nets)} networks, but the results are about network {index}")
    graph = nets[index]
    row = cell.rows[cell.rows["index"] == index].iloc[0]
    value, num_params = float(row[cell.metric]), float(row["num_params"])
    types = frozenset(np.unique(graph.node_types).tolist())
    return Drawing(nets.split, index, role, value, num_params, _svg(graph, nets.split, index), types)


def _svg(graph: Graph, split: str, index: int) -> Markup:
    layout = arrange(graph)
    low, high = layout.extent
    width, height = (np.ceil(UNIT * (high - low))).astype(int).tolist()

    def place(points: Points) -> list[list[int]]:
        flipped = (np.atleast_2d(points) - (low[0], high[1])) * (UNIT, -UNIT)
        return [[int(v) for v in point] for point in np.rint(flipped)]

    boxes = []
    for box in layout.boxes if graph.cells.any() else ():
        (left, top), (right, bottom) = place(np.array([(box.left, box.top), (box.right, box.bottom)]))
        boxes.append(f"M{left} {top}H{right}V{bottom}H{left}z")
    lines: dict[bool, list[str]] = {True: [], False: []}
    for line in layout.lines:
        points, codes = line.curve
        spots, i = place(points), 0
        while i < len(codes):
            letter, count = SEGMENTS[codes[i]]
            lines[line.live].append(letter + " ".join(f"{x} {y}" for x, y in spots[i : i + count]))
            i += count
    nodes = "".join(
        f'<use href="#n{kind}" x="{x}" y="{y}"/>'
        for kind, (x, y) in zip(graph.node_types.tolist(), place(layout.positions))
    )
    name = f"net-{split}-{index}"
    return Markup(  # noqa: S704 - numbers and names of splits
        f'<svg class="net" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">Network {index} of {split}</title>'
        f'<desc id="{name}-d">{graph.num_nodes:,} nodes and {graph.num_edges:,} edges.</desc>'
        f'<path class="cell" d="{"".join(boxes)}"/><path class="edge dead" d="{"".join(lines[False])}"/>'
        f'<path class="edge" d="{"".join(lines[True])}"/>{nodes}</svg>'
    )


def node_shapes(types: frozenset[int]) -> list[NodeShape]:
    """Return the shapes of node types, to which the drawings refer.

    Examples
    --------
    >>> [shape.name for shape in node_shapes(frozenset([0]))] == [NODE_TYPES[0]]
    True
    """
    shapes = []
    for kind in sorted(types):
        look = LOOKS[NODE_TYPES[kind]]
        points = " ".join(f"{x:.3g},{y:.3g}" for x, y in (look.outline * (UNIT, -UNIT)).tolist())
        shapes.append(NodeShape(kind, NODE_TYPES[kind], look.colour, points))
    return shapes
