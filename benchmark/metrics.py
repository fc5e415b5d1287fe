"""Metrics of tasks, which are declared in `ghn_model.tasks.metrics`."""

from __future__ import annotations

from ghn_model.tasks.metrics import (
    DEFAULT_METRICS,
    METRICS,
    Metric,
    check_metrics,
    get_metric,
    get_metrics,
    register_metric,
)

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Metric",
    "check_metrics",
    "get_metric",
    "get_metrics",
    "register_metric",
]
