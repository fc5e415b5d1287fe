"""Charts of a report: the same drawing functions make the PNG files and the SVG elements of the page.

A chart has one panel per column of a leaderboard, that is per split.  A PNG file shows all panels side by side; on the
page, every panel is an SVG element of its own, so that panels wrap on small screens.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmark.metrics import get_metric
from benchmark.report import style
from benchmark.report.text import clipped, count, metric_text, visible
from benchmark.results import Board, Cell, Column
from deepnets.data import image_set_info

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CHARTS", "MEASURES", "Chart", "draw_png_files", "draw_svg", "measured", "spread"]

Values = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

PANEL_WIDTH = 3.3
"""Width of a panel, in inches."""

TITLE_HEIGHT = 0.4
"""Height of the title of a PNG file, in inches."""

COLUMNS = 4
"""Panels per row of a PNG file."""

LABEL = 26
"""Most characters of a predictor's label in a chart."""


class Measure(NamedTuple):
    """A quantity that accuracy is plotted against.

    Attributes
    ----------
    label
        Label of the axis.
    values
        Function from the successful rows of a cell to `(n,)` values.
    is_log
        Whether the axis is logarithmic.
    """

    label: str
    values: Callable[[Cell], Values]
    is_log: bool


MEASURES = {
    "size": Measure("parameters", lambda cell: cell.fine["num_params"].to_numpy(float), True),
    "depth": Measure("depth, nodes", lambda cell: cell.fine["depth"].to_numpy(float), False),
    "speed": Measure(
        "seconds to predict and evaluate",
        lambda cell: (cell.fine["predict_seconds"].fillna(0.0) + cell.fine["evaluate_seconds"]).to_numpy(float),
        True,
    ),
}
"""The quantities that accuracy is plotted against, by name."""


def measured(cell: Cell, measure: Measure) -> tuple[Values, Values, Positions]:
    """Return a quantity and the accuracy of the successful networks for which the quantity is known.

    Returns
    -------
    Two `(n,) float64` arrays, and the `(n,)` positions of these networks in `cell.rows`.
    """
    values = measure.values(cell)
    known = np.isfinite(values) & (values > 0)
    return values[known], cell.values[known], cell.fine.index.to_numpy()[known]


# --- panels ---


def _draw_means(axes: Axes, board: Board, column: Column, series: Mapping[str, int]) -> None:
    """Draw the mean with its standard error, and the best network, one row per predictor."""
    for row, (predictor, cell) in enumerate(_cells(board, column)):
        mean, error, best, *_ = cell.summary  # networks that failed are part of the mean
        look: dict[str, Any] = {"color": style.colour(series[predictor]), "zorder": 3}
        if cell.is_predefined:
            axes.plot(cell.values, [row] * len(cell.values), style.marker(series[predictor]), markersize=5, **look)
        elif len(cell.values):
            fmt = style.marker(series[predictor])
            axes.errorbar(mean, row, xerr=error, fmt=fmt, markersize=5, capsize=3, **look)
            axes.plot(best, row, marker="|", markersize=9, **look)
    _finish_rows(axes, board, column)


def _draw_distribution(axes: Axes, board: Board, column: Column, series: Mapping[str, int]) -> None:
    """Draw the accuracies of all networks, their quartiles and median, one row per predictor."""
    for row, (predictor, cell) in enumerate(_cells(board, column)):
        values = cell.values
        _draw_points(axes, values, row + 0.24 * spread(values), series[predictor])
        if len(values) > 4:
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
            axes.plot([low, high], [row, row], color=style.INK, linewidth=3, alpha=0.4, solid_capstyle="butt", zorder=3)
            axes.plot([median, median], [row - 0.27, row + 0.27], color=style.INK, linewidth=1.6, zorder=4)
    _finish_rows(axes, board, column)


def _finish_rows(axes: Axes, board: Board, column: Column) -> None:
    """Label the rows of predictors, mark failures, and set the common scale of accuracies."""
    cells = _cells(board, column)
    across = axes.get_yaxis_transform()
    for row, (predictor, cell) in enumerate(cells):
        axes.text(0, row - 0.33, clipped(visible(predictor), LABEL), va="bottom", transform=across, zorder=5)
        if not len(cell.values):
            axes.text(0, row, "all failed", color=style.BAD, va="center", transform=across)
    axes.set_ylim(len(cells) - 0.6, -0.75)
    low, high = _limits(board, column)
    axes.set_xlim(low, high)
    axes.set_xlabel(metric_text(board.metric(column)))
    _draw_chance(axes.axvline, board, column)
    style.style_axes(axes, clipped(visible(column), 30), horizontal_only=True)


