"""What the sections of a report show, as plain values for the templates of the page.

Sections on comparisons, robustness, networks and runs are in modules of their own.  Every function takes the
`ReportInputs` and returns the variables of one template, or an empty dictionary if there is nothing to show;
`benchmark.report.page.SECTIONS` lists them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from benchmark.accuracy import BATCH_SIZE
from benchmark.choices import MAX_PICTURES
from benchmark.evaluation import FAILED, OK
from benchmark.metrics import get_metric
from benchmark.report.charts import MEASURES, draw_svg, measured
from benchmark.report.networks import NetworkRows, number_rows
from benchmark.report.style import NO_MATPLOTLIB, has_matplotlib
from benchmark.report.text import count, metric_text, number, signed
from benchmark.results import NAMES, Board, Cell, Column, Results, leaders, usual_metric
from deepnets.data import image_set_info

if TYPE_CHECKING:
    from benchmark.report.architectures import Pictures

__all__ = [
    "ReportInputs",
    "accuracy",
    "architectures",
    "distribution",
    "failures",
    "leaderboard",
    "mean_values",
    "published",
    "summary",
]

Values = dict[str, Any]


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a report is made from.

    Attributes
    ----------
    results
        The rows and the runs of the folder.
    boards
        One board per image set and noise level.
    published
        Tables of `benchmark.literature.leaderboard`, by image set.
    data
        The folder of the corpus, to draw architectures; None to leave them out.
    corrupted, mean_corruption
        One board per image set and corruption, and one per image set with the means over corruptions.
    max_pictures
        Most networks that are drawn for the details of single networks.
    """

    results: Results
    boards: Sequence[Board]
    published: Mapping[str, pd.DataFrame]
    data: Path | None
    corrupted: Sequence[Board] = ()
    mean_corruption: Sequence[Board] = ()
    max_pictures: int = MAX_PICTURES

    @cached_property
    def clean(self) -> list[Board]:
        """The boards without noise, or all boards if there are only noisy ones."""
        return [board for board in self.boards if not board.noise] or list(self.boards)

    @cached_property
    def series(self) -> dict[str, int]:
        """The position of each predictor, which determines its colour and marker in all charts."""
        names = dict.fromkeys(predictor for board in self.boards for predictor in board.predictors)
        return {predictor: place for place, predictor in enumerate(names)}

    @cached_property
    def rows(self) -> NetworkRows:
        """The rows of single networks, to which the points of charts refer."""
        return number_rows(self.clean, self.results.runs)

    @cached_property
    def pictures(self) -> Pictures:
        """The drawings of networks."""
        from benchmark.report.architectures import draw_pictures

        return draw_pictures(self.clean, self.data, self.max_pictures)


def _data_text(inputs: ReportInputs) -> str:
    """Return the names of the data: images, and texts or other data of runs that state a task."""
    rows, runs = inputs.results.rows, inputs.results.runs
    pairs = rows[["run", "images"]].drop_duplicates().itertuples()
    names: dict[str, dict[str, None]] = {}
    for pair in pairs:
        task = runs.get(str(pair.run), {}).get("task")
        kind = "images of" if task is None else "texts of" if task == "text" else "data of"
        names.setdefault(kind, {})[image_set_info(pair.images).title] = None
    return " and ".join(f"{kind} {', '.join(titles)}" for kind, titles in names.items())


def summary(inputs: ReportInputs) -> Values:
    """Return what the introduction says: how much was evaluated, which predictor is best, and what failed."""
    board, rows = inputs.clean[0], inputs.results.rows
    column = board.columns[0]
    found: Values = {
        "data": _data_text(inputs),
        "predictors": count(rows["predictor"].nunique(), "predictor"),
        "networks": count(len(rows.drop_duplicates(["split", "index"])), "network"),
        "splits": count(rows["split"].nunique(), "split"),
        "evaluations": len(rows),
        "failed": int((rows["status"] == FAILED).sum()),
        "winner": board.winner(column),
        "label": get_metric(board.metric(column)).label,
        "worst": worst_value(board.metric(column)),
    }
    if found["winner"]:
        best = board.cells[found["winner"], column].summary
        found |= {
            "column": column,
            "metric": get_metric(board.metric(column)).label,
            "tied": [name for name in leaders(board, column) if name != found["winner"]],
            **mean_values(best.mean, best.standard_error, best.networks),
        }
    return found


