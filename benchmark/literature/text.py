"""The published tables, with own results next to them, as text for a terminal of 100 columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd

from benchmark.literature.files import SPLITS
from benchmark.literature.known_issues import list_known_issues
from benchmark.literature.loading import Published
from benchmark.literature.own_results import NOISE, own_accuracies, own_models
from benchmark.literature.tables import (
    NETWORKS,
    accuracies,
    at_chance,
    model_statistics,
    parameter_counts,
    rank_correlations,
    win_rates,
)
from benchmark.results import usual_metric

__all__ = [
    "WIDTH",
    "accuracy_text",
    "best_text",
    "decimal",
    "grid",
    "images_text",
    "known_issues_text",
    "model_text",
    "models_text",
    "statistics_text",
]

WIDTH = 100
"""Most characters per line."""

NONE = "-"
_SPLITS = SPLITS[1:-1]  # without val and predefined
_LONGEST_LABEL = 17


def decimal(value: float, digits: int = 2) -> str:
    """Format a number with a fixed number of decimals, rounding halves away from 0; "-" for NaN.

    Examples
    --------
    >>> decimal(15.785), decimal(float("nan"))
    ('15.79', '-')
    """
    if math.isnan(value):
        return NONE
    exact = Decimal(f"{value:.9f}")
    return str(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table of texts with a left-aligned first column and right-aligned other columns.

    Examples
    --------
    >>> print(grid(["", "mean"], [["test", "66.88"], ["deep", "-"]]))
           mean
    -----------
    test  66.88
    deep      -
    """
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    made = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in [made[0], "-" * max(map(len, made)), *made[1:]])


# --- accuracies ---


def accuracy_text(
    published: Published | None, results: pd.DataFrame | None, images: str, metric: str = "", *, noise: bool = False
) -> str:
    """Return mean accuracies per method and split, published ones first, then own results with their failures.

    Parameters
    ----------
    published
        The published files, or None.
    results
        The result of `read_own_results`, or None.
    images
        Image set.
    metric
        Metric of own results, such as "top1".  Default: the published metric.
    noise
        Whether the images are noisy.
    """
    metric = metric or usual_metric(images, "test")
    header = ["", "test", "max", *_SPLITS[1:], "ResNet-50/ViT"]
    rows: list[list[str]] = []
    for table, own in _both(published, results, images, metric, "test", noise):
        for method, group in table[table["split"] != "val"].groupby("method", sort=False):
            cells = _by_split(group)
            test = cells.get(("test", ""))
            line = [_label(method), _mean(test), decimal(test.best) if test is not None else NONE]
            line += [_mean(cells.get((split, ""))) for split in _SPLITS[1:]]
            pair = [cells.get(("predefined", name)) for name in NETWORKS]
            line.append(" / ".join(decimal(cell.mean) if cell is not None else NONE for cell in pair))
            rows.append([*line[:-1], NONE] if line[-1] == "- / -" else line)
            if own:
                failed = [_failed([cells.get((split, ""))]) for split in _SPLITS]
                rows.append(["  failed", failed[0], "", *failed[1:], _failed(pair)])
                if group["failures"].any():
                    others = [_others(cells.get((split, ""))) for split in _SPLITS]
                    rows.append(["  without them", others[0], "", *others[1:], " / ".join(map(_others, pair))])
    return grid(header, rows)


def best_text(published: Published | None, results: pd.DataFrame | None, images: str, metric: str = "") -> str:
    """Return the accuracy and index of the best network per method and split; arguments as for `accuracy_text`."""
    metric = metric or usual_metric(images, "test")
    rows = []
    for table, _ in _both(published, results, images, metric, "test", False):
        for method, group in table[table["split"].isin(_SPLITS)].groupby("method", sort=False):
            cells = _by_split(group)
            rows.append([_label(method), *(_best(cells.get((split, ""))) for split in _SPLITS)])
    return grid(["", *_SPLITS], rows)


def images_text(
    published: Published | None, results: pd.DataFrame | None, images: str, split: str, metric: str = ""
) -> str:
    """Return accuracies of the networks of `val` or `test` on test and validation images, clean and noisy.

    Parameters
    ----------
    published, results, images, metric
        As for `accuracy_text`.
    split
        "val" or "test".
    """
    metric = metric or usual_metric(images, "test")
    kinds = [("test", False), ("val", False), ("test", True), ("val", True)]
    lines: dict[tuple[str, bool], dict[tuple[str, bool], Any]] = {}
    for kind in kinds:
        for table, own in _both(published, results, images, metric, *kind):
            for cell in table[table["split"] == split].itertuples():
                lines.setdefault((cell.method, own), {})[kind] = cell
    rows = []
    for method, own in sorted(lines, key=lambda key: key[1]):
        cells = [lines[method, own].get(kind) for kind in kinds]
        row = [_label(method)]
        for cell, (_, noisy) in zip(cells, kinds, strict=True):
            row += [_mean(cell)] if noisy else [_mean(cell), decimal(cell.best) if cell is not None else NONE]
        rows.append(row)
        if own:
            failed = [_failed([cell]) for cell in cells]
            rows.append(["  failed", failed[0], "", failed[1], "", *failed[2:]])
            if any(cell is not None and cell.failures for cell in cells):
                others = list(map(_others, cells))
                rows.append(["  without them", others[0], "", others[1], "", *others[2:]])
    header = ["", "test images", "max", "val. images", "max", "noisy test", "noisy val."]
    return grid(header, rows)


