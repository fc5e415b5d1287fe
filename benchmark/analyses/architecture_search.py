"""Architecture search with predicted properties (Knyazev et al., NeurIPS 2021, appendix C).

The regressor of `benchmark.analyses.properties` is fitted on the networks of `val` and `test` together, with the
hyperparameters that cross-validation on `val` selects.  It predicts a property of all networks of `search` from their
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
"""Index of the network of the published `search` split with the best predicted accuracy on CIFAR-10."""

SMALLER_IS_BETTER = ("time", "converge_time")


class SearchResult(NamedTuple):
    """Networks ranked by a predicted property.

    Attributes
    ----------
    ranking
        One row per network, the best first: `index`, `predicted`, and the other columns of `networks`.
    parameters
        Hyperparameters of the regressor.
    num_fitted
        Number of networks that the regressor was fitted on.

    Examples
    --------
    >>> ranking = pd.DataFrame({"index": [7, 3], "predicted": [91.0, 88.5]})
    >>> SearchResult(ranking, {"C": 1}, num_fitted=1000).best
    7
    """

    ranking: pd.DataFrame
    parameters: Parameters
    num_fitted: int

    @property
    def best(self) -> int:
        """Index of the best network."""
        return int(self.ranking["index"].iloc[0])


def search(
    name: str,
    val: tuple[npt.NDArray[np.floating[Any]], npt.ArrayLike],
    test: tuple[npt.NDArray[np.floating[Any]], npt.ArrayLike],
    features: npt.NDArray[np.floating[Any]],
    networks: pd.DataFrame,
    *,
    workers: int = 1,
    progress: bool = False,
    smaller_is_better: bool | None = None,
) -> SearchResult:
    """Rank networks by a predicted property.

    Parameters
    ----------
    name
        One of `PROPERTIES`.  The best networks have the highest accuracies or the lowest times.
    val, test
        Features `(n, f)` and targets `(n,)` of the networks of these splits.  Networks whose target is NaN are
        omitted.
    features
        `(m, f)` features of the networks to rank.
    networks
        Table of `m` rows with `index` and any other columns.
    workers
        Number of processes for cross-validation.
    progress
        Whether to show a progress bar.
    smaller_is_better
        Whether the best networks have the smallest values, such as error rates; by default, only times.

    Raises
    ------
    ConfigError
        If the property is unknown, fewer than 10 networks of `val` have a target, all targets are equal, or the shapes
        of the arrays do not match.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> vectors = rng.normal(size=(40, 2))
    >>> accuracies = 50 + 10 * vectors[:, 0]
    >>> networks = pd.DataFrame({"index": range(5)})
    >>> candidates = np.array([[0.1, 0.0], [1.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [-1.0, 0.0]])
    >>> search("val_acc", (vectors[:30], accuracies[:30]), (vectors[30:], accuracies[30:]), candidates, networks).best
    1
    """
    if name not in PROPERTIES:
        raise ConfigError(f"property: unknown {name!r}; use one of {', '.join(PROPERTIES)}")
    if len(features) != len(networks) or not len(features):
        raise ConfigError(f"networks: expected one row for each of {len(features)} vectors, got {len(networks)}")
    parameters = best_parameters(*val, workers=workers, progress=progress)
    values = np.concatenate([np.asarray(targets, np.float64) for _, targets in (val, test)])
    known = np.isfinite(values)
    if np.ptp(values[known]) == 0:
        raise ConfigError(
            f"{name}: all {known.sum()} networks have the value {values[known][0]:g}; a regressor needs varying values"
        )
    vectors = np.concatenate([val[0], test[0]])[known]
    predicted = fit_regressor(vectors, values[known], parameters).predict(features)
    if smaller_is_better is None:
        smaller_is_better = name in SMALLER_IS_BETTER
    order = np.argsort(predicted if smaller_is_better else -predicted, kind="stable")
    ranking = networks.assign(predicted=predicted).iloc[order].reset_index(drop=True)
    columns = ["index", "predicted", *(column for column in networks if column != "index")]
    return SearchResult(ranking[columns], parameters, int(known.sum()))
