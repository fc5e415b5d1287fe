"""Our own results, read from `results/networks.csv`, in the form of the published tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.evaluation import FAILED
from benchmark.literature.files import SPLITS
from benchmark.literature.tables import NETWORKS, summary_row
from benchmark.results import read_results
from deepnets.support import MissingDataError

__all__ = ["NOISE", "our_accuracies", "our_models", "read_ours"]

NOISE = {"cifar10": 0.08, "imagenet": 0.18}
"""Standard deviation of the noise in the published results on noisy images, of pixels from 0 to 1."""


def read_ours(folder: Path | str) -> pd.DataFrame | None:
    """The rows of `networks.csv` in a folder of results, those of the newest run of each kind.

    Parameters
    ----------
    folder
        What `python -m benchmark run` wrote to.

    Returns
    -------
    One row per network, as `benchmark.results.read_results` reads them; None if there are none.

    Raises
    ------
    FormatError
        If a file is not as it should be.
    """
    try:
        return read_results(folder).rows
    except MissingDataError:  # there is no such file, or there are no rows in it yet
        return None


def our_accuracies(
    ours: pd.DataFrame, images: str, metric: str, *, part: str = "test", noise: float = 0.0
) -> pd.DataFrame:
    """Our accuracies per predictor and split, as `published_tables.accuracies` has the published ones.

    Parameters
    ----------
    ours
        What `read_ours` returned.
    images, part, noise
        Which of them: those on "test" or "val"idation images of a set, with that noise.
    metric
        "top1" or "top5".

    Returns
    -------
    For the splits with published results, the same columns, `failures` among them; `networks` counts failed ones too.
    """
    rows: list[dict[str, Any]] = []
    chosen = ours[(ours["images"] == images) & (ours["part"] == part) & (ours["noise"] == noise)]
    chosen = chosen[chosen["split"].isin(SPLITS)]
    for (predictor, split), table in chosen.groupby(["predictor", "split"], sort=False):
        groups = {"": table}
        if split == "predefined":
            groups = {name: table[table["index"] == index] for index, name in enumerate(NETWORKS)}
        about = {"method": predictor, "split": split, "source": "networks.csv"}
        rows += [
            {**about, "network": name, **summary_row(group, metric)} for name, group in groups.items() if len(group)
        ]
    columns = ["method", "split", "network", "mean", "standard_error", "best", "best_index", "networks", "failures"]
    return pd.DataFrame(rows, columns=[*columns, "source"])


def our_models(ours: pd.DataFrame) -> pd.DataFrame:
    """Our top-1 accuracies for models of torchvision on the test images of ImageNet.

    Parameters
    ----------
    ours
        What `read_ours` returned.

    Returns
    -------
    One row per model and one column per predictor, in percent, NaN where it failed or was not tried; `attrs` say for
    each predictor on how many it failed.
    """
    chosen = ours[(ours["images"] == "imagenet") & (ours["part"] == "test") & (ours["noise"] == 0)]
    chosen = chosen[chosen["split"] == "torchvision"]
    columns = {
        str(predictor): rows.drop_duplicates("network", keep="last").set_index("network")["top1"]
        for predictor, rows in chosen.groupby("predictor", sort=False)
    }
    table = pd.DataFrame(columns)
    table.attrs = {str(key): int((rows["status"] == FAILED).sum()) for key, rows in chosen.groupby("predictor")}
    return table
