"""Metrics: what is measured of a network on a set of labelled examples.

A metric is declared once, here or by `register_metric`.  Rows, tables, reports and model cards take their columns from
the registry `METRICS`.

    top1    share of images whose label has the largest logit, in percent
    top5    share of images whose label is among the five largest logits, in percent

Images with outputs that are not finite, and networks for which a predictor failed, count with the worst value of a
metric (`Metric.worst`), which is 0 for accuracies.  A metric without a worst value, such as a loss, has no value for
them; they are counted beside its mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from deepnets.support import ConfigError, Registry, import_attribute, is_attribute

__all__ = ["DEFAULT_METRICS", "METRICS", "Metric", "get_metric", "get_metrics", "register_metric"]


@dataclass(frozen=True)
class Metric:
    """A number that is computed for every image and averaged over all images.

    Parameters
    ----------
    name
        Column of tables and value of the option ``--metric``; an identifier, such as "top1".
    label
        Name in text and figures, such as "top-1 accuracy".
    unit
        Unit of the values, such as "%"; empty for a number without a unit.
    score
        Function of logits, ``(B, C)`` floating point, and labels, ``(B,)`` int64.  It returns the value for every
        image, ``(B,)``, of any numeric type.
    higher_is_better
        Whether larger values are better.
    minimum, maximum
        Bounds of valid values, both included.  The worse of the two, if it is finite, is the value of failures (see
        `worst`); without it, failures are left out of means.
    chance
        Function from a number of classes to the mean of random guesses, which charts mark; None if it is not known.

    Raises
    ------
    ConfigError
        If the name is not an identifier.

    Examples
    --------
    >>> import torch
    >>> import torch.nn.functional as F
    >>> def loss(logits, labels):
    ...     return F.cross_entropy(logits, labels, reduction="none")
    >>> metric = Metric("loss", "cross-entropy", "nats", loss, higher_is_better=False)
    >>> metric.score(torch.zeros(2, 4), torch.tensor([0, 1]))
    tensor([1.3863, 1.3863])
    """

    name: str
    label: str
    unit: str
    score: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool = True
    minimum: float = -math.inf
    maximum: float = math.inf
    chance: Callable[[int], float] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"metric: {self.name!r} cannot be a name; expected an identifier such as top1")

    @property
    def worst(self) -> float | None:
        """The value that failures count with: the worst possible value; None if there is none.

        Examples
        --------
        >>> METRICS["top1"].worst
        0.0
        >>> Metric("loss", "cross-entropy", "nats", METRICS["top1"].score, higher_is_better=False).worst is None
        True
        """
        bound = self.minimum if self.higher_is_better else self.maximum
        return bound if math.isfinite(bound) else None


METRICS: Registry[Metric] = Registry("metric")
"""All metrics, by name."""

DEFAULT_METRICS = ("top1", "top5")
"""Names of the metrics that are computed unless others are requested."""


def register_metric(metric: Metric) -> Metric:
    """Add a metric to `METRICS`.

    Parameters
    ----------
    metric
        The metric; its name must not be registered yet.

    Returns
    -------
    The metric.

    Raises
    ------
    ConfigError
        If a metric of this name is registered already.

    Examples
    --------
    >>> register_metric(METRICS["top1"])
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: metric: 'top1' is already registered; choose another name
    """
    METRICS.register(metric.name, metric)
    return metric


def get_metric(metric: str | Metric) -> Metric:
    """Return a metric by name.

    Parameters
    ----------
    metric
        A registered name; ``"module:attribute"`` of a `Metric`, which is registered when it is used for the first
        time; or a metric, which is returned.

    Raises
    ------
    ConfigError
        If there is no such metric.

    Examples
    --------
    >>> get_metric("top5").label
    'top-5 accuracy'
    >>> get_metric("top3")
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: metric: unknown 'top3'; use one of top1, top5, or 'module:attribute'
    """
    if isinstance(metric, Metric):
        return metric
    if not is_attribute(metric):
        return METRICS[metric]
    found = import_attribute(metric, "metric")
    if not isinstance(found, Metric):
        raise ConfigError(f"metric: {metric} is of type {type(found).__name__}; expected a benchmark.Metric")
    return found if METRICS.get(found.name) == found else register_metric(found)


def get_metrics(metrics: Iterable[str | Metric] = ()) -> tuple[Metric, ...]:
    """Return the default metrics, followed by others.

    Parameters
    ----------
    metrics
        Names and metrics as for `get_metric`; those that are repeated count once.

    Examples
    --------
    >>> [metric.name for metric in get_metrics(["top5"])]
    ['top1', 'top5']
    """
    found = [get_metric(metric) for metric in (*DEFAULT_METRICS, *metrics)]
    return tuple({metric.name: metric for metric in found}.values())


def _is_among(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """100 for every image whose label is among the k largest logits, else 0; both metrics use one ranking of ties."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices[:, :k]
    return 100 * (ranked == labels[:, None]).any(dim=1)


def _top1(logits: Tensor, labels: Tensor) -> Tensor:
    return _is_among(logits, labels, 1)


def _top5(logits: Tensor, labels: Tensor) -> Tensor:
    return _is_among(logits, labels, 5)


def _chance1(num_classes: int) -> float:
    return 100 / num_classes


def _chance5(num_classes: int) -> float:
    return 100 * min(5, num_classes) / num_classes


for _name, _label, _score, _chance in (
    ("top1", "top-1 accuracy", _top1, _chance1),
    ("top5", "top-5 accuracy", _top5, _chance5),
):
    register_metric(Metric(_name, _label, "%", _score, minimum=0.0, maximum=100.0, chance=_chance))
