"""Training networks by gradient descent: the baseline that predicted parameters are compared with, and fine-tuning.

    trained = train_network(model, train_images, SGDRecipe.preset("cifar10"), eval_images=test_images)
    trained.curve                                       one row per epoch: loss and accuracies
    evaluate_trained(model, trained.state, test_images)

Recipes and the way of evaluating are those of Knyazev et al. (NeurIPS 2021, section 5): batch norms keep running
statistics and use them in evaluation, other than with predicted parameters, which are evaluated with the statistics of
the batch.  Accuracies are in percent.  Detectors are not trained here.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from benchmark.accuracy import BATCH_SIZE, LAYOUT, Accuracy, checked_logits, count, generator_for
from benchmark.training.recipe import SGDRecipe
from deepnets.data import Images
from deepnets.support import ConfigError, TrainingError, at_least, checked_integer

__all__ = ["EPOCHS_EVALUATED", "Trained", "evaluate_trained", "evaluated_epochs", "track_statistics", "train_network"]

EPOCHS_EVALUATED = (1, 5, 10, 20, 30, 40, 50)
"""After how many epochs the published baselines were evaluated."""

CURVE = ("epoch", "loss", "train_top1", "top1", "top5", "seconds", "learning_rate")
_CHECK_STEPS = 50  # between looks at the loss, for which a GPU has to be waited for


class Trained(NamedTuple):
    """A network after its training.

    Attributes
    ----------
    state : dict of str to Tensor
        Parameters and buffers by name, those with the running statistics of batch norms included, on the CPU: what
        `track_statistics(model).load_state_dict` takes.
    curve : pandas.DataFrame
        One row per epoch: `epoch` (from 1), `loss` (mean over the images of the epoch, with label smoothing if there
        is any), `train_top1` (of the same outputs: images varied, weights changing, batch statistics), `top1` and
        `top5` on the images for evaluation (NaN where not evaluated), `seconds` of training until then (without
        evaluation), `learning_rate`.
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
) -> Trained:
    """Train a copy of a network, from the values that it has.

    Parameters
    ----------
    model
        The network, which is left as it is.  Batch norms of the copy gather running statistics, whether those of the
        network do or not.  If its output is a tuple, the first tensor counts.
    train_images
        What it is trained on.
    recipe
        How.  `noise` and `orthogonal_from` are for whoever writes predicted parameters (`benchmark.training.start`).
    eval_images
        What it is evaluated on, in batches of 64; None: not at all.
    epochs_evaluated
        After which epochs, beside the last; by default the published `EPOCHS_EVALUATED`.
    seed
        Of the order of the images, their variation, and dropout.  The same seed gives the same numbers, on a CPU with
        the same number of threads bit by bit.
    device
        Where to train; by default where the images are.
    progress
        Whether to show a bar.
    each_epoch
        Is called with every row of the curve when it is known.

    Raises
    ------
    ConfigError
        If an argument is not allowed, the network has no values or another number of outputs than there are classes.
    TrainingError
        If the loss, the outputs or the final state are not finite: the training has diverged.

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
    optimizer = _optimizer(net, recipe)
    words = np.random.Philox(key=seed).random_raw(2).tolist()
    generator = generator_for(train_images, words[0] >> 1)
    curve: list[dict[str, float]] = []
    seconds = 0.0
    bar = tqdm(range(1, recipe.epochs + 1), disable=not progress, unit="epoch", desc=train_images.name)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(words[1] >> 1)
        for epoch in bar:
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(epoch)
            started = time.perf_counter()
            loss, train_top1 = _train_epoch(net, optimizer, train_images, recipe, epoch, generator, device)
            seconds += time.perf_counter() - started
            accuracy = Accuracy(math.nan, math.nan, 0)
            if eval_images is not None and epoch in evaluated:
                try:
                    accuracy = _accuracy(net, eval_images, BATCH_SIZE, device)
                except FloatingPointError as error:
                    raise TrainingError(_diverged(f"after epoch {epoch}, in evaluation, {error}")) from error
            values = (epoch, loss, train_top1, accuracy.top1, accuracy.top5, seconds, recipe.rate(epoch))
            curve.append(dict(zip(CURVE, values, strict=True)))
            bar.set_postfix(loss=f"{loss:.3f}", train=f"{train_top1:.1f}", refresh=False)
            if each_epoch:
                each_epoch(curve[-1])
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    if broken := _not_finite(state):
        raise TrainingError(_diverged(f"after epoch {recipe.epochs}, {broken[0]} is not finite"))
    return Trained(state, pd.DataFrame(curve, columns=list(CURVE)))


def evaluate_trained(
    model: nn.Module, state: Mapping[str, Tensor], images: Images, batch_size: int = BATCH_SIZE, *, seed: int = 0
) -> Accuracy:
    """Run a trained network on all images of a set, batch norms with running statistics.

    Parameters
    ----------
    model
        The network; it is left as it is, and its own values, maybe on `meta`, are not used.
    state
        All parameters and buffers by name, on any device: `Trained.state`, or a `state_dict`.
    images
        The images; the network is run on their device.
    batch_size
        Images at a time; accuracies do not depend on it but for rounding.
    seed
        Of the noise, if the images have any: the same for every network.

    Raises
    ------
    ConfigError
        If a tensor is missing (running statistics included), of another shape, not finite or not the network's, or if
        the network has another number of outputs than there are classes.
    FloatingPointError
        If an output is not finite.
    """
    batch_size = checked_integer("batch_size", batch_size, at_least(1))
    net = track_statistics(model)
    own = net.state_dict()
    # Old files of PyTorch lack the counters, which evaluation does not need.
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    if missing := [name for name in own if name not in state and name not in counters]:
        kind = "; without running statistics it cannot be evaluated" if "running_" in missing[0] else ""
        raise ConfigError(f"state: lacks {len(missing)} tensors: {_some(missing)}{kind}")
    if unknown := [name for name in state if name not in own]:
        raise ConfigError(f"state: has {len(unknown)} tensors that the network lacks: {_some(unknown)}")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.shape != own[name].shape or tensor.is_meta:
            got = f"{tuple(tensor.shape)} on {tensor.device}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ConfigError(f"state: {name}: expected numbers of shape {tuple(own[name].shape)}, got {got}")
    if broken := _not_finite(state):
        raise ConfigError(f"state: {len(broken)} tensors are not finite: {_some(broken)}")
    zeros = {name: torch.zeros_like(own[name], device="cpu") for name in counters}
    net.load_state_dict({**zeros, **{name: tensor.detach() for name, tensor in state.items()}}, assign=True)
    if lost := [name for name, buffer in net.named_buffers() if buffer.is_meta]:
        raise ConfigError(
            f"model: is on the meta device, and buffers are in no state: {_some(lost)}; build it on the CPU"
        )
    return _accuracy(net.to(images.device), images, batch_size, images.device, seed)


def track_statistics(model: nn.Module) -> nn.Module:
    """A copy of a network, all batch norms of which gather running statistics and use them in evaluation.

    Parameters
    ----------
    model
        The network, on any device; it is left as it is.

    Returns
    -------
    The copy.  Batch norms that had statistics keep them; those of others begin with mean 0 and variance 1.
    """
    net = copy.deepcopy(model)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = True
            if module.running_mean is None or module.running_var is None:
                weight = module.weight
                options: dict[str, Any] = {}
                if weight is not None:  # without: wherever the network is sent
                    options = {"device": weight.device, "dtype": weight.dtype}
                module.running_mean = torch.zeros(module.num_features, **options)
                module.running_var = torch.ones(module.num_features, **options)
            if module.num_batches_tracked is None:
                module.num_batches_tracked = torch.zeros((), dtype=torch.long, device=module.running_mean.device)
    return net


def evaluated_epochs(epochs: int, wanted: Collection[int] | None = None) -> set[int]:
    """After which epochs of a training a network is evaluated: those wanted that it has, and the last.

    Parameters
    ----------
    epochs
        Length of the training.
    wanted
        Epochs, from 1 on; by default the published `EPOCHS_EVALUATED`.
    """
    chosen = {checked_integer("epochs_evaluated", epoch, at_least(1)) for epoch in wanted or EPOCHS_EVALUATED}
    return {epoch for epoch in chosen if epoch <= epochs} | {epochs}


# --- parts ---


def _optimizer(net: nn.Module, recipe: SGDRecipe) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError("model: has no parameters that can be trained (requires_grad)")
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, **options)
    return (torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam)(parameters, **options)


def _train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Images,
    recipe: SGDRecipe,
    epoch: int,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[float, float]:
    """One pass through the images; the mean loss and the accuracy in percent."""
    net.train()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    totals = torch.zeros(2, dtype=torch.float64, device=device)  # loss, hits
    seen = step = 0
    for batch, labels in images.batches(recipe.batch, shuffle=True, augment=recipe.augment, generator=generator):
        if len(labels) == 1:  # has no variance
            continue
        step += 1
        batch, labels = batch.to(device, memory_format=LAYOUT), labels.to(device)
        logits = checked_logits(net(batch), len(batch), images)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip:
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimizer.step()
        hits = (logits.detach().argmax(dim=1) == labels).sum()
        totals += torch.stack([loss.detach().double() * len(labels), hits.double()])
        seen += len(labels)
        if step % _CHECK_STEPS == 0:
            _check_loss(totals, epoch, step)
    _check_loss(totals, epoch, step)
    loss_sum, hit_sum = totals.tolist()
    return loss_sum / seen, 100 * hit_sum / seen


def _check_loss(totals: Tensor, epoch: int, step: int) -> None:
    if not totals[0].isfinite():
        raise TrainingError(_diverged(f"in epoch {epoch}, by step {step}, the loss is not finite"))


def _diverged(what: str) -> str:
    return f"training has diverged: {what}; try a lower learning_rate, or clip"


def _accuracy(net: nn.Module, images: Images, batch_size: int, device: torch.device, seed: int = 0) -> Accuracy:
    """Accuracies of a network in evaluation mode, in which it is left."""
    return count(net.eval(), images, batch_size, seed=seed, device=device)


def _not_finite(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
