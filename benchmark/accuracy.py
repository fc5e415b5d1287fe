"""Evaluation of one network with predicted parameters: batches of 64 images, batch norms with batch statistics.

This is the protocol of the published results (Knyazev et al., NeurIPS 2021).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.metrics import Metric, get_metrics
from deepnets.architecture import CompactModel, Network
from deepnets.data import Images, ImageSet
from deepnets.support import ConfigError
from ghn_model.networks import abbreviated_names, check_predicted, use_batch_statistics
from ghn_model.tasks import Task, get_logit_task

__all__ = [
    "BATCH_SIZE",
    "LAYOUT",
    "Scores",
    "abbreviated_names",
    "check_parameters",
    "evaluate_network",
    "random_generator",
    "score",
]

BATCH_SIZE = 64
"""Images per batch in the published protocol."""

LAYOUT = torch.channels_last
"""Memory layout of batches, which is the fastest for most of the networks."""


@dataclass(frozen=True)
class Scores:
    """The metrics of a network on a set of images.

    Attributes
    ----------
    values
        Value of every metric by name; accuracies are in percent.
    images
        Number of images; for texts, of tokens.
    nonfinite_images
        Number of images for which an output of the network is not finite.  They are wrong answers: they count with
        the worst value of a metric (`Metric.worst`).  Metrics that have none are NaN if there are such images.

    Examples
    --------
    >>> scores = Scores({"top1": 62.5, "top5": 87.5}, images=8)
    >>> scores["top1"]
    62.5
    """

    values: Mapping[str, float]
    images: int
    nonfinite_images: int = 0

    def __getitem__(self, metric: str) -> float:
        return self.values[metric]


@torch.no_grad()
def evaluate_network(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    images: Images,
    *,
    batch_size: int = BATCH_SIZE,
    unused: Collection[str] = (),
    seed: int = 0,
    metrics: Iterable[str | Metric] = (),
    task: str | Task = "classification",
) -> Scores:
    """Evaluate a network with predicted parameters on all images of a set.

    Parameters
    ----------
    model
        The network, on any device; its own parameters may be on `meta`.  It is not modified: a copy that shares its
        parameters is run in evaluation mode, with batch norms that use the statistics of the batch.  On a CPU, channels
        of a `deepnets.Network` that are equal, as in wide networks with predicted parameters, are computed once.
    parameters
        All parameters by name, on any device.
    images
        The images, or the data set of another task; the network runs on its device.
    batch_size
        Images per batch.  The accuracy of a network with batch norms depends on it; 64 in the published protocol.
    unused
        Names of parameters that may be missing because they do not affect the output: the names of `Graph.unused`.
    seed
        Seed of the noise that is added to the images, if they have any.  It is the same for every network.
    metrics
        Metrics to compute beside those of the task (`benchmark.metrics.get_metrics`).
    task
        What the network is given, and how its outputs are judged (`ghn_model.tasks`).

    Returns
    -------
    The metrics over all images.  Every image has the same weight, also those of a smaller last batch.  Images with
    outputs that are not finite are wrong answers (see `Scores`).

    Raises
    ------
    ConfigError
        If a tensor is missing, unknown to the network, of another shape or not finite, or if the number of outputs of
        the network differs from the number of classes.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10, device="meta"))
    >>> parameters = {"1.weight": torch.zeros(10, 3072), "1.bias": torch.arange(10.0)}
    >>> evaluate_network(model, parameters, load_images("digits", "test")).images
    299
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    check_parameters(parameters, shapes, unused)
    device = images.device
    shell = _shell(model)
    own = {**dict(shell.named_parameters()), **dict(shell.named_buffers())}
    values = {name: tensor.to(device) for name, tensor in own.items() if name not in parameters and not tensor.is_meta}
    values |= {name: tensor.detach().to(device, own[name].dtype) for name, tensor in parameters.items()}

    def network(*inputs: Any) -> Any:
        return torch.func.functional_call(shell, values, inputs)

    if type(model) is Network and device.type == "cpu":  # where the time is that of the arithmetic
        network = CompactModel(network, shell)
    return score(network, images, batch_size, seed=seed, metrics=metrics, task=task)


