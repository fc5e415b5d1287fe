"""The tables of the papers, recomputed from the published results of single networks.

Knyazev et al., NeurIPS 2021, section 5 (accuracies of predicted parameters, and of SGD), and ICML 2023 (models of
torchvision).  Standard errors of means are computed from the population standard deviation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.evaluation import OK, summarize
from benchmark.literature.files import FILES, METHODS, SPLITS
from benchmark.literature.loading import Published, checked_split, files_of, load
from deepnets.support import ConfigError

__all__ = [
    "ACCURACY_COLUMNS",
    "NETWORKS",
    "accuracies",
    "at_chance",
    "leaderboard",
    "model_statistics",
    "pair_row",
    "parameter_counts",
    "rank_correlations",
    "summary_row",
    "win_rates",
]

NETWORKS = ("resnet50", "vit")
"""The two networks of `predefined`."""

ACCURACY_COLUMNS = [
    *("method", "split", "network", "mean", "standard_error", "best", "best_index", "networks", "failures", "source"),
    "successful_mean",
]
"""Columns of tables of accuracies."""

_LABELS = {"mlp": "MLP", "ghn1": "GHN-1", "ghn2": "GHN-2"}
_CHANCE = {"cifar10": 10.0, "imagenet": 0.51}  # networks that SGD could not train have at most this accuracy
_MILLION = 1e6


def leaderboard(folder: Path | str | Published, images: str) -> pd.DataFrame:
    """Return published accuracies per method and split, to show next to other results.

    Parameters
    ----------
    folder
        The folder of the published files, or the result of `load`.
    images
        "cifar10" (top-1) or "imagenet" (top-5).

    Returns
    -------
    One row per method and split: `method` ("MLP", "GHN-1", "GHN-2", "SGD 50 ep" ...), `split`, `mean` and
    `standard_error` (percent), `best` and `best_index`, `networks`.  As published, accuracies are on test images, and
    for networks of `val` on validation images where the files have them.  In `predefined`, index 0 is ResNet-50 and 1
    is ViT; the accuracy of the network that is not the best is `2 * mean - best`.  The table is empty if the folder
    has no file for these images.

    Raises
    ------
    ConfigError
        If there is no such folder, it contains none of the files, or nothing is published for these images.
    FormatError
        As for `load`.

    Examples
    --------
    >>> published = Published(Path(), networks={}, training=None, models=None, unusable=(), missing=())
    >>> leaderboard(published, "cifar10").empty
    True
    """
    published = folder if isinstance(folder, Published) else load(folder)
    columns = ["method", "split", "mean", "standard_error", "best", "best_index", "networks"]
    if not any(file in published.networks for file in files_of(images)):
        return pd.DataFrame(columns=columns)
    test = accuracies(published, images, part="test")
    val = accuracies(published, images, part="val")
    methods = list(dict.fromkeys([*test["method"], *val["method"]]))
    tables = {
        split: {str(key): rows for key, rows in test[test["split"] == split].groupby("method")} for split in SPLITS
    }
    tables["val"] |= {str(key): rows for key, rows in val[val["split"] == "val"].groupby("method")}
    lines = []
    for method in methods:
        for split in SPLITS:
            if method in tables[split]:
                rows = tables[split][method]
                row = pair_row(rows) if split == "predefined" else rows.iloc[0].to_dict()
                lines.append({**row, "method": method, "split": split})
    return pd.DataFrame(lines, columns=columns)


def accuracies(
    published: Published, images: str = "cifar10", *, part: str = "test", noise: bool = False
) -> pd.DataFrame:
    """Return published accuracies per method and split.

    Parameters
    ----------
    published
        The published files.
    images
        "cifar10" (top-1) or "imagenet" (top-5).
    part
        "test" or "val", for test or validation images.
    noise
        Whether the images are noisy.

    Returns
    -------
    `ACCURACY_COLUMNS`: `method`, `split`, `network` (empty except for the two networks of `predefined`, which have one
    row each), `mean`, `standard_error`, `best` (percent), `best_index`, `networks`, `failures` (0: the files contain
    none), `source`, the name of the file, and `successful_mean`, which is equal to `mean`.  Missing and unusable values
    have no row.  For CIFAR-10, clean accuracies of predicted parameters come from the basic file and all others from
    the extended file, if both exist.

    Raises
    ------
    ConfigError
        If no file has results on these images, or for another `part`.
    """
    if part not in ("val", "test"):
        raise ConfigError(f"part: expected val or test, got {part!r}")
    files = _present(published, images)
    rows = []
    epochs = sorted({epoch for file in files for epoch in FILES[file].epochs})
    for method in (*METHODS, *(f"sgd{epoch}" for epoch in epochs)):
        column = f"{method}_{part}_acc{'_noise' if noise else ''}"
        basic_first = method in METHODS and not noise
        for split in SPLITS:
            for file in files if basic_first else reversed(files):
                table = published.networks[file]
                table = table[table["split"] == split]
                if column in table and not table[column].isna().any():
                    about = {"method": _label(method), "split": split}
                    rows += _summary_rows(table, column, about, FILES[file].name)
                    break
    return pd.DataFrame(rows, columns=ACCURACY_COLUMNS)


def _summary_rows(table: pd.DataFrame, column: str, about: dict[str, Any], source: str) -> list[dict[str, Any]]:
    table = table[["index", column]].assign(status=OK)
    if about["split"] != "predefined":
        return [{**about, "network": "", **summary_row(table, column), "source": source}]
    return [
        {**about, "network": name, **summary_row(table[table["index"] == index], column), "source": source}
        for index, name in enumerate(NETWORKS)
    ]


def summary_row(table: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Return the result of `summarize` by name; a single network has no standard error."""
    summary = summarize(table, metric)._asdict()
    if summary["networks"] < 2:
        summary["standard_error"] = np.nan
    return summary


