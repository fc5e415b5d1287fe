"""Results of the benchmark in the form of the published tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.evaluation import FAILED
from benchmark.literature.files import SPLITS
from benchmark.literature.tables import ACCURACY_COLUMNS, NETWORKS, summary_row
from benchmark.results import read_results
from deepnets.support import MissingDataError

__all__ = ["NOISE", "own_accuracies", "own_models", "read_own_results"]

NOISE = {"cifar10": 0.08, "imagenet": 0.18}
"""Standard deviation of the noise in the published results on noisy images, for pixels from 0 to 1."""


def read_own_results(folder: Path | str) -> pd.DataFrame | None:
    """Return the rows of a folder of results, of the newest run of each kind.

    Parameters
    ----------
    folder
        A folder that `python -m benchmark run` wrote.

    Returns
    -------
    One row per network, as `benchmark.results.read_results` reads them; None if there are no results.

    Raises
    ------
    FormatError
        If a file is damaged.

    Examples
    --------
    >>> read_own_results("no/such/folder") is None
    True
    """
    try:
        return read_results(folder).rows
    except MissingDataError:  # the file does not exist or has no rows yet
        return None


def own_accuracies(
    results: pd.DataFrame, images: str, metric: str, *, part: str = "test", noise: float = 0.0
) -> pd.DataFrame:
    """Return accuracies per predictor and split, in the form of `benchmark.literature.tables.accuracies`.

    Parameters
    ----------
    results
        The result of `read_own_results`.
    images, part, noise
        Image set, "test" or "val" for its test or validation images, and standard deviation of the noise.
    metric
        Column of the metric, such as "top1".

    Returns
    -------
    The same columns, for the splits with published results; networks that failed count as 0 in `mean`.
    """
    rows: list[dict[str, Any]] = []
    chosen = results[(results["images"] == images) & (results["part"] == part) & (results["noise"] == noise)]
    chosen = chosen[chosen["split"].isin(SPLITS)]
    for (predictor, split), table in chosen.groupby(["predictor", "split"], sort=False):
        groups = {"": table}
        if split == "predefined":
            groups = {name: table[table["index"] == index] for index, name in enumerate(NETWORKS)}
        about = {"method": predictor, "split": split, "source": "networks.csv"}
        rows += [
            {**about, "network": name, **summary_row(group, metric)} for name, group in groups.items() if len(group)
        ]
    return pd.DataFrame(rows, columns=ACCURACY_COLUMNS)


def own_models(results: pd.DataFrame) -> pd.DataFrame:
    """Return top-1 accuracies of models of torchvision on the test images of ImageNet.

    Parameters
    ----------
    results
        The result of `read_own_results`.

    Returns
    -------
    One row per model and one column per predictor, in percent: 0 where the predictor failed, NaN where it was not
    evaluated; `attrs` gives the number of failures of each predictor.
    """
    chosen = results[(results["images"] == "imagenet") & (results["part"] == "test") & (results["noise"] == 0)]
    chosen = chosen[chosen["split"] == "torchvision"]
    chosen = chosen.assign(top1=chosen["top1"].where(chosen["status"] != FAILED, 0.0))
    columns = {
        str(predictor): rows.drop_duplicates("network", keep="last").set_index("network")["top1"]
        for predictor, rows in chosen.groupby("predictor", sort=False)
    }
    table = pd.DataFrame(columns)
    table.attrs = {str(key): int((rows["status"] == FAILED).sum()) for key, rows in chosen.groupby("predictor")}
    return table
