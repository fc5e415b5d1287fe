"""Evaluation of predicted parameters: networks, predictors, and one row of results per network.

split_evaluation         `evaluate`, all networks of a split as a table
summary                  `summarize`, a table as mean, standard error and failures
networks                 the networks of a split, or models of torchvision and timm
predictors               predictors by name, as callables, or as hypernetworks
rows                     the row of one network, whether it succeeds or fails
parallel                 distribution of networks over workers with joblib
workers, worker_process  worker processes that are restarted when they hang or die
"""

from __future__ import annotations

from benchmark.evaluation.networks import FOR_CHOOSING, LIBRARIES, ModelNetworks, Networks, SplitNetworks, open_networks
from benchmark.evaluation.parallel import BACKENDS, default_jobs, evaluate_all, memory_limit
from benchmark.evaluation.predictors import Predictor, PredictorInfo, check_label, describe_predictor, open_predictor
from benchmark.evaluation.rows import FAILED, OK, ROW
from benchmark.evaluation.split_evaluation import evaluate
from benchmark.evaluation.summary import Summary, summarize

__all__ = [
    "BACKENDS",
    "FAILED",
    "FOR_CHOOSING",
    "LIBRARIES",
    "OK",
    "ROW",
    "ModelNetworks",
    "Networks",
    "Predictor",
    "PredictorInfo",
    "SplitNetworks",
    "Summary",
    "check_label",
    "default_jobs",
    "describe_predictor",
    "evaluate",
    "evaluate_all",
    "memory_limit",
    "open_networks",
    "open_predictor",
    "summarize",
]
