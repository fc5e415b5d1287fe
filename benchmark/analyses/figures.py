"""Pictures of the analyses, as PNG files: property prediction, maps of architectures, statistics, searches.

Each function returns whether it drew something: not without matplotlib.  The same data give the same bytes; no global
state of matplotlib is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.analyses.properties import PropertyScore

__all__ = [
    "LABELS",
    "draw_correlations",
    "draw_map",
    "draw_predictions",
    "draw_scores",
    "draw_search",
    "has_matplotlib",
]

LABELS = {
    "val_acc": "accuracy, percent",
    "val_acc_noise": "accuracy on noisy images, percent",
    "time": "evaluation time",
    "converge_time": "convergence time, share of the training",
    "num_params": "parameters, millions",
    "num_nodes": "nodes",
    "depth": "depth, nodes",
    "average_degree": "average degree",
    "average_path": "average shortest path",
    "top1": "top-1, percent",
    "top5": "top-5, percent",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of Okabe and Ito, which everybody can tell apart."""

MARKS = ("o", "^", "s", "D", "v", "P", "X")
_MILLIONS = ("num_params",)

Values = npt.NDArray[np.floating[Any]]


def has_matplotlib() -> bool:
    """Whether there can be pictures."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw_scores(scores: Mapping[str, Sequence[PropertyScore]], path: Path) -> bool:
    """Bars of Kendall's tau for each property, side by side for each kind of features; whiskers are one deviation.

    Parameters
    ----------
    scores
        For each kind of features, the scores, of the same properties in the same order.
    path
        The file; replaced if it is there.
    """
    if not has_matplotlib():
        return False
    names = [score.name for score in next(iter(scores.values()))]
    figure = _figure(max(5.0, 1.0 + 0.42 * len(names) * (len(scores) + 1)), 3.6)
    axes = figure.subplots()
    width = 0.8 / len(scores)
    lowest = 0.0
    for number, (features, row) in enumerate(scores.items()):
        places = np.arange(len(names)) - 0.4 + width * (number + 0.5)
        taus = np.array([score.tau for score in row])
        colour = COLOURS[number % len(COLOURS)]
        known = np.isfinite(taus)
        axes.bar(places, np.where(known, taus, 0), 0.92 * width, color=colour, label=features)
        errors = [score.tau_std if ok else 0 for score, ok in zip(row, known)]
        axes.errorbar(places[known], taus[known], np.array(errors)[known], fmt="none", ecolor="#222222", capsize=2)
        for place, score, ok in zip(places, row, known):
            height = max(score.tau, 0) + score.tau_std if ok else 0
            text = f"{score.tau:.2f}" if ok else "n/a"
            axes.annotate(text, (place, height), (0, 3), textcoords="offset points", ha="center", fontsize=8)
            lowest = min(lowest, score.tau - score.tau_std if ok else 0)
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_ylim(lowest * 1.1, max(0.1, axes.get_ylim()[1] * 1.08))
    axes.set_ylabel("Kendall's tau-b")
    figure.legend(loc="outside upper center", ncols=min(3, len(scores)), frameon=False, fontsize=9)
    _tidy(axes)
    return _saved(figure, path)


def draw_predictions(scores: Sequence[PropertyScore], targets: pd.DataFrame, path: Path, title: str = "") -> bool:
    """Predicted against true properties of test networks, a panel for each property.

    Parameters
    ----------
    scores
        Of one kind of features.
    targets
        True properties of the test networks, in the order of the predictions.
    path, title
        The file, and a text above.
    """
    drawable = [score for score in scores if np.isfinite(score.predictions).any()]
    if not has_matplotlib() or not drawable:
        return False
    figure, panels = _panels(len(drawable), 3.2, 3.2)
    for axes, score in zip(panels, drawable):
        true = targets[score.name].to_numpy(float)
        shown = np.isfinite(true) & np.isfinite(score.predictions)
        axes.plot(true[shown], score.predictions[shown], "o", markersize=3, alpha=0.5, color=COLOURS[0], mew=0)
        ends = np.array([true[shown].min(), true[shown].max()])
        axes.plot(ends, ends, color="#777777", linewidth=0.9, linestyle="--", zorder=0)
        tau = f"tau {score.tau:.3f}" if np.isfinite(score.tau) else "no tau"
        axes.set_title(f"{score.name}, {tau}", loc="left", fontsize=10)
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        _tidy(axes)
    figure.suptitle(title, fontsize=11)
    return _saved(figure, path)


def draw_map(points: Values, properties: pd.DataFrame, names: Sequence[str], path: Path, title: str = "") -> bool:
    """Architectures as points, a panel for each property that colours them; grey where it is not known.

    Parameters
    ----------
    points
        `(n, 2)`, of `benchmark.analyses.project`.
    properties
        `n` rows with the columns `names`.
    names
        The properties.
    path, title
        The file, and a text above.
    """
    from_to = [name for name in names if np.isfinite(properties[name].to_numpy(float)).any()]
    if not has_matplotlib() or not from_to:
        return False
    figure, panels = _panels(len(from_to), 4.0, 3.4)
    for axes, name in zip(panels, from_to):
        values = properties[name].to_numpy(float)
        known = np.isfinite(values)
        axes.scatter(*points[~known].T, s=8, color="#cccccc", linewidths=0)
        # Outliers would take all the colours: the ends are the 2nd and the 98th percentile.
        low, high = np.percentile(values[known], [2, 98])
        limits = {"vmin": low, "vmax": high} if high > low else {}
        order = np.flatnonzero(known)
        shown = axes.scatter(*points[order].T, c=values[order], s=12, cmap="viridis", linewidths=0, **limits)
        figure.colorbar(shown, ax=axes, extend="both" if limits else "neither")
        axes.set_title(LABELS.get(name, name), loc="left", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("#bbbbbb")
    figure.suptitle(title, fontsize=11)
    return _saved(figure, path)


def draw_correlations(
    table: pd.DataFrame, statistics: Sequence[str], target: str, path: Path, *, by: str = "predictor", title: str = ""
) -> bool:
    """A property of networks against statistics of their graphs, a panel for each statistic.

    Parameters
    ----------
    table
        One row per network and group, with the statistics, the target and the column `by`.
    statistics, target
        Columns.
    path, title
        The file, and a text above.
    by
        What colours are for.
    """
    table = table[np.isfinite(table[target].to_numpy(float))]
    if not has_matplotlib() or not len(table):
        return False
    figure, panels = _panels(len(statistics), 3.3, 3.0)
    groups = list(dict.fromkeys(table[by]))
    for axes, statistic in zip(panels, statistics):
        for number, group in enumerate(groups):
            rows = table[table[by] == group]
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[number % len(MARKS)]}
            label = str(group) if statistic == statistics[0] else None
            values = rows[statistic] / (1e6 if statistic in _MILLIONS else 1)
            axes.scatter(values, rows[target], s=12, alpha=0.55, linewidths=0, label=label, **look)
        if statistic in _MILLIONS:
            axes.set_xscale("log")
            _plain_ticks(axes.xaxis)
        axes.set_xlabel(LABELS.get(statistic, statistic))
        axes.set_ylabel(LABELS.get(target, target))
        _tidy(axes)
    if len(groups) > 1:
        figure.legend(loc="outside lower center", ncols=min(4, len(groups)), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return _saved(figure, path)


def draw_search(ranking: pd.DataFrame, path: Path, *, label: str = "val_acc", title: str = "") -> bool:
    """What is predicted about the networks of a search: how it is distributed, and against their size.

    Parameters
    ----------
    ranking
        Of `benchmark.analyses.search`, with `num_params`.
    path, title
        The file, and a text above.
    label
        The property.
    """
    if not has_matplotlib():
        return False
    figure = _figure(8.4, 3.4)
    left, right = figure.subplots(1, 2)
    values = ranking["predicted"].to_numpy(float)
    name = f"predicted {LABELS.get(label, label)}"
    left.hist(values, bins=min(60, max(5, len(values) // 5)), color=COLOURS[0])
    left.axvline(values[0], color=COLOURS[1], linewidth=1.5)
    left.set_xlabel(name)
    left.set_ylabel("networks")
    millions = ranking["num_params"].to_numpy(float) / 1e6
    size = 10 if len(values) < 2000 else 2
    # As pixels: a hundred thousand points take no more room than one.
    right.scatter(millions, values, s=size, alpha=0.4, color=COLOURS[0], linewidths=0, rasterized=True)
    best = f"best: network {int(ranking['index'].iloc[0]):,}"
    right.scatter(millions[:1], values[:1], s=60, marker="*", color=COLOURS[1], label=best, zorder=3)
    right.set_xscale("log")
    right.set_xlabel(LABELS["num_params"])
    right.set_ylabel(name)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    for axes in (left, right):
        _tidy(axes)
    _plain_ticks(right.xaxis)
    return _saved(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(count: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure with so many panels of this size in inches, three in a row at most, two of four."""
    columns = min(count, 2 if count == 4 else 3)
    rows = -(-count // columns)
    figure = _figure(width * columns, height * rows + 0.5)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _plain_ticks(axis: Any) -> None:
    """A logarithmic axis of about one decade, with numbers as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 3, 5, 7)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _saved(figure: Any, path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return True
