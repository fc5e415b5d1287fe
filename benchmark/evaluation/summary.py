"""`summarize`: a table of evaluated networks as mean, standard error, best network and number of failures."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.evaluation.rows import OK
from benchmark.metrics import METRICS
from deepnets.support import ConfigError

__all__ = ["Summary", "summarize"]


class Summary(NamedTuple):
    """Statistics of a metric over the networks that did not fail.

    Attributes
    ----------
    mean, standard_error
        Mean of the metric, and its standard error from the population standard deviation.
    best, best_index
        Best value, and the index of its network; -1 if all networks failed.
    networks, failures
        Number of all networks, and number of networks that failed.

    Examples
    --------
    >>> str(Summary(66.9, 0.3, 77.1, 210, 500, 0))
    '66.9±0.3, best 77.1 (network 210), 500 networks, 0 failed'
    """

    mean: float
    standard_error: float
    best: float
    best_index: int
    networks: int
    failures: int

    def __str__(self) -> str:
        return (
            f"{self.mean:.1f}±{self.standard_error:.1f}, best {self.best:.1f} (network {self.best_index}), "
            f"{self.networks} networks, {self.failures} failed"
        )


def summarize(table: pd.DataFrame, metric: str = "top1") -> Summary:
    """Summarize a metric over the networks of a table that did not fail.

    Parameters
    ----------
    table
        A table of `evaluate`, with the columns `index`, `status` and the metric.
    metric
        A column: "top1", as published for CIFAR-10, "top5", as published for ImageNet, or another metric.

    Raises
    ------
    ConfigError
        If there is no such column.

    Examples
    --------
    >>> table = pd.DataFrame({"index": [0, 1, 2], "top1": [50.0, 70.0, None], "status": ["ok", "ok", "failed"]})
    >>> summarize(table).mean, summarize(table).failures
    (60.0, 1)
    """
    if metric not in table.columns:
        raise ConfigError(f"metric: the table has no column {metric!r}; it has {', '.join(map(str, table.columns))}")
    fine = table[table["status"] == OK]
    values = fine[metric].to_numpy(float)
    failures = len(table) - len(fine)
    if not len(values):
        return Summary(math.nan, math.nan, math.nan, -1, len(table), failures)
    error = float(values.std() / np.sqrt(len(values)))
    higher_is_better = metric not in METRICS or METRICS[metric].higher_is_better
    best = int(values.argmax() if higher_is_better else values.argmin())
    return Summary(
        float(values.mean()), error, float(values[best]), int(fine["index"].iloc[best]), len(table), failures
    )
