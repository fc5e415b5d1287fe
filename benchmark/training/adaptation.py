"""Adaptation of torchvision models to images of 32 pixels: their first layers keep the resolution.

The changes are those of the original release (Knyazev et al., NeurIPS 2021, and arXiv 2207.10049), with one correction.
For ShuffleNetV2 and GoogLeNet, the release sets the stride of a block, which has no effect.  Here the stride of the
convolution in the block is set, as intended.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from deepnets.support import ConfigError, import_torchvision

__all__ = ["FAMILIES", "adapt_to_small_images"]

FAMILIES = (
    *("ResNet", "DenseNet", "MobileNetV2", "MobileNetV3", "VGG", "AlexNet", "MNASNet", "ConvNeXt", "ShuffleNetV2"),
    "GoogLeNet",
)
"""Classes of torchvision models that can be adapted; ResNet includes ResNeXt and Wide ResNet."""

SMALL = 32
_MOBILENET_BLOCKS = 5
_VGG_LAYERS = 10


def adapt_to_small_images(model: nn.Module, image_size: int = SMALL) -> nn.Module:
    """Adapt a classification model of torchvision to small images, in place.

    Parameters
    ----------
    model
        The model, on any device, including `meta`.  Convolutions keep their values; of a 7 x 7 kernel that becomes
        3 x 3, the center is kept.  Removed layers are replaced by identities, so that names of parameters do not
        change.
    image_size
        Height and width of the images.  The adaptation is that for 32 pixels.

    Returns
    -------
    The model, with the attribute ``expected_input_sz = image_size``, which `deepnets.trace` reads.

    Raises
    ------
    ConfigError
        If torchvision is not installed, or the model is not of one of `FAMILIES`.

    Notes
    -----
    - ResNet, ResNeXt, Wide ResNet, DenseNet: the first convolution is 3 x 3 with stride 1, and is not followed by
      pooling.
    - MobileNetV2 and V3: stride 1 in the first 5 blocks.
    - VGG: no pooling in the first 10 layers.
    - AlexNet, ShuffleNetV2, GoogLeNet: the first convolution has stride 1, and is not followed by pooling.
    - MNASNet, ConvNeXt: the first convolution has stride 1.

    Examples
    --------
    >>> from deepnets.support import import_torchvision
    >>> with torch.device("meta"):
    ...     model = adapt_to_small_images(import_torchvision().models.resnet50(num_classes=10))
    >>> sum(parameter.numel() for parameter in model.parameters())
    23520842
    """
    try:
        models: Any = import_torchvision().models
    except ImportError as error:
        raise ConfigError(f"model: only models of torchvision can be adapted: {error}") from error
    net: Any = model
    if isinstance(net, models.ResNet):
        net.conv1 = _three_by_three(net.conv1)
        net.maxpool = nn.Identity()
    elif isinstance(net, models.DenseNet):
        net.features.conv0 = _three_by_three(net.features.conv0)
        net.features.pool0 = nn.Identity()
    elif isinstance(net, models.MobileNetV2 | models.MobileNetV3):
        for block in net.features[:_MOBILENET_BLOCKS]:
            for layer in block.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.stride = (1, 1)
    elif isinstance(net, models.VGG):
        for place, layer in enumerate(net.features[:_VGG_LAYERS]):
            if isinstance(layer, nn.MaxPool2d):
                net.features[place] = nn.Identity()
    elif isinstance(net, models.AlexNet):
        net.features[0].stride = (1, 1)
        net.features[2] = nn.Identity()
    elif isinstance(net, models.MNASNet):
        net.layers[0].stride = (1, 1)
    elif isinstance(net, models.ConvNeXt):
        net.features[0][0].stride = (1, 1)
    elif isinstance(net, models.ShuffleNetV2):
        net.conv1[0].stride = (1, 1)
        net.maxpool = nn.Identity()
    elif isinstance(net, models.GoogLeNet):
        net.conv1.conv.stride = (1, 1)
        net.maxpool1 = nn.Identity()
    else:
        raise ConfigError(
            f"model: {type(model).__name__} cannot be adapted to images of {image_size} pixels; expected a model of "
            f"torchvision of the kinds {', '.join(FAMILIES)}"
        )
    net.expected_input_sz = image_size
    return model


def _three_by_three(large: nn.Conv2d) -> nn.Conv2d:
    """Return the center of a convolution, with stride 1 and padding that keeps the resolution."""
    weight, bias = large.weight, large.bias
    with torch.device("meta"):  # avoids drawing random numbers
        small = nn.Conv2d(
            large.in_channels, large.out_channels, 3, padding=1, groups=large.groups, bias=bias is not None
        )
    rows, columns = ((size - 3) // 2 for size in large.kernel_size)
    middle = weight.detach()[:, :, rows : rows + 3, columns : columns + 3].clone()
    small.weight = nn.Parameter(middle, requires_grad=weight.requires_grad)
    small.bias = bias
    return small
