"""`SGDRecipe`: the settings of a training by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from benchmark.choices import LOSSES, OPTIMIZERS, SCHEDULES
from benchmark.training.presets import PRESETS
from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["LOSSES", "OPTIMIZERS", "SCHEDULES", "SGDRecipe", "current_names"]


_FORMER_NAMES = {"learning_rate": "lr", "batch": "batch_size", "clip": "clip_grad"}


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe, with fields that an earlier version wrote under their current names.

    Examples
    --------
    >>> current_names({"learning_rate": 0.1, "epochs": 5})
    {'lr': 0.1, 'epochs': 5}
    """
    return {_FORMER_NAMES.get(name, name): value for name, value in values.items()}


@dataclass(frozen=True)
class SGDRecipe:
    """Settings of a training; the defaults are the baseline on CIFAR-10 of Knyazev et al. (NeurIPS 2021).

    Parameters
    ----------
    optimizer
        "sgd", "adam" (with weight decay as part of the gradient), "adamw", or "lamb" of timm, which limits the norm of
        the gradient to 1 by itself.
    lr
        Learning rate, before the factor of the schedule.
    momentum
        Momentum of "sgd".
    weight_decay
        Weight decay of all parameters.
    schedule
        Learning rate by epoch: "cosine" (half a period, which would reach 0 after the last epoch), "exponential"
        (multiplied by `gamma` after every epoch), "multistep" (multiplied by `gamma` after the epochs `milestones`), or
        "constant".
    gamma, milestones
        Factor of the learning rate, and the numbers of completed epochs after which it applies.
    warmup_epochs, warmup_lr
        Number of epochs at the beginning in which the learning rate grows linearly, and its first value, at most `lr`.
        The schedule counts these epochs, too.
    warmup_steps
        Number of steps at the beginning in which the learning rate of the epoch is multiplied by a factor that grows
        linearly to 1.
    epochs
        Number of passes through the training images.
    batch_size
        Images per step.  The last step of an epoch has fewer images; a last step with one image is skipped.
    label_smoothing
        Share of the target that is distributed over all classes.
    loss
        "cross_entropy", or "bce" of timm: binary cross-entropy of every class, averaged over images and classes.
    target_threshold
        With "bce": targets, which `mixup` and `cutmix` make fractions, are 1 above this value and 0 otherwise; 0 leaves
        them as they are.
    auxiliary_weight
        Weight of the loss of the auxiliary head, which is added to the loss; 0 if the network has no auxiliary head.
    clip_grad
        Gradient clipping: the largest norm of the gradient; 0 disables it.
    augment
        Whether training images are augmented as usual for their image set.
    color_jitter
        Whether augmentation changes the colors of images in folders.
    rand_augment
        RandAugment of timm, after the usual augmentation: its configuration, such as "rand-m6-mstd0.5-inc1", or an
        empty text for none.
    crop_ratio
        Images in folders are resized for evaluation to their size divided by this ratio, of which the center is used; 0
        for the published evaluation (256 pixels for 224).
    cutout
        Side of the square, in pixels, that is set to the mean of the images at a random place of every training image;
        0 for none.
    mixup, cutmix
        Parameters of the beta distributions of the share of the other image, if training images are blended or patches
        are exchanged (timm); with both, each is used for half of the batches.  0 disables them.
    drop_path
        Probability of drop path in the network's operations after the last epoch; it grows linearly from 0.
    noise, orthogonal_from
        Changes of predicted parameters before training (`ghn_model.vary`): standard deviation of the noise, and number
        of the first layer whose weight is made orthogonal (None for no layer).  Other initial parameters are not
        changed.

    Raises
    ------
    ConfigError
        If a value is not allowed.

    Examples
    --------
    >>> SGDRecipe(epochs=5, batch_size=32).lr
    0.025
    """

    optimizer: str = "sgd"
    lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    schedule: str = "cosine"
    gamma: float = 0.1
    milestones: tuple[int, ...] = ()
    epochs: int = 50
    batch_size: int = 96
    label_smoothing: float = 0.0
    clip_grad: float = 5.0
    augment: bool = True
    warmup_epochs: int = 0
    warmup_lr: float = 1e-4
    warmup_steps: int = 0
    loss: str = "cross_entropy"
    target_threshold: float = 0.0
    auxiliary_weight: float = 0.0
    color_jitter: bool = True
    rand_augment: str = ""
    crop_ratio: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    drop_path: float = 0.0
    noise: float = 0.0
    orthogonal_from: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("loss", LOSSES)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}: expected one of {', '.join(choices)}; got {getattr(self, name)!r}")
        for name, least in (("epochs", 1), ("batch_size", 2), ("warmup_epochs", 0), ("warmup_steps", 0), ("cutout", 0)):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(least)))
        for name in _NUMBERS:
            object.__setattr__(self, name, _checked_number(name, getattr(self, name), math.inf))
        for name in ("momentum", "label_smoothing", "target_threshold", "drop_path"):
            object.__setattr__(self, name, _checked_number(name, getattr(self, name), 1.0))
        if self.orthogonal_from is not None:
            first = checked_integer("orthogonal_from", self.orthogonal_from, at_least(1))
            object.__setattr__(self, "orthogonal_from", first)
        for name in ("augment", "color_jitter"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        if not isinstance(self.rand_augment, str):
            raise ConfigError(f"rand_augment: expected a configuration of timm, got {self.rand_augment!r}")
        if self.rand_augment and not self.augment:
            raise ConfigError("rand_augment: needs augment")
        if self.target_threshold and self.loss != "bce":
            raise ConfigError(f"target_threshold: is for the loss bce, not {self.loss}")
        if self.crop_ratio > 1:
            raise ConfigError(f"crop_ratio: expected a number from 0 to 1, got {self.crop_ratio!r}")
        if self.batch_size % 2 and (self.mixup or self.cutmix):
            raise ConfigError(f"batch_size: mixup and cutmix need an even number, got {self.batch_size}")
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(
                f"warmup_epochs: expected fewer than the {self.epochs} epochs of the training, got {self.warmup_epochs}"
            )
        if not isinstance(self.milestones, (tuple, list)):
            raise ConfigError(f"milestones: expected a tuple of epochs, got {self.milestones!r}")
        milestones = tuple(checked_integer("milestones", epoch, at_least(1)) for epoch in self.milestones)
        if list(milestones) != sorted(set(milestones)):
            raise ConfigError(f"milestones: expected epochs in increasing order, got {milestones!r}")
        object.__setattr__(self, "milestones", milestones)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> SGDRecipe:
        """Return a published recipe.

        Parameters
        ----------
        name
            - "cifar10", "imagenet": the baselines of NeurIPS 2021.  Published accuracies "after 5 epochs" on CIFAR-10
              are those after 5 of these 50 epochs, whose learning rate is close to the initial one, not those of a
              schedule of 5 epochs.
            - "digits": a short variant of "cifar10" for CPUs, which is not published.
            - "darts", "darts-imagenet": training of networks that architecture search has found (Liu et al., ICLR
              2019): auxiliary head, and, on CIFAR-10, 600 epochs with cutout and drop path.
            - "finetune-100shot": NeurIPS 2021, on the first 100 images per class of CIFAR-10
              (`benchmark.training.n_shot`), with the learning rate that was tuned for most networks.
            - "orth-resnet50", "orth-convnext": fine-tuning from orthogonalized predictions (arXiv 2207.10049).
            - "ghn3-resnet50": ImageNet from predictions of GHN-3 (ICML 2023); from random initial parameters, the
              authors use ``lr=0.1``.
            - "ghn3-imagenet": ImageNet from predictions of GHN-3 with the procedure A3 of "ResNet strikes back"
              (Wightman et al., 2021), shortened to 50 epochs (ICML 2023); "ghn3-imagenet-random" is the one from random
              initial parameters.  The length of its warm-up and the threshold of the targets are those of A3.
            - "logah-vit", "logah-vit-large": a ViT-S, and a ViT-B or ViT-L, on CIFAR from predictions of LoGAH (arXiv
              2405.16287); "logah-vit-imagenet" a ViT-S on ImageNet; all three with the first of the published learning
              rates (`PRESET_LRS`); "logah-vit-adamw" the command in the README of its code.  The publications do not
              state the schedule and the batch size of the first three: they are those of "cifar10" and "ghn3-resnet50".
            - "logah-gpt2": a GPT-2 on a text from predictions of LoGAH, with the batches of the published GPT-2-M.  The
              publication does not state the schedule, which is that of "cifar10".
            - "penn-fudan": detection of pedestrians (`benchmark.training.detection`), as in NeurIPS 2021.
        changes
            Fields with other values.

        Raises
        ------
        ConfigError
            If there is no such preset, or a value is not allowed.

        Examples
        --------
        >>> SGDRecipe.preset("cifar10", epochs=5).lr
        0.025
        """
        if name not in PRESETS:
            raise ConfigError(f"preset: unknown {name!r}; use one of {', '.join(PRESETS)}")
        return cls.from_dict({**PRESETS[name], **changes})

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1, according to PyTorch's schedules.

        Examples
        --------
        >>> [round(SGDRecipe(lr=0.1, epochs=2).lr_at(epoch), 3) for epoch in (1, 2)]
        [0.1, 0.05]
        """
        done = epoch - 1
        if done < self.warmup_epochs:
            first = min(self.warmup_lr, self.lr)
            return first + done * (self.lr - first) / self.warmup_epochs
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * done / self.epochs)) / 2
        if self.schedule == "exponential":
            return self.lr * self.gamma**done
        if self.schedule == "multistep":
            return self.lr * self.gamma ** sum(milestone <= done for milestone in self.milestones)
        return self.lr

    def replace(self, **changes: Any) -> SGDRecipe:
        """Return a copy with some fields changed, which are checked again."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can represent."""
        return {**asdict(self), "milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SGDRecipe:
        """Create a recipe from the result of `to_dict`.

        Parameters
        ----------
        values
            Values by field.  Missing fields have their defaults.  Names of earlier versions (`learning_rate`, `batch`,
            `clip`) are accepted.

        Raises
        ------
        ConfigError
            If a field is unknown or a value is not allowed.

        Examples
        --------
        >>> SGDRecipe.from_dict({"learning_rate": 0.1}).lr
        0.1
        """
        values = current_names(values)
        names = [each.name for each in fields(cls)]
        if unknown := [repr(key) for key in values if key not in names]:
            raise ConfigError(f"recipe: unknown key {', '.join(unknown)}; valid keys are {', '.join(names)}")
        return cls(**values)


_NUMBERS = (
    *("lr", "weight_decay", "gamma", "clip_grad", "noise", "warmup_lr", "auxiliary_weight", "crop_ratio", "mixup"),
    "cutmix",
)


def _checked_number(name: str, value: Any, limit: float) -> float:
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < limit:
        bound = "" if limit == math.inf else f" and less than {limit:g}"
        raise ConfigError(f"{name}: expected a number of at least 0{bound}, got {value!r}")
    return float(value)
