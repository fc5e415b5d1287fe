"""Metrics: what is measured of a network on a set of labelled examples.

A metric is declared once, here or by `register_metric`.  Rows, tables, reports and model cards take their columns from
the registry `METRICS`.

    top1          share of examples whose label has the largest logit, in percent
    top5          share of examples whose label is among the five largest logits, in percent
    perplexity    exponential of the mean cross-entropy of the next token

An example is what a label belongs to: an image, or a token of a text.  Examples with outputs that are not finite, and
networks for which a predictor failed, count with the worst value of a metric (`Metric.worst`), which is 0 for
accuracies.  A metric without a worst value, such as a loss, has no value for them; they are counted beside its mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.support import ConfigError, Registry, checked_integer, import_attribute, in_one_line, is_attribute
from ghn_model.choices import DEFAULT_METRICS

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Metric",
    "check_metrics",
    "cross_entropies",
    "get_metric",
    "get_metrics",
    "register_metric",
]


@dataclass(frozen=True)
class Metric:
    """A number that is computed for every example and averaged over all examples.

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
        example, ``(B,)``, of any numeric type.  None for a metric that a task computes from all outputs together, such
        as average precision.
    higher_is_better
        Whether larger values are better.
    minimum, maximum
        Bounds of valid values, both included.  The worse of the two, if it is finite, is the value of failures (see
        `worst`); without it, failures are left out of means.
    chance
        Function from a number of classes to the mean of random guesses, which charts mark; None if it is not known.
    from_mean
        Function from the mean over all examples to the value of the metric; None if the mean is the value.
    decimals
        Decimals in tables of text; the page of a report has one more.

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
    score: Callable[[Tensor, Tensor], Tensor] | None
    higher_is_better: bool = True
    minimum: float = -math.inf
    maximum: float = math.inf
    chance: Callable[[int], float] | None = None
    from_mean: Callable[[float], float] | None = None
    decimals: int = 1

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"metric: {self.name!r} cannot be a name; expected an identifier such as top1")
        checked_integer("decimals", self.decimals, range(10))

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

    @property
    def title(self) -> str:
        """The label and the unit.

        Examples
        --------
        >>> METRICS["top1"].title, METRICS["perplexity"].title
        ('top-1 accuracy, %', 'perplexity')
        """
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def value(self, mean: float) -> float:
        """Return the metric from the mean of `score` over all examples; NaN if it is not finite.

        Examples
        --------
        >>> METRICS["top1"].value(62.5), METRICS["perplexity"].value(0.0), METRICS["perplexity"].value(1e9)
        (62.5, 1.0, nan)
        """
        try:
            found = mean if self.from_mean is None else self.from_mean(mean)
        except (ArithmeticError, ValueError):  # overflow, or outside of the domain, such as log(0)
            return math.nan
        return found if math.isfinite(found) else math.nan

    def with_failures(self, value: float, count: int, failures: int) -> float:
        """Return the value of examples of which some have outputs that are not finite; they count with `worst`.

        Parameters
        ----------
        value
            Value of the metric over the other examples; ignored if there are none.
        count, failures
            Number of the others, and of those with outputs that are not finite.

        Returns
        -------
        The mean of `value` and `worst`, weighted by the numbers of examples; NaN with failures and without `worst`.

        Examples
        --------
        >>> METRICS["top1"].with_failures(50.0, 3, 1), METRICS["perplexity"].with_failures(50.0, 3, 1)
        (37.5, nan)
        """
        if not failures:
            return value
        if self.worst is None:
            return math.nan
        return ((value * count if count else 0.0) + self.worst * failures) / (count + failures)


METRICS: Registry[Metric] = Registry("metric")
"""All metrics, by name."""


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
    >>> get_metric("math:pi")
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: metric: math:pi is of type float; expected a benchmark.Metric
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


_EXAMPLES = 16  # on which a metric is checked


def check_metrics(metrics: Iterable[Metric], num_classes: int) -> None:
    """Compute metrics of random logits, so that a wrong one is found before networks are evaluated.

    Parameters
    ----------
    metrics
        The metrics; those without `Metric.score` are skipped.
    num_classes
        Number of classes of the data set.

    Raises
    ------
    ConfigError
        If a metric fails, returns no number for every example, or a number that is not finite.

    Examples
    --------
    >>> def logarithm(logits, labels):
    ...     return logits[:, 0].log()
    >>> check_metrics([METRICS["top1"], Metric("log", "logarithm", "", logarithm)], num_classes=10)
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: metric: log is nan for ordinary logits; expected a finite number
    """
    logits = torch.randn(_EXAMPLES, num_classes, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(_EXAMPLES) % num_classes
    for metric in metrics:
        if metric.score is None or metric.name in DEFAULT_METRICS:
            continue
        try:
            values = metric.score(logits.clone(), labels.clone())
        except Exception as error:
            text = in_one_line(error, 200)
            raise ConfigError(
                f"metric: {metric.name} fails for logits of shape {tuple(logits.shape)}: {text}"
            ) from error
        if not isinstance(values, Tensor) or values.shape != labels.shape or values.is_complex():
            found = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ConfigError(
                f"metric: {metric.name} returns {found}; expected a number for every example, ({_EXAMPLES},)"
            )
        wrong = [
            value
            for value in (*values.tolist(), metric.value(values.double().mean().item()))
            if not math.isfinite(value)
        ]
        if wrong:
            raise ConfigError(f"metric: {metric.name} is {wrong[0]} for ordinary logits; expected a finite number")


def _is_among(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """100 for every example whose label is among the k largest logits, else 0; both metrics use one ranking of ties."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices[:, :k]
    return 100 * (ranked == labels[:, None]).any(dim=1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of every example in nats.

    Parameters
    ----------
    logits
        ``(B, C)`` floating point.
    labels
        ``(B,)`` int64.

    Returns
    -------
    ``(B,)``, in single precision at least.

    Examples
    --------
    >>> import torch
    >>> cross_entropies(torch.zeros(1, 256), torch.tensor([7]))
    tensor([5.5452])
    """
    return F.cross_entropy(logits if logits.dtype.itemsize > 2 else logits.float(), labels, reduction="none")


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

register_metric(
    Metric("perplexity", "perplexity", "", cross_entropies, higher_is_better=False, minimum=1.0, from_mean=math.exp)
)
