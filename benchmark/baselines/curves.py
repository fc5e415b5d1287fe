"""Training curves of several predictors: a table for the terminal, and a figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.evaluation import FAILED, OK, summarize
from benchmark.metrics import METRICS, get_metric
from benchmark.training.detection import DETECTION_METRICS

__all__ = ["curves_text", "draw_curves", "mean_curves"]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""The palette of Okabe and Ito, whose colors are distinct with color vision deficiencies, too."""

_MAX_SINGLE_CURVES = 12  # the curves of up to so many networks are drawn in addition to their mean


def mean_curves(table: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Compute mean and standard error over networks for every epoch.

    Parameters
    ----------
    table
        Rows of `curves.csv`.
    metric
        A metric, which is known for the epochs after which networks were evaluated, or "train_top1" or "train_loss",
        which are known for every epoch.

    Returns
    -------
    One row per predictor, split, images and epoch: `mean`, `standard_error` (from the population standard deviation),
    `networks` (number of all networks), `failures` (number of trainings that failed) and `successful_mean` (mean over
    the others).  Trainings that failed count as 0 in means of accuracies and average precisions, and not at all in
    those of "train_top1" and "train_loss".

    Examples
    --------
    >>> table = pd.DataFrame({"predictor": "random", "split": "test", "images": "digits", "index": [0, 1],
    ...                       "epoch": 1, "top1": [40.0, 60.0], "status": "ok"})
    >>> mean_curves(table)["mean"].tolist()
    [50.0]
    """
    rows = []
    for key, group in table.groupby(["predictor", "split", "images"], sort=False):
        failed = group[group["status"] == FAILED]
        fine = group[(group["status"] == OK) & group[metric].notna()]
        for epoch, part in fine.groupby("epoch"):
            summary = summarize(pd.concat([part, failed]), metric, worst=0.0 if metric in DETECTION_METRICS else None)
            found = (summary.mean, summary.standard_error, summary.networks, summary.failures, summary.successful_mean)
            rows.append((*key, int(epoch), *found))
        if fine.empty:
            rows.append((*key, 0, math.nan, math.nan, len(failed), len(failed), math.nan))
    columns = ["predictor", "split", "images", "epoch", "mean", "standard_error", "networks", "failures"]
    return pd.DataFrame(rows, columns=[*columns, "successful_mean"])


def curves_text(table: pd.DataFrame, metric: str = "top1") -> str:
    """Format a table per split and images: a line per epoch, a column per predictor, mean ± standard error.

    Parameters
    ----------
    table, metric
        As in `mean_curves`.

    Examples
    --------
    >>> table = pd.DataFrame({"predictor": "random", "split": "test", "images": "digits", "index": [0, 1],
    ...                       "epoch": 1, "top1": [40.0, 60.0], "status": "ok"})
    >>> print(curves_text(table))
    test, digits: top1 in percent, mean ± standard error
       epoch     random
           1   50.0±7.1
    networks          2
      failed          0

    If a training failed, a last line has the mean of the others after the last epoch.
    """
    means = mean_curves(table, metric)
    blocks = []
    for (split, images), block in means.groupby(["split", "images"], sort=False):
        predictors = list(dict.fromkeys(block["predictor"]))
        cells = {(row.epoch, row.predictor): f"{row.mean:.1f}±{row.standard_error:.1f}" for row in block.itertuples()}
        lines = [["epoch", *predictors]]
        for epoch in sorted({epoch for epoch, _ in cells if epoch}):
            lines.append([str(epoch), *(cells.get((epoch, name), "") for name in predictors)])
        last = block.drop_duplicates("predictor", keep="last").set_index("predictor")
        lines.append(["networks", *(f"{last.networks[name]:,}" for name in predictors)])
        lines.append(["failed", *(f"{last.failures[name]:,}" for name in predictors)])
        if (last.failures.to_numpy() * last.successful_mean.notna().to_numpy()).any():
            lines.append(["without them", *(f"{last.successful_mean[name]:.1f}" for name in predictors)])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = ["   ".join(part.rjust(width) for part, width in zip(line, widths)) for line in lines]
        blocks.append("\n".join([f"{split}, {images}: {_unit_text(metric)}, mean ± standard error", *text]))
    return "\n\n".join(blocks) or "no network has been trained yet"


def draw_curves(table: pd.DataFrame, path: Path, metric: str = "top1") -> bool:
    """Draw a metric and the training loss by epoch into a PNG file: means, and bands of one standard error.

    Parameters
    ----------
    table, metric
        As in `mean_curves`.
    path
        The file; replaced if it exists.

    Returns
    -------
    Whether the figure was drawn: False without matplotlib, or if there are no curves.

    Examples
    --------
    >>> draw_curves(pd.DataFrame({"split": [], "images": [], "status": []}), Path("curves.png"))
    False
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    groups = list(table[table["status"] == OK].groupby(["split", "images"], sort=False))
    if not groups:
        return False
    figure = Figure(figsize=(10, 0.4 + 3.6 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(groups), 2, squeeze=False)
    predictors = list(dict.fromkeys(table["predictor"]))
    for (left, right), ((split, images), _) in zip(axes, groups):
        part = table[(table["split"] == split) & (table["images"] == images)]
        _draw(left, part, metric, predictors)
        left.set_title(f"{split}, {images}", loc="left", fontsize=11)
        left.set_ylabel(_label(metric))
        _draw(right, part, "train_loss", predictors)
        right.set_title("training", loc="left", fontsize=11)
        right.set_ylabel("loss")
        left.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    return True


def _draw(axes: Any, table: pd.DataFrame, column: str, predictors: list[str]) -> None:
    means = mean_curves(table, column)
    for name, rows in means[means["epoch"] > 0].groupby("predictor", sort=False):
        color = COLORS[predictors.index(name) % len(COLORS)]
        own = table[(table["predictor"] == name) & (table["status"] == OK) & table[column].notna()]
        networks = own.groupby(["index", "network"])
        if 1 < len(networks) <= _MAX_SINGLE_CURVES:
            for _, curve in networks:
                axes.plot(curve["epoch"], curve[column], color=color, linewidth=0.7, alpha=0.35)
        last = rows.iloc[-1]
        failed = f", {last.failures} failed" if last.failures else ""
        label = f"{name} ({last.networks} network{'' if last.networks == 1 else 's'}{failed})"
        axes.plot(rows["epoch"], rows["mean"], color=color, linewidth=2, marker="o", markersize=3.5, label=label)
        low, high = rows["mean"] - rows["standard_error"], rows["mean"] + rows["standard_error"]
        axes.fill_between(rows["epoch"], low, high, color=color, alpha=0.18, linewidth=0)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _label(metric: str) -> str:
    """Return the label and unit of a metric, or the name of another column, an accuracy during training."""
    if metric not in METRICS:
        return f"{metric}, %"
    found = get_metric(metric)
    return f"{found.label}, {found.unit}" if found.unit else found.label


def _unit_text(metric: str) -> str:
    """Return the name of a metric with its unit in words."""
    unit = METRICS[metric].unit if metric in METRICS else "%"
    return f"{metric} in percent" if unit == "%" else f"{metric} in {unit}" if unit else metric
