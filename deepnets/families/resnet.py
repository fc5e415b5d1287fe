"""`ResNet`: residual networks with any number of blocks and any width in each stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from deepnets.support import ConfigError, checked_integer

__all__ = ["ResNet"]

MAX_STAGES, MAX_DEPTH, MAX_WIDTH = 8, 100, 16_384


class ResNet(nn.Module):
    """Residual network of basic blocks, with parameters named as in torchvision's `ResNet`.

    With `depths=[2, 2, 2, 2]`, `widths=[64, 128, 256, 512]` and `image_size=224`, it is torchvision's `resnet18`.
    For images of less than 64 pixels, the first convolution is 3x3 without stride, and no pooling follows.

    Parameters
    ----------
    depths : sequence of int
        Number of blocks of each stage.  Every stage but the first halves the resolution.
    widths : sequence of int
        Number of channels of each stage.  The first convolution has as many as the first stage.
    kernel_size : int, default 3
        Size of the kernels in the blocks, an odd number.
    num_classes : int, default 10
        Number of outputs.
    image_size : int, default 32
        Height and width of the images.

    Raises
    ------
    ConfigError
        If a value is not allowed.

    Examples
    --------
    >>> import torch
    >>> network = ResNet(depths=[1, 2], widths=[16, 24])
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        kernel_size: int = 3,
        num_classes: int = 10,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        values: Any
        for name, values, most in (("depths", depths, MAX_DEPTH), ("widths", widths, MAX_WIDTH)):
            if not isinstance(values, Sequence) or isinstance(values, str) or not 1 <= len(values) <= MAX_STAGES:
                raise ConfigError(f"{name}: expected one to {MAX_STAGES} integers, got {values!r}")
            for value in values:
                checked_integer(name, value, range(1, most + 1))
        if len(depths) != len(widths):
            raise ConfigError(f"widths: expected one for each of {len(depths)} stages, got {len(widths)}")
        checked_integer("kernel_size", kernel_size, tuple(range(1, 16, 2)))
        self.is_small = image_size < 64
        first = widths[0]
        if self.is_small:
            self.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        channels = first
        self._stages = []
        for stage, (depth, width) in enumerate(zip(depths, widths)):
            blocks = []
            for block in range(depth):
                blocks.append(_Block(channels, width, 2 if stage and not block else 1, kernel_size))
                channels = width
            self._stages.append(f"layer{stage + 1}")
            self.add_module(self._stages[-1], nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, 3, H, W)`."""
        x = F.relu(self.bn1(self.conv1(images)))
        if not self.is_small:
            x = F.max_pool2d(x, 3, 2, 1)
        for name in self._stages:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class _Block(nn.Module):
    """Two convolutions, and a short cut, which is a pointwise convolution where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int, kernel_size: int) -> None:
        super().__init__()
        half = kernel_size // 2
        self.conv1 = nn.Conv2d(inputs, width, kernel_size, stride, half, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size, 1, half, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        short = x
        if self.downsample is not None:
            # The same as a convolution with this stride, whose backward pass for channels_last images writes outside of
            # its memory on a CPU for some widths (PyTorch 2.13, 5 channels).
            short = self.downsample(x[:, :, :: self.stride, :: self.stride])
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + short)