# --- leaderboard ---


def leaderboard(inputs: ReportInputs) -> Values:
    """Return one table per image set, with published rows below, and notes that affect comparisons."""
    boards = inputs.clean
    tables = [_table(board, _published_rows(board, inputs.published)) for board in boards]
    return {"tables": tables, "has_titles": len(boards) > 1, "notes": _notes(inputs)}


def _table(board: Board, published_rows: list[Values]) -> Values:
    labels = {column: get_metric(board.metric(column)).label for column in board.columns}
    best = {column: leaders(board, column) for column in board.columns}
    differ = len(set(labels.values())) > 1
    columns = []
    for column in board.columns:
        full, size = board.full(column), board.split_size(column)
        networks = f"{full:,} of {count(size, 'network')}" if full < size else count(full, "network")
        columns.append({"name": column, "facts": f"{labels[column]}, {networks}" if differ else networks})
    rows = [
        {
            "name": predictor,
            "cells": [
                _cell(board.cells[predictor, column], board.full(column), _rank(best[column], predictor))
                if (predictor, column) in board.cells
                else None
                for column in board.columns
            ],
        }
        for predictor in board.predictors
    ]
    metric = board.metric(board.columns[0])
    label = "metrics as given per column" if differ else metric_text(metric)
    return {"title": board.title, "metric": label, "columns": columns, "rows": rows, "published": published_rows}


def _rank(best: Sequence[str], predictor: str) -> str:
    """Return the class of a mean: "best", "tied" with the best, or neither."""
    return "" if predictor not in best else "best" if predictor == best[0] else "tied"


def _cell(cell: Cell, full: int, rank: str) -> Values:
    found = cell.summary
    values: Values = {"best": "", "pairs": (), "rank": rank, "networks": found.networks}
    values["all_failed"] = found.failures == found.networks
    decimals = cell.decimals + 1
    values |= {"remarks": [], **mean_values(found.mean, found.standard_error, cell.counted, decimals)}
    if 0 < found.failures < found.networks:
        others = mean_values(found.successful_mean, found.successful_standard_error, len(cell.values), decimals)
        error = f" \u00b1 {others['error']}" if others["error"] else ""
        without = "" if cell.is_predefined else f", {others['mean']}{error} without them"
        values["remarks"].append(f"{found.failures:,} of {found.networks:,} failed{without}")
    if not cell.complete:
        values["remarks"].append(f"unfinished: {found.networks:,} of {cell.run_size:,}")
    elif found.networks < full:
        values["remarks"].append(f"{count(found.networks, 'network')} only")
    if found.failures == found.networks:
        return values
    if cell.is_predefined:
        values["pairs"] = [
            (cell.name(row.index), _fixed(getattr(row, cell.metric), decimals) if row.status == OK else None)
            for row in cell.rows.itertuples()
        ]
    else:
        values["best"] = f"{found.best:.{decimals}f} ({cell.name(found.best_index)})"
    return values


def _fixed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "\u2013"


def worst_value(name: str) -> str:
    """Return the value with which failures count, with its unit; empty for a metric without a worst value."""
    metric = get_metric(name)
    return "" if metric.worst is None else f"{metric.worst:g} {metric.unit}".rstrip()


def mean_values(mean: float, error: float, networks: int, decimals: int = 2) -> Values:
    """Return a mean and its standard error as texts, and a key to sort by; empty texts for NaN.

    A single network has no standard error.
    """
    known = not math.isnan(mean)
    return {
        "sort_key": f"{mean:.6f}" if known else "",
        "mean": f"{mean:.{decimals}f}" if known else "",
        "error": f"{error:.{decimals}f}" if known and networks > 1 else "",
    }


