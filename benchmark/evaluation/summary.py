"""`summarize`: a table of evaluated networks as mean, standard error, best network and number of failures."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.evaluation.rows import OK
from deepnets.support import ConfigError

__all__ = ["Summary", "summarize"]


class Summary(NamedTuple):
    """A split in one line, over the networks that did not fail.

    Attributes
    ----------
    mean, standard_error
        Of the metric; the error is that of the mean, from the population's standard deviation.
    best, best_index
        The largest, and which network it is of; -1 if all failed.
    networks, failures
        How many there are, and how many of them failed.
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
    """The mean of a metric over the networks of a table that did not fail, and how many did.

    Parameters
    ----------
    table
        What `evaluate` returned.
    metric
        A column: "top1", as published for CIFAR-10, or "top5", as for ImageNet.

    Raises
    ------
    ConfigError
        If there is no such column.
    """
    if metric not in table.columns:
        raise ConfigError(f"metric: the table has no column {metric!r}; it has {', '.join(map(str, table.columns))}")
    fine = table[table["status"] == OK]
    values = fine[metric].to_numpy(float)
    failures = len(table) - len(fine)
    if not len(values):
        return Summary(math.nan, math.nan, math.nan, -1, len(table), failures)
    error = float(values.std() / np.sqrt(len(values)))
    best = int(values.argmax())
    return Summary(
        float(values.mean()), error, float(values[best]), int(fine["index"].iloc[best]), len(table), failures
    )
