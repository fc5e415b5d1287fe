"""How good predicted parameters are: the same networks, images and metrics for every predictor, failures counted.

    table = evaluate(predictor, split="test", images="digits")    one row per network
    summarize(table)                                              mean, standard error, best, failures

A predictor is any callable `(model, graph) -> dict[str, Tensor]`, or a `ghn_model.GHN`.
"""

from __future__ import annotations

from benchmark.accuracy import Accuracy, evaluate_network
from benchmark.evaluation import Predictor, Summary, evaluate, summarize

__all__ = ["Accuracy", "Predictor", "Summary", "evaluate", "evaluate_network", "summarize"]
