"""Faster R-CNN (Ren et al., 2015) of torchvision on the last feature map of a classification network."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.training.trainer import track_statistics
from deepnets.architecture import Network
from deepnets.support import ConfigError, at_least, checked_integer, import_detection

__all__ = ["IMAGE_SIZE", "build_detector"]

IMAGE_SIZE = 800
"""Length of the shorter side of the images, in pixels."""

ATTENTION_IMAGE_SIZE = 320
"""The same for networks of the corpus with attention, whose cost grows with the square of the number of pixels."""

_NUM_CLASSES = 2  # background, pedestrian
_LARGEST_RATIO = 1333 / 800  # of the longer side to the shorter one
_ANCHOR_SIZES = (32, 64, 128, 256, 512)
_ANCHOR_RATIOS = (0.5, 1.0, 2.0)
_HEADS = ("classifier", "fc", "head", "auxiliary_head", "avgpool", "global_pooling")


def build_detector(model: nn.Module, image_size: int | None = None) -> nn.Module:
    """Build a detector on a copy of a classification network.

    Parameters
    ----------
    model
        A `deepnets.Network`; a ResNet, or another model of torchvision with the attribute `features`; a model of timm;
        or a module of your own whose `features`, a module or a method, computes a feature map, ``(B, C, H, W)``, of
        images.  Its classifier is not used.
    image_size
        Images are resized so that their shorter side has this length in pixels, or a smaller one if the longer side
        would exceed 1.67 times this length.  By default 800, and 320 for a `Network` with attention.

    Returns
    -------
    A `torchvision.models.detection.FasterRCNN` for pedestrians, in training mode, whose heads have random parameters.
    Batch norms track running statistics, and all parameters are trained.

    Raises
    ------
    ConfigError
        If the network has no feature map.
    MissingDependencyError
        If torchvision is not installed.

    Examples
    --------
    >>> from deepnets import GENOTYPES, MissingDependencyError, NetworkConfig
    >>> model = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=8), num_classes=1000, image_size=224)
    >>> try:
    ...     detector = build_detector(model)
    ... except MissingDependencyError:
    ...     pass
    """
    detection = import_detection()
    if image_size is None:
        attention = isinstance(model, Network) and model.config.is_vit
        image_size = ATTENTION_IMAGE_SIZE if attention else IMAGE_SIZE
    image_size = checked_integer("image_size", image_size, at_least(32))
    anchors = detection.rpn.AnchorGenerator((_ANCHOR_SIZES,), (_ANCHOR_RATIOS,))
    poolers: Any = importlib.import_module("torchvision.ops.poolers")
    detector: nn.Module = detection.FasterRCNN(
        _Backbone(track_statistics(model)),
        num_classes=_NUM_CLASSES,
        min_size=image_size,
        max_size=int(image_size * _LARGEST_RATIO),
        rpn_anchor_generator=anchors,
        box_roi_pool=poolers.MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
    )
    return detector


class _Backbone(nn.Module):
    """The feature map of a network, with the attribute that torchvision's detectors need."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        for name in _HEADS:
            if isinstance(getattr(net, name, None), nn.Module):
                setattr(net, name, nn.Identity())
        self.net = net
        device = next(net.parameters()).device
        self.out_channels = _channels(net, torch.zeros(1, 3, 224, 224, device=device))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = _features_of(self.net)(images)
        return features


def _features_of(net: Any) -> Callable[[Tensor], Any]:
    """Return the function from images to the feature map of a network."""
    models: Any = importlib.import_module("torchvision.models")
    if isinstance(net, models.ResNet):
        stem = (net.conv1, net.bn1, net.relu, net.maxpool)
        return nn.Sequential(*stem, net.layer1, net.layer2, net.layer3, net.layer4)
    if isinstance(net, models.DenseNet):
        return lambda images: F.relu(net.features(images))
    for name in ("forward_features", "features"):
        if callable(getattr(net, name, None)):
            function: Callable[[Tensor], Any] = getattr(net, name)
            return function
    raise ConfigError(f"model: {type(net).__name__} has no `features`, which detection needs")


@torch.no_grad()
def _channels(net: nn.Module, images: Tensor) -> int:
    """Number of channels of the feature map."""
    function, training = _features_of(net), net.training
    try:
        net.eval()  # running statistics stay as they are
        features = function(images)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ConfigError(f"model: {type(net).__name__}: the feature map cannot be computed: {text}") from error
    finally:
        net.train(training)
    side = images.shape[-1]
    if not isinstance(features, Tensor) or features.ndim != 4 or not features.shape[2] == features.shape[3] <= side:
        got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
        raise ConfigError(f"model: {type(net).__name__}: expected a feature map (B, C, H, W), got {got}")
    return features.shape[1]
