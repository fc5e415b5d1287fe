"""The published recipes of `SGDRecipe`, and what they determine about the images."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS", "PRESET_IMAGES", "PRESET_LRS", "usual_preset"]

_ORTHOGONAL = {"epochs": 300, "noise": 3e-5}
_LOGAH = {"epochs": 100, "weight_decay": 1e-2}
_A3 = {  # "ResNet strikes back", table 2, with half as many epochs
    "optimizer": "lamb",
    "loss": "bce",
    "target_threshold": 0.2,
    "epochs": 50,
    "batch_size": 2048,
    "clip_grad": 0.0,
    "color_jitter": False,
    "rand_augment": "rand-m6-mstd0.5-inc1",
    "crop_ratio": 0.95,
    "mixup": 0.1,
    "cutmix": 1.0,
}

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
    "darts": {"epochs": 600, "auxiliary_weight": 0.4, "cutout": 16, "drop_path": 0.2},
    "darts-imagenet": {
        "lr": 0.1,
        "schedule": "exponential",
        "gamma": 0.97,
        "weight_decay": 3e-5,
        "batch_size": 128,
        "label_smoothing": 0.1,
        "epochs": 250,
        "auxiliary_weight": 0.4,
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
        "color_jitter": False,
    },
    "ghn3-imagenet": {**_A3, "lr": 6e-3, "weight_decay": 1e-3, "noise": 1e-5},
    "ghn3-imagenet-random": {**_A3, "lr": 8e-3, "weight_decay": 1e-2, "warmup_epochs": 5},
    "logah-vit": {**_LOGAH, "lr": 0.1},
    "logah-vit-large": {**_LOGAH, "lr": 0.03},
    "logah-vit-imagenet": {
        **_LOGAH,
        "lr": 0.1,
        "epochs": 30,
        "batch_size": 128,
        "label_smoothing": 0.1,
        "color_jitter": False,
    },
    "logah-vit-adamw": {"optimizer": "adamw", "lr": 4e-5, "weight_decay": 1e-2, "batch_size": 32, "epochs": 100},
    "logah-gpt2": {
        "optimizer": "adamw",
        "lr": 3e-6,
        "weight_decay": 1e-2,
        "warmup_steps": 500,
        "batch_size": 24,
        "epochs": 100,
    },
    "penn-fudan": {
        "lr": 0.005,
        "weight_decay": 5e-4,
        "schedule": "multistep",
        "milestones": (3, 6, 9),
        "epochs": 10,
        "batch_size": 2,
        "clip_grad": 0.0,
    },
}
"""The presets, as changes of the defaults."""

PRESET_IMAGES: dict[str, dict[str, Any]] = {
    "darts": {"train_on": "trainval"},
    "darts-imagenet": {"train_on": "trainval"},
    "finetune-100shot": {"shots": 100},
    "ghn3-imagenet": {"image_size": 160},
    "ghn3-imagenet-random": {"image_size": 160},
}
"""What presets determine about the images, if not the defaults: training images per class, the part of the image set
for training, and the image size."""

PRESET_LRS: dict[str, tuple[float, ...]] = {
    "logah-vit": (0.1, 0.2, 0.3, 0.4, 0.5),
    "logah-vit-large": (0.03, 0.04, 0.05, 0.06, 0.1),
    "logah-vit-imagenet": (0.1, 0.2, 0.3, 0.4, 0.5),
}
"""Learning rates of presets whose published results are the best over several."""


def usual_preset(images: str) -> str:
    """Return the preset for an image set: that of its name, or that of CIFAR-10 for other image sets.

    Examples
    --------
    >>> usual_preset("digits"), usual_preset("folder:pets")
    ('digits', 'cifar10')
    """
    return images if images in ("digits", "imagenet") else "cifar10"