def _notes(inputs: ReportInputs) -> list[str]:
    """Return what makes means of predictors not comparable, one sentence per kind."""
    unfinished, sizes, smaller, running, nonfinite, partial = [], [], [], [], [], []
    for board in inputs.boards:
        title = f", {board.title}" if len(inputs.boards) > 1 else ""
        for predictor in board.predictors:
            for column in board.columns:
                if (cell := board.cells.get((predictor, column))) is None:
                    continue
                place = f"{predictor} on {column}{title}"
                if not cell.complete:
                    unfinished.append(f"{place} ({len(cell.rows):,} of {count(cell.run_size, 'network')})")
                if cell.batch_size not in (0, BATCH_SIZE):
                    sizes.append(f"{place} ({cell.batch_size})")
                if cell.smaller_batches:
                    smaller.append(f"{place} ({count(cell.smaller_batches, 'network')})")
                if cell.running_statistics:
                    running.append(f"{place} ({count(cell.running_statistics, 'network')})")
                if cell.nonfinite:
                    nonfinite.append(f"{place} ({count(cell.nonfinite, 'network')})")
                if not cell.is_mean_of_all:
                    partial.append(f"{place} ({count(cell.summary.failures, 'network')})")
    if len({cell.batch_size for board in inputs.boards for cell in board.cells.values()}) == 1 and sizes:
        sizes = ["all of them"]
    kinds = (
        ("Unfinished", unfinished),
        (f"Evaluated with another batch size than {BATCH_SIZE}", sizes),
        ("Evaluated with a smaller batch size than requested, because memory ran out", smaller),
        ("Evaluated with running statistics of batch norms instead of batch statistics", running),
        ("Outputs that are not finite for some images, which count as wrong answers", nonfinite),
        ("Networks without a value, which are left out of the mean because the metric has no worst value", partial),
    )
    notes = [f"{kind}: {'; '.join(places)}." for kind, places in kinds if places]
    return notes + inputs.results.disagreements() + inputs.results.unregistered()


def _published_rows(board: Board, tables: Mapping[str, pd.DataFrame]) -> list[Values]:
    """Return published rows in the columns of a board; none if no column has a published counterpart."""
    table = tables.get(board.images)
    if table is None or board.noise:
        return []
    metric = usual_metric(board.images, "test")
    splits = [column.split if column.usual and board.metric(column) == metric else "" for column in board.columns]
    return _rows_by_method(table, splits)


def _rows_by_method(table: pd.DataFrame, splits: Sequence[str]) -> list[Values]:
    rows = []
    for method, lines in table.groupby("method", sort=False):
        cells = {str(line.split): _published_cell(line) for line in lines.itertuples()}
        if any(split in cells for split in splits):
            rows.append({"name": method, "cells": [cells.get(split) for split in splits]})
    return rows


def _published_cell(line: Any) -> Values:
    mean, best, index = float(line.mean), float(line.best), int(line.best_index)
    values: Values = {"best": f"{best:.2f} (#{index})", "pairs": (), "rank": "", "remarks": ()}
    values["all_failed"] = False
    values |= mean_values(mean, float(line.standard_error), int(line.networks))
    if line.split == "predefined" and line.networks == 2 and index in (0, 1):
        pair = (best, 2 * mean - best)  # the mean and the larger of two numbers determine both
        values["pairs"] = [(name, f"{value:.2f}") for name, value in zip(NAMES.values(), pair[:: 1 - 2 * index])]
    return values


