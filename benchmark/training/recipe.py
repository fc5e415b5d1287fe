"""`SGDRecipe`: everything that decides how a network is trained by gradient descent, and the published recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["OPTIMIZERS", "PRESETS", "PRESET_SHOTS", "SCHEDULES", "SGDRecipe"]

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("cosine", "exponential", "multistep", "constant")


@dataclass(frozen=True)
class SGDRecipe:
    """How a network is trained; the defaults are those of the baseline on CIFAR-10 (Knyazev et al., NeurIPS 2021).

    Parameters
    ----------
    optimizer
        "sgd", "adam" (whose decay is a part of the gradient) or "adamw".
    learning_rate
        That of the first epoch.
    momentum
        Of "sgd".
    weight_decay
        The decay, for all parameters alike.
    schedule
        What happens to the rate from one epoch to the next: "cosine", half a wave that would reach 0 after the last
        epoch; "exponential", it is multiplied by `gamma`; "multistep", it is multiplied by `gamma` where `milestones`
        say so; "constant".
    gamma, milestones
        The factor, and the numbers of epochs that are done when it applies.
    epochs
        Passes through the training images.
    batch
        Images in a step.  The last images of a pass are a step, too, if they are more than one.
    label_smoothing
        Share of the target that is spread over all classes.
    clip
        Largest norm of the gradient; 0 for any.
    augment
        Whether training images are varied in the way that is usual for their set.
    noise, orthogonal_from
        What `ghn_model.vary` does to predicted parameters before training: the size of the noise, and the number of the
        first layer whose weight is made orthogonal (None: no layer).  Other initial parameters stay as they are.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    schedule: str = "cosine"
    gamma: float = 0.1
    milestones: tuple[int, ...] = ()
    epochs: int = 50
    batch: int = 96
    label_smoothing: float = 0.0
    clip: float = 5.0
    augment: bool = True
    noise: float = 0.0
    orthogonal_from: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}: expected one of {', '.join(choices)}; got {getattr(self, name)!r}")
        for name, least in (("epochs", 1), ("batch", 2)):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(least)))
        for name in ("learning_rate", "weight_decay", "gamma", "clip", "noise"):
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
        """A published recipe.

        Parameters
        ----------
        name
            - "cifar10", "imagenet": the baselines of NeurIPS 2021.  Accuracies "after 5 epochs" on CIFAR-10 are those
              after 5 of these 50, with a rate that has hardly fallen, not those of a training of 5 epochs.
            - "digits": an adaptation of "cifar10" to minutes on a CPU; it is not published.
            - "finetune-100shot": NeurIPS 2021, on the first 100 images per class of CIFAR-10
              (`benchmark.training.n_shot`).  The rate is the one that was tuned for most networks.
            - "orth-resnet50", "orth-convnext": fine-tuning from orthogonalised predictions (arXiv 2207.10049).
            - "ghn3-resnet50": ImageNet from predictions of GHN-3 (ICML 2023); from random initial parameters, the
              authors use a `learning_rate` of 0.1.
        changes
            Other fields.

        Raises
        ------
        ConfigError
            If there is no such preset, or a change is not allowed.

        Examples
        --------
        >>> SGDRecipe.preset("cifar10", epochs=5).learning_rate
        0.025
        """
        if name not in PRESETS:
            raise ConfigError(f"preset: unknown {name!r}; use one of {', '.join(PRESETS)}")
        return cls.from_dict({**PRESETS[name], **changes})

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1; the schedules are those of PyTorch, stepped every epoch."""
        done = epoch - 1
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * done / self.epochs)) / 2
        if self.schedule == "exponential":
            return self.learning_rate * self.gamma**done
        if self.schedule == "multistep":
            return self.learning_rate * self.gamma ** sum(milestone <= done for milestone in self.milestones)
        return self.learning_rate

    def replace(self, **changes: Any) -> SGDRecipe:
        """A copy with some fields changed, validated again."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, ready for JSON."""
        return {**asdict(self), "milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SGDRecipe:
        """Inverse of `to_dict`; missing keys take their defaults, unknown ones are a `ConfigError`."""
        names = [each.name for each in fields(cls)]
        if unknown := [repr(key) for key in values if key not in names]:
            raise ConfigError(f"recipe: unknown key {', '.join(unknown)}; valid keys are {', '.join(names)}")
        return cls(**values)


_ORTHOGONAL = {"epochs": 300, "noise": 3e-5}

PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": {},
    "imagenet": {
        "learning_rate": 0.1,
        "schedule": "exponential",
        "gamma": 0.97,
        "weight_decay": 3e-5,
        "batch": 128,
        "label_smoothing": 0.1,
        "epochs": 1,
    },
    "digits": {"epochs": 10, "batch": 32},
    "finetune-100shot": {"weight_decay": 1e-3},
    "orth-resnet50": {**_ORTHOGONAL, "learning_rate": 0.01, "weight_decay": 0.01, "orthogonal_from": 37},
    "orth-convnext": {
        **_ORTHOGONAL,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "batch": 48,
        "orthogonal_from": 94,
    },
    "ghn3-resnet50": {
        "schedule": "multistep",
        "milestones": (30, 60),
        "weight_decay": 1e-4,
        "batch": 128,
        "epochs": 90,
        "label_smoothing": 0.1,
        "noise": 1e-5,
    },
}
"""What the presets change in the defaults."""

PRESET_SHOTS = {"finetune-100shot": 100}
"""Images per class that presets are for, where those are not all."""


def _checked_number(name: str, value: Any, limit: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < limit:
        bound = "" if limit == math.inf else f" and less than {limit:g}"
        raise ConfigError(f"{name}: expected a number of at least 0{bound}, got {value!r}")
    return float(value)
