"""`Recipe`: the hyperparameters of a training as validated values, with the published ones as presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from deepnets.support import ConfigError, at_least, checked_integer
from ghn_model.choices import NETWORK_NORMS, OPTIMIZERS, PRECISIONS, PRESETS, RECIPES
from ghn_model.training.schedules import Schedule

__all__ = ["PRECISIONS", "Recipe"]

RENAMED = {
    "learning_rate": "lr",
    "meta_batch": "meta_batch_size",
    "batch": "batch_size",
    "clip": "clip_grad",
    "penalty": "predicted_param_decay",
    "average": "ema_decay",
}
"""Fields by the names that they had in recipes written by version 0.1.0 and before."""

_CPU = {
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.01,
    "beta2": 0.99,
    "meta_batch_size": 4,
    "batch_size": 64,
    "share_images": False,
    "max_nodes": 120,
    "clip_grad": 1.0,
    "network_norm": "normalise",
    "ema_decay": 0.998,
    "low_resolution": 0.85,
}
"""What the recipe for a CPU changes (docs/training.md has the measurements)."""

MAX_CPU_PARAMS = 100_000
"""Largest networks on a CPU of hypernetworks whose predictions have no equal channels that are computed once."""

_PYTHON = {
    "meta_batch_size": 2,
    "batch_size": 8,
    "lr": 1e-3,
    "clip_grad": 1.0,
    "ema_decay": 0.99,
    "predicted_param_decay": 0.0,
}


@dataclass(frozen=True)
class Recipe:
    """How a hypernetwork is trained.  The defaults are those of GHN-2 on CIFAR-10 (Knyazev et al., NeurIPS 2021).

    Parameters
    ----------
    optimizer : {"adam", "adamw"}, default "adam"
        Adam adds the weight decay to the gradient (L2 regularization); AdamW decouples it.
    lr : float, default 1e-3
        Largest learning rate of the schedule.
    weight_decay : float, default 1e-5
        Weight decay of the hypernetwork's own weights.
    beta2 : float, default 0.999
        Decay rate of the second-moment estimates of Adam and AdamW.
    schedule : Schedule
        Learning rate schedule.
    epochs : int, default 300
        Passes through the training images.  Only used if no `Budget` is given.
    meta_batch_size : int, default 8
        Networks per step, summed over all processes.
    batch_size : int, default 64
        Images that each network of a step is evaluated on.
    share_images : bool, default True
        Whether all networks of a step are evaluated on the same images.  If not, a step uses `meta_batch_size` times as
        many, so that its gradient has less noise for the same computation.
    clip_grad : float, default 5.0
        Maximum norm of the gradient of the hypernetwork's weights; 0 disables clipping.
    network_norm : {"none", "clip", "normalise"}, default "none"
        Treatment of the gradient of each network's loss with respect to its predicted parameters.  The norm of this
        gradient is up to a thousand times larger for deep networks without normalization layers than for others.
        On a CPU, it is the gradient with respect to what is decoded, before wide layers repeat it.
        "clip" reduces it to the typical norm, a running geometric mean over networks; "normalise" also amplifies
        smaller gradients, by a factor of 4 at most.
    label_smoothing : float, default 0.0
        Label smoothing of the cross entropy.
    predicted_param_decay : float, default 0.0
        Coefficient of the sum of the Euclidean norms of all predicted tensors in the loss (GHN-3, Knyazev et al.,
        ICML 2023).
    wider_nets : bool, default False
        Whether widths of training networks are drawn as GHN-3 does for ImageNet.
    max_params, max_nodes : int, default 0
        Train only on networks with at most this many parameters or graph nodes; 0 means no limit.
    precision : {"fp32", "tf32", "bf16", "fp16"}, default "fp32"
        Precision of the predicted networks.  "bf16" and "fp16" use autocast for them while the hypernetwork runs in
        single precision; "tf32" allows TF32 matrix products and convolutions on GPUs, in the hypernetwork too.
    low_resolution : float, default 0.0
        Fraction of the training, at its start, during which images have half the resolution, which costs a quarter.
        Networks that need the full resolution (no global pooling, or position encodings) get a quarter of the images
        instead.
    channels_last : bool or None, default None
        Memory format of the images.  None selects channels_last on a CPU and contiguous images elsewhere.
    ema_decay : float, default 0.0
        Decay of an exponential moving average (EMA) of the weights.  If it is not 0, the saved hypernetwork has the
        averaged weights.
    augment : bool, default True
        Whether training images are augmented, in the usual way of their image set.
    seed : int, default 0
        Seed of the initial weights, the order of networks and images, the widths, augmentation and dropout.
    max_skipped : int, default 20
        The training fails if more meta-batches than this, and more than 2 percent, were skipped because of NaN or
        because of a lack of memory.

    Raises
    ------
    ConfigError
        If a value is not allowed.

    Examples
    --------
    >>> recipe = Recipe.preset("ghn2", "digits", lr=1e-3)
    >>> recipe.lr, recipe.meta_batch_size, recipe.schedule.kind
    (0.001, 4, 'wsd')
    >>> Recipe.from_dict(recipe.to_dict()) == recipe
    True
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 1e-5
    beta2: float = 0.999
    schedule: Schedule = field(default_factory=Schedule)
    epochs: int = 300
    meta_batch_size: int = 8
    batch_size: int = 64
    share_images: bool = True
    clip_grad: float = 5.0
    network_norm: str = "none"
    label_smoothing: float = 0.0
    predicted_param_decay: float = 0.0
    wider_nets: bool = False
    max_params: int = 0
    max_nodes: int = 0
    precision: str = "fp32"
    low_resolution: float = 0.0
    channels_last: bool | None = None
    ema_decay: float = 0.0
    augment: bool = True
    seed: int = 0
    max_skipped: int = 20

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS), ("network_norm", NETWORK_NORMS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}: expected one of {', '.join(choices)}; got {getattr(self, name)!r}")
        if not isinstance(self.share_images, bool):
            raise ConfigError(f"share_images: expected True or False, got {self.share_images!r}")
        for name, least in (("epochs", 1), ("meta_batch_size", 1), ("batch_size", 2)):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(least)))
        for name in ("max_params", "max_nodes", "seed", "max_skipped"):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(0)))
        for name in ("lr", "weight_decay", "clip_grad", "predicted_param_decay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ConfigError(f"{name}: expected a number of at least 0, got {value!r}")
        for name in ("label_smoothing", "ema_decay", "beta2", "low_resolution"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 0 and less than 1, got {getattr(self, name)!r}")
        if self.channels_last not in (None, True, False):
            raise ConfigError(f"channels_last: expected True, False or None, got {self.channels_last!r}")
        if not isinstance(self.schedule, Schedule):
            raise ConfigError(f"schedule: expected a Schedule, got {type(self.schedule).__name__}")

    @classmethod
    def preset(
        cls,
        name: str,
        images: str = "cifar10",
        *,
        task: str = "classification",
        kind: str | None = None,
        **changes: Any,
    ) -> Recipe:
        """Return the recipe of a published hypernetwork.

        Parameters
        ----------
        name : str
            One of `ghn_model.PRESETS`.
        images : str, default "cifar10"
            The image set; "imagenet" has a published recipe of its own.  For texts, "python" adapts the recipe to
            minutes on a CPU: a high learning rate with warmup and cosine decay, and gradients clipped to a norm of 1.
        task : str, default "classification"
            Task of the networks.  For "text", the recipe is that of LoGAH for GPT-2 (Zhou et al., 2024): 6 sequences
            and 2 networks per step.
        kind : {"published", "cpu"}, optional
            By default "cpu" for "digits", otherwise "published".
            "cpu" adapts the recipe for classification to minutes or hours on a CPU: networks of at most 120 nodes, 64
            images for each of them, half the resolution for most of the training, AdamW with a high learning rate,
            which is constant and then decays, and gradients of networks that are scaled to the same norm, because
            those of single networks can be a thousand times larger than those of others.  Networks of LoGAH's
            hypernetworks, whose predictions have no equal channels, have at most 100,000 parameters.  It changes
            nothing for texts.
        **changes
            Fields that replace those of the preset.

        Returns
        -------
        Recipe

        Raises
        ------
        ConfigError
            If the name is unknown or a value is not allowed.

        Examples
        --------
        >>> Recipe.preset("ghn3-t", "imagenet").batch_size
        128
        """
        if name not in PRESETS:
            raise ConfigError(f"preset: unknown {name!r}; use one of {', '.join(PRESETS)}")
        if kind is None:
            kind = "cpu" if images == "digits" else "published"
        if kind not in RECIPES:
            raise ConfigError(f"kind: unknown {kind!r}; use one of {', '.join(RECIPES)}")
        large = images == "imagenet"
        values: dict[str, Any] = {"meta_batch_size": 1 if name == "ghn1" else 8}
        if name.startswith("ghn3"):
            epochs = 75 if large else 300
            values |= {"optimizer": "adamw", "lr": 4e-4, "weight_decay": 1e-2, "predicted_param_decay": 3e-5}
            values |= {"epochs": epochs, "wider_nets": large, "batch_size": 128 if large else 64}
            values["schedule"] = Schedule("cosine", warmup=5 / epochs, epochs=epochs)
        elif name.startswith("logah"):
            values |= {"optimizer": "adamw", "lr": 3e-4, "weight_decay": 1e-2, "predicted_param_decay": 3e-5}
            values |= {"epochs": 300, "batch_size": 128 if large else 64, "meta_batch_size": 1}
            values["schedule"] = Schedule("cosine", warmup=5 / 300, epochs=300)
        elif large:
            values |= {"batch_size": 256, "epochs": 300 if name == "ghn1" else 150}
        if large:
            values["label_smoothing"] = 0.1
        if task == "text":
            values |= {"batch_size": 6, "meta_batch_size": 2, "augment": False}
            if images == "python":
                values |= {"schedule": Schedule("cosine", warmup=0.05), **_PYTHON}
        if task != "text" and kind == "cpu":
            values |= {"schedule": Schedule("wsd", warmup=0.01), **_CPU}
            if name.startswith("logah"):
                values["max_params"] = MAX_CPU_PARAMS
        return cls(**{**values, **changes})

    @property
    def images_per_step(self) -> int:
        """Different images, or sequences, of a step, in all processes: the batch size of the stream of images.

        Examples
        --------
        >>> Recipe(meta_batch_size=4, batch_size=16, share_images=False).images_per_step
        64
        """
        return self.batch_size if self.share_images else self.batch_size * self.meta_batch_size

    def images_of(self, rank: int, world_size: int, images: int) -> slice:
        """Return which images of a step a process uses: all, or those of its networks.

        Parameters
        ----------
        rank, world_size : int
            Number of the process and of all processes.
        images : int
            Number of images of the step.

        Raises
        ------
        ConfigError
            If the networks do not share images and their number is not `images_per_step`.

        Examples
        --------
        >>> Recipe(meta_batch_size=4, batch_size=16, share_images=False).images_of(1, 2, 64)
        slice(32, 64, None)
        """
        if self.share_images:
            return slice(None)
        if images != self.images_per_step:
            raise ConfigError(f"images: {images} per step, expected {self.images_per_step} (Recipe.images_per_step)")
        return slice(rank * images // world_size, (rank + 1) * images // world_size)

    def memory_format(self, device: torch.device) -> torch.memory_format:
        """Return the memory format of images on a device.

        With `channels_last=None`, images are contiguous on GPUs: with channels_last images the gradient on an H200 GPU
        differed from that of a CPU by 32 percent in norm, with contiguous images by 0.5 percent.

        Examples
        --------
        >>> Recipe().memory_format(torch.device("cpu")), Recipe().memory_format(torch.device("cuda"))
        (torch.channels_last, torch.contiguous_format)
        """
        channels_last = device.type == "cpu" if self.channels_last is None else self.channels_last
        return torch.channels_last if channels_last else torch.contiguous_format

    def replace(self, **changes: Any) -> Recipe:
        """Return a validated copy with some fields changed.

        Examples
        --------
        >>> Recipe().replace(lr=1e-4).lr
        0.0001
        """
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values that JSON can represent.

        Examples
        --------
        >>> Recipe().to_dict()["schedule"]["kind"]
        'steps'
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_dict` was called on.

        Parameters
        ----------
        values : mapping of str to object
            Values by field.  Missing fields take their defaults.  Names of the previous version (`learning_rate`,
            `batch`, ...) are accepted.

        Raises
        ------
        ConfigError
            If a key is unknown or a value is not allowed.

        Examples
        --------
        >>> Recipe.from_dict({"learning_rate": 0.01, "meta_batch": 4}) == Recipe(lr=0.01, meta_batch_size=4)
        True
        """
        values = dict(values)
        if values.get("compile") is False:  # an option of the previous version that could not be used
            del values["compile"]
        for old, new in RENAMED.items():
            if old in values:
                values.setdefault(new, values.pop(old))
        names = [each.name for each in fields(cls)]
        if unknown := [repr(key) for key in values if key not in names]:
            raise ConfigError(f"recipe: unknown key {', '.join(unknown)}; valid keys are {', '.join(names)}")
        if isinstance(values.get("schedule"), Mapping):
            values["schedule"] = Schedule(**values["schedule"])
        return cls(**values)
