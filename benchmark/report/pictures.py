"""Pictures of the results as PNG files, for slides and papers; they need matplotlib."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmark.report.figures import linear, logarithmic, spread
from benchmark.report.page_parts import METRIC_NAMES, clipped, number
from benchmark.report.page_sections import CHANCE, MEASURES
from benchmark.results import Board, Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_pictures"]

COLOURS = ("#0072b2", "#d55e00", "#00906a", "#b8578f", "#a87400", "#3a93c9", "#6b55b5", "#69707c")  # as on the page
MARKERS = "o^sDv"
INK, SOFT, GRID = "#1d2126", "#5a6270", "#dcdfe3"
COLUMNS, WIDTH = 4, 2.9  # panels in a row, inches of each
LABEL = 20
Style = dict[str, Any]
Values = npt.NDArray[np.float64]


def draw_pictures(boards: Sequence[Board], folder: Path) -> list[Path]:
    """Write `leaderboard.png`, `distribution.png` and `accuracy_{size,depth,speed}.png`.

    Parameters
    ----------
    boards
        The first with clean images is drawn; others get the name of their images behind that of the file.
    folder
        Where to write.

    Returns
    -------
    The files.
    """
    clean = [board for board in boards if not board.noise] or list(boards)
    files = []
    for i, board in enumerate(clean):
        behind = "" if i == 0 else "_" + "".join(c if c.isalnum() else "_" for c in board.images)
        files.append(_grid(board, folder / f"leaderboard{behind}.png", _means, 0.3 * len(board.predictors) + 0.9))
        files.append(_grid(board, folder / f"distribution{behind}.png", _strips, 0.45 * len(board.predictors) + 0.9))
        for measure in range(len(MEASURES)):
            name = f"accuracy_{MEASURES[measure][0]}{behind}.png"
            files.append(_grid(board, folder / name, _scatter, 2.5, measure=measure))
    return files


def _grid(board: Board, file: Path, paint: Any, height: float, **options: Any) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(COLUMNS, len(board.columns))
    rows = math.ceil(len(board.columns) / columns)
    side = 1.6 if paint is not _scatter else 0.3
    legend = 0.0 if paint is not _scatter else 0.32 * math.ceil(len(board.predictors) / 4) + 0.1
    figure = Figure(figsize=(WIDTH * columns + side, height * rows + 0.5 + legend), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=paint is not _scatter)
    places = list(grid.flat)
    for axes, column in zip(places, board.columns):
        paint(axes, board, column, **options)
        axes.set_title(_safe(str(column), 30), fontsize=10, loc="left", color=INK, fontweight="bold", parse_math=False)
        axes.tick_params(labelsize=8, colors=SOFT, length=0)
        for side_ in ("top", "right", "left"):
            axes.spines[side_].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    for axes in places[len(board.columns) :]:
        axes.set_visible(False)
    if legend:
        marks = [
            Line2D([], [], linestyle="", color=_colour(i), marker=MARKERS[i % len(MARKERS)], label=_safe(predictor))
            for i, predictor in enumerate(board.predictors)
        ]
        style: Style = {"ncols": min(4, len(marks)), "frameon": False, "fontsize": 9}
        for text in figure.legend(handles=marks, loc="outside lower center", **style).get_texts():
            text.set_parse_math(False)
    figure.suptitle(_safe(board.title, 60), fontsize=12, x=0.01, ha="left", color=INK, parse_math=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in place of a letter is fine
        figure.savefig(file, dpi=144)
    return file


def _means(axes: Axes, board: Board, column: Column) -> None:
    """A predictor's mean with its standard error, and its best network, in a row."""
    for i, predictor in enumerate(board.predictors):
        cell = board.cells.get((predictor, column))
        if cell is None:
            continue
        mean, error, best, *_ = cell.summary
        if math.isnan(mean):
            axes.text(
                0.02, i, "all failed", color=COLOURS[1], fontsize=8, va="center", transform=axes.get_yaxis_transform()
            )
            continue
        style: Style = {"color": _colour(i), "zorder": 3}
        if cell.is_predefined:
            axes.plot(cell.values, [i] * len(cell.values), MARKERS[i % len(MARKERS)], markersize=5, **style)
            continue
        axes.errorbar(mean, i, xerr=error, fmt=MARKERS[i % len(MARKERS)], markersize=5, capsize=3, **style)
        axes.plot(best, i, marker="|", markersize=9, **style)
    _rows(axes, board, column)


