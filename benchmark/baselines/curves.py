"""How trainings went, side by side: a table for the terminal, and a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.evaluation import FAILED, OK, summarize

__all__ = ["curves_text", "draw_curves", "mean_curves"]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of Okabe and Ito, which everybody can tell apart."""

_SINGLE = 12  # so many networks are drawn one by one, too


def mean_curves(table: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Mean and standard error over networks, for every epoch at which they were evaluated.

    Parameters
    ----------
    table
        Rows of `curves.csv`.
    metric
        "top1" or "top5"; also "train_top1" or "train_loss", which every epoch has.

    Returns
    -------
    One row per predictor, split, images and epoch: `mean`, `standard_error` (from the population's standard
    deviation), `networks` (all of them) and `failures`, which are in no mean.
    """
    rows = []
    for key, group in table.groupby(["predictor", "split", "images"], sort=False):
        failed = group[group["status"] == FAILED]
        fine = group[(group["status"] == OK) & group[metric].notna()]
        for epoch, part in fine.groupby("epoch"):
            summary = summarize(pd.concat([part, failed]), metric)
            found = (summary.mean, summary.standard_error, summary.networks, summary.failures)
            rows.append((*key, int(epoch), *found))
        if fine.empty:
            rows.append((*key, 0, math.nan, math.nan, len(failed), len(failed)))
    columns = ["predictor", "split", "images", "epoch", "mean", "standard_error", "networks", "failures"]
    return pd.DataFrame(rows, columns=columns)


def curves_text(table: pd.DataFrame, metric: str = "top1") -> str:
    """A table per split and images: a line per epoch, a column per predictor, mean ± standard error.

    Parameters
    ----------
    table, metric
        As in `mean_curves`.
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
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = ["   ".join(part.rjust(width) for part, width in zip(line, widths)) for line in lines]
        blocks.append("\n".join([f"{split}, {images}: {metric} in percent, mean ± standard error", *text]))
    return "\n\n".join(blocks) or "no network has been trained yet"


def draw_curves(table: pd.DataFrame, path: Path, metric: str = "top1") -> bool:
    """Draw accuracy and training loss by epoch into a PNG file: means, and bands of one standard error.

    Parameters
    ----------
    table, metric
        As in `mean_curves`.
    path
        The file; replaced if it is there.

    Returns
    -------
    Whether it was drawn: not without matplotlib, nor if nothing was trained.
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
        left.set_ylabel(f"{metric.replace('top', 'top-')}, percent")
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
        if 1 < len(networks) <= _SINGLE:
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