def _draw_scatter(axes: Axes, board: Board, column: Column, series: Mapping[str, int], measure: Measure) -> None:
    """Draw the accuracy of every network against one of `MEASURES`."""
    everything = []
    for predictor, cell in _cells(board, column):
        values, accuracies, _ = measured(cell, measure)
        everything.append(values)
        _draw_points(axes, values, accuracies, series[predictor])
    shown = np.concatenate(everything)
    if measure.is_log and len(shown):
        axes.set_xscale("log")
        axes.set_xlim(low := shown.min() / 1.12, high := shown.max() * 1.12)
        style.set_log_ticks(axes.xaxis, low, high)
    elif len(shown):  # whole numbers, of which a narrow range shows some neighbours
        margin = max(1.0, 0.04 * float(np.ptp(shown)))
        axes.set_xlim(shown.min() - margin, shown.max() + margin)
        axes.locator_params(axis="x", integer=True)
    axes.set_ylim(*_limits(board, column))
    axes.set_xlabel(measure.label)
    axes.set_ylabel(metric_text(board.metric(column)))
    _draw_chance(axes.axhline, board, column)
    style.style_axes(axes, clipped(visible(column), 30))


def _draw_points(axes: Axes, xs: Values, ys: Values, series: int) -> None:
    size = 5.0 if len(xs) <= 12 else 3.4 if len(xs) <= 300 else 2.4
    look: dict[str, Any] = {"color": style.colour(series), "alpha": 0.55, "markeredgewidth": 0, "clip_on": False}
    axes.plot(xs, ys, style.marker(series), markersize=size, zorder=2, gid=_points(series), **look)


def _points(series: int) -> str:
    """Return the id of the points of a series in a panel."""
    return f"points-{series}"


def _draw_chance(line: Callable[..., object], board: Board, column: Column) -> None:
    chance, num_classes = get_metric(board.metric(column)).chance, image_set_info(board.images).num_classes
    if chance is not None and num_classes:
        line(chance(num_classes), color=style.SOFT, linestyle=(0, (1, 3)), linewidth=1, zorder=1)


def _cells(board: Board, column: Column) -> list[tuple[str, Cell]]:
    return [(name, board.cells[name, column]) for name in board.predictors if (name, column) in board.cells]


def _limits(board: Board, column: Column) -> tuple[float, float]:
    """Return the limits of accuracies, the same for all columns of a board with the same metric."""
    metric = board.metric(column)
    values = [cell.values for (_, other), cell in board.cells.items() if board.metric(other) == metric]
    known = np.concatenate([*values, [0.0]])
    margin = 0.02 * float(np.ptp(known)) or 1.0
    return float(known.min()) - margin, float(known.max()) + margin


def spread(values: Values) -> Values:
    """Return vertical offsets that separate points with similar values.

    Parameters
    ----------
    values
        `(n,)` accuracies in percent.

    Returns
    -------
    `(n,)` offsets from -1 to 1, larger where more points lie within 2 percent points.  They are deterministic.

    Examples
    --------
    >>> spread(np.array([10.0, 50.0, 50.1]))[1:].round(1).tolist()
    [0.1, -0.3]
    """
    if not len(values):
        return values
    _, inverse, counts = np.unique(np.floor(values / 2).astype(np.int64), return_inverse=True, return_counts=True)
    crowd = np.where(counts[inverse] == 1, 0.0, counts[inverse] / max(int(counts.max()), 4))
    golden = (np.arange(len(values)) * 0.6180339887498949) % 1.0  # a low-discrepancy sequence
    return np.asarray(crowd * (2 * golden - 1))


# --- charts ---


class Chart(NamedTuple):
    """A kind of chart.

    Attributes
    ----------
    draw
        Function that draws one panel.
    row_height, height
        Height of a panel in inches: `height`, plus `row_height` for each predictor.
    has_legend
        Whether the PNG file needs a legend of the predictors.
    positions
        Function that returns the positions in the rows of a cell of the networks that are points; None if points are
        not networks.
    """

    draw: Callable[[Axes, Board, Column, Mapping[str, int]], None]
    row_height: float
    height: float
    has_legend: bool
    positions: Callable[[Cell], Positions] | None = None


def _scatter_chart(name: str) -> Chart:
    measure = MEASURES[name]
    draw = functools.partial(_draw_scatter, measure=measure)
    return Chart(draw, 0.0, 2.5, has_legend=True, positions=lambda cell: measured(cell, measure)[2])


