"""The metrics of results that reports and analyses read; nothing else in them names a metric's column."""

from __future__ import annotations

from benchmark.results.reading import METRICS

__all__ = ["CHANCE", "METRICS", "metric_label", "metric_unit"]

CHANCE = {("digits", "top1"): 10.0, ("cifar10", "top1"): 10.0, ("imagenet", "top1"): 0.1, ("imagenet", "top5"): 0.5}
"""Accuracy of random guessing in percent, by image set and metric."""


def metric_label(name: str) -> str:
    """Return the name of a metric in text.

    Examples
    --------
    >>> metric_label("top1")
    'top-1 accuracy'
    """
    return f"{name.replace('top', 'top-')} accuracy"


def metric_unit(name: str) -> str:
    """Return the unit of a metric, empty if it has none.

    Examples
    --------
    >>> metric_unit("top5")
    '%'
    """
    return "%" if name in METRICS else ""