def _strips(axes: Axes, board: Board, column: Column) -> None:
    """A predictor's networks in a row, with the middle half and the median."""
    for i, predictor in enumerate(board.predictors):
        cell = board.cells.get((predictor, column))
        if cell is None:
            continue
        values = cell.values
        if not len(values):
            axes.text(
                0.02, i, "all failed", color=COLOURS[1], fontsize=8, va="center", transform=axes.get_yaxis_transform()
            )
            continue
        offsets = 0.3 * spread(values * 3.0)
        marker = MARKERS[i % len(MARKERS)]
        axes.scatter(values, i + offsets, s=7, color=_colour(i), marker=marker, alpha=0.5, linewidths=0, zorder=2)
        if len(values) > 4:
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
            axes.plot([low, high], [i, i], color=INK, linewidth=3, alpha=0.4, solid_capstyle="butt", zorder=3)
            axes.plot([median, median], [i - 0.33, i + 0.33], color=INK, linewidth=1.6, zorder=4)
    _rows(axes, board, column)


def _rows(axes: Axes, board: Board, column: Column) -> None:
    """What both pictures with a row for each predictor have in common."""
    labels = [_safe(predictor) for predictor in board.predictors]
    axes.set_yticks(range(len(labels)), labels, fontsize=9, color=INK)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axis = linear("", _accuracies(board, column))
    axes.set_xticks(axis.ticks)
    axes.set_xlim(axis.low, axis.high * 1.01)
    axes.set_xlabel(f"{METRIC_NAMES[board.metric(column)]} accuracy, %", fontsize=8, color=SOFT)
    _chance(axes.axvline, board, column)


def _scatter(axes: Axes, board: Board, column: Column, measure: int) -> None:
    _, words, values, is_log = MEASURES[measure]
    everything = []
    for i, predictor in enumerate(board.predictors):
        cell = board.cells.get((predictor, column))
        if cell is not None and len(cell.fine):
            xs = values(cell)
            fits = np.isfinite(xs) & (xs > 0)
            everything.append(xs[fits])
            marker = MARKERS[i % len(MARKERS)]
            style: Style = {"color": _colour(i), "marker": marker, "alpha": 0.55, "linewidths": 0}
            axes.scatter(xs[fits], cell.values[fits], s=10, **style)
    if is_log:
        axis = logarithmic(words, everything)
        axes.set_xscale("log")
        axes.set_xticks(axis.ticks, [number(tick) for tick in axis.ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(axis.low, axis.high)
    axis = linear("", _accuracies(board, column))
    axes.set_yticks(axis.ticks)
    axes.set_ylim(axis.low, axis.high * 1.01)
    axes.set_xlabel(words, fontsize=8, color=SOFT)
    axes.set_ylabel(f"{METRIC_NAMES[board.metric(column)]} accuracy, %", fontsize=8, color=SOFT)
    _chance(axes.axhline, board, column)


def _chance(draw: Any, board: Board, column: Column) -> None:
    level = CHANCE.get((board.images, board.metric(column)))
    if level is not None:
        draw(level, color=SOFT, linestyle=(0, (1, 3)), linewidth=1, zorder=1)


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _accuracies(board: Board, column: Column) -> list[Values]:
    """Everything that is on the same scale as a column."""
    metric = board.metric(column)
    return [cell.values for (_, at), cell in board.cells.items() if board.metric(at) == metric]


def _failed(axes: Axes, place: int) -> None:
    box: Style = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    where: Style = {"va": "center", "transform": axes.get_yaxis_transform(), "bbox": box, "zorder": 5}
    axes.text(0.02, place, "all failed", color="#b3400a", fontsize=8, **where)


def _safe(text: str, most: int = LABEL) -> str:
    """A text that is visible: labels with `_` in front are not in legends."""
    plain = clipped("".join(c if c.isprintable() else "\ufffd" for c in text), most)
    return f" {plain}" if plain.startswith("_") else plain
