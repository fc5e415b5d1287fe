"""`SGDRecipe`: the settings of a training by gradient descent, and the published recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["OPTIMIZERS", "PRESETS", "PRESET_SHOTS", "SCHEDULES", "SGDRecipe", "current_names"]

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("cosine", "exponential", "multistep", "constant")

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
        "sgd", "adam" (with weight decay as part of the gradient) or "adamw".
    lr
        Learning rate of the first epoch.
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
    epochs
        Number of passes through the training images.
    batch_size
        Images per step.  The last step of an epoch has fewer images; a last step with one image is skipped.
    label_smoothing
        Share of the target that is distributed over all classes.
    clip_grad
        Gradient clipping: the largest norm of the gradient; 0 disables it.
    augment
        Whether training images are augmented as usual for their image set.
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
    noise: float = 0.0
    orthogonal_from: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}: expected one of {', '.join(choices)}; got {getattr(self, name)!r}")
        for name, least in (("epochs", 1), ("batch_size", 2)):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(least)))
        for name in ("lr", "weight_decay", "gamma", "clip_grad", "noise"):
            object.__setattr__(self, name, _checked_number(name, getattr(self, name), math.inf))
        for name in ("momentum", "label_smoothing"):
            object.__setattr__(self, name, _checked_number(name, getattr(self, name), 1.0))
        if self.orthogonal_from is not None:
            first = checked_integer("orthogonal_from", self.orthogonal_from, at_least(1))
            object.__setattr__(self, "orthogonal_from", first)
        if not isinstance(self.augment, bool):
            raise ConfigError(f"augment: expected True or False, got {self.augment!r}")
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
            - "finetune-100shot": NeurIPS 2021, on the first 100 images per class of CIFAR-10
              (`benchmark.training.n_shot`), with the learning rate that was tuned for most networks.
            - "orth-resnet50", "orth-convnext": fine-tuning from orthogonalized predictions (arXiv 2207.10049).
            - "ghn3-resnet50": ImageNet from predictions of GHN-3 (ICML 2023); from random initial parameters, the
              authors use ``lr=0.1``.
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


_ORTHOGONAL = {"epochs": 300, "noise": 3e-5}

PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": {},
    "imagenet": {
        "lr": 0.1,
        "schedule": "exponential",
        "gamma": 0.97,
        "weight_decay": 3e-5,
        "batch_size": 128,
        "label_smoothing": 0.1,
        "epochs": 1,
    },
    "digits": {"epochs": 10, "batch_size": 32},
    "finetune-100shot": {"weight_decay": 1e-3},
    "orth-resnet50": {**_ORTHOGONAL, "lr": 0.01, "weight_decay": 0.01, "orthogonal_from": 37},
    "orth-convnext": {
        **_ORTHOGONAL,
        "optimizer": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.1,
        "batch_size": 48,
        "orthogonal_from": 94,
    },
    "ghn3-resnet50": {
        "schedule": "multistep",
        "milestones": (30, 60),
        "weight_decay": 1e-4,
        "batch_size": 128,
        "epochs": 90,
        "label_smoothing": 0.1,
        "noise": 1e-5,
    },
}
"""The presets, as changes of the defaults."""

PRESET_SHOTS = {"finetune-100shot": 100}
"""Number of training images per class for presets that do not use all of them."""


def _checked_number(name: str, value: Any, limit: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.integer, np.floating))
        or not 0 <= value < limit
    ):
        bound = "" if limit == math.inf else f" and less than {limit:g}"
        raise ConfigError(f"{name}: expected a number of at least 0{bound}, got {value!r}")
    return float(value)
