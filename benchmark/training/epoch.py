"""One pass through the training images: augmentation, loss and steps of the optimizer, as a recipe asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.accuracy import LAYOUT
from benchmark.training.augmentation import Mixing, cutout
from benchmark.training.recipe import SGDRecipe
from deepnets.data import Images, RandAugment
from deepnets.support import ConfigError, TrainingError, import_timm
from ghn_model.tasks import LogitTask

__all__ = ["Epochs", "check_recipe", "diverged", "make_optimizer"]

_CHECK_STEPS = 50  # steps between checks of the loss, each of which synchronizes with a GPU

Loss = Callable[[Tensor, Tensor], Tensor]
"""Function from logits, ``(B, C)``, and targets, ``(B,) int64`` or ``(B, C)``, to the mean loss."""


def check_recipe(recipe: SGDRecipe) -> None:
    """Check that the packages that a recipe needs are installed, and that they accept its values.

    Parameters
    ----------
    recipe
        The recipe.

    Raises
    ------
    ConfigError
        If timm does not accept a value.
    MissingDependencyError
        If the recipe needs timm, which is not installed.

    Examples
    --------
    >>> check_recipe(SGDRecipe())
    """
    if recipe.optimizer == "lamb":
        import_timm("timm.optim", purpose="optimizer lamb")
    if recipe.mixup or recipe.cutmix:
        Mixing(recipe, num_classes=2)
    if recipe.rand_augment:
        RandAugment(recipe.rand_augment)
    _loss(recipe)


def make_optimizer(net: nn.Module, recipe: SGDRecipe) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe for the trainable parameters of a network.

    Parameters
    ----------
    net
        The network.
    recipe
        Its `optimizer`, `lr`, `momentum` and `weight_decay` are used.

    Raises
    ------
    ConfigError
        If the network has no trainable parameters.
    MissingDependencyError
        If the optimizer is that of timm, which is not installed.

    Examples
    --------
    >>> type(make_optimizer(nn.Linear(2, 2), SGDRecipe(optimizer="adamw"))).__name__
    'AdamW'
    """
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError("model: has no parameters that can be trained (requires_grad)")
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, **options)
    if recipe.optimizer == "lamb":
        lamb: torch.optim.Optimizer = import_timm("timm.optim", purpose="optimizer lamb").Lamb(parameters, **options)
        return lamb
    return (torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam)(parameters, **options)


class Epochs:
    """The epochs of a training.

    Parameters
    ----------
    net, optimizer, recipe
        What is trained, on `device`, and how.
    images
        Training images.
    device
        Device of the training.
    order
        Random numbers of the order of the images and of their usual augmentation, on the device of the images.
    changes
        Random numbers of `cutout`, `mixup` and `cutmix`, on the CPU.
    task
        What the network is given, and how its output becomes logits.

    Raises
    ------
    ConfigError
        If the recipe asks for an auxiliary head or drop path, which the network does not have.
    MissingDependencyError
        If the recipe needs timm, which is not installed.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: SGDRecipe,
        images: Images,
        device: torch.device,
        order: torch.Generator,
        changes: torch.Generator,
        task: LogitTask,
    ) -> None:
        if recipe.drop_path and not isinstance(getattr(net, "drop_path", None), float):
            raise ConfigError(f"drop_path: {type(net).__name__} has no drop path, which deepnets.Network has")
        self.net, self.optimizer, self.recipe, self.images, self.device = net, optimizer, recipe, images, device
        self.order, self.changes, self.task = order, changes, task
        self.loss = _loss(recipe)
        self.mixing = Mixing(recipe, images.num_classes) if recipe.mixup or recipe.cutmix else None
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def run(self, epoch: int) -> tuple[float, float]:
        """Train for one epoch.

        Parameters
        ----------
        epoch
            Number of the epoch, from 1.

        Returns
        -------
        The mean loss, and the top-1 accuracy of the outputs during training in percent.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        lr, steps = self.recipe.lr_at(epoch), math.ceil(len(self.images) / self.recipe.batch_size)
        if self.recipe.drop_path:
            self.net.drop_path = self.recipe.drop_path * (epoch - 1) / self.recipe.epochs  # type: ignore[assignment]
        self.net.train()
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, hits
        seen = step = 0
        options: dict[str, Any] = {"shuffle": True, "augment": self.recipe.augment, "generator": self.order}
        for batch, labels in self.images.batches(self.recipe.batch_size, **options):
            if self.mixing and len(labels) % 2:  # images are mixed in pairs
                batch, labels = batch[:-1], labels[:-1]
            if len(labels) <= 1:  # batch norms cannot normalize a single value
                continue
            self._set_lr(lr * min(1.0, ((epoch - 1) * steps + step + 1) / max(1, self.recipe.warmup_steps)))
            step += 1
            totals += self._step(batch, labels)
            seen += labels.numel()
            if step % _CHECK_STEPS == 0:
                _check_loss(totals, epoch, step)
        _check_loss(totals, epoch, step)
        loss_sum, hit_sum = totals.tolist()
        return loss_sum / seen, 100 * hit_sum / seen

    def _set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _step(self, batch: Tensor, labels: Tensor) -> Tensor:
        """Train on one batch; return the sums of the losses and of the correct outputs."""
        recipe, targets = self.recipe, labels.to(self.device)
        if recipe.cutout:
            batch = cutout(batch, recipe.cutout, self.changes)
        batch, labels = self.task.arranged(batch.to(self.device), LAYOUT), targets
        if self.mixing:
            batch, targets = self.mixing(batch, labels, self.changes)
        output = self.net(*self.task.inputs(batch, labels))
        logits, own = self.task.logits(output, labels, self.images), self.task.labels(labels)
        if not self.mixing:
            targets = own
        loss = self.loss(logits, targets)
        if recipe.auxiliary_weight:
            if not isinstance(output, tuple) or len(output) < 2:
                raise ConfigError(f"auxiliary_weight: {type(self.net).__name__} has no auxiliary head")
            auxiliary = self.task.logits(output[1], labels, self.images)
            loss = loss + recipe.auxiliary_weight * self.loss(auxiliary, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_grad:
            nn.utils.clip_grad_norm_(self.parameters, recipe.clip_grad)
        self.optimizer.step()
        hits = (logits.detach().argmax(dim=1) == own).sum()
        return torch.stack([loss.detach().double() * len(own), hits.double()])


def diverged(what: str) -> str:
    """Return the message of the error about a training that has diverged.

    Examples
    --------
    >>> diverged("the loss is not finite")
    'training has diverged: the loss is not finite; try a lower lr, or clip_grad'
    """
    return f"training has diverged: {what}; try a lower lr, or clip_grad"


def _loss(recipe: SGDRecipe) -> Loss:
    mixed = bool(recipe.mixup or recipe.cutmix)  # the targets are smoothed already
    if recipe.loss == "bce":
        bce: Loss = import_timm("timm.loss", purpose="loss bce").BinaryCrossEntropy(
            smoothing=recipe.label_smoothing, target_threshold=recipe.target_threshold or None
        )
        return bce
    smoothing = 0.0 if mixed else recipe.label_smoothing
    return lambda logits, targets: F.cross_entropy(logits, targets, label_smoothing=smoothing)


def _check_loss(totals: Tensor, epoch: int, step: int) -> None:
    if not totals[0].isfinite():
        raise TrainingError(diverged(f"in epoch {epoch}, by step {step}, the loss is not finite"))
