"""`Recipe`: everything that decides how a hypernetwork is trained, as validated values, and the published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from deepnets.support import ConfigError, at_least, checked_integer
from ghn_model.config import PRESETS
from ghn_model.training.schedules import Schedule

__all__ = ["PRECISIONS", "Recipe"]

OPTIMIZERS = ("adam", "adamw")
NETWORK_NORMS = ("none", "clip", "normalise")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
SMALL = {"meta_batch": 2, "batch": 16, "max_params": 100_000, "max_nodes": 120}
CALM = {"learning_rate": 3e-3, "clip": 1.0, "average": 0.99}


@dataclass(frozen=True)
class Recipe:
    """How a hypernetwork is trained; the defaults are those of GHN-2 on CIFAR-10 (Knyazev et al., NeurIPS 2021).

    Parameters
    ----------
    optimizer, learning_rate, weight_decay, beta2
        "adam" (whose decay is a part of the gradient) or "adamw", the largest rate, the decay, and how slowly the mean
        of squared gradients moves.
    schedule
        Of the learning rate.
    epochs
        Passes through the training images, unless steps or minutes are given.
    meta_batch, batch
        Networks, of all processes together, and images in a step: all networks see the same images.
    clip
        Largest norm of the gradient; 0 for any.
    network_norm
        What is done with the norm of the gradient of each network's loss with respect to its predicted parameters,
        which is a thousand times larger for a few deep networks without norms than for others: "none"; "clip", to the
        typical norm (a running geometric mean); or "normalise", to the typical norm, small gradients too.
    label_smoothing
        Share of the target that is spread over all classes.
    penalty
        Times the sum of the norms of all predicted tensors is added to the loss (ICML 2023).
    wider_nets
        Draw widths as GHN-3 does for large images.
    max_params, max_nodes
        Draw no networks with more parameters or nodes; 0 for no limit.
    precision
        Of the networks: "fp32"; "tf32", which rounds the factors of products of matrices on GPUs, those of the
        hypernetwork, too; or autocast to "bf16" or "fp16", with the hypernetwork in single precision.
    low_resolution
        Share of the training, at its beginning, in which networks that take images of any size see them at half the
        resolution, which costs a quarter; 0 for never.
    channels_last
        Whether the channels of a pixel of the images lie side by side in memory, which is faster nearly everywhere.
    compile
        Whether decoders and transformer go through `torch.compile`.
    average
        Decay of a moving average of the weights, which is what the final file holds; 0 for the weights themselves.
    augment
        Whether training images are varied in the way that is usual for their set.
    seed
        Of the first weights, of the order of networks and images, of widths and of dropout.
    max_skipped
        Give up when more meta-batches than this, and more than one in fifty, could not be trained on.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    beta2: float = 0.999
    schedule: Schedule = field(default_factory=Schedule)
    epochs: int = 300
    meta_batch: int = 8
    batch: int = 64
    clip: float = 5.0
    network_norm: str = "none"
    label_smoothing: float = 0.0
    penalty: float = 0.0
    wider_nets: bool = False
    max_params: int = 0
    max_nodes: int = 0
    precision: str = "fp32"
    low_resolution: float = 0.0
    channels_last: bool = True
    compile: bool = False
    average: float = 0.0
    augment: bool = True
    seed: int = 0
    max_skipped: int = 20

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS), ("network_norm", NETWORK_NORMS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}: expected one of {', '.join(choices)}; got {getattr(self, name)!r}")
        for name, least in (("epochs", 1), ("meta_batch", 1), ("batch", 2)):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(least)))
        for name in ("max_params", "max_nodes", "seed", "max_skipped"):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(0)))
        for name in ("learning_rate", "weight_decay", "clip", "penalty"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ConfigError(f"{name}: expected a number of at least 0, got {value!r}")
        for name in ("label_smoothing", "average", "beta2", "low_resolution"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 0 and less than 1, got {getattr(self, name)!r}")
        if not isinstance(self.schedule, Schedule):
            raise ConfigError(f"schedule: expected a Schedule, got {type(self.schedule).__name__}")

    @classmethod
    def preset(cls, name: str, images: str = "cifar10", **changes: Any) -> Recipe:
        """The recipe by which a published hypernetwork was trained.

        Parameters
        ----------
        name
            One of `ghn_model.PRESETS`.
        images
            "cifar10" or "imagenet", as published; "digits": an adaptation to minutes on a CPU, for every hypernetwork:
            many steps with few images of two small networks, a high rate that warms up and falls along half a wave,
            gradients clipped to a norm of 1, since now and then a network's loss is a thousand times that of others.
        changes
            Other fields.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset: unknown {name!r}; use one of {', '.join(PRESETS)}")
        large = images == "imagenet"
        values: dict[str, Any] = {"meta_batch": 1 if name == "ghn1" else 8}
        if name.startswith("ghn3"):
            values |= {"optimizer": "adamw", "learning_rate": 4e-4, "weight_decay": 1e-2, "penalty": 3e-5}
            values |= {"epochs": 75 if large else 300, "wider_nets": large}
            values["schedule"] = Schedule("cosine", warmup=5 / values["epochs"], epochs=values["epochs"])
            values["batch"] = 128 if large else 64
        elif large:
            values |= {"batch": 256, "epochs": 300 if name == "ghn1" else 150}
        if large:
            values["label_smoothing"] = 0.1
        if images == "digits":
            values |= {"schedule": Schedule("cosine", warmup=0.05), **SMALL, **CALM}
        return cls(**{**values, **changes})

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed, validated again."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Inverse of `to_dict`; missing keys take their defaults, unknown ones are a `ConfigError`."""
        names = [each.name for each in fields(cls)]
        if unknown := [repr(key) for key in values if key not in names]:
            raise ConfigError(f"recipe: unknown key {', '.join(unknown)}; valid keys are {', '.join(names)}")
        values = dict(values)
        if isinstance(values.get("schedule"), Mapping):
            values["schedule"] = Schedule(**values["schedule"])
        return cls(**values)
