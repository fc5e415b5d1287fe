"""The row of one network: predict its parameters, evaluate it, and describe the result or the failure."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.accuracy import BATCH_SIZE, Scores, evaluate_network
from benchmark.evaluation.networks import Networks
from benchmark.evaluation.prediction import MemoryOf, Prediction, failure_of, predict_one, seeded
from benchmark.evaluation.predictor_objects import Predictor
from benchmark.metrics import DEFAULT_METRICS, Metric, get_metrics
from deepnets.data import Images
from deepnets.graph import Graph
from deepnets.support import ConfigError, DeepNetsError, FormatError, is_out_of_memory
from ghn_model.ghn import GHN
from ghn_model.precision import single_precision
from ghn_model.tasks import LogitTask, Task, get_logit_task

__all__ = [
    *("FAILED", "OK", "PHASES", "RUN_COLUMNS"),
    *("check_columns", "empty_row", "evaluate_one", "evaluate_prediction", "failed_row", "row_columns"),
]

OK, FAILED = "ok", "failed"
"""Values of the column `status`."""

PHASES = ("graph", "build", "predict", "evaluate")
"""Phases of the evaluation of a network; each has a column with its time in seconds."""

RUN_COLUMNS = ("run", "predictor", "split", "images", "part", "noise")
"""Columns of folders of results before those of `row_columns`."""

SMALLER_BATCH_SIZES = (32, 16, 8, 4, 2)
"""Batch sizes of the published protocol that are tried when memory runs out."""

_COUNTS = ("num_nodes", "num_params", "depth", "num_images", "batch_size", "nonfinite_images")
_MAX_REASON = 300


def row_columns(metrics: Sequence[str] = DEFAULT_METRICS) -> tuple[str, ...]:
    """Return the columns of a table of evaluated networks.

    Parameters
    ----------
    metrics
        Names of the metrics: the default ones and others, whose columns are the last.

    Examples
    --------
    >>> row_columns(("top1", "top5", "loss"))[-4:]
    ('status', 'reason', 'nonfinite_images', 'loss')
    """
    return (
        *("index", "network", "num_nodes", "num_params", "depth", *DEFAULT_METRICS, "num_images", "batch_size"),
        *("batch_norm", *(f"{phase}_seconds" for phase in PHASES), "memory_mb", "status", "reason", "nonfinite_images"),
        *(name for name in metrics if name not in DEFAULT_METRICS),
    )


def check_columns(metrics: Iterable[Metric]) -> None:
    """Check that no metric has the name of another column of tables of results.

    Parameters
    ----------
    metrics
        The metrics.

    Raises
    ------
    ConfigError
        If one has.

    Examples
    --------
    >>> check_columns(get_metrics())
    >>> check_columns([Metric("noise", "noise of the logits", "", None)])
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: metric: 'noise' is a column of tables of results; choose another name
    """
    reserved = {*RUN_COLUMNS, *row_columns(), "corruption"} - {*DEFAULT_METRICS}
    if taken := [metric.name for metric in metrics if metric.name in reserved]:
        raise ConfigError(f"metric: {taken[0]!r} is a column of tables of results; choose another name")


def empty_row(index: int, metrics: Sequence[str] = DEFAULT_METRICS) -> dict[str, Any]:
    """Return the row of a network before its evaluation: counts are 0, other numbers NaN.

    Examples
    --------
    >>> empty_row(3)["index"], empty_row(3)["num_nodes"]
    (3, 0)
    """
    row: dict[str, Any] = dict.fromkeys(row_columns(metrics), math.nan)
    counts = dict.fromkeys(_COUNTS, 0)
    return row | {"index": index, "network": "", "batch_norm": "batch", "status": OK, "reason": ""} | counts


def failed_row(row: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Return the row of a network for which the predictor failed.

    Parameters
    ----------
    row
        What is known about the network so far.
    reason
        Why it failed; shortened to one line of 300 printable characters.

    Examples
    --------
    >>> failed_row(empty_row(0), "two\\nlines")["reason"]
    'two lines'
    """
    text = "".join(letter if letter.isprintable() else " " for letter in " ".join(reason.split()))
    metrics = (*DEFAULT_METRICS, *(name for name in row if name not in row_columns()))
    return {**row, "status": FAILED, "reason": text[:_MAX_REASON], **dict.fromkeys(metrics, math.nan)}


def evaluate_one(
    networks: Networks,
    index: int,
    predictor: Predictor | GHN,
    images: Images,
    *,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    metrics: Iterable[str | Metric] = (),
    vocabulary: str | None = None,
    predict_class_layers: bool = True,
    task: str | Task = "classification",
) -> dict[str, Any]:
    """Predict the parameters of a network and evaluate it on all images, in this process.

    Parameters
    ----------
    networks, index
        The network.
    predictor
        Predicts its parameters.
    images, batch_size, seed, metrics, task
        As in `evaluate_prediction`.
    vocabulary
        Vocabulary of the graphs of models of libraries (see `deepnets.trace`); by default that of the hypernetwork, and
        "complete" for other predictors.  Parameters without a node keep their initial values.
    predict_class_layers
        As in `predict_one`.

    Returns
    -------
    The row, with the keys `row_columns(...)`.

    Raises
    ------
    FormatError, IntegrityError
        If the corpus or an image is damaged.  Every other error is a failure of the predictor, which the row
        describes.

    Examples
    --------
    >>> from benchmark.evaluation import open_networks
    >>> from deepnets.data import load_images
    >>> networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    >>> row = evaluate_one(networks, 1, lambda model, graph: {}, load_images("digits", "test"))
    >>> row["network"], row["status"], row["reason"][:26]
    ('vit', 'failed', 'parameters: 114 of 114 are')
    """
    if vocabulary is None:
        vocabulary = predictor.config.vocabulary if isinstance(predictor, GHN) else "complete"
    prediction = predict_one(
        networks,
        index,
        predictor,
        device=images.device,
        seed=seed,
        vocabulary=vocabulary,
        predict_class_layers=predict_class_layers,
    )
    return evaluate_prediction(
        networks,
        index,
        lambda model: prediction,
        images,
        batch_size=batch_size,
        seed=seed,
        metrics=metrics,
        vocabulary=vocabulary,
        task=task,
    )