@torch.no_grad()
def score(
    network: Callable[..., Any],
    images: Images,
    batch_size: int,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    metrics: Iterable[str | Metric] = (),
    task: str | Task = "classification",
) -> Scores:
    """Compute the metrics of a function from examples, such as images, to logits.

    Parameters
    ----------
    network
        Function from a batch, ``(B, 3, H, W)``, to its logits, ``(B, C)``, or to a tuple whose first element are the
        logits; for other tasks, from what they give to a network to what it returns.
    images, batch_size, seed, metrics, task
        As in `evaluate_network`.
    device
        Device of the network; by default that of the images.

    Returns
    -------
    The metrics over all images; those with outputs that are not finite are wrong answers (see `Scores`).

    Raises
    ------
    ConfigError
        If there are no images, or the outputs are not logits of their classes.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> images = load_images("digits", "test")
    >>> scores = score(lambda batch: torch.eye(10)[torch.zeros(len(batch), dtype=torch.long)], images, 64)
    >>> round(scores["top1"], 1)  # share of the images with label 0
    10.0
    >>> scores = score(lambda batch: torch.full((len(batch), 10), torch.nan), images, 64)
    >>> scores["top1"], scores.nonfinite_images
    (0.0, 299)
    """
    task = get_logit_task(task)
    measured = get_metrics((*task.metrics, *metrics))
    device = device or images.device
    seen = 0
    sums = torch.zeros(len(measured), dtype=torch.float64, device=device)
    nonfinite = torch.zeros((), dtype=torch.int64, device=device)
    for batch, targets in images.batches(batch_size, generator=random_generator(images, seed)):
        targets = targets.to(device)
        inputs = task.inputs(task.arranged(batch.to(device), LAYOUT), targets)
        logits, labels = task.logits(network(*inputs), targets, images), task.labels(targets)
        finite = logits.isfinite().all(dim=1)
        logits = torch.where(finite[:, None], logits, 0.0)  # the largest logit would be NaN, whose class is arbitrary
        values = [_scored(metric, logits, labels) for metric in measured]
        sums += torch.stack([torch.where(finite, each, 0.0).sum() for each in values])
        nonfinite += (~finite).sum()
        seen += len(labels)
    if not seen:
        raise ConfigError(f"images: {images.name} ({images.split}) has no images")
    totals, wrong = sums.tolist(), int(nonfinite)  # the first synchronization with a GPU
    found = {metric.name: _value(metric, total, seen, wrong) for metric, total in zip(measured, totals)}
    return Scores(found, seen, wrong)


def _value(metric: Metric, total: float, seen: int, nonfinite: int) -> float:
    """Return a metric from the sum over the images with finite outputs; the others count with its worst value."""
    if not nonfinite:
        return metric.value(total / seen)
    if metric.from_mean is None:  # as below, without rounding
        return metric.value((total + (math.nan if metric.worst is None else metric.worst) * nonfinite) / seen)
    finite = seen - nonfinite
    return metric.with_failures(metric.value(total / max(1, finite)), finite, nonfinite)


def _scored(metric: Metric, logits: Tensor, labels: Tensor) -> Tensor:
    if metric.score is None:
        raise ConfigError(f"metric: {metric.name} cannot be computed from logits")
    return metric.score(logits, labels).double()


def random_generator(images: Images, seed: int) -> torch.Generator:
    """Return a seeded generator for a pass through images; images on disk are augmented on the CPU."""
    return torch.Generator(images.device if isinstance(images, ImageSet) else "cpu").manual_seed(seed)


def _shell(model: nn.Module) -> nn.Module:
    """Copy a network, sharing its parameters, for evaluation with batch statistics."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return use_batch_statistics(copy.deepcopy(model, shared)).eval()


def check_parameters(parameters: Any, shapes: Mapping[str, tuple[int, ...]], unused: Collection[str] = ()) -> None:
    """Check that all parameters that affect the output are present, and that names, shapes and values are valid.

    Parameters
    ----------
    parameters
        What a predictor has returned.
    shapes
        Shape of every parameter of the network.
    unused
        Names of parameters that may be missing.

    Raises
    ------
    ConfigError
        If they are not valid.

    Examples
    --------
    >>> check_parameters({}, {"weight": (2,)})
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: parameters: 1 of 1 are missing: weight
    """
    check_predicted(parameters, shapes, unused)
