"""One row: what there is to say about one network with predicted parameters, whatever goes wrong with it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.accuracy import BATCH_SIZE, Accuracy, evaluate_network
from benchmark.evaluation.networks import Networks
from benchmark.evaluation.predictors import Predictor, TrainedState
from deepnets.data import Images
from deepnets.graph import Graph
from deepnets.support import DeepNetsError, FormatError, PeakMemory, is_out_of_memory
from ghn_model.ghn import GHN

__all__ = ["FAILED", "OK", "PHASES", "ROW", "empty_row", "evaluate_one", "failed_row"]

OK, FAILED = "ok", "failed"
PHASES = ("graph", "build", "predict", "evaluate")
SMALLER = (32, 16, 8, 4, 2)
"""Batch sizes of the published protocol, when memory runs out."""

ROW = (
    *("index", "network", "num_nodes", "num_params", "depth", "top1", "top5", "num_images", "batch_size"),
    *("batch_norm", *(f"{phase}_seconds" for phase in PHASES), "memory_mb", "status", "reason"),
)
"""Columns of a table."""

_LONGEST_REASON = 300


def empty_row(index: int) -> dict[str, Any]:
    """A row about which nothing is known yet."""
    row: dict[str, Any] = dict.fromkeys(ROW, math.nan)
    counts = {"num_nodes": 0, "num_params": 0, "depth": 0, "num_images": 0, "batch_size": 0}
    return row | {"index": index, "network": "", "batch_norm": "batch", "status": OK, "reason": ""} | counts


def failed_row(row: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The row of a network that cost a predictor its result."""
    text = "".join(letter if letter.isprintable() else " " for letter in " ".join(reason.split()))
    return {**row, "status": FAILED, "reason": text[:_LONGEST_REASON], "top1": math.nan, "top5": math.nan}


def evaluate_one(
    networks: Networks,
    index: int,
    predictor: Predictor | GHN,
    images: Images,
    *,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    phase_begins: Callable[[str, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Predict the parameters of a network, and run it on all images.

    Parameters
    ----------
    networks, index
        The network.
    predictor
        Predicts its parameters.
    images
        To run it on.
    batch_size
        As in `evaluate_network`.  If memory runs out, smaller ones are tried, as published: of a network with batch
        norms the accuracy is then another one, and the row says which size it was.
    seed
        Of random numbers, together with the network.
    phase_begins
        Is told the phase, one of `PHASES`, and what is known so far.

    Returns
    -------
    The row, with the keys `ROW`.

    Raises
    ------
    FormatError, IntegrityError
        If the corpus or an image is damaged.  Whatever else happens is a failure that the row describes.
    """
    device = images.device
    row = empty_row(index) | {"network": networks.name_of(index), "batch_size": batch_size}
    tell = phase_begins or (lambda phase, row: None)
    memory = _Memory(device)
    predicting = False
    try:
        with _seeded(seed, networks.key_of(index), device):
            tell("graph", row)
            with _timed(row, "graph", device):
                graph = networks.graph(index)
            row |= {"num_nodes": graph.num_nodes, "depth": _depth(graph)}
            tell("build", row)
            # A hypernetwork does not look at values, so none are made.
            with _timed(row, "build", device), torch.device("meta" if isinstance(predictor, GHN) else "cpu"):
                model = networks.build(index).eval()
            row["num_params"] = sum(parameter.numel() for parameter in model.parameters())
            tell("predict", row)
            predicting = True
            with _timed(row, "predict", device):
                parameters = _predicted(predictor, model, graph)
            predicting = False
            tell("evaluate", row)
            with _timed(row, "evaluate", device):
                accuracy = _evaluated(model, parameters, images, graph, batch_size, seed, row)
    except FormatError as error:
        if not predicting:  # else it is a file of the predictor's own
            raise
        return failed_row(row | {"memory_mb": memory.megabytes}, str(error))
    except (Exception, SystemExit) as error:  # a predictor is anybody's code
        row["memory_mb"] = memory.megabytes
        if is_out_of_memory(error):
            return failed_row(row, f"not enough memory: {_in_a_line(error)}")
        known = isinstance(error, DeepNetsError | FloatingPointError)
        return failed_row(row, str(error) if known else _in_a_line(error))
    row |= {"top1": accuracy.top1, "top5": accuracy.top5, "num_images": accuracy.images}
    return row | {"memory_mb": memory.megabytes}


def _predicted(predictor: Predictor | GHN, model: nn.Module, graph: Graph) -> Mapping[str, Tensor]:
    if isinstance(predictor, GHN):
        predicted: Mapping[str, Tensor] = predictor.predict(model, graph=graph)
        return predicted
    return predictor(model, graph)


def _evaluated(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    images: Images,
    graph: Graph,
    batch_size: int,
    seed: int,
    row: dict[str, Any],
) -> Accuracy:
    """The accuracy, in batches as large as fit into memory."""
    unused = {slot.name for slot in graph.unused}
    for size in (batch_size, *(size for size in SMALLER if size < batch_size)):
        row["batch_size"] = size
        try:
            if isinstance(parameters, TrainedState):
                from benchmark.training import evaluate_trained

                row["batch_norm"] = "running"
                return evaluate_trained(model, parameters, images, size)
            return evaluate_network(model, parameters, images, batch_size=size, unused=unused, seed=seed)
        except Exception as error:
            if not is_out_of_memory(error) or size <= SMALLER[-1]:
                raise
        if images.device.type == "cuda":  # outside of the handler, where nothing of the pass is held any longer
            torch.cuda.empty_cache()
    raise AssertionError("the smallest size returns or raises")


def _depth(graph: Graph) -> int:
    """Nodes on the longest path."""
    depths = [1] * graph.num_nodes
    for source, target in graph.edges.tolist():  # sorted by target, and nodes topologically
        depths[target] = max(depths[target], depths[source] + 1)
    return max(depths, default=0)


def _in_a_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Memory:
    """The largest memory that a network took: of the GPU if it ran there, or else of this process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            self._process = PeakMemory()

    @property
    def megabytes(self) -> float:
        if self._device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self._device) - self._before) / 1e6
        return self._process.megabytes


@contextlib.contextmanager
def _timed(row: dict[str, Any], phase: str, device: torch.device) -> Iterator[None]:
    """Write into a row how long something took that did not fail, the work of the GPU included."""
    started = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    row[f"{phase}_seconds"] = time.perf_counter() - started


@contextlib.contextmanager
def _seeded(seed: int, key: int, device: torch.device) -> Iterator[None]:
    """Random numbers of PyTorch that depend on these two numbers; the caller's go on afterwards as if nothing was."""
    word = int(np.random.Philox(key=[seed, key]).random_raw())
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(word)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(word)
        yield
