"""Drawings of architectures as SVG elements of the page, with the layout and the colours of `deepnets.drawing`.

A page contains dozens of drawings, so each is kept small: coordinates are integers, all edges are one path, and nodes
refer to one shared shape per node type.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

from benchmark.evaluation import OK
from benchmark.metrics import get_metric
from benchmark.results import NAMES, Board, Cell, Column
from deepnets.architecture import NODE_TYPES
from deepnets.corpus import NETWORK_SPLITS, DeepNets1M
from deepnets.drawing import LOOKS, Points, arrange, boxes_of, node_titles
from deepnets.graph import Graph
from deepnets.support import ConfigError, DeepNetsError

__all__ = ["Drawing", "NodeShape", "Pictures", "draw_pictures", "node_shapes"]

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
    value, unit, num_params
        Value of the metric with the parameters of the predictor, NaN if it failed, its unit, and number of parameters.
    svg
        The SVG element.
    types
        The node types that occur.
    """

    split: str
    network: int
    role: str
    value: float
    unit: str
    num_params: float
    svg: Markup
    types: frozenset[int]


class NodeShape(NamedTuple):
    """The shape of a node type: its index in `NODE_TYPES`, its name, its fill colour and its outline in SVG units."""

    kind: int
    name: str
    colour: str
    points: str


class Pictures(NamedTuple):
    """The drawings of a page.

    Attributes
    ----------
    chosen
        The best, the median and the worst network of the leading predictor in each split, and the predefined networks.
    others
        SVG elements of other networks.
    problems
        An error message for each split that could not be drawn.
    shapes
        The shapes of the node types that occur, to which the drawings refer.
    """

    chosen: list[Drawing]
    others: list[Markup]
    problems: list[str]
    shapes: list[NodeShape]


def draw_pictures(boards: Sequence[Board], data: Path | None, most: int) -> Pictures:
    """Draw networks: those that lead, are in the middle and come last, and others, to look up single networks.

    Parameters
    ----------
    boards
        The boards of a page.  The networks of the leading predictor of the first one are selected by its accuracies.
    data
        The folder of the corpus; None if it is not known.
    most
        Most networks that are drawn, apart from the selected ones.  Networks that failed come first.
    """
    if data is None or not data.is_dir():
        reason = "no folder of the corpus was given" if data is None else f"there is no folder {data}"
        return Pictures([], [], [f"{reason} (option --data)"], [])
    chosen: list[Drawing] = []
    problems: list[str] = []
    board, predictor = boards[0], boards[0].predictors[0]
    wanted = _wanted(boards, most)
    others: list[Markup] = []
    types: frozenset[int] = frozenset()
    splits = dict.fromkeys(column.split for board in boards for column in board.columns)
    for split in (split for split in splits if split in NETWORK_SPLITS):
        cell = next((board.cells[predictor, at] for at in board.columns if _has(board, predictor, at, split)), None)
        selected = list(_selected(cell, split)) if cell else []
        done = {index for _, index in selected}
        rest = [index for index in wanted.get(split, ()) if index not in done]
        try:
            with contextlib.closing(DeepNets1M(data, split)) as nets:
                chosen += [_draw(nets, index, role, cell) for role, index in selected if cell]
                for index in rest:
                    graph = _graph(nets, index)
                    types |= _types(graph)
                    others.append(_svg(graph, split, index))
        except (DeepNetsError, ImportError, OSError) as error:
            problems.append(f"{split}: {' '.join(str(error).split())}")
    return Pictures(chosen, others, problems, node_shapes(types.union(*(one.types for one in chosen))))


def _has(board: Board, predictor: str, column: Column, split: str) -> bool:
    return column.split == split and (predictor, column) in board.cells


def _wanted(boards: Sequence[Board], most: int) -> dict[str, list[int]]:
    """Return the networks to look up, by split: networks that failed first, then one of each split in turn."""
    failed: dict[tuple[str, int], bool] = {}
    for board in boards:
        for (_, column), cell in board.cells.items():
            for index, status in zip(cell.rows["index"].tolist(), cell.rows["status"].tolist()):
                failed[column.split, index] = failed.get((column.split, index), False) or status != OK
    turns: dict[tuple[bool, str], int] = {}
    order = []
    for (split, index), is_failed in sorted(failed.items()):
        turn = turns[is_failed, split] = turns.get((is_failed, split), 0) + 1
        order.append((not is_failed, turn, split, index))
    found: dict[str, list[int]] = {}
    for *_, split, index in sorted(order)[:most]:
        found.setdefault(split, []).append(index)
    return {split: sorted(indices) for split, indices in found.items()}


def _selected(cell: Cell, split: str) -> Iterator[tuple[str, int]]:
    if split == "predefined":
        for row in cell.rows.itertuples():
            yield NAMES.get(row.network.lower(), row.network) or f"#{row.index}", int(row.index)
        return
    indices = cell.fine["index"].to_numpy()
    sign = -1 if get_metric(cell.metric).higher_is_better else 1
    order = np.argsort(sign * cell.values, kind="stable")
    for role, place in (("best", 0), ("median", len(order) // 2), ("worst", len(order) - 1)):
        if len(order) >= 3 or (len(order) and role == "best"):
            yield role, int(indices[order[place]])


def _graph(nets: DeepNets1M, index: int) -> Graph:
    if index >= len(nets):
        raise ConfigError(f"the corpus has {len(nets)} networks, but the results are about network {index}")
    graph: Graph = nets[index]
    return graph


def _types(graph: Graph) -> frozenset[int]:
    return frozenset(np.unique(graph.node_types).tolist())


def _draw(nets: DeepNets1M, index: int, role: str, cell: Cell) -> Drawing:
    graph = _graph(nets, index)
    row = cell.rows[cell.rows["index"] == index].iloc[0]
    value, num_params = float(row[cell.metric]), float(row["num_params"])
    unit, svg = get_metric(cell.metric).unit, _svg(graph, nets.split, index)
    return Drawing(nets.split, index, role, value, unit, num_params, svg, _types(graph))


def _svg(graph: Graph, split: str, index: int) -> Markup:
    labelled = boxes_of(graph)
    layout = arrange(graph, groups=labelled.groups)
    low, high = layout.extent
    width, height = (np.ceil(UNIT * (high - low))).astype(int).tolist()

    def place(points: Points) -> list[list[int]]:
        flipped = (np.atleast_2d(points) - (low[0], high[1])) * (UNIT, -UNIT)
        return [[int(v) for v in point] for point in np.rint(flipped)]

    boxes = []
    for box in layout.boxes if labelled.labels else ():
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
        f'<use href="#n{kind}" x="{x}" y="{y}"><title>{escape(title)}</title></use>'
        for kind, (x, y), title in zip(graph.node_types.tolist(), place(layout.positions), node_titles(graph))
    )
    name = f"net-{split}-{index}"
    return Markup(  # noqa: S704 - numbers and names of splits
        f'<svg class="net" data-picture="{split}/{index}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="{name}-t {name}-d">'
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