def pair_row(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the summary of the two networks of `predefined`, which have one row each, by name."""
    table = pd.DataFrame({"index": rows["best_index"], "mean": rows["mean"], "status": OK})
    return dict(summarize(table, "mean")._asdict())


def at_chance(published: Published, images: str = "cifar10") -> pd.DataFrame:
    """Count networks that SGD could not train: exactly 10.00 % (CIFAR-10), or at most 0.51 % (ImageNet).

    Returns
    -------
    `split`, `networks`, `at_chance`.

    Raises
    ------
    ConfigError
        If no file has results on these images.
    """
    rows = []
    for split in SPLITS:
        values = _sgd(published, images, split)
        stuck = values == _CHANCE[images] if images == "cifar10" else values <= _CHANCE[images]
        rows.append({"split": split, "networks": len(values), "at_chance": int(stuck.sum())})
    return pd.DataFrame(rows)


def parameter_counts(published: Published, images: str = "cifar10") -> pd.DataFrame:
    """Return the numbers of parameters of the networks of each split, in millions.

    Returns
    -------
    `split`, `min`, `mean`, `max`.

    Raises
    ------
    ConfigError
        If no file has results on these images.
    """
    file = _present(published, images)[0]
    rows = []
    for split in SPLITS:
        values = published.values(file, split, "params") / _MILLION
        rows.append({"split": split, "min": values.min(), "mean": values.mean(), "max": values.max()})
    return pd.DataFrame(rows)


def rank_correlations(published: Published, images: str = "cifar10", split: str = "test") -> pd.DataFrame:
    """Return rank correlations with the test accuracy of trained networks: Kendall's tau-b, which handles ties.

    Parameters
    ----------
    published
        The published files.
    images
        "cifar10" (trained for 50 epochs) or "imagenet" (for one).
    split
        Split of the networks.

    Returns
    -------
    `property` ("MLP", "GHN-1", "GHN-2": accuracies of predicted parameters; "params", "time", "converge_time") and
    `tau`, from the extended file if it exists.

    Raises
    ------
    ConfigError
        If no file has results on these images, or there is no such split.
    """
    from scipy.stats import kendalltau

    checked_split(split)
    file = _present(published, images)[-1]
    table = published.networks[file]
    table = table[table["split"] == split]
    accuracy = _sgd(published, images, split)
    columns = {f"{method}_test_acc": _label(method) for method in METHODS}
    columns |= {name: name for name in ("params", "time", "converge_time")}
    rows = [
        {"property": label, "tau": float(kendalltau(table[column], accuracy).statistic)}
        for column, label in columns.items()
        if column in table and not table[column].isna().any()
    ]
    return pd.DataFrame(rows, columns=["property", "tau"])


def win_rates(published: Published, images: str = "cifar10", winner: str = "ghn2") -> pd.DataFrame:
    """Return the fraction of networks on which one method has a higher test accuracy than the others.

    Parameters
    ----------
    published
        The published files.
    images
        "cifar10" or "imagenet".
    winner
        "mlp", "ghn1", "ghn2", or training with SGD, such as "sgd5".

    Returns
    -------
    `split` (all but `predefined`), and one column per other method, such as "GHN-1": the fraction of networks, from 0
    to 1, from the extended file if it exists.

    Raises
    ------
    ConfigError
        If no file has results on these images, or there is no such method.
    """
    file = _present(published, images)[-1]
    table = published.networks[file]
    methods = [
        name for name in (*METHODS, *(f"sgd{epoch}" for epoch in FILES[file].epochs)) if f"{name}_test_acc" in table
    ]
    if winner not in methods:
        raise ConfigError(f"winner: expected one of {', '.join(methods)}, got {winner!r}")
    rows = []
    for split in SPLITS[:-1]:
        part = table[table["split"] == split]
        shares = {
            _label(other): _share(part[f"{winner}_test_acc"], part[f"{other}_test_acc"])
            for other in methods
            if other != winner
        }
        rows.append({"split": split, **shares})
    return pd.DataFrame(rows)


def _share(ours: pd.Series, others: pd.Series) -> float:
    if ours.isna().any() or others.isna().any():
        return float("nan")
    return float((ours > others).mean())


def model_statistics(published: Published) -> pd.DataFrame:
    """Return statistics of `ghn3_results.json` over the 74 models of torchvision.

    Returns
    -------
    One row per field of the file: `key`, `mean`, `std` (population), `median`, `max`, `best` (the model with the
    maximum) and `min`; and a row "gain": the accuracy after one epoch of SGD from parameters of GHN-3 minus the
    accuracy after one epoch from random parameters.  `attrs["wins"]` is the number of models with a positive gain.

    Raises
    ------
    ConfigError
        If the file is missing.
    """
    if published.models is None:
        raise ConfigError(f"{published.folder}: {FILES['ghn3'].name} is missing")
    models = published.models.set_index("model")
    models["gain"] = models["ghn3-sgd1ep"] - models["randinit-sgd1ep"]
    rows = [
        {
            "key": key,
            "mean": values.mean(),
            "std": values.std(ddof=0),
            "median": values.median(),
            "max": values.max(),
            "best": values.idxmax(),
            "min": values.min(),
        }
        for key, values in models.items()
    ]
    table = pd.DataFrame(rows)
    table.attrs["wins"] = int((models["gain"] > 0).sum())
    return table


def _label(method: str) -> str:
    return _LABELS.get(method) or re.sub(r"sgd(\d+)", r"SGD \1 ep", method)


def _present(published: Published, images: str) -> list[str]:
    files = files_of(images)
    present = [file for file in files if file in published.networks]
    if not present:
        names = " or ".join(FILES[file].name for file in files)
        raise ConfigError(f"{published.folder}: has no {names}")
    return present


def _sgd(published: Published, images: str, split: str) -> Any:
    """Return the test accuracies of trained networks."""
    file = _present(published, images)[-1]
    return published.values(file, split, f"sgd{max(FILES[file].epochs)}_test_acc")