def _both(
    published: Published | None, results: pd.DataFrame | None, images: str, metric: str, part: str, noise: bool
) -> list[tuple[pd.DataFrame, bool]]:
    """Return published and own accuracies, each with whether they are own results."""
    tables = []
    if published is not None:
        tables.append((accuracies(published, images, part=part, noise=noise), False))
    if results is not None:
        level = NOISE.get(images, math.nan) if noise else 0.0
        tables.append((own_accuracies(results, images, metric, part=part, noise=level), True))
    return tables


def _by_split(group: pd.DataFrame) -> dict[tuple[str, str], Any]:
    return {(cell.split, cell.network): cell for cell in group.itertuples()}


def _mean(cell: Any) -> str:
    if cell is None or math.isnan(cell.mean):
        return NONE
    error = "" if math.isnan(cell.standard_error) else f"±{decimal(cell.standard_error)}"
    return decimal(cell.mean) + error


def _best(cell: Any) -> str:
    return NONE if cell is None or math.isnan(cell.best) else f"{decimal(cell.best)} #{cell.best_index}"


def _failed(cells: Sequence[Any]) -> str:
    cells = [cell for cell in cells if cell is not None]
    return f"{sum(cell.failures for cell in cells)} of {sum(cell.networks for cell in cells)}" if cells else NONE


def _others(cell: Any) -> str:
    return NONE if cell is None else decimal(cell.successful_mean)


def _label(name: str) -> str:
    name = "".join(letter if letter.isprintable() else "?" for letter in str(name))
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 7]}…{name[-6:]}"


# --- other tables ---


def statistics_text(published: Published, images: str, table: str) -> str:
    """Return one of the tables of published results without own results.

    Parameters
    ----------
    published
        The published files.
    images
        "cifar10" or "imagenet".
    table
        "parameters", "chance", "correlations" or "wins".
    """
    if table == "parameters":
        rows = [[row.split, *map(decimal, row[2:])] for row in parameter_counts(published, images).itertuples()]
        return grid(["", "smallest", "mean", "largest"], rows)
    if table == "chance":
        rows = [[row.split, str(row.at_chance), str(row.networks)] for row in at_chance(published, images).itertuples()]
        return grid(["", "not trained", "networks"], rows)
    if table == "correlations":
        rows = [[row.property, decimal(row.tau, 3)] for row in rank_correlations(published, images).itertuples()]
        return grid(["", "tau-b"], rows)
    rates = win_rates(published, images)
    names = list(rates.columns[1:])
    return grid(["", *names], [[row.split, *map(decimal, row[2:])] for row in rates.itertuples()])


def known_issues_text() -> str:
    """Return the known issues of the published files."""
    return "\n".join(map(str, list_known_issues()))


# --- models of torchvision ---


def models_text(published: Published, results: pd.DataFrame | None) -> str:
    """Return statistics over all models of torchvision, and own results on the common models."""
    statistics = model_statistics(published)
    columns = ("mean", "std", "median", "max", "min")
    rows = [
        [row.key, *(decimal(getattr(row, column), 3) for column in columns), row.best]
        for row in statistics.itertuples()
    ]
    text = grid(["", *columns, "model of the max"], rows)
    text += f"\ngain: ghn3-sgd1ep - randinit-sgd1ep, above 0 on {statistics.attrs['wins']} models"
    mine = own_models(results) if results is not None else pd.DataFrame()
    if mine.empty or published.models is None:
        return text
    theirs = published.models.set_index("model")
    keys = ["ghn2", "ghn3-t", "ghn3"]
    rows = []
    for predictor in mine:
        values = mine[predictor].dropna()
        common = [model for model in values.index if model in theirs.index]
        means = [theirs.loc[common, key].mean() for key in keys]
        numbers = [decimal(value, 3) for value in (values[common].mean(), *means)]
        rows.append([_label(predictor), *numbers, str(len(common)), str(mine.attrs[predictor])])
    text += "\n\nMean top-1 accuracy over the common models, without training:\n"
    return text + grid(["", "own", *keys, "models", "own failed"], rows)


def model_text(published: Published, results: pd.DataFrame | None) -> str:
    """Return one row per model of torchvision, sorted by its fully trained accuracy, with the first own predictor."""
    if published.models is None:
        model_statistics(published)  # raises the error that names the file
        return ""
    keys = ["ghn2", "ghn3-t", "ghn3", "randinit-sgd1ep", "ghn3-sgd1ep", "ghn3-sgd10ep", "randinit-sota"]
    short = ["ghn2", "ghn3-t", "ghn3", "rand 1ep", "ghn3 1ep", "ghn3 10ep", "trained"]
    mine = own_models(results) if results is not None else pd.DataFrame()
    labels = list(mine.columns)[:1]
    rows = []
    for _, row in published.models.iterrows():
        model = row["model"]
        own = [decimal(mine[label].get(model, math.nan), 3) for label in labels]
        rows.append([model, *(decimal(row[key], 3) for key in keys), *own])
    return grid(["", *short, *map(_label, labels)], rows)
