"""Prediction of properties of networks from their graphs, as published (Knyazev et al., NeurIPS 2021, section 5.3).

Support vector regression predicts four properties of trained networks from embeddings of their architectures
(`benchmark.analyses.embeddings`).  It is fitted on the networks of `val` and evaluated on the networks of `test` with
Kendall's tau-b.

    score = predict_property("val_acc", train_vectors, train_targets, test_vectors, test_targets)
    score.tau, score.tau_std

Cross-validation selects the hyperparameters five times, for five orders of the training networks; the mean and the
population standard deviation are over these five.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import joblib
import numpy as np
import numpy.typing as npt

from benchmark.choices import PROPERTIES
from deepnets.support import ConfigError, ProgressBar, at_least, checked_integer

__all__ = [
    "FOLDS",
    "GRID",
    "MINIMUM",
    "ORDERS",
    "PROPERTIES",
    "PropertyScore",
    "best_parameters",
    "fit_regressor",
    "kendall",
    "predict_property",
]

GRID: dict[str, tuple[Any, ...]] = {
    "C": (1, 10, 50, 100, 200, 500, 1000),
    "epsilon": (0.05, 0.1, 0.2),
    "gamma": ("auto", 0.05, 0.1, 0.2, 0.5),
}
"""Candidate hyperparameters; `gamma="auto"` is 1 divided by the number of features."""

FOLDS = 5
ORDERS: tuple[int | None, ...] = (0, 1, 2, 3, None)
"""Seeds of the orders of the training networks; None for the original order."""

MINIMUM = 2 * FOLDS
"""Fewest training networks; every fold needs two for R²."""

_NOT_ROUNDED = ("converge_time",)

Vectors = npt.NDArray[np.floating[Any]]
Parameters = dict[str, Any]


class PropertyScore(NamedTuple):
    """The quality of the predictions of a property.

    Attributes
    ----------
    name
        Name of the property.
    tau, tau_std
        Mean and population standard deviation of Kendall's tau-b over the orders; NaN if undefined.
    taus
        Kendall's tau-b for each of `ORDERS`.
    parameters
        Selected hyperparameters for each of `ORDERS`; the last are for the original order.
    num_train, num_test
        Number of networks that were used.
    without_train, without_test
        Number of networks that were omitted, because their target is unknown.
    predictions
        `(n_test,) float64` with the last hyperparameters, before rounding; NaN where the target is unknown.
    note
        Why tau is NaN; empty otherwise.
    """

    name: str
    tau: float
    tau_std: float
    taus: tuple[float, ...]
    parameters: tuple[Parameters, ...]
    num_train: int
    num_test: int
    without_train: int
    without_test: int
    predictions: npt.NDArray[np.float64]
    note: str


def kendall(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """Return Kendall's tau-b, a rank correlation that handles ties; NaN if either array is constant.

    Examples
    --------
    >>> kendall([1, 2, 3], [10, 20, 30])
    1.0
    """
    from scipy.stats import kendalltau

    first, second = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(kendalltau(first, second, variant="b").statistic)


def predict_property(
    name: str,
    train_features: Vectors,
    train_targets: npt.ArrayLike,
    test_features: Vectors,
    test_targets: npt.ArrayLike,
    *,
    workers: int = 1,
    orders: Sequence[int | None] = ORDERS,
    rounded: bool | None = None,
    progress: bool = False,
) -> PropertyScore:
    """Predict a property of test networks, and compare their predicted and true ranks.

    Parameters
    ----------
    name
        Name of the property.
    train_features, test_features
        `(n, features)`; they are not scaled.
    train_targets, test_targets
        `(n,)`; networks whose target is NaN are omitted.
    workers
        Number of processes; results do not depend on it.
    orders
        Seeds of the orders of the training networks for cross-validation; the predictions of the last are returned.
    rounded
        Whether predictions are rounded to integers before they are compared.  By default as published, where accuracies
        are in percent: all properties but `converge_time`.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ConfigError
        If fewer than 10 training networks or 2 test networks have a target, or the shapes of the arrays do not match.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(40, 2))
    >>> accuracies = 50 + 10 * vectors[:, 0]
    >>> score = predict_property(
    ...     "val_acc", vectors[:30], accuracies[:30], vectors[30:], accuracies[30:], orders=[None]
    ... )
    >>> score.tau > 0.9
    True
    """
    train_features, train_targets, without_train = _known("training", train_features, train_targets, MINIMUM)
    keep = np.isfinite(np.asarray(test_targets, np.float64))
    test_features, test_targets, without_test = _known("test", test_features, test_targets, 2)
    if train_features.shape[1] != test_features.shape[1]:
        raise ConfigError(
            f"features: training networks have {train_features.shape[1]}, test networks {test_features.shape[1]}"
        )
    predictions = np.full(len(keep), np.nan)
    sizes = (len(train_targets), len(test_targets), without_train, without_test)
    note = ""
    for what, values in (("training", train_targets), ("test", test_targets)):
        if np.ptp(values) == 0:
            note = f"all {what} networks have the value {values[0]:g}"
    if np.ptp(train_targets) == 0:
        predictions[keep] = train_targets[0]
        return PropertyScore(name, math.nan, math.nan, (math.nan,) * len(orders), (), *sizes, predictions, note)
    chosen = _choose(train_features, train_targets, orders, workers, progress and name)
    rounded = name not in _NOT_ROUNDED if rounded is None else rounded
    taus = []
    outputs: dict[str, npt.NDArray[np.float64]] = {}  # several orders often select the same hyperparameters
    for parameters in chosen:
        key = str(sorted(parameters.items()))
        if key not in outputs:
            outputs[key] = fit_regressor(train_features, train_targets, parameters).predict(test_features)
        predictions[keep] = outputs[key]
        compared = np.round(outputs[key]) if rounded else outputs[key]
        taus.append(kendall(test_targets, compared))
    if not note and np.isnan(taus).any():
        note = "predictions are the same for all test networks"
    return PropertyScore(
        name, float(np.mean(taus)), float(np.std(taus)), tuple(taus), tuple(chosen), *sizes, predictions, note
    )


def best_parameters(
    features: Vectors, targets: npt.ArrayLike, order: int | None = None, *, workers: int = 1, progress: bool = False
) -> Parameters:
    """Select hyperparameters of the regressor from `GRID`: the best mean R² in 5-fold cross-validation.

    Parameters
    ----------
    features, targets
        `(n, features)` and `(n,)`; networks whose target is NaN are omitted.
    order
        Seed of the order in which networks are divided into folds; None for the original order.
    workers, progress
        Number of processes, and whether to show a progress bar.

    Returns
    -------
    The result of `GridSearchCV` of scikit-learn (the first among equals), in less time, because kernels are computed
    once.

    Raises
    ------
    ConfigError
        If there are fewer than 10 networks with a target.
    """
    features, targets, _ = _known("training", features, targets, MINIMUM)
    return _choose(features, targets, (order,), workers, progress and "parameters")[0]


def fit_regressor(features: Vectors, targets: npt.ArrayLike, parameters: Parameters) -> Any:
    """Fit an `sklearn.svm.SVR` with an RBF kernel and these hyperparameters."""
    from sklearn.svm import SVR

    return SVR(kernel="rbf", **parameters).fit(features, np.asarray(targets, np.float64))


# --- cross-validation ---


def _choose(
    features: Vectors, targets: npt.NDArray[np.float64], orders: Sequence[int | None], workers: int, bar: str | bool
) -> list[Parameters]:
    """Return the best candidate for each order; `bar` is the label of the progress bar, or False."""
    from sklearn.model_selection import KFold, ParameterGrid

    candidates = list(ParameterGrid({name: list(values) for name, values in GRID.items()}))
    splits = list(KFold(FOLDS).split(features))
    tasks = []
    for seed in orders:
        # The published orders come from this generator; newer ones of NumPy give other numbers.
        order = np.arange(len(targets)) if seed is None else np.random.RandomState(seed).permutation(len(targets))
        tasks += [(order[train], order[test]) for train, test in splits]
    run = joblib.Parallel(
        n_jobs=min(checked_integer("workers", workers, at_least(1)), len(tasks)), return_as="generator"
    )
    found = run(joblib.delayed(_fold_scores)(features, targets, *task, candidates) for task in tasks)
    scores = list(ProgressBar(found, desc=str(bar), total=len(tasks), unit="fold", show=bool(bar)))
    means = np.array(scores).reshape(len(orders), FOLDS, len(candidates)).mean(axis=1)
    return [dict(candidates[int(best)]) for best in means.argmax(axis=1)]


def _fold_scores(
    features: Vectors,
    targets: npt.NDArray[np.float64],
    train: npt.NDArray[np.intp],
    test: npt.NDArray[np.intp],
    candidates: Sequence[Parameters],
) -> list[float]:
    """Return R² of every candidate on the networks `test`, fitted on the networks `train`."""
    from sklearn.metrics import r2_score
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.svm import SVR

    kernels = {}
    for gamma in {candidate["gamma"] for candidate in candidates}:
        width = 1 / features.shape[1] if gamma == "auto" else gamma
        kernel = rbf_kernel(features, features[train], gamma=width)
        kernels[gamma] = kernel[train], kernel[test]
    scores = []
    for candidate in candidates:
        among, across = kernels[candidate["gamma"]]
        regressor = SVR(kernel="precomputed", C=candidate["C"], epsilon=candidate["epsilon"])
        predicted = regressor.fit(among, targets[train]).predict(across)
        scores.append(float(r2_score(targets[test], predicted)))
    return scores


def _known(
    which: str, features: Any, targets: npt.ArrayLike, least: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Return features and targets of the networks with a target, and the number of the others."""
    features, values = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if features.ndim != 2 or values.shape != features.shape[:1]:
        raise ConfigError(f"{which} networks: features have shape {features.shape}, targets {values.shape}")
    if not np.isfinite(features).all():
        raise ConfigError(f"{which} networks: features are not finite")
    known = np.isfinite(values)
    if known.sum() < least:
        raise ConfigError(
            f"{which} networks: {known.sum()} of {len(values)} have a value to compare with, {least} or more are "
            "needed; evaluate more networks"
        )
    return features[known], values[known], int((~known).sum())
