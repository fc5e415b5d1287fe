"""Targets of property prediction, from the published files or from own results.

Tables have one row per network of a split: `index` and the `PROPERTIES` of `benchmark.analyses.properties`, NaN where
unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.analyses.properties import PROPERTIES
from benchmark.metrics import get_metric
from benchmark.results import Results, read_results, usual_metric
from benchmark.results.reading import metric_columns
from deepnets.architecture import has_cifar_stem
from deepnets.corpus import DeepNets1M
from deepnets.support import ConfigError

__all__ = [
    "NEVER",
    "TRAINED",
    "check_corpus",
    "choose_rows",
    "converge_times",
    "own_targets",
    "published_targets",
    "read_accuracies",
    "read_curves",
]

TRAINED = 92.0
"""Accuracy on training images, in percent, from which a training counts as converged."""

NEVER = 2.0
"""Convergence time of a training that did not converge."""

PER_IMAGES = 10_000
"""Number of images of evaluation times of own results, in seconds similar to the published ones."""

# The numbers of parameters of the published networks agree except for pruned ones; those of others rarely agree.
_SAME_SIZE, _MOST = 0.01, 0.5


# --- published ---


def published_targets(folder: Path | str, images: str, nets: DeepNets1M) -> pd.DataFrame:
    """Return properties of the published networks, from the published files.

    Parameters
    ----------
    folder
        The folder of the published files.
    images
        "cifar10" or "imagenet".
    nets
        A split of the published corpus (`python -m deepnets import` reads it).

    Raises
    ------
    ConfigError
        If a file is missing, or the networks are not the published ones.
    FormatError
        If a file is not the published one.
    """
    from benchmark.literature import targets

    table = targets(folder, images, nets.split)
    sizes = nets.table["num_params" if has_cifar_stem(nets.image_size) else "num_params_imagenet"].to_numpy(np.float64)
    count = min(len(table), len(sizes))
    if "params" in table:
        ours, theirs = sizes[:count], table["params"].to_numpy(np.float64)[:count]
        share = float(np.mean(np.abs(ours / theirs - 1) < _SAME_SIZE))
        if share < _MOST:
            where = nets.file.path if nets.file is not None else nets.split
            raise ConfigError(
                f"{where}: contains other networks than the published ones ({share:.0%} of them have the "
                "published number of parameters); import the original release (deepnets import), or use "
                "own results (--results)"
            )
    table = _aligned(table[["index", *PROPERTIES]], len(nets))
    table.attrs = {"about": f"published results, {images}"}
    return table


# --- own results ---


def choose_rows(
    results: Results, splits: Iterable[str], predictor: str | None = None, images: str | None = None
) -> pd.DataFrame:
    """Select the rows of one predictor on one image set.

    Parameters
    ----------
    results
        Results of `benchmark.results.read_results`.
    splits
        Splits that the predictor must have been evaluated on.
    predictor, images
        Names of the predictor and of the image set.  Default: the only one.

    Raises
    ------
    ConfigError
        If there is none, or several and none was chosen.
    """
    wanted = list(splits)
    rows = results.rows[results.rows["split"].isin(wanted)]
    for option, column, value in (("images", "images", images), ("predictor", "predictor", predictor)):
        groups = rows.groupby(column)["split"].nunique()
        there = sorted(str(name) for name, count in groups.items() if count == len(wanted))
        what = f"results of {' and '.join(wanted)}"
        if not there:
            raise ConfigError(f"{results.folder}: no {column} has {what}; evaluate a predictor on them: deepnets bench")
        if value is None and len(there) > 1:
            raise ConfigError(f"--{option}: {results.folder} has {what} for {', '.join(there)}; choose one")
        if value is not None and value not in there:
            raise ConfigError(
                f"--{option}: {results.folder} has no {what} for {value!r}; there are some for {', '.join(there)}"
            )
        rows = rows[rows[column] == (value or there[0])]
    return rows


def read_accuracies(
    folder: Path | str, nets: DeepNets1M, *, predictor: str | None = None, images: str | None = None
) -> pd.DataFrame:
    """Read the accuracies of the networks of a split from a folder of results, as targets of `DeepNets1M.to_pyg`.

    Parameters
    ----------
    folder
        Folder of results, as `python -m benchmark run` writes it.
    nets
        A split of the corpus.
    predictor, images
        Names of the predictor and of the image set.  Default: the only one.

    Returns
    -------
    pandas.DataFrame
        One row per network that was evaluated successfully, with its position as index `index`, and a column for each
        metric, such as `top1` and `top5`, registered or not.  Values are on images without noise; on validation images
        if there are any, and on test images otherwise.

    Raises
    ------
    ConfigError
        If the results are of another corpus, or there are none for the split, the predictor and the images, or several
        and none was chosen.
    MissingDataError, FormatError
        If there are no results, or the files are damaged.

    Examples
    --------
    >>> read_accuracies("no-such-folder", DeepNets1M(split="predefined"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    deepnets.support.errors.MissingDataError: results: there is no no-such-folder/networks.csv; ...
    """
    results = read_results(folder)
    rows = choose_rows(results, [nets.split], predictor, images)
    check_corpus(rows, nets, results.runs)
    rows = rows[(rows["status"] == "ok") & (rows["noise"] == 0)]
    part = "val" if (rows["part"] == "val").any() else "test"
    return rows[rows["part"] == part].set_index("index")[metric_columns(rows)].astype(float).sort_index()


def own_targets(
    rows: pd.DataFrame,
    nets: DeepNets1M,
    *,
    runs: Mapping[str, Mapping[str, Any]] | None = None,
    metric: str | None = None,
    curves: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return properties of networks, from the results of one predictor on one image set.

    Parameters
    ----------
    rows
        Rows of `choose_rows`, with those of all splits that are used together.
    nets
        A split of the corpus.
    runs
        Descriptions of the runs by id, to check that the rows belong to this corpus.
    metric
        Name of the metric, such as "top1".  Default: the published metric.
    curves
        Rows of `curves.csv` from a training of these networks.

    Returns
    -------
    One row per network.  `val_acc` and `val_acc_noise` are on validation images if there are any, and on test images
    otherwise, with noise of the same level for all splits; `time` is the evaluation time in seconds for 10,000 images;
    `converge_time` is that of `converge_times`.  `attrs` describes the values.

    Raises
    ------
    ConfigError
        If the rows belong to another corpus, or the metric is unknown or not among the results.
    """
    level = _noise_level(rows)
    rows = rows[rows["split"] == nets.split]
    check_corpus(rows, nets, runs or {})
    metric = get_metric(metric or usual_metric(str(rows["images"].iloc[0]) if len(rows) else "", nets.split)).name
    if metric not in rows:
        raise ConfigError(f"metric: the results have no values of {metric}; evaluate with --metrics {metric}")
    part = "val" if (rows["part"] == "val").any() else "test"
    rows = rows[(rows["part"] == part) & (rows["status"] == "ok")]
    clean, noisy = rows[rows["noise"] == 0], rows[(rows["noise"] > 0) & (rows["noise"] == level)]
    about = f"{metric} on {part} images"
    if len(noisy):
        about += f", noise {level:g}"
    table = pd.DataFrame({"index": np.arange(len(nets)), **dict.fromkeys(PROPERTIES, np.nan)}).set_index("index")
    known = {
        "val_acc": clean.set_index("index")[metric],
        "val_acc_noise": noisy.set_index("index")[metric],
        "time": clean.set_index("index").eval(f"evaluate_seconds * {PER_IMAGES} / num_images"),
    }
    if curves is not None:
        known["converge_time"] = converge_times(curves[curves["split"] == nets.split])
    for name, values in known.items():
        table[name] = values.reindex(table.index).astype(float)
    table = table.reset_index()
    table.attrs = {"about": about, "metric": metric, "part": part}
    return table


def _noise_level(rows: pd.DataFrame) -> float:
    """Return the level of noise of `val_acc_noise`, which is the same for all splits: the most frequent one.

    Levels that some split lacks are used only if there are no others.
    """
    noisy = rows[rows["noise"] > 0]
    levels = noisy.groupby("noise").agg(splits=("split", "nunique"), networks=("split", "size")).reset_index()
    best = levels.sort_values(["splits", "networks", "noise"], ascending=[False, False, True])["noise"]
    return float(best.iloc[0]) if len(best) else 0.0


def converge_times(curves: pd.DataFrame) -> pd.Series:
    """Return convergence times: the first epoch with a training accuracy of 92 %, as a fraction of all epochs.

    Parameters
    ----------
    curves
        Rows of `curves.csv` of one predictor and one split: `index`, `epoch` (from 1), `train_top1`, `status`.

    Returns
    -------
    The convergence times by index, and 2 for trainings that did not converge, as published.  Failed trainings are
    omitted.

    Examples
    --------
    >>> curves = pd.DataFrame({"index": [5, 5], "epoch": [1, 2], "train_top1": [80.0, 95.0], "status": "ok"})
    >>> converge_times(curves).to_dict()
    {5: 1.0}
    """
    fine = curves[curves["status"] == "ok"]
    epochs = fine.groupby("index")["epoch"].max()
    converged = fine[fine["train_top1"] >= TRAINED].groupby("index")["epoch"].min()
    return (converged.reindex(epochs.index) / epochs).fillna(NEVER)


def read_curves(folder: Path | str, predictor: str | None = None, images: str | None = None) -> pd.DataFrame:
    """Read the rows of `curves.csv` of one predictor, or of the only one, whatever its name.

    Raises
    ------
    ConfigError
        If the file does not exist, or there are several predictors and none of them was chosen.
    FormatError
        If the file is damaged.
    """
    from benchmark.baselines import Curves

    if not (Path(folder) / "curves.csv").is_file():
        raise ConfigError(f"--curves: {folder} has no curves.csv; deepnets sgd writes one")
    table = Curves(Path(folder)).table()
    if images is not None:
        table = table[table["images"] == images]
    labels = sorted(set(table["predictor"]))
    if predictor in labels:
        labels = [str(predictor)]
    if len(labels) != 1:
        there = ", ".join(labels) or "nothing"
        raise ConfigError(f"--curves: {folder} has {there}; choose one with --predictor")
    return table[table["predictor"] == labels[0]]


def check_corpus(rows: pd.DataFrame, nets: DeepNets1M, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `ConfigError` if results belong to another corpus."""
    if nets.file is None:
        return
    for run in sorted(set(rows["run"])):
        digest = runs.get(run, {}).get("corpus")
        if isinstance(digest, str) and digest not in ("", nets.file.content_digest):
            raise ConfigError(
                f"{nets.file.path}: contains other networks than run {run} (content "
                f"{nets.file.content_digest[:12]}, not {digest[:12]}); use the corpus of the results (--data)"
            )
    if len(rows) and int(rows["index"].max()) >= nets.file.num_networks:
        raise ConfigError(
            f"{nets.file.path}: has {nets.file.num_networks:,} networks, the results one with the index "
            f"{int(rows['index'].max()):,}; use the corpus of the results (--data)"
        )


def _aligned(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return one row for each of the first `count` networks of a split."""
    return table.set_index("index").reindex(range(count)).rename_axis("index").reset_index()
