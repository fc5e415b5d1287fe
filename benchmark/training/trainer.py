"""Training of networks by gradient descent: the baseline of predicted parameters, and fine-tuning.

    trained = train_network(model, train_images, SGDRecipe.preset("cifar10"), eval_images=test_images)
    trained.curve                                       one row per epoch: loss and metrics
    evaluate_trained(model, trained.state, test_images)

Recipes and evaluation follow Knyazev et al. (NeurIPS 2021, section 5).  Batch norms of trained networks are evaluated
with running statistics, while networks with predicted parameters are evaluated with batch statistics.  Accuracies are
in percent.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmark.accuracy import (
    BATCH_SIZE,
    LAYOUT,
    Scores,
    abbreviated_names,
    random_generator,
    score,
)
from benchmark.metrics import DEFAULT_METRICS, Metric
from benchmark.training.augmentation import images_for
from benchmark.training.epoch import Epochs, diverged, make_optimizer
from benchmark.training.progress import SAVE_SECONDS, Progress, data_digest
from benchmark.training.recipe import SGDRecipe
from deepnets.data import Images
from deepnets.support import ConfigError, ProgressBar, TrainingError, at_least, checked_integer
from ghn_model.tasks import Task, get_logit_task, recorded_name

__all__ = ["EPOCHS_EVALUATED", "Trained", "evaluate_trained", "evaluated_epochs", "track_statistics", "train_network"]

EPOCHS_EVALUATED = (1, 5, 10, 20, 30, 40, 50)
"""Epochs after which the published baselines were evaluated."""

CURVE = ("epoch", "loss", "train_top1", *DEFAULT_METRICS, "seconds", "learning_rate")


class Trained(NamedTuple):
    """The result of a training.

    Attributes
    ----------
    state
        Parameters and buffers by name, including the running statistics of batch norms, on the CPU; to be loaded with
        ``track_statistics(model).load_state_dict(state)``.
    curve
        A `pandas.DataFrame` with one row per epoch: `epoch` (from 1), `loss` (mean over the images of the epoch, with
        label smoothing), `train_top1` (of the outputs during training), `top1` and `top5` on the images for evaluation
        (NaN where not evaluated), `seconds` of training so far (without evaluation), and `learning_rate` (of the last
        step).
    """

    state: dict[str, Tensor]
    curve: pd.DataFrame


def train_network(
    model: nn.Module,
    train_images: Images,
    recipe: SGDRecipe,
    *,
    eval_images: Images | None = None,
    epochs_evaluated: Collection[int] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = False,
    each_epoch: Callable[[dict[str, float]], None] | None = None,
    state_file: Path | None = None,
    save_seconds: float = SAVE_SECONDS,
    task: str | Task = "classification",
) -> Trained:
    """Train a copy of a network, starting from its current values.

    Parameters
    ----------
    model
        The network; it is not modified.  Batch norms of the copy track running statistics.  If the output is a tuple,
        its first element is used, and its second one as the output of the auxiliary head if the recipe has a weight for
        it.
    train_images
        Training images.
    recipe
        Settings of the training.  `noise` and `orthogonal_from` are ignored; see `initialized`.
    eval_images
        Images for evaluation, in batches of 64; None for no evaluation.
    epochs_evaluated
        Epochs after which the network is evaluated, in addition to the last; by default the published
        `EPOCHS_EVALUATED`.
    seed
        Seed of the order of the images, augmentation and dropout.  On a CPU, the same seed and number of threads give
        the same result bit by bit.
    device
        Device of the training; by default that of the images.
    progress
        Whether to show a progress bar.
    each_epoch
        Called with every row of the curve.
    state_file
        File in which the state of the training is saved between epochs, and from which it continues, with the same
        result as without interruption, if it is the file of a training with the same initial values, recipe, seed and
        images.  The file of another training is ignored, and replaced when the state is saved.  It remains after the
        training.
    save_seconds
        Seconds between two saved states; 0 to save after every epoch.
    task
        What the network is given, and how its output becomes a loss and metrics (`ghn_model.tasks`).  The loss is that
        of the recipe, on the logits of every label.

    Returns
    -------
    The final state and the training curve, which also has columns of the metrics of the task.

    Raises
    ------
    ConfigError
        If an argument is not allowed, the network has no values, or the number of its outputs is not that of the
        classes.
    CheckpointError
        If `state_file` is damaged or cannot be written.
    MissingDependencyError
        If the recipe needs timm, which is not installed.
    TrainingError
        If the loss or the final state is not finite.

    Examples
    --------
    >>> from torch import nn
    >>> from deepnets.data import load_images
    >>> model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 10))
    >>> trained = train_network(model, load_images("digits", "train"), SGDRecipe.preset("digits", epochs=1))
    >>> sorted(trained.state)
    ['2.bias', '2.weight']
    """
    if not isinstance(recipe, SGDRecipe):
        raise ConfigError(f"recipe: expected an SGDRecipe, got {type(recipe).__name__}")
    seed = checked_integer("seed", seed, range(2**63))
    evaluated = evaluated_epochs(recipe.epochs, epochs_evaluated) if eval_images is not None else set()
    device = torch.device(train_images.device if device is None else device)
    for images in (train_images, eval_images):
        if images is not None and len(images) < 2:
            raise ConfigError(f"images: {images.name} ({images.split}) has {len(images)} images, expected 2 or more")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ConfigError("model: has parameters on the meta device, which hold no values; build it on the CPU")

    net = track_statistics(model).to(device)
    net.to(memory_format=LAYOUT)  # type: ignore[call-overload]
    optimizer = make_optimizer(net, recipe)
    words = np.random.Philox(key=seed).random_raw(3).tolist()
    generators = {
        "order": random_generator(train_images, words[0] >> 1),
        "changes": torch.Generator().manual_seed(words[2] >> 1),
    }
    task = get_logit_task(task)
    epochs = Epochs(net, optimizer, recipe, images_for(train_images, recipe), device, **generators, task=task)
    about = {"recipe": recipe.to_dict(), "seed": seed, "evaluated": sorted(evaluated), **recorded_name(task)}
    for role, images in (("train", train_images), ("eval", eval_images)):
        about[role] = images and [images.name, images.split, len(images), getattr(images, "image_size", None)]
    if state_file is not None:
        about["data"] = [data_digest(train_images), data_digest(eval_images)]
    if eval_images is not None:
        eval_images = images_for(eval_images, recipe)
    saved = Progress(state_file, about, net, optimizer, generators, device, save_seconds)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(words[1] >> 1)
        curve = saved.load()
        seconds = curve[-1]["seconds"] if curve else 0.0
        remaining = range(len(curve) + 1, recipe.epochs + 1)
        bar = ProgressBar(remaining, show=progress, unit="epoch", desc=train_images.name)
        for epoch in bar:
            started = time.perf_counter()
            loss, train_top1 = epochs.run(epoch)
            seconds += time.perf_counter() - started
            scores = Scores(dict.fromkeys((*DEFAULT_METRICS, *task.metrics), math.nan), 0)
            if eval_images is not None and epoch in evaluated:
                scores = score(net.eval(), eval_images, BATCH_SIZE, device=device, task=task)
            values = {"epoch": epoch, "loss": loss, "train_top1": train_top1, **scores.values}
            curve.append({**values, "seconds": seconds, "learning_rate": epochs.optimizer.param_groups[0]["lr"]})
            bar.set_postfix(loss=f"{loss:.3f}", train=f"{train_top1:.1f}", refresh=False)
            if each_epoch:
                each_epoch(curve[-1])
            if epoch < recipe.epochs:
                saved.save(curve)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    if broken := _not_finite(state):
        raise TrainingError(diverged(f"after epoch {recipe.epochs}, {broken[0]} is not finite"))
    own = [name for name in task.metrics if name not in DEFAULT_METRICS]
    return Trained(state, pd.DataFrame(curve, columns=[*CURVE, *own]))


def evaluate_trained(
    model: nn.Module,
    state: Mapping[str, Tensor],
    images: Images,
    batch_size: int = BATCH_SIZE,
    *,
    seed: int = 0,
    metrics: Iterable[str | Metric] = (),
    task: str | Task = "classification",
) -> Scores:
    """Evaluate a trained network on all images of a set, with the running statistics of its batch norms.

    Parameters
    ----------
    model
        The network; it is not modified, and its own values, possibly on `meta`, are not used.
    state
        All parameters and buffers by name, on any device: `Trained.state`, or a `state_dict`.
    images
        The images; the network runs on their device.
    batch_size
        Images per batch; it does not change accuracies except by rounding.
    seed
        Seed of the noise that is added to the images, if they have any; the same for every network.
    metrics
        Metrics to compute beside those of the task.
    task
        What the network is given, and how its outputs are judged (`ghn_model.tasks`).

    Returns
    -------
    The metrics over all images; those with outputs that are not finite are wrong answers (see `Scores`).

    Raises
    ------
    ConfigError
        If a tensor is missing (including running statistics), unknown to the network, of another shape or not finite,
        or if the number of outputs is not that of the classes.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    >>> evaluate_trained(model, model.state_dict(), load_images("digits", "test")).images
    299
    """
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    net = track_statistics(model)
    own = net.state_dict()
    # Files of old versions of PyTorch lack the counters, which evaluation does not need.
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    if missing := [name for name in own if name not in state and name not in counters]:
        kind = "; without running statistics it cannot be evaluated" if "running_" in missing[0] else ""
        raise ConfigError(f"state: lacks {len(missing)} tensors: {abbreviated_names(missing)}{kind}")
    if unknown := [name for name in state if name not in own]:
        raise ConfigError(f"state: has {len(unknown)} tensors unknown to the network: {abbreviated_names(unknown)}")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.shape != own[name].shape or tensor.is_meta:
            got = f"{tuple(tensor.shape)} on {tensor.device}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ConfigError(f"state: {name}: expected numbers of shape {tuple(own[name].shape)}, got {got}")
    if broken := _not_finite(state):
        raise ConfigError(f"state: {len(broken)} tensors are not finite: {abbreviated_names(broken)}")
    zeros = {name: torch.zeros_like(own[name], device="cpu") for name in counters}
    values = {name: tensor.detach().to(own[name].dtype) for name, tensor in state.items()}
    net.load_state_dict({**zeros, **values}, assign=True)
    if lost := [name for name, buffer in net.named_buffers() if buffer.is_meta]:
        raise ConfigError(
            f"model: is on the meta device, and the state lacks buffers: {abbreviated_names(lost)}; build it on the CPU"
        )
    return score(net.to(images.device).eval(), images, batch_size, seed=seed, metrics=metrics, task=task)


def track_statistics(model: nn.Module) -> nn.Module:
    """Return a copy of a network whose batch norms track running statistics and use them in evaluation.

    Parameters
    ----------
    model
        The network, on any device; it is not modified.

    Returns
    -------
    The copy.  Existing statistics are kept; new ones begin with mean 0 and variance 1.

    Examples
    --------
    >>> track_statistics(nn.BatchNorm2d(2, track_running_stats=False)).running_mean
    tensor([0., 0.])
    """
    net = copy.deepcopy(model)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = True
            if module.running_mean is None or module.running_var is None:
                weight = module.weight
                options: dict[str, Any] = {}
                if weight is not None:  # without a weight, the default device
                    options = {"device": weight.device, "dtype": weight.dtype}
                module.running_mean = torch.zeros(module.num_features, **options)
                module.running_var = torch.ones(module.num_features, **options)
            if module.num_batches_tracked is None:
                module.num_batches_tracked = torch.zeros((), dtype=torch.long, device=module.running_mean.device)
    return net


def evaluated_epochs(epochs: int, requested: Collection[int] | None = None) -> set[int]:
    """Return the epochs after which a network is evaluated.

    Parameters
    ----------
    epochs
        Number of epochs of the training.
    requested
        Epochs, from 1; by default the published `EPOCHS_EVALUATED`.

    Returns
    -------
    The requested epochs up to the last, and the last epoch.

    Examples
    --------
    >>> sorted(evaluated_epochs(12))
    [1, 5, 10, 12]
    """
    wanted = EPOCHS_EVALUATED if requested is None else requested
    chosen = {checked_integer("epochs_evaluated", epoch, at_least(1)) for epoch in wanted}
    return {epoch for epoch in chosen if epoch <= epochs} | {epochs}


def _not_finite(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
