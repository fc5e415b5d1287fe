"""Search for an architecture by what is predicted about it (Knyazev et al., NeurIPS 2021, appendix C).

The regressor of `benchmark.analyses.properties` is fitted on the networks of `val` and `test` together, with the
parameters that cross-validation on those of `val` chose, and predicts a property of all networks of `search` from their
graphs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.analyses.properties import PROPERTIES, Parameters, best_parameters, fit_regressor
from deepnets.support import ConfigError

__all__ = ["PUBLISHED_BEST", "SearchResult", "search"]

PUBLISHED_BEST = 35_133
"""The published `search` network with the best predicted accuracy on CIFAR-10; other corpora have others."""

SMALLER_IS_BETTER = ("time", "converge_time")


class SearchResult(NamedTuple):
    """Networks in the order of what is predicted about them.

    Attributes
    ----------
    ranking
        One row per network, the best first: `index`, `predicted`, and the other columns of `networks`.
    parameters
        Of the regressor.
    num_fitted
        Networks that it was fitted on.
    """

    ranking: pd.DataFrame
    parameters: Parameters
    num_fitted: int

    @property
    def best(self) -> int:
        """The index of the first of them."""
        return int(self.ranking["index"].iloc[0])


def search(
    name: str,
    val: tuple[npt.NDArray[np.floating[Any]], npt.ArrayLike],
    test: tuple[npt.NDArray[np.floating[Any]], npt.ArrayLike],
    features: npt.NDArray[np.floating[Any]],
    networks: pd.DataFrame,
    *,
    jobs: int = 1,
    progress: bool = False,
) -> SearchResult:
    """Rank networks by a predicted property.

    Parameters
    ----------
    name
        One of `PROPERTIES`: of accuracies the highest, of times the lowest is best.
    val, test
        Features `(n, f)` and targets `(n,)` of the networks of these splits; where targets are NaN, networks are left
        out.
    features
        `(m, f)`, of the networks to rank.
    networks
        One row for each of them, with `index` and whatever else is worth knowing.
    jobs, progress
        Processes for the choice of parameters, and whether to show a bar.

    Raises
    ------
    ConfigError
        For an unknown property, fewer than 10 networks of `val` with a target, targets that are all the same, or
        arrays that do not fit together.
    """
    if name not in PROPERTIES:
        raise ConfigError(f"property: unknown {name!r}; use one of {', '.join(PROPERTIES)}")
    if len(features) != len(networks) or not len(features):
        raise ConfigError(f"networks: expected one row for each of {len(features)} vectors, got {len(networks)}")
    parameters = best_parameters(*val, jobs=jobs, progress=progress)
    values = np.concatenate([np.asarray(targets, np.float64) for _, targets in (val, test)])
    known = np.isfinite(values)
    if np.ptp(values[known]) == 0:
        raise ConfigError(
            f"{name}: all {known.sum()} networks have the value {values[known][0]:g}, from which nothing can be learned"
        )
    vectors = np.concatenate([val[0], test[0]])[known]
    predicted = fit_regressor(vectors, values[known], parameters).predict(features)
    order = np.argsort(predicted if name in SMALLER_IS_BETTER else -predicted, kind="stable")
    ranking = networks.assign(predicted=predicted).iloc[order].reset_index(drop=True)
    columns = ["index", "predicted", *(column for column in networks if column != "index")]
    return SearchResult(ranking[columns], parameters, int(known.sum()))
