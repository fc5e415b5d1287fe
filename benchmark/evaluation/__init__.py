"""Evaluation of predicted parameters: networks, predictors, and one row of results per network.

split_evaluation         `evaluate`: all networks of a split as a table
summary                  `summarize`: mean, standard error and failures of a table
networks                 the networks of a split, or models of torchvision and timm
family_networks          the networks of a family
predictors               the registry of predictors, and predictors by name
predictor_context        what a predictor is given when it is opened
predictor_texts          labels and descriptions of predictors
predictor_objects        functions and hypernetworks as predictors
predictor_kinds          the built-in kinds of predictors
trained_kind             hypernetworks of the user's own with trained weights
baseline_kinds           kinds of predictors that are baselines, from `benchmark.predictors`
jobs, machine            `EvaluationJob`, what is evaluated, and `Machine`, where
prediction               `predict_one`: the parameters of one network
rows                     the row of one network, whether it succeeds or fails
parallel, clusters       distribution of networks over workers, with joblib or on a Dask or Ray cluster
devices                  the device of each worker
workers                  supervision of two processes for each worker, one for the predictor and one for the evaluation
predictor_process, evaluator_process, requests, tensor_exchange
                         what runs in these processes, and how they get tensors
processes, process_server, guard, operating_system
                         how processes are started, watched and ended
"""

from __future__ import annotations

import benchmark.evaluation.baseline_kinds
import benchmark.evaluation.predictor_kinds
import benchmark.evaluation.trained_kind  # noqa: F401 - these modules register the built-in kinds
from benchmark.evaluation.jobs import EvaluationJob
from benchmark.evaluation.machine import BACKENDS, Machine
from benchmark.evaluation.networks import (
    LIBRARIES,
    ModelNetworks,
    Networks,
    SplitNetworks,
    default_image_split,
    open_networks,
    select_networks,
)
from benchmark.evaluation.parallel import evaluate_all
from benchmark.evaluation.predictor_context import ImageInfo, PredictorContext
from benchmark.evaluation.predictor_objects import Predictor
from benchmark.evaluation.predictor_texts import check_label
from benchmark.evaluation.predictors import (
    PREDICTORS,
    PredictorInfo,
    describe_predictor,
    open_predictor,
    register_predictor,
)
from benchmark.evaluation.rows import FAILED, OK, row_columns
from benchmark.evaluation.split_evaluation import evaluate
from benchmark.evaluation.summary import Summary, summarize
from benchmark.evaluation.workers import close_workers, describe_all, keep_processes

__all__ = [
    "BACKENDS",
    "FAILED",
    "LIBRARIES",
    "OK",
    "PREDICTORS",
    "EvaluationJob",
    "ImageInfo",
    "Machine",
    "ModelNetworks",
    "Networks",
    "Predictor",
    "PredictorContext",
    "PredictorInfo",
    "SplitNetworks",
    "Summary",
    "check_label",
    "close_workers",
    "default_image_split",
    "describe_all",
    "describe_predictor",
    "evaluate",
    "evaluate_all",
    "keep_processes",
    "open_networks",
    "open_predictor",
    "register_predictor",
    "row_columns",
    "select_networks",
    "summarize",
]
