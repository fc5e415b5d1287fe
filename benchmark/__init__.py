"""Comparison of predictors of parameters: the same networks, images and metrics for all, and failures are counted.

    table = evaluate(predictor, split="test", images="digits")    one row per network
    summarize(table)                                              mean, standard error, best, failures

A predictor is a callable `(model, graph) -> dict[str, Tensor]`, a `ghn_model.GHN`, or a text that names one.  Kinds of
predictors are added with `register_predictor`, metrics with `register_metric`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from benchmark.accuracy import Scores as Scores
    from benchmark.accuracy import evaluate_network as evaluate_network
    from benchmark.evaluation import PREDICTORS as PREDICTORS
    from benchmark.evaluation import Predictor as Predictor
    from benchmark.evaluation import Summary as Summary
    from benchmark.evaluation import evaluate as evaluate
    from benchmark.evaluation import register_predictor as register_predictor
    from benchmark.evaluation import summarize as summarize
    from benchmark.metrics import METRICS as METRICS
    from benchmark.metrics import Metric as Metric
    from benchmark.metrics import register_metric as register_metric

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "accuracy": (
            "Scores",
            "evaluate_network",
        ),
        "evaluation": (
            "PREDICTORS",
            "Predictor",
            "Summary",
            "evaluate",
            "register_predictor",
            "summarize",
        ),
        "metrics": (
            "METRICS",
            "Metric",
            "register_metric",
        ),
    },
)
