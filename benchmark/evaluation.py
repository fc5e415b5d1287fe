"""Evaluating predicted parameters by the protocol of Knyazev et al. (NeurIPS 2021, section 5).

Every network is run on all images of a set with the parameters that were predicted for it, in batches of 64, batch
norms with the statistics of the batch.  A predictor that fails on a network fails on that network: the row says why,
and the summary counts it.  Accuracies are in percent.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from deepnets.dataset import DeepNets1M
from deepnets.errors import ConfigError
from deepnets.graph import Graph
from deepnets.images import ImageSet, load_images
from ghn_model.ghn import GHN, use_batch_statistics

__all__ = ["Accuracy", "Predictor", "Summary", "evaluate", "evaluate_network", "summarize"]

Predictor = Callable[[nn.Module, Graph], Mapping[str, Tensor]]
"""Predicts the parameters of a network, whose own may be on `meta`, from itself or its graph."""

OK, FAILED = "ok", "failed"


class Accuracy(NamedTuple):
    """How many images a network classified correctly.

    Attributes
    ----------
    top1, top5
        In percent: the right class is the first, or among the first five.
    images
        Number of images.
    """

    top1: float
    top5: float
    images: int


class Summary(NamedTuple):
    """A split in one line, over the networks that did not fail.

    Attributes
    ----------
    mean, standard_error
        Of the metric; the error is that of the mean, from the population's standard deviation.
    best, best_index
        The largest, and which network it is of.
    networks, failures
        How many there are, and how many of them failed.
    """

    mean: float
    standard_error: float
    best: float
    best_index: int
    networks: int
    failures: int


class _UnusableError(Exception):
    """A reason for which the accuracy of a network cannot be told."""


@torch.no_grad()
def evaluate_network(
    model: nn.Module, parameters: Mapping[str, Tensor], images: ImageSet, *, batch_size: int = 64
) -> Accuracy:
    """Run a network with predicted parameters on all images of a set.

    Parameters
    ----------
    model
        The network.  It is left as it is; what `parameters` lacks is taken from it.
    parameters
        Tensors by name.
    images
        The images.
    batch_size
        64 in the published protocol; with batch norms, accuracies depend on it.

    Raises
    ------
    FloatingPointError
        If outputs are not finite.
    """
    shell = use_batch_statistics(copy.deepcopy(model)).eval()
    hits1 = torch.zeros((), dtype=torch.int64, device=images.images.device)
    hits5, broken = torch.zeros_like(hits1), torch.zeros_like(hits1)
    for batch, labels in images.batches(batch_size):
        logits = torch.func.functional_call(shell, dict(parameters), batch, tie_weights=False)
        logits = logits[0] if isinstance(logits, tuple) else logits
        broken += (~logits.isfinite()).sum()
        ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        hits1 += ranked[:, 0].sum()
        hits5 += ranked.any(dim=1).sum()
    if int(broken):
        raise FloatingPointError("the network's outputs are not finite")
    return Accuracy(100 * int(hits1) / len(images), 100 * int(hits5) / len(images), len(images))


def evaluate(
    predictor: Predictor | GHN,
    split: str = "test",
    images: str | ImageSet = "digits",
    *,
    data: Path | str = "data",
    image_root: Path | str | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> pd.DataFrame:
    """Evaluate a predictor on the networks of a split.

    Parameters
    ----------
    predictor
        A callable, or a hypernetwork.
    split
        Of the networks: one that `DeepNets1M` knows.
    images
        The set to evaluate on: its name, for the test images, or the images themselves.
    data, image_root
        Folders of the corpus and of the images.
    limit
        Evaluate so many networks, from the first on.
    batch_size
        As in `evaluate_network`.
    progress
        Whether to show a bar.

    Returns
    -------
    One row per network: `index`, `num_params`, `top1`, `top5` (percent, NaN if it failed), `build_seconds`,
    `predict_seconds`, `evaluate_seconds`, `status` ("ok" or "failed") and `reason`.
    """
    shown = load_images(images, "test", root=image_root) if isinstance(images, str) else images
    nets = DeepNets1M(data, split, num_classes=shown.num_classes, image_size=shown.image_size, num_nets=limit)
    predict = _by_hypernetwork(predictor) if isinstance(predictor, GHN) else predictor
    if not callable(predict):
        raise ConfigError(f"predictor: expected a callable or a GHN, got {type(predictor).__name__}")
    rows = [
        _row(nets, index, predict, shown, batch_size)
        for index in tqdm(range(len(nets)), desc=split, disable=not progress, unit="network")
    ]
    return pd.DataFrame(rows)


def summarize(table: pd.DataFrame, metric: str = "top1") -> Summary:
    """The mean of a metric over the networks of a table that did not fail, and how many did."""
    fine = table[table["status"] == OK]
    values = fine[metric].to_numpy(float)
    failures = len(table) - len(fine)
    if not len(values):
        return Summary(float("nan"), float("nan"), float("nan"), -1, len(table), failures)
    error = float(values.std() / np.sqrt(len(values)))
    best = int(values.argmax())
    return Summary(
        float(values.mean()), error, float(values[best]), int(fine["index"].iloc[best]), len(table), failures
    )


def _by_hypernetwork(ghn: GHN) -> Predictor:
    def predict(model: nn.Module, graph: Graph) -> Mapping[str, Tensor]:
        parameters: Mapping[str, Tensor] = ghn.predict(model, graph=graph)
        return parameters

    return predict


def _row(nets: DeepNets1M, index: int, predict: Predictor, images: ImageSet, batch_size: int) -> dict[str, Any]:
    """What there is to say about one network."""
    row: dict[str, Any] = {"index": index, "num_params": 0, "top1": float("nan"), "top5": float("nan")}
    row |= {"build_seconds": 0.0, "predict_seconds": 0.0, "evaluate_seconds": 0.0, "status": OK, "reason": ""}
    started = time.perf_counter()

    def lap() -> float:
        nonlocal started
        passed, started = time.perf_counter() - started, time.perf_counter()
        return passed

    with torch.device("meta"):
        model = nets.network(index).eval()
    graph = nets[index]
    row["num_params"] = sum(parameter.numel() for parameter in model.parameters())
    row["build_seconds"] = lap()
    try:
        parameters = predict(model, graph)
        _check(parameters, model, graph)
        row["predict_seconds"] = lap()
        accuracy = evaluate_network(model, parameters, images, batch_size=batch_size)
        row |= {"top1": accuracy.top1, "top5": accuracy.top5, "evaluate_seconds": lap()}
    except Exception as error:  # a predictor is anybody's code
        reason = str(error) if isinstance(error, _UnusableError) else f"{type(error).__name__}: {error}"
        row |= {"status": FAILED, "reason": " ".join(reason.split())[:300]}
    return row


def _check(parameters: Any, model: nn.Module, graph: Graph) -> None:
    """Make sure that all parameters are there that data reaches, and that they are what they should be."""
    if not isinstance(parameters, Mapping):
        raise _UnusableError(f"the predictor returned a {type(parameters).__name__}, not a dict of tensors")
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    wanted = {slot.name for slots in graph.parameters for slot in slots}
    if missing := sorted(wanted - parameters.keys()):
        raise _UnusableError(f"{len(missing)} parameters are missing: {', '.join(missing[:3])}")
    for name, tensor in parameters.items():
        if name not in shapes:
            raise _UnusableError(f"the network has no parameter {name}")
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shapes[name]:
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise _UnusableError(f"{name}: expected a tensor of shape {shapes[name]}, got {got}")
        if not bool(tensor.isfinite().all()):
            raise _UnusableError(f"{name}: is not finite")