CHARTS = {
    "leaderboard": Chart(_draw_means, 0.36, 0.85, has_legend=False),
    "distribution": Chart(
        _draw_distribution, 0.5, 0.85, has_legend=False, positions=lambda cell: cell.fine.index.to_numpy()
    ),
    **{f"accuracy_{name}": _scatter_chart(name) for name in MEASURES},
}
"""All charts by name, which is also the name of the PNG file."""


def draw_svg(
    name: str,
    board: Board,
    column: Column,
    series: Mapping[str, int],
    element: str,
    first_rows: Mapping[str, int] | None = None,
) -> str:
    """Draw one panel of a chart as an SVG element.

    Parameters
    ----------
    name
        One of `CHARTS`.
    board, column
        What to show.
    series
        The position of each predictor, which determines its colour and marker.
    element
        Prefix of the ids of the element.
    first_rows
        By predictor, the number of the first row of its cell on the page; points then refer to their rows.
    """
    chart = CHARTS[name]
    cells = _cells(board, column)
    facts = "; ".join(_describe(predictor, cell) for predictor, cell in cells)
    description = f"{visible(facts)}. {metric_text(board.metric(column))}."
    with style.styled():
        figure = style.new_figure(PANEL_WIDTH, chart.height + chart.row_height * len(cells), layout=None)
        chart.draw(style.panels(figure, 1, 1)[0], board, column, series)
        rows = {
            _points(series[predictor]): ((first_rows or {})[predictor] + chart.positions(cell)).tolist()
            for predictor, cell in cells
            if chart.positions and predictor in (first_rows or {})
        }
        return style.to_svg(figure, element, visible(column), description, rows)


def _describe(predictor: str, cell: Cell) -> str:
    if not len(cell.values):
        return f"{predictor}: all failed"
    low, median, high = np.quantile(cell.values, [0.25, 0.5, 0.75])
    return f"{predictor}: {count(len(cell.values), 'network')}, median {median:.1f}, quartiles {low:.1f} and {high:.1f}"


def draw_png_files(boards: Sequence[Board], folder: Path) -> list[Path]:
    """Write every chart of every board to a PNG file.

    Parameters
    ----------
    boards
        Boards of clean images, as far as there are any, are drawn; the names of the files of all but the first end
        with the name of the images, such as `leaderboard_cifar10.png`, or with the title of the board if there is noise
        or a setting.
    folder
        Where to write `leaderboard.png`, `distribution.png`, `accuracy_size.png`, `accuracy_depth.png` and
        `accuracy_speed.png`.

    Returns
    -------
    The paths of the files.
    """
    files = []
    used: set[str] = set()
    for place, board in enumerate([board for board in boards if not board.noise] or boards):
        name = board.title if board.noise or board.setting else board.images
        suffix = "" if place == 0 else "_" + "".join(c if c.isalnum() else "_" for c in name)
        while suffix in used:
            suffix += f"_{place + 1}"
        used.add(suffix)
        for name, chart in CHARTS.items():
            files.append(folder / f"{name}{suffix}.png")
            _draw_png(files[-1], chart, board)
    return files


def _draw_png(path: Path, chart: Chart, board: Board) -> None:
    columns = min(COLUMNS, len(board.columns))
    rows = math.ceil(len(board.columns) / columns)
    legend = 0.3 * math.ceil(len(board.predictors) / 4) if chart.has_legend else 0.0
    height = rows * (chart.height + chart.row_height * len(board.predictors)) + TITLE_HEIGHT + legend
    series = {predictor: place for place, predictor in enumerate(board.predictors)}
    with style.saved_figure(path, PANEL_WIDTH * columns, height, layout=None) as figure:
        grid = style.panels(figure, len(board.columns), columns, top=TITLE_HEIGHT, bottom=legend)
        for axes, column in zip(grid, board.columns):
            chart.draw(axes, board, column, series)
        title = clipped(visible(board.title), 60)
        figure.text(0.1 / PANEL_WIDTH / columns, 1 - 0.1 / height, title, va="top", fontsize=12)
        if chart.has_legend:
            from matplotlib.lines import Line2D

            handles = [
                Line2D([], [], linestyle="", color=style.colour(place), marker=style.marker(place))
                for place in series.values()
            ]
            labels = [clipped(visible(predictor), LABEL) for predictor in series]
            style.legend_below(figure, min(4, len(handles)), handles=handles, labels=labels)
