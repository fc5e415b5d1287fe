"""Architectures as SVG inside the page, in the layout and the colours of `deepnets.drawing`, without matplotlib.

A page holds two dozen of them, so each is short: coordinates are integers, lines are one path, and nodes refer to one
drawing of their type.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.report.page_parts import escape
from benchmark.results import NAMES, Board, Cell
from deepnets.architecture import NODE_TYPES
from deepnets.corpus import NETWORK_SPLITS, DeepNets1M
from deepnets.drawing import LOOKS, Points, arrange
from deepnets.graph import Graph
from deepnets.support import ConfigError, DeepNetsError

__all__ = ["Drawn", "draw_architectures", "legend", "shapes"]

UNIT = 24  # of the picture in a unit of the layout, which is as large as a node
SEGMENTS = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3)}  # of the layout's curves: the letter, and points


class Drawn(NamedTuple):
    """A network with its picture.

    Attributes
    ----------
    split, network
        Which one.
    role
        Why it is shown: "best", "median", "worst", or its name.
    value, num_params
        The accuracy of the predictor that it was chosen by (NaN if that failed), and its size.
    svg
        The picture.
    types
        The node types that occur.
    """

    split: str
    network: int
    role: str
    value: float
    num_params: float
    svg: str
    types: frozenset[int]


def draw_architectures(board: Board, predictor: str, data: Path) -> tuple[list[Drawn], list[str]]:
    """Draw the best, the median and the worst network of a predictor in each split, and the predefined networks.

    Parameters
    ----------
    board
        What was evaluated on some images.
    predictor
        By whose accuracies to choose.
    data
        The folder of the corpus.

    Returns
    -------
    The drawn networks, by split; and a sentence for each split that could not be drawn.
    """
    drawn: list[Drawn] = []
    problems: list[str] = []
    for column in board.columns:
        cell = board.cells.get((predictor, column))
        is_drawn = any(one.split == column.split for one in drawn)  # on the other part of the images
        if cell is None or column.split not in NETWORK_SPLITS or is_drawn:
            continue
        try:
            with contextlib.closing(DeepNets1M(data, column.split)) as nets:
                drawn += [_draw(nets, column.split, index, role, cell) for role, index in _chosen(cell, column.split)]
        except (DeepNetsError, ImportError, OSError) as error:
            problems.append(f"{column.split}: {' '.join(str(error).split())}")
    return drawn, problems


def _chosen(cell: Cell, split: str) -> Iterator[tuple[str, int]]:
    if split == "predefined":
        for row in cell.rows.itertuples():
            yield NAMES.get(row.network.lower(), row.network) or f"#{row.index}", int(row.index)
        return
    indices = cell.fine["index"].to_numpy()
    order = np.argsort(-cell.values, kind="stable")
    for role, place in (("best", 0), ("median", len(order) // 2), ("worst", len(order) - 1)):
        if len(order) >= 3 or (len(order) and place == 0):
            yield role, int(indices[order[place]])


def _draw(nets: DeepNets1M, split: str, index: int, role: str, cell: Cell) -> Drawn:
    if index >= len(nets):
        raise ConfigError(f"the corpus has {len(nets)} networks, the results have a network {index}")
    graph = nets[index]
    row = cell.rows[cell.rows["index"] == index].iloc[0]
    types = frozenset(np.unique(graph.node_types).tolist())
    return Drawn(
        split, index, role, float(row[cell.metric]), float(row["num_params"]), _svg(graph, split, index), types
    )


def _svg(graph: Graph, split: str, index: int) -> str:
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
    nodes = [
        f'<use href="#n{kind}" x="{x}" y="{y}"/>'
        for kind, (x, y) in zip(graph.node_types.tolist(), place(layout.positions))
    ]
    text = f"{graph.num_nodes:,} nodes, {graph.num_edges:,} edges, drawn from left to right and row by row."
    name = f"net-{split}-{index}"
    return (
        f'<svg class="net" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(f"Network {index} of {split}")}</title><desc id="{name}-d">{text}</desc>'
        f'<path class="cell" d="{"".join(boxes)}"/><path class="edge dead" d="{"".join(lines[False])}"/>'
        f'<path class="edge" d="{"".join(lines[True])}"/>{"".join(nodes)}</svg>'
    )


def shapes(types: frozenset[int]) -> str:
    """An invisible picture with the shapes of these node types, which all others refer to."""
    parts = []
    for kind in sorted(types):
        look = LOOKS[NODE_TYPES[kind]]
        points = " ".join(f"{x:.3g},{y:.3g}" for x, y in (look.outline * (UNIT, -UNIT)).tolist())
        plus = f'<path d="M{-UNIT / 5:g} 0h{UNIT / 2.5:g}M0 {-UNIT / 5:g}v{UNIT / 2.5:g}"/>'
        cross = plus if NODE_TYPES[kind] == "sum" else ""
        parts.append(f'<g id="n{kind}" class="node"><polygon fill="{look.colour}" points="{points}"/>{cross}</g>')
    return f'<svg class="shapes" width="0" height="0" aria-hidden="true"><defs>{"".join(parts)}</defs></svg>'


def legend(types: frozenset[int]) -> str:
    """What the shapes mean, as a list."""
    half = UNIT // 2 + 1
    box = f"{-half} {-half} {2 * half} {2 * half}"
    items = (
        f'<li><svg class="key" viewBox="{box}" aria-hidden="true"><use href="#n{kind}"/></svg>{NODE_TYPES[kind]}</li>'
        for kind in sorted(types)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'