@single_precision()
def evaluate_prediction(
    networks: Networks,
    index: int,
    read: Callable[[nn.Module], Prediction],
    images: Images,
    *,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    metrics: Iterable[str | Metric] = (),
    vocabulary: str = "complete",
    on_evaluate: Callable[[dict[str, Any]], None] | None = None,
    task: str | Task = "classification",
) -> dict[str, Any]:
    """Evaluate a network with predicted parameters on all images, or describe why there are none.

    The network is built anew, so a predictor cannot change it, except by its parameters.

    Parameters
    ----------
    networks, index
        The network.
    read
        Function from the network, on the meta device, to what was predicted for it.
    images
        The images.
    batch_size
        As in `evaluate_network`.  If memory runs out, smaller sizes are tried, as in the published protocol.  The
        accuracy of a network with batch norms depends on the size, which the row states.
    seed
        Seed of initial values, together with `networks.key_of(index)`.
    metrics
        Metrics beside the default ones.
    vocabulary
        Vocabulary of the graphs of models of libraries.
    on_evaluate
        Called with the row so far before the network is evaluated.
    task
        What the network is given, and how its outputs are judged (`ghn_model.tasks`).

    Returns
    -------
    The row, with the keys `row_columns(...)`.

    Raises
    ------
    FormatError, IntegrityError
        If the corpus or an image is damaged.
    """
    device = images.device
    task = get_logit_task(task)
    measured = get_metrics((*task.metrics, *metrics))
    row = empty_row(index, [metric.name for metric in measured])
    row |= {"network": networks.name_of(index), "batch_size": batch_size}
    memory = MemoryOf(device)
    reason = ""
    try:
        with _timed(row, "graph", device):
            graph = networks.graph(index, vocabulary)
        row |= {"num_nodes": graph.num_nodes, "depth": _depth(graph)}
        with _timed(row, "build", device), torch.device("meta"):
            model = networks.build(index).eval()
        row["num_params"] = sum(parameter.numel() for parameter in model.parameters())
        try:
            prediction = read(model)
        except DeepNetsError as error:  # what the predictor has sent is not a file of tensors
            prediction = Prediction(failure=str(error))
        row |= {"predict_seconds": prediction.seconds, "memory_mb": prediction.memory_mb}
        reason = prediction.failure
        if not reason:
            if on_evaluate:
                on_evaluate(row)
            with seeded(seed, networks.key_of(index), device), _timed(row, "evaluate", device):
                if _needs_values(model, prediction.parameters):
                    model = networks.build(index).eval()
                scores = _evaluated(model, prediction, images, graph, batch_size, seed, measured, row, task)
            row |= {**scores.values, "num_images": scores.images, "nonfinite_images": scores.nonfinite_images}
    except FormatError:
        raise
    except Exception as error:  # for example, not enough memory for the network
        reason = failure_of(error)
    row["memory_mb"] = float(np.nanmax([memory.megabytes, row["memory_mb"]]))
    return failed_row(row, reason) if reason else row


def _needs_values(model: nn.Module, parameters: Mapping[str, Tensor]) -> bool:
    """Whether a network needs initial values of parameters that were not predicted, or buffers with fixed values."""
    norms = (nn.modules.batchnorm._NormBase,)
    buffers = any(
        buffer is not None
        for module in model.modules()
        if not isinstance(module, norms)
        for buffer in module._buffers.values()
    )
    return buffers or any(name not in parameters for name, _ in model.named_parameters())


def _evaluated(
    model: nn.Module,
    prediction: Prediction,
    images: Images,
    graph: Graph,
    batch_size: int,
    seed: int,
    metrics: tuple[Metric, ...],
    row: dict[str, Any],
    task: LogitTask,
) -> Scores:
    """Evaluate a network with the largest batch size that fits into memory, which is written into the row."""
    unused = {slot.name for slot in graph.unused}
    parameters = prediction.parameters
    for size in (batch_size, *(size for size in SMALLER_BATCH_SIZES if size < batch_size)):
        row["batch_size"] = size
        try:
            if prediction.trained:
                from benchmark.training import evaluate_trained

                row["batch_norm"] = "running"
                return evaluate_trained(model, parameters, images, size, seed=seed, metrics=metrics, task=task)
            return evaluate_network(
                model, parameters, images, batch_size=size, unused=unused, seed=seed, metrics=metrics, task=task
            )
        except Exception as error:
            if not is_out_of_memory(error) or size <= SMALLER_BATCH_SIZES[-1]:
                raise
        if images.device.type == "cuda":  # after the handler, because the exception holds tensors of the pass
            torch.cuda.empty_cache()
    raise AssertionError("the smallest size returns or raises")


def _depth(graph: Graph) -> int:
    """Return the number of nodes on the longest path."""
    depths = [1] * graph.num_nodes
    for source, target in graph.edges.tolist():  # sorted by target, and nodes are in topological order
        depths[target] = max(depths[target], depths[source] + 1)
    return max(depths, default=0)


@contextlib.contextmanager
def _timed(row: dict[str, Any], phase: str, device: torch.device) -> Iterator[None]:
    """Write the time of a phase that succeeds into the row, including pending work of the GPU."""
    started = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    row[f"{phase}_seconds"] = time.perf_counter() - started
