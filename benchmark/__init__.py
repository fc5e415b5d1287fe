"""Comparison of predictors of parameters: the same networks, images and metrics for all, and failures are counted.

    table = evaluate(predictor, split="test", images="digits")    one row per network
    summarize(table)                                              mean, standard error, best, failures

A predictor is a callable `(model, graph) -> dict[str, Tensor]`, a `ghn_model.GHN`, or a text that names one.  Kinds of
predictors are added with `register_predictor`, metrics with `register_metric`.
"""

from __future__ import annotations

from benchmark.accuracy import Scores, evaluate_network
from benchmark.evaluation import PREDICTORS, Predictor, Summary, evaluate, register_predictor, summarize
from benchmark.metrics import METRICS, Metric, register_metric

__all__ = [
    "METRICS",
    "PREDICTORS",
    "Metric",
    "Predictor",
    "Scores",
    "Summary",
    "evaluate",
    "evaluate_network",
    "register_metric",
    "register_predictor",
    "summarize",
]
