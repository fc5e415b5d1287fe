"""torchvision's models for images of 32 pixels: less is thrown away in their first layers.

The changes are those of the original release (Knyazev et al., NeurIPS 2021, and arXiv 2207.10049), with one correction:
for ShuffleNetV2 and GoogLeNet it sets the stride of a block, which has no effect, where it means that of the
convolution inside.  Here their first convolutions have no stride, either.
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
"""Classes of torchvision's models that can be adapted; ResNet stands for ResNeXt and Wide ResNet, too."""

SMALL = 32
_FIRST_BLOCKS = 5  # of a MobileNet
_FIRST_LAYERS = 10  # of a VGG


def adapt_to_small_images(model: nn.Module) -> nn.Module:
    """Change a classification model of torchvision so that it makes sense of images of 3 x 32 x 32.

    Parameters
    ----------
    model
        The model, on any device, `meta` included.  It is changed: convolutions keep their values, 7 x 7 ones that
        become 3 x 3 those in the middle.  Names of parameters stay, because what is taken out leaves an identity.

    Returns
    -------
    The model, with the attribute `expected_input_sz` = 32, which tells `deepnets.trace` what to trace it with.

    Raises
    ------
    ConfigError
        If torchvision is missing, or the model is not of one of `FAMILIES`.

    Notes
    -----
    - ResNet, ResNeXt, Wide ResNet, DenseNet: the first convolution is 3 x 3 without stride, and no pooling behind it.
    - MobileNetV2 and V3: no stride in the first 5 blocks.
    - VGG: no pooling in the first 10 layers.
    - AlexNet, ShuffleNetV2, GoogLeNet: the first convolution without stride, and no pooling behind it.
    - MNASNet, ConvNeXt: the first convolution without stride.

    Examples
    --------
    >>> from torchvision.models import resnet50                                             # doctest: +SKIP
    >>> model = adapt_to_small_images(resnet50(num_classes=10))                             # doctest: +SKIP
    >>> sum(parameter.numel() for parameter in model.parameters())                          # doctest: +SKIP
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
        for block in net.features[:_FIRST_BLOCKS]:
            for layer in block.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.stride = (1, 1)
    elif isinstance(net, models.VGG):
        for place, layer in enumerate(net.features[:_FIRST_LAYERS]):
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
            f"model: {type(model).__name__} cannot be adapted to images of {SMALL} pixels; expected a model of "
            f"torchvision of the kinds {', '.join(FAMILIES)}"
        )
    net.expected_input_sz = SMALL
    return model


def _three_by_three(large: nn.Conv2d) -> nn.Conv2d:
    """The middle of a convolution, without stride, padded so that the resolution stays."""
    weight, bias = large.weight, large.bias
    with torch.device("meta"):  # draws no random numbers
        small = nn.Conv2d(
            large.in_channels, large.out_channels, 3, padding=1, groups=large.groups, bias=bias is not None
        )
    rows, columns = ((size - 3) // 2 for size in large.kernel_size)
    middle = weight.detach()[:, :, rows : rows + 3, columns : columns + 3].clone()
    small.weight = nn.Parameter(middle, requires_grad=weight.requires_grad)
    small.bias = bias
    return small
