"""`PredictorContext`: what a predictor is given when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from benchmark.evaluation.networks import Networks
from deepnets.data import Images

__all__ = ["ImageInfo", "PredictorContext"]


class ImageInfo(NamedTuple):
    """What a predictor may know about the images that its networks are evaluated on.

    Attributes
    ----------
    name, task
        Name of the image set or of other data, and of the task of the networks.
    num_classes, image_size
        Number of classes, and height and width of the images; for texts, size of the vocabulary, and None.

    Examples
    --------
    >>> ImageInfo("digits", 10, 32).task
    'classification'
    """

    name: str
    num_classes: int
    image_size: int | None
    task: str = "classification"

    @classmethod
    def of(cls, images: Images, task: str = "classification") -> ImageInfo:
        """Describe images, or the data set of another task."""
        return cls(images.name, images.num_classes, getattr(images, "image_size", None), task)


class PredictorContext(NamedTuple):
    """Context in which a predictor is opened.

    Attributes
    ----------
    networks
        Networks whose parameters are predicted.
    images
        Description of the images that the networks are evaluated on.  Predictors do not have the images themselves.
    image_root
        Folder of the image set, for predictors that train.
    device
        Device of the predictor.
    seed
        Seed of random weights and of training.
    predict_class_layers
        As in `benchmark.evaluate`.
    """

    networks: Networks
    images: ImageInfo
    image_root: Path | str | None = None
    device: torch.device | str = "cpu"
    seed: int = 0
    predict_class_layers: bool = True
