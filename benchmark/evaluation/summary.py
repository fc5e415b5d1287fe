"""`summarize`: a table of evaluated networks as mean, standard error, best network and number of failures.

A predictor must not gain by failing on the hardest networks, so networks for which it failed count with the worst value
of the metric, which is 0 for accuracies.  A metric without a worst value, such as a loss, has a mean over the other
networks only; it must be read together with the number of failures.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.evaluation.rows import OK
from benchmark.metrics import METRICS
from deepnets.support import ConfigError

__all__ = ["Summary", "summarize"]


class Summary(NamedTuple):
    """Statistics of a metric over networks.

    Attributes
    ----------
    mean, standard_error
        Mean of the metric over all networks, and its standard error from the population standard deviation.  Networks
        that failed count with the worst value of the metric, `benchmark.Metric.worst`: 0 for accuracies.  If there is
        no worst value, both are over the other networks, as `successful_mean`.
    best, best_index
        Best value of a network that did not fail, and the index of the network; NaN and -1 if all failed.
    networks, failures
        Number of all networks, and number of networks without a value: those that failed, and those for which the
        metric is not a finite number.
    successful_mean, successful_standard_error
        Mean over the networks that did not fail, and its standard error; NaN if all failed.  Means of predictors that
        failed on different networks are not comparable.

    Examples
    --------
    >>> str(Summary(66.9, 0.3, 77.1, 210, 500, 0, 66.9, 0.3))
    '66.9±0.3, best 77.1 (network 210), 500 networks, 0 failed'
    >>> str(Summary(40.0, 16.3, 70.0, 1, 3, 1, 60.0, 7.1))
    '40.0±16.3, best 70.0 (network 1), 3 networks, 1 failed (60.0±7.1 without it)'
    """

    mean: float
    standard_error: float
    best: float
    best_index: int
    networks: int
    failures: int
    successful_mean: float
    successful_standard_error: float

    def text(self, decimals: int = 1) -> str:
        """Return the summary as text, with a number of decimals.

        Examples
        --------
        >>> Summary(0.66912, 0.00312, 0.771, 210, 500, 0, 0.66912, 0.00312).text(3)
        '0.669±0.003, best 0.771 (network 210), 500 networks, 0 failed'
        """
        mean, error, best = (f"{value:.{decimals}f}" for value in (self.mean, self.standard_error, self.best))
        counts = f"{self.networks} networks, {self.failures} failed"
        text = f"{mean}±{error}, best {best} (network {self.best_index}), {counts}"
        if not self.failures or math.isnan(self.successful_mean):
            return text
        others = f"{self.successful_mean:.{decimals}f}±{self.successful_standard_error:.{decimals}f}"
        return f"{text} ({others} without {'it' if self.failures == 1 else 'them'})"

    def __str__(self) -> str:
        return self.text()


def summarize(table: pd.DataFrame, metric: str = "top1", *, worst: float | None = None) -> Summary:
    """Summarize a metric over the networks of a table.

    Parameters
    ----------
    table
        A table of `evaluate`, with the columns `index`, `status` and the metric.
    metric
        A column: "top1", as published for CIFAR-10, "top5", as published for ImageNet, or another metric.  For a
        column that is not registered as a metric, larger values are better, and there is no worst value.
    worst
        Worst value, with which networks without a value count; by default that of the metric.

    Raises
    ------
    ConfigError
        If there is no such column.

    Examples
    --------
    >>> table = pd.DataFrame({"index": [0, 1, 2], "top1": [50.0, 70.0, None], "status": ["ok", "ok", "failed"]})
    >>> found = summarize(table)
    >>> found.mean, found.successful_mean, found.failures
    (40.0, 60.0, 1)
    """
    if metric not in table.columns:
        raise ConfigError(f"metric: the table has no column {metric!r}; it has {', '.join(map(str, table.columns))}")
    known = METRICS.get(metric)
    column = table[metric].to_numpy(float)
    has_value = (table["status"] == OK).to_numpy(bool) & np.isfinite(column)
    values = column[has_value]
    counted = values
    if worst is None and known:
        worst = known.worst
    if worst is not None:
        counted = np.concatenate([values, np.full(len(table) - len(values), worst)])
    best, best_index = math.nan, -1
    if len(values):
        place = int(values.argmin() if known and not known.higher_is_better else values.argmax())
        best, best_index = float(values[place]), int(table["index"].to_numpy()[has_value][place])
    failures = len(table) - len(values)
    return Summary(*_mean(counted), best, best_index, len(table), failures, *_mean(values))


def _mean(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and its standard error, from the population standard deviation; NaN without values."""
    if not len(values):
        return math.nan, math.nan
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))
