"""Charts of the analyses, as PNG files: property prediction, maps of architectures, statistics, searches.

Every function returns whether it wrote a file; without matplotlib, none is written.  The same data give the same bytes.
The style is that of `benchmark.report.style`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.analyses.properties import PropertyScore
from benchmark.metrics import METRICS
from benchmark.report.style import (
    INK,
    SOFT,
    colour,
    has_matplotlib,
    legend_below,
    marker,
    saved_figure,
    set_log_ticks,
)
from benchmark.report.text import metric_text

__all__ = [
    "LABELS",
    "draw_correlations",
    "draw_map",
    "draw_predictions",
    "draw_scores",
    "draw_search",
]

LABELS = {
    "val_acc": "accuracy, percent",
    "val_acc_noise": "accuracy on noisy images, percent",
    "time": "evaluation time",
    "converge_time": "convergence time, fraction of the training",
    "num_params": "parameters",
    "num_nodes": "nodes",
    "depth": "depth, nodes",
    "average_degree": "average degree",
    "average_path": "average shortest path",
}
Values = npt.NDArray[np.floating[Any]]


def draw_scores(scores: Mapping[str, Sequence[PropertyScore]], path: Path) -> bool:
    """Draw Kendall's tau for each property as bars, one per kind of features, with one standard deviation.

    Parameters
    ----------
    scores
        The scores of each kind of features, for the same properties in the same order.
    path
        The file to write; an existing file is replaced.
    """
    if not has_matplotlib():
        return False
    names = [score.name for score in next(iter(scores.values()))]
    width = 0.8 / len(scores)
    lowest = 0.0
    with saved_figure(path, max(5.0, 1.0 + 0.42 * len(names) * (len(scores) + 1)), 3.6) as figure:
        axes = figure.subplots()
        for number, (features, row) in enumerate(scores.items()):
            places = np.arange(len(names)) - 0.4 + width * (number + 0.5)
            taus = np.array([score.tau for score in row])
            known = np.isfinite(taus)
            axes.bar(places, np.where(known, taus, 0), 0.92 * width, color=colour(number), label=features)
            errors = np.array([score.tau_std if ok else 0 for score, ok in zip(row, known)])
            axes.errorbar(places[known], taus[known], errors[known], fmt="none", ecolor=INK, capsize=2)
            for place, score, ok in zip(places, row, known):
                height = max(score.tau, 0) + score.tau_std if ok else 0
                text = f"{score.tau:.2f}" if ok else "n/a"
                axes.annotate(text, (place, height), (0, 3), textcoords="offset points", ha="center")
                lowest = min(lowest, score.tau - score.tau_std if ok else 0)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks(np.arange(len(names)), names)
        axes.set_ylim(lowest * 1.1, max(0.1, axes.get_ylim()[1] * 1.08))
        axes.set_ylabel("Kendall's tau-b")
        legend_below(figure, min(3, len(scores)))
    return True


def draw_predictions(scores: Sequence[PropertyScore], targets: pd.DataFrame, path: Path, title: str = "") -> bool:
    """Draw predicted against true properties of test networks, one panel per property.

    Parameters
    ----------
    scores
        The scores of one kind of features.
    targets
        True properties of the test networks, in the order of the predictions.
    path, title
        The file to write, and the title of the figure.
    """
    drawable = [score for score in scores if np.isfinite(score.predictions).any()]
    if not has_matplotlib() or not drawable:
        return False
    with _grid(path, len(drawable), 3.2, 3.2) as figure:
        for axes, score in zip(_panels(figure, len(drawable)), drawable):
            true = targets[score.name].to_numpy(float)
            shown = np.isfinite(true) & np.isfinite(score.predictions)
            axes.plot(true[shown], score.predictions[shown], "o", markersize=3, alpha=0.5, color=colour(0), mew=0)
            ends = np.array([true[shown].min(), true[shown].max()])
            axes.plot(ends, ends, color=SOFT, linewidth=0.9, linestyle="--", zorder=0)
            tau = f"tau {score.tau:.3f}" if np.isfinite(score.tau) else "tau undefined"
            axes.set_title(f"{score.name}, {tau}")
            axes.set_xlabel("true")
            axes.set_ylabel("predicted")
        figure.suptitle(title)
    return True


def draw_map(points: Values, properties: pd.DataFrame, names: Sequence[str], path: Path, title: str = "") -> bool:
    """Draw architectures as points coloured by a property, one panel per property; unknown values are grey.

    Parameters
    ----------
    points
        `(n, 2)` coordinates from `benchmark.analyses.project`.
    properties
        Table of `n` rows with the columns `names`.
    names
        Names of the properties.
    path, title
        The file to write, and the title of the figure.
    """
    shown = [name for name in names if np.isfinite(properties[name].to_numpy(float)).any()]
    if not has_matplotlib() or not shown:
        return False
    with _grid(path, len(shown), 4.0, 3.4) as figure:
        for axes, name in zip(_panels(figure, len(shown)), shown):
            values = properties[name].to_numpy(float)
            known = np.isfinite(values)
            axes.scatter(*points[~known].T, s=8, color="#cccccc", linewidths=0)
            low, high = np.percentile(values[known], [2, 98])  # outliers do not determine the colour scale
            limits = {"vmin": low, "vmax": high} if high > low else {}
            dots = axes.scatter(*points[known].T, c=values[known], s=12, cmap="viridis", linewidths=0, **limits)
            figure.colorbar(dots, ax=axes, extend="both" if limits else "neither")
            axes.set_title(LABELS.get(name, name))
            axes.set_xticks([])
            axes.set_yticks([])
        figure.suptitle(title)
    return True


def draw_correlations(
    table: pd.DataFrame, statistics: Sequence[str], target: str, path: Path, *, by: str = "predictor", title: str = ""
) -> bool:
    """Draw a property of networks against statistics of their graphs, one panel per statistic.

    Parameters
    ----------
    table
        One row per network and group, with the statistics, the target and the column `by`.
    statistics, target
        Columns of the table.
    path, title
        The file to write, and the title of the figure.
    by
        Column that determines the colours.
    """
    table = table[np.isfinite(table[target].to_numpy(float))]
    if not has_matplotlib() or not len(table):
        return False
    groups = list(dict.fromkeys(table[by]))
    with _grid(path, len(statistics), 3.3, 3.0) as figure:
        points: list[Any] = []
        for axes, statistic in zip(_panels(figure, len(statistics)), statistics):
            for number, group in enumerate(groups):
                rows = table[table[by] == group]
                look = {"color": colour(number), "marker": marker(number), "alpha": 0.55, "linewidths": 0}
                points.append(axes.scatter(rows[statistic], rows[target], s=12, **look))
            if statistic == "num_params":
                _log_scale(axes, table[statistic].to_numpy(float))
            axes.set_xlabel(LABELS.get(statistic, statistic))
            axes.set_ylabel(metric_text(target) if target in METRICS else LABELS.get(target, target))
        if len(groups) > 1:  # labels are given here, since matplotlib leaves out those that begin with "_"
            labels = list(map(str, groups))
            legend_below(figure, min(4, len(groups)), handles=points[: len(groups)], labels=labels)
        figure.suptitle(title)
    return True


def draw_search(ranking: pd.DataFrame, path: Path, *, label: str = "val_acc", title: str = "") -> bool:
    """Draw the distribution of a predicted property, and the property against the number of parameters.

    Parameters
    ----------
    ranking
        Ranking of `benchmark.analyses.search`, with `num_params`.
    path, title
        The file to write, and the title of the figure.
    label
        Name of the property.

    Examples
    --------
    >>> import tempfile
    >>> ranking = pd.DataFrame({"index": [4, 2], "predicted": [91.0, 88.5], "num_params": [2e6, 3e6]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_search(ranking, Path(folder) / "search.png") == has_matplotlib()
    True
    """
    if not has_matplotlib():
        return False
    values, sizes = ranking["predicted"].to_numpy(float), ranking["num_params"].to_numpy(float)
    name = f"predicted {LABELS.get(label, label)}"
    with saved_figure(path, 8.4, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        left.hist(values, bins=min(60, max(5, len(values) // 5)), color=colour(0))
        left.axvline(values[0], color=colour(1), linewidth=1.5)
        left.set_xlabel(name)
        left.set_ylabel("networks")
        right.scatter(sizes, values, s=10 if len(values) < 2000 else 2, alpha=0.4, color=colour(0), linewidths=0)
        best = f"best: network {int(ranking['index'].iloc[0]):,}"
        right.scatter(sizes[:1], values[:1], s=60, marker="*", color=colour(1), label=best, zorder=3)
        _log_scale(right, sizes)
        right.set_xlabel(LABELS["num_params"])
        right.set_ylabel(name)
        legend_below(figure, 1)
        figure.suptitle(title)
    return True


def _grid(path: Path, count: int, width: float, height: float) -> contextlib.AbstractContextManager[Any]:
    """Open a figure for `count` panels of this size in inches, with at most three panels per row."""
    columns = _columns(count)
    return saved_figure(path, width * columns, height * -(-count // columns) + 0.5)


def _panels(figure: Any, count: int) -> list[Any]:
    columns = _columns(count)
    panels = list(figure.subplots(-(-count // columns), columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return panels[:count]


def _columns(count: int) -> int:
    return min(count, 2 if count == 4 else 3)


def _log_scale(axes: Any, values: Values) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low := float(values.min()) / 1.1, high := float(values.max()) * 1.1)
    set_log_ticks(axes.xaxis, low, high)