def published(inputs: ReportInputs) -> Values:
    """Return published tables that cannot stand beside the results: other images, or another metric."""
    shown = {board.images for board in inputs.clean if _published_rows(board, inputs.published)}
    tables = []
    for images, table in inputs.published.items():
        if images not in shown and not table.empty:
            columns = [Column(split, "val" if split == "val" else "test") for split in set(map(str, table["split"]))]
            splits = [column.split for column in sorted(columns, key=lambda column: column.rank)]
            label = get_metric(usual_metric(images, "test")).label
            rows = _rows_by_method(table, splits)
            tables.append({"title": image_set_info(images).title, "metric": label, "columns": splits, "rows": rows})
    return {"tables": tables} if tables else {}


# --- charts ---


def distribution(inputs: ReportInputs) -> Values:
    """Return a chart of the accuracies of all networks for each split."""
    return _charts(inputs, ["distribution"])


def accuracy(inputs: ReportInputs) -> Values:
    """Return charts of accuracy against size, depth and time, with rank correlations."""
    found = _charts(inputs, [f"accuracy_{name}" for name in MEASURES])
    correlations = []
    for board in inputs.clean:
        for measure in MEASURES.values():
            rows = []
            for predictor in board.predictors:
                cells = (board.cells.get((predictor, column)) for column in board.columns)
                rows.append(
                    {"name": predictor, "cells": [_tau(*measured(c, measure)[:2]) if c else "\u2013" for c in cells]}
                )
            correlations.append({"of": measure.label, "title": board.title, "columns": board.columns, "rows": rows})
    return {**found, "correlations": correlations}


def _charts(inputs: ReportInputs, names: Sequence[str]) -> Values:
    """Return the SVG panels of charts, by board, with the predictors for a legend."""
    legend = [
        {"name": predictor, "colour": f"s{place % 8}", "shape": place % 5} for predictor, place in inputs.series.items()
    ]
    charts: list[Values] = []
    for name in names if has_matplotlib() else ():
        for place, board in enumerate(inputs.clean):
            panels = [
                _panel(inputs, name, place, column, f"{name}-{place}-{i}") for i, column in enumerate(board.columns)
            ]
            measure = MEASURES.get(name.removeprefix("accuracy_"))
            charts.append({"of": measure.label if measure else "", "title": board.title, "panels": panels})
    missing = "" if charts else NO_MATPLOTLIB
    return {"charts": charts, "legend": legend, "missing": missing, "has_titles": len(inputs.clean) > 1}


def _panel(inputs: ReportInputs, name: str, place: int, column: Column, element: str) -> Markup:
    board = inputs.clean[place]
    first = {predictor: row for (at, predictor, of), row in inputs.rows.first.items() if (at, of) == (place, column)}
    return Markup(draw_svg(name, board, column, inputs.series, element, first))  # noqa: S704 - escaped XML


def _tau(xs: Any, ys: Any) -> str:
    if len(xs) < 3:
        return "\u2013"
    from scipy.stats import kendalltau

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns about constant values, for which tau is not defined
        tau = float(kendalltau(xs, ys).statistic)
    return "\u2013" if math.isnan(tau) else signed(tau)


# --- lists ---


def failures(inputs: ReportInputs) -> Values:
    """Return the failures in groups of the same reason."""
    return {"groups": inputs.results.failures()}


def architectures(inputs: ReportInputs) -> Values:
    """Return drawings of the best, median and worst networks of the leading predictor, by split."""
    pictures, board = inputs.pictures, inputs.clean[0]
    splits: dict[str, list[Values]] = {}
    for one in pictures.chosen:
        label = one.role if one.split == "predefined" else f"{one.role}: #{one.network}"
        value = "failed" if math.isnan(one.value) else f"{one.value:.2f} {one.unit}".rstrip()
        facts = f"{value}, {number(one.num_params)} parameters"
        splits.setdefault(one.split, []).append({"label": label, "facts": facts, "svg": one.svg})
    return {
        "splits": splits,
        "problems": pictures.problems,
        "shapes": pictures.shapes,
        "predictor": board.predictors[0],
        "title": board.title,
    }
