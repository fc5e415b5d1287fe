"""The layout of a graph: positions of its nodes and edges on a page.

Data flows from left to right through one box per cell or module, and the boxes are arranged in rows.  Each box is laid
out separately, so that equal cells look equal, with the method of Sugiyama et al. (1981) and Gansner et al. (1993):

1. The column of a node is its level.
2. An edge that passes a column gets a place in it, so that it does not run through a node.
3. The items of each column are sorted to reduce crossings.
4. The heights of the items are chosen to make lines straight.

A line that passes columns, a *wire*, belongs to a node, not to an edge: an output that is used five times is one line
that branches.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import block_array, coo_array

from deepnets.graph import Graph

__all__ = ["ASPECT", "Layout", "Points", "arrange", "node_positions"]

ASPECT = 1.8
"""Default ratio of width to height of a layout."""

CELL_GAP, ROW_GAP = 0.8, 0.9
ABOVE, BELOW = 0.9, 0.65  # distances from the outermost nodes of a row to the borders of its boxes
CLEARANCE = 0.42  # half the width of a column of nodes, in which edges are horizontal
PAGE_BREAK = 30  # number of columns up to which a box is never cut
ATTEMPTS, SWEEPS = 8, 12  # random starts, and passes per start, when the columns of a box are sorted

Points = npt.NDArray[np.float64]
Curve = tuple[Points, tuple[int, ...]]  # points, and matplotlib's codes: 1 move, 2 line, 3 quadratic, 4 cubic curve
Place = tuple[int, int]  # a segment (a cell, or a part of a cell that is too long for a row) and a column of it
Link = tuple[int, int, int]  # two items, and the weight of their line: for keeping it straight and not crossed
Neighbours = list[list[tuple[int, int]]]  # for each item, the linked items of an adjacent column, with weights


class Box(NamedTuple):
    """The background of a cell, or of a part of it: cell index and borders."""

    cell: int
    left: float
    bottom: float
    right: float
    top: float


class Line(NamedTuple):
    """A part of one or more edges.

    Attributes
    ----------
    curve : (numpy array, tuple of int)
        Points `(K, 2)` and codes of a `matplotlib.path.Path`.
    target : int
        The node at its end; -1 if other lines continue there.
    live : bool
        Whether it is part of a path to the output.
    """

    curve: Curve
    target: int
    live: bool


class Layout(NamedTuple):
    """Positions of nodes, boxes and lines; x points right, y up, and nodes fit into unit squares.

    Attributes
    ----------
    positions : numpy array
        `(N, 2)`, the centres of the nodes.
    boxes : list of Box
        Backgrounds of cells.
    lines : list of Line
        Parts of edges.
    """

    positions: Points
    boxes: list[Box]
    lines: list[Line]

    @property
    def extent(self) -> tuple[Points, Points]:
        """The lower left and the upper right corner of the layout."""
        corners = np.array([box[1:] for box in self.boxes]).reshape(-1, 2)
        points = np.concatenate([corners, *(line.curve[0] for line in self.lines)])
        return points.min(axis=0) - 0.3, points.max(axis=0) + 0.3


class _Segment(NamedTuple):
    """The items of a box: its nodes, then the places of its wires in columns -1 (left border) to `depth` (right)."""

    items: tuple[tuple[int, int], ...]  # the node, or the source of the wire, and the column
    nodes: int  # number of items that are nodes
    links: tuple[Link, ...]  # lines between items of neighbouring columns
    depth: int


def node_positions(graph: Graph, aspect: float = ASPECT) -> Points:
    """Return the positions at which `draw` places the nodes.

    Parameters
    ----------
    graph : Graph
        The graph.
    aspect : float, default 1.8
        Approximate ratio of width to height of the layout.

    Returns
    -------
    numpy array
        `(N, 2) float64`; x points right, y up, and nodes fit into unit squares.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2))
    >>> node_positions(graph).shape == (graph.num_nodes, 2)
    True
    """
    return arrange(graph, aspect).positions


def arrange(graph: Graph, aspect: float = ASPECT, groups: Sequence[int] | None = None) -> Layout:
    """Compute the layout of a graph.

    Parameters
    ----------
    graph : Graph
        The graph.
    aspect : float, default 1.8
        Approximate ratio of width to height of the layout.
    groups : sequence of int, optional
        The box of each node, `(N,)`, never decreasing; by default its cell.

    Returns
    -------
    Layout
        Positions of the nodes, boxes of the cells, and lines of the edges.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> layout = arrange(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2)))
    >>> [box.cell for box in layout.boxes]
    [0, 1]
    """
    consumers: list[list[int]] = [[] for _ in range(graph.num_nodes)]
    for s, t in graph.edges.tolist():
        consumers[s].append(t)
    cells = graph.cells.tolist() if groups is None else list(groups)
    places = _places(graph, cells)
    needed_until = [max((places[t] for t in targets if graph.live[t]), default=(-1, 0)) for targets in consumers]
    segments = _segments(places, consumers, graph.in_degrees.tolist())
    shapes = [_shape(tuple(column for _, column in s.items), s.nodes, s.links, s.depth) for s in segments]
    widths, heights = [float(xs[-1]) for xs, _ in shapes], [float(np.ptp(ys)) for _, ys in shapes]
    layout = Layout(np.zeros((graph.num_nodes, 2)), [], [])
    leaving: dict[int, Points] = {}  # wires that leave the last box, from top to bottom: source and position
    ceiling = right = 0.0
    for row in _rows(widths, heights, aspect):
        spacing = min(0.3, 3 / max(len(leaving), 1))
        if row[0] > 0:
            ceiling -= ROW_GAP + spacing * len(leaving)
        tallest = shapes[max(row, key=heights.__getitem__)][1]
        floor = ceiling - ABOVE - float(np.ptp(tallest)) - BELOW
        left = 0.0
        for i in row:
            (items, nodes, links, depth), (xs, ys) = segments[i], shapes[i]
            fitting = np.clip(0.0, tallest.min() - ys.min(), tallest.max() - ys.max())
            ys = ys + fitting - tallest.max() + ceiling - ABOVE
            at = np.stack([left + xs[[column + 1 for _, column in items]], ys], axis=1)
            owners = [owner for owner, _ in items]
            layout.positions[owners[:nodes]] = at[:nodes]
            layout.boxes.append(Box(cells[owners[0]], left, floor, left + widths[i], ceiling))
            for track, (source, start) in enumerate(leaving.items()):
                end = at[items.index((source, -1))]
                curve = _bend(start, end, 0.0, 0.0)
                if i == row[0]:
                    outside = right + 0.4 + spacing * (len(leaving) - 1 - track), -0.4 - spacing * track
                    curve = _return(start, end, *outside, ceiling + ROW_GAP / 2 + spacing * (track + 0.5))
                layout.lines.append(Line(curve, -1, needed_until[source] >= (i, 0)))
            for a, b, _ in links:
                before, after = items[a][1], items[b][1]
                curve = _bend(at[a], at[b], CLEARANCE * (before >= 0), CLEARANCE * (after < depth))
                live = bool(graph.live[owners[b]]) if b < nodes else needed_until[owners[b]] > (i, after)
                layout.lines.append(Line(curve, owners[b] if b < nodes else -1, live))
            ends = [(owner, at[item]) for item, (owner, column) in enumerate(items) if column == depth]
            leaving = dict(sorted(ends, key=lambda end: -float(end[1][1])))
            right = left + widths[i]
            left = right + CELL_GAP
        ceiling = floor
    return layout


# --- boxes and columns ---


def _places(graph: Graph, cells: list[int]) -> list[Place]:
    """Return the segment and the column of every node: as far right in its cell as its targets allow."""
    n = graph.num_nodes
    inner = [(s, t) for s, t in graph.edges.tolist() if cells[s] == cells[t]]
    early, late = [0] * n, [n] * n
    for s, t in inner:
        early[t] = max(early[t], early[s] + 1)
    for s, t in reversed(inner):
        late[s] = min(late[s], (early[t] if late[t] == n else late[t]) - 1)
    level = [early[v] if late[v] == n else late[v] for v in range(n)]
    depths = {cell: 1 + max(level[v] for v in range(n) if cells[v] == cell) for cell in sorted(set(cells))}
    total = sum(depths.values())
    limit = max(PAGE_BREAK, math.isqrt(int(ASPECT * total * (2 + n / total))))
    places, segment = [(0, 0)] * n, 0
    for cell, depth in depths.items():
        starts = [0]
        if depth > limit:
            wires = {s: level[t] for s, t in sorted(inner, key=lambda edge: level[edge[1]]) if cells[s] == cell}
            spans = [(level[s], end) for s, end in wires.items()]
            starts += _cuts(spans, depth, math.ceil(depth / limit))
        for v in (v for v in range(n) if cells[v] == cell):
            piece = int(np.searchsorted(starts, level[v], side="right")) - 1
            places[v] = segment + piece, level[v] - starts[piece]
        segment += len(starts)
    return places


def _cuts(spans: list[tuple[int, int]], depth: int, pieces: int) -> list[int]:
    """Return the columns at which to cut a cell into pieces of similar length, where few wires cross."""
    passing = np.zeros(depth, np.int64)
    for start, end in spans:
        passing[start + 1 : end + 1] += 1
    slack = depth // pieces // 5
    ideals = [round(piece * depth / pieces) for piece in range(1, pieces)]
    return [min(range(i - slack, i + slack + 1), key=lambda c: (passing[c], abs(c - i))) for i in ideals]


def _segments(places: list[Place], consumers: list[list[int]], in_degrees: list[int]) -> list[_Segment]:
    inside: list[list[int]] = [[] for _ in range(max(places)[0] + 1)]
    for node, (segment, _) in enumerate(places):
        inside[segment].append(node)
    segments: list[_Segment] = []
    entering: list[int] = []
    for i, nodes in enumerate(inside):
        leaving = [s for s in entering + nodes if any(places[t][0] > i for t in consumers[s])]
        depth = 1 + max(places[v][1] for v in nodes)
        items = {(v, places[v][1]): item for item, v in enumerate(nodes)}
        links: list[Link] = []
        for s in entering + nodes:
            start = places[s][1] + 1 if places[s][0] == i else -1
            here = [t for t in consumers[s] if places[t][0] == i]
            end = depth if s in leaving else max((places[t][1] - 1 for t in here), default=-2)
            for column in range(start, end + 1):
                items[s, column] = len(items)
                if (s, column - 1) in items:
                    links.append((items[s, column - 1], items[s, column], 8 if column > start else 3))
            for t in here:
                item = items[s, places[t][1] - 1]
                is_chain = len(consumers[s]) == in_degrees[t] == 1
                links.append((item, items[t, places[t][1]], 6 if is_chain else 2 if item < len(nodes) else 3))
        segments.append(_Segment(tuple(items), len(nodes), tuple(links), depth))
        entering = leaving
    return segments


# --- layout of a box ---


@lru_cache(256)
def _shape(columns: tuple[int, ...], nodes: int, links: tuple[Link, ...], depth: int) -> tuple[Points, Points]:
    """Return x of the columns -1 to `depth`, and y of the items; the mean y of wires that enter and leave is 0."""
    order = _untangled([[v for v, c in enumerate(columns) if c == column] for column in range(-1, depth + 1)], links)
    ys = _heights(order, nodes, links)
    ends = order[0] + order[-1]
    ys -= ys[ends].mean() if ends else 0.0
    gaps = np.array([0.5 + CLEARANCE, *[0.9 + CLEARANCE] * (depth - 1), 0.5 + CLEARANCE])
    rises = np.zeros(depth + 1)
    for a, b, _ in links:
        rises[columns[b]] = max(rises[columns[b]], abs(ys[a] - ys[b]))
    return np.concatenate([[0.0], np.cumsum(gaps + np.minimum(0.1 * rises, 1.0))]), ys


def _untangled(order: list[list[int]], links: tuple[Link, ...]) -> list[list[int]]:
    """Sort the items of every column to reduce crossings: the best of several local searches from random orders."""
    before: Neighbours = [[] for column in order for _ in column]
    after: Neighbours = [[] for column in order for _ in column]
    for a, b, weight in links:
        after[a].append((b, weight))
        before[b].append((a, weight))
    rank: dict[int, int] = {}

    def crossings(upper: int, lower: int, *sides: Neighbours) -> int:
        return sum(w * x for side in sides for a, w in side[upper] for b, x in side[lower] if rank[a] > rank[b])

    best, fewest = order, math.inf
    for sweep in range(SWEEPS * min(ATTEMPTS, 1 + 4000 // (len(links) + 1))):
        if sweep % SWEEPS == 0:
            order = [random.Random(sweep).sample(column, len(column)) if sweep else list(column) for column in order]
            rank = {item: i for column in order for i, item in enumerate(column)}
        side, columns = (before, order[1:]) if sweep % 2 == 0 else (after, order[-2::-1])
        sides = (side,) if sweep % SWEEPS < SWEEPS // 2 else (before, after)
        for column in columns:
            centre = {v: sum(rank[a] for a, _ in side[v]) / len(side[v]) if side[v] else rank[v] for v in column}
            column.sort(key=centre.__getitem__)
            rank.update({item: i for i, item in enumerate(column)})
            for i in range(1, len(column)):
                u, v = column[i - 1], column[i]
                if crossings(v, u, *sides) < crossings(u, v, *sides):
                    column[i - 1], column[i], rank[v], rank[u] = v, u, i - 1, i
        count = sum(crossings(u, v, before) for column in order for u, v in combinations(column, 2))
        # wires that do not enter or leave in the order of their sources can cross between the boxes
        count += sum(u > v for ends in (order[0], order[-1]) for u, v in combinations(ends, 2))
        if count < fewest:
            best, fewest = [list(column) for column in order], count
    return best


def _heights(order: list[list[int]], nodes: int, links: tuple[Link, ...]) -> Points:
    """Return y of every item: the solution of a linear program that minimises the vertical extent of the lines."""
    # extra links: the main line should leave at the height at which it enters
    lines = [*links, *((a, b, 1) for a, b in zip(reversed(order[0]), reversed(order[-1])))]
    neighbours = [pair for column in order for pair in pairwise(column)]
    distances = [0.25 + 0.375 * ((u < nodes) + (v < nodes)) for u, v in neighbours]
    size = sum(map(len, order))
    rise, fall = _differences([(a, b) for a, b, _ in lines], size), _differences(neighbours, size)
    # the vertical extents of the lines are variables as well, which makes their sum linear
    along = np.arange(len(lines))
    over = coo_array((np.full(len(lines), -1.0), (along, along)), shape=(len(lines), len(lines)))
    solution = linprog(
        [0] * size + [weight for _, _, weight in lines],
        A_ub=block_array([[rise, over], [-rise, over], [-fall, None]], format="csc"),
        b_ub=[0.0] * (2 * len(lines)) + [-distance for distance in distances],
    )
    return np.asarray(solution.x[:size], np.float64)


def _differences(pairs: Sequence[tuple[int, int]], size: int) -> coo_array:
    """Return the matrix that maps `(size,)` values to the differences of the pairs."""
    rows, columns = np.arange(len(pairs)), np.array(pairs, np.int64).reshape(-1, 2)
    signs = np.repeat([1.0, -1.0], len(pairs))
    return coo_array((signs, (np.tile(rows, 2), columns.T.ravel())), shape=(len(pairs), size))


# --- the page ---


def _rows(widths: Sequence[float], heights: Sequence[float], aspect: float) -> list[list[int]]:
    """Break the boxes into rows; select the width at which the page is closest to `aspect`, with little empty space."""
    best, least = [[0]], math.inf
    for limit in np.linspace(max(widths), sum(widths) + CELL_GAP * len(widths), 100):
        rows, lengths = [[0]], [widths[0]]
        for i, width in enumerate(widths[1:], 1):
            if lengths[-1] + CELL_GAP + width <= limit:
                rows[-1].append(i)
                lengths[-1] += CELL_GAP + width
            else:
                rows.append([i])
                lengths.append(width)
        height = sum(max(heights[i] for i in row) + ABOVE + BELOW + ROW_GAP for row in rows)
        empty = 1 - sum(lengths) / len(lengths) / max(lengths)
        cost = abs(math.log(max(lengths) / height / aspect)) + 2 * empty
        if cost < least - 1e-9:
            best, least = rows, cost
    return best


def _bend(start: Points, end: Points, after_start: float, before_end: float) -> Curve:
    """Return the curve from one column to the next, horizontal over the given lengths at both ends."""
    a, b = start[0] + after_start, end[0] - before_end
    middle = (a + b) / 2
    points = [start, (a, start[1]), (middle, start[1]), (middle, end[1]), (b, end[1]), end]
    return np.array(points), (1, 2, 4, 4, 4, 2)


def _return(start: Points, end: Points, right: float, left: float, height: float) -> Curve:
    """Return the curve with round corners from the end of a row to the start of the next one."""
    stops = np.array([start, (right, start[1]), (right, height), (left, height), (left, end[1]), end])
    points = [start]
    for before, corner, after in zip(stops, stops[1:], stops[2:]):
        points += [corner + _shortened(before - corner), corner, corner + _shortened(after - corner)]
    return np.array([*points, end]), (1, *(2, 3, 3) * 4, 2)


def _shortened(step: Points, radius: float = 0.3) -> Points:
    return step * min(0.5, radius / max(float(np.abs(step).sum()), radius))
