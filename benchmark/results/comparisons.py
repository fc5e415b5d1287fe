"""Paired comparisons of predictors on the same networks: mean differences with confidence intervals, and tests.

The standard error of a leaderboard is mostly the spread of the networks, which all predictors share: 78.5 ± 7.5 against
75.6 ± 8.1 can be a clear difference, or none.  The differences on the same networks tell.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.evaluation import OK
from benchmark.metrics import METRICS
from benchmark.results.boards import Board, Column
from benchmark.results.spreadsheets import escape_formula
from deepnets.support import ConfigError

__all__ = [
    *("COMPARISONS", "SIGNIFICANCE", "Comparison", "compare", "compare_pairs", "comparison_table", "leaders"),
]

SIGNIFICANCE = 0.05
"""Level below which an adjusted p-value is called significant."""

COMPARISONS = (
    *("method", "other", "split", "images", "part", "noise", "metric", "networks", "difference", "low", "high"),
    *("p_value", "p_adjusted", "signed_rank_p_value", "better", "equal", "worse", "failures", "other_failures"),
)
"""Columns of `comparisons.csv`."""

_MUST_MATCH = {
    "splits": ("split",),
    "images": ("images",),
    "parts of the images": ("part", "image_split"),
}
"""What tables that are compared must agree in: columns of results, or attributes of the tables of `evaluate`."""

_EXACT = 13  # number of differences up to which all of their signs are enumerated


class Comparison(NamedTuple):
    """Paired comparison of two predictors.

    Attributes
    ----------
    networks
        Number of networks for which both have a value.  Everything but the failures is about these networks.
    difference
        Mean of the differences of the metric, first minus second; NaN without networks.
    low, high
        Confidence interval of the mean difference, from Student's t distribution; NaN for fewer than two networks.
    p_value
        Two-sided p-value of the paired t-test, which belongs to the interval; NaN for fewer than two networks.
    p_adjusted
        The p-value after Holm's correction for the number of pairs that were compared.
    signed_rank_p_value
        Two-sided p-value of Wilcoxon's signed-rank test, which assumes no normal distribution, but has little power for
        few networks: with 6 of them, it is 0.03 at least.
    better, equal, worse
        Number of networks for which the first is better than, equal to, and worse than the second.
    failures, other_failures
        Number of networks that both were evaluated on for which only the first, and only the second, has no value.

    Examples
    --------
    >>> str(Comparison(100, 5.25, 3.1, 7.4, 0.0004, 0.0008, 0.0003, 70, 2, 28, 0, 1))
    '+5.25 (95 % interval +3.10 to +7.40), p = 0.0008, 100 networks: 70 better, 2 equal, 28 worse'
    """

    networks: int
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    signed_rank_p_value: float
    better: int
    equal: int
    worse: int
    failures: int
    other_failures: int

    @property
    def is_significant(self) -> bool:
        """Whether the adjusted p-value is below `SIGNIFICANCE`."""
        return self.p_adjusted < SIGNIFICANCE

    def __str__(self) -> str:
        networks = f"{self.networks:,} network{'s' * (self.networks != 1)}"
        counts = f"{networks}: {self.better} better, {self.equal} equal, {self.worse} worse"
        if math.isnan(self.p_value):
            return f"{self.difference:+.2f}, {counts}"
        interval = f"95 % interval {self.low:+.2f} to {self.high:+.2f}"
        return f"{self.difference:+.2f} ({interval}), p = {self.p_adjusted:.2g}, {counts}"


def compare(first: pd.DataFrame, second: pd.DataFrame, metric: str = "top1", *, confidence: float = 0.95) -> Comparison:
    """Compare two predictors, network by network.

    Parameters
    ----------
    first, second
        Tables of `benchmark.evaluate` for the same split and images, with the columns `index`, `status` and the metric.
    metric
        A column: "top1", "top5" or another metric.  Larger values of a column that is no registered metric are better.
    confidence
        Level of the confidence interval, between 0 and 1.

    Returns
    -------
    The comparison over the networks for which both have a value.  With a single pair, nothing is to be adjusted, and
    `p_adjusted` is `p_value`.

    Raises
    ------
    ConfigError
        If a table lacks a column or has two rows of a network, the tables are about different splits or images, or
        `confidence` is not between 0 and 1.

    Notes
    -----
    The networks are a sample of those that the generator makes.  The test says whether a difference can be due to this
    sample.  It does not say whether the same method, trained again with another seed, would differ as well.

    The t-test and the interval assume that the mean difference is about normally distributed.  The signed-rank test
    does not; up to 13 differences that are not 0, its p-value is exact, also with ties.

    Examples
    --------
    >>> first = pd.DataFrame({"index": range(8), "status": "ok", "top1": [52.0, 61, 70, 48, 55, 66, 59, 73]})
    >>> second = first.assign(top1=first["top1"] - [2, 3, 1, 4, 2, 5, 3, 4])
    >>> found = compare(first, second)
    >>> found.difference, round(found.low, 2), round(found.high, 2), round(found.p_value, 5)
    (3.0, 1.91, 4.09, 0.00034)
    >>> found.signed_rank_p_value
    0.0078125
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: expected a number between 0 and 1, got {confidence!r}")
    scores = [_scores(table, metric) for table in (first, second)]
    for what, names in _MUST_MATCH.items():
        ours, theirs = (_stated(table, names) for table in (first, second))
        if ours and theirs and ours != theirs:
            raise ConfigError(f"compare: the tables are about different {what}: {'/'.join(ours)}, {'/'.join(theirs)}")
    values, others = scores[0].align(scores[1], join="inner")
    has_ours, has_theirs = np.isfinite(values.to_numpy()), np.isfinite(others.to_numpy())
    both = has_ours & has_theirs
    differences = (values - others).to_numpy()[both]
    known = METRICS.get(metric)
    gains = differences if known is None or known.higher_is_better else -differences
    low, high, p_value = _t_test(differences, confidence)
    return Comparison(
        networks=len(differences),
        difference=float(differences.mean()) if len(differences) else math.nan,
        low=low,
        high=high,
        p_value=p_value,
        p_adjusted=p_value,
        signed_rank_p_value=_signed_rank_test(differences),
        better=int((gains > 0).sum()),
        equal=int((gains == 0).sum()),
        worse=int((gains < 0).sum()),
        failures=int((~has_ours & has_theirs).sum()),
        other_failures=int((has_ours & ~has_theirs).sum()),
    )


def _stated(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return what a table is about: a column of a folder of results, or the attribute of a table of `evaluate`."""
    for name in names:
        if name in table:
            return sorted(set(map(str, table[name])))
    return [str(table.attrs[name]) for name in names if name in table.attrs]


def _scores(table: pd.DataFrame, metric: str) -> pd.Series:
    """Return the metric by index of the network; NaN for networks without a value."""
    for column in ("index", "status", metric):
        if column not in table:
            raise ConfigError(f"compare: a table has no column {column!r}; it has {', '.join(map(str, table.columns))}")
    if table["index"].duplicated().any():
        raise ConfigError("compare: a table has several rows for a network; select one run")
    values = np.where(table["status"] == OK, table[metric].to_numpy(float), math.nan)
    return pd.Series(values, table["index"].to_numpy())


def _t_test(differences: npt.NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    """Return the confidence interval of the mean difference, and the p-value of the t-test."""
    if len(differences) < 2:
        return math.nan, math.nan, math.nan
    if not np.ptp(differences):
        return float(differences[0]), float(differences[0]), float(differences[0] == 0)
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of precision, for nearly equal differences
        found = stats.ttest_1samp(differences, 0.0)
        low, high = found.confidence_interval(confidence)
    return float(low), float(high), float(found.pvalue)


def _signed_rank_test(differences: npt.NDArray[np.float64]) -> float:
    if len(differences) < 2:
        return math.nan
    nonzero = differences[differences != 0]
    if len(nonzero) < 2:  # one difference is as probable with the other sign
        return 1.0
    from scipy import stats

    if len(nonzero) > _EXACT:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # old versions warn about the normal approximation
            return float(stats.wilcoxon(nonzero).pvalue)
    ranks = stats.rankdata(np.abs(nonzero))
    found = stats.permutation_test(
        (np.sign(nonzero) * ranks,),
        lambda values, axis: np.sum(values, axis=axis),
        permutation_type="samples",  # with one sample: its signs
        vectorized=True,
        n_resamples=np.inf,
    )
    return float(found.pvalue)


def compare_pairs(board: Board, column: Column) -> dict[tuple[str, str], Comparison]:
    """Compare all pairs of predictors in a column of a board.

    Parameters
    ----------
    board
        A board of `Results.boards`.
    column
        One of its columns.

    Returns
    -------
    The comparisons by pair, in the order of `board.predictors`.  Pairs without a common network, such as those that
    were evaluated on different corpora, are left out, and so are the two predefined networks, which are no sample.
    P-values are adjusted with Holm's method for the number of pairs of the column.
    """
    if column in board._comparisons:  # a report shows them several times
        known: dict[tuple[str, str], Comparison] = board._comparisons[column]
        return known
    here = [
        predictor
        for predictor in board.predictors
        if (predictor, column) in board.cells and not board.cells[predictor, column].is_predefined
    ]
    found = {}
    for first, second in combinations(here, 2):
        cell, other = (board.cells[predictor, column] for predictor in (first, second))
        if not cell.is_comparable(other):
            continue
        comparison = compare(cell.rows, other.rows, board.metric(column))
        if comparison.networks:
            found[first, second] = comparison
    adjusted = _holm([comparison.p_value for comparison in found.values()])
    found = {pair: one._replace(p_adjusted=p) for (pair, one), p in zip(found.items(), adjusted)}
    board._comparisons[column] = found
    return found


def _holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by the method of Holm (1979); NaN stays NaN and does not count."""
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted


def leaders(board: Board, column: Column) -> tuple[str, ...]:
    """Return the predictor with the best mean in a column, and those that cannot be told apart from it.

    Parameters
    ----------
    board
        A board of `Results.boards`.
    column
        One of its columns.

    Returns
    -------
    `board.winner(column)`, followed by the predictors that were evaluated on as many networks and whose comparison with
    it is not significant, and that failed on no other networks; empty if there is no winner.
    """
    best = board.winner(column)
    if best is None:
        return ()
    rivals = []
    for (first, second), comparison in compare_pairs(board, column).items():
        if best not in (first, second) or not comparison.p_adjusted >= SIGNIFICANCE:  # it is NaN for a single network
            continue
        # Differences are known where both have a value: failures of the rival alone are not among them.
        rival, failed = (second, comparison.other_failures) if first == best else (first, comparison.failures)
        if not failed:
            rivals.append(rival)
    full = board.full(column)
    return (best, *(rival for rival in rivals if len(board.cells[rival, column].rows) == full))


def comparison_table(boards: Iterable[Board]) -> pd.DataFrame:
    """Return the comparisons of all pairs of predictors as a table with the columns `COMPARISONS`.

    Parameters
    ----------
    boards
        Boards of `Results.boards`.

    Returns
    -------
    One row per pair, split, image set and noise; `failures` and `other_failures` count networks for which only one of
    the two failed.  Labels that spreadsheet programs would execute are escaped (`benchmark.results.spreadsheets`).  The
    table has the column `setting` if boards differ in it (`Board.setting`).
    """
    lines, settings = [], []
    for board in boards:
        for column in board.columns:
            for (first, second), comparison in compare_pairs(board, column).items():
                names = map(escape_formula, (first, second, column.split, board.images, column.part))
                lines.append((*names, board.noise, board.metric(column), *comparison))
                settings.append(escape_formula(board.setting))
    table = pd.DataFrame(lines, columns=list(COMPARISONS))
    return table.assign(setting=settings) if any(settings) else table
