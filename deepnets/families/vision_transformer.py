"""`VisionTransformer`: vision transformers (Dosovitskiy et al., ICLR 2021) of any size, in PyTorch's own modules."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from deepnets.support import ConfigError, checked_integer

__all__ = ["VisionTransformer"]

MAX_LAYERS, MAX_WIDTH = 200, 16_384
LARGE_IMAGES = 224
"""Image size from which patches are 8 times as large."""


class VisionTransformer(nn.Module):
    """Vision transformer with the parameters of torchvision's `VisionTransformer`, by name and shape.

    A state of one can be loaded into the other, which then gives the same logits.

    Parameters
    ----------
    layers : int
        Number of layers.
    width : int
        Size of the tokens, a multiple of `heads`.
    heads : int
        Number of attention heads.
    patch_size : int, default 2
        Height and width of the patches, in pixels of images of less than 224 pixels.  For larger images, patches are 8
        times as large: 2 and 4 become 16 and 32, as in ViTs-1K.
    mlp_ratio : int, default 4
        Width of the hidden layer of the MLPs, divided by `width`.
    num_classes : int, default 10
        Number of outputs.
    image_size : int, default 32
        Height and width of the images, a multiple of the size of the patches.

    Raises
    ------
    ConfigError
        If a value is not allowed, or values do not fit together.

    Examples
    --------
    >>> network = VisionTransformer(layers=2, width=24, heads=3, patch_size=8)
    >>> network(torch.zeros(2, 3, 32, 32)).shape, network.encoder.pos_embedding.shape
    (torch.Size([2, 10]), torch.Size([1, 17, 24]))
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        patch_size: int = 2,
        mlp_ratio: int = 4,
        num_classes: int = 10,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        checked_integer("layers", layers, range(1, MAX_LAYERS + 1))
        checked_integer("width", width, range(1, MAX_WIDTH + 1))
        checked_integer("heads", heads, range(1, width + 1))
        checked_integer("mlp_ratio", mlp_ratio, range(1, 17))
        patch = checked_integer("patch_size", patch_size, range(1, 129)) * (8 if image_size >= LARGE_IMAGES else 1)
        if width % heads:
            raise ConfigError(f"heads: {heads} do not divide the width {width}")
        if image_size % patch:
            raise ConfigError(f"patch_size: patches of {patch} pixels do not divide images of {image_size} pixels")
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(3, width, patch, patch)
        self.encoder = _Encoder((image_size // patch) ** 2 + 1, layers, width, heads, mlp_ratio * width)
        head = nn.Linear(width, num_classes)
        self.heads = nn.Sequential(OrderedDict(head=head))
        nn.init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / (3 * patch * patch)))
        for tensor in (self.conv_proj.bias, head.weight, head.bias):
            assert isinstance(tensor, Tensor)  # noqa: S101  for type checkers
            nn.init.zeros_(tensor)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, 3, image_size, image_size)`."""
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        logits: Tensor = self.heads(self.encoder(tokens)[:, 0])
        return logits


class _Encoder(nn.Module):
    def __init__(self, tokens: int, layers: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))
        names = (f"encoder_layer_{number}" for number in range(layers))
        self.layers = nn.Sequential(OrderedDict((name, _Layer(width, heads, inner)) for name in names))
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        encoded: Tensor = self.ln(self.layers(tokens + self.pos_embedding))
        return encoded


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        # The third module is the dropout of torchvision, which has no parameters, so that names agree.
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Identity(), nn.Linear(inner, width))
        for number in (0, 3):
            layer = self.mlp[number]
            assert isinstance(layer, nn.Linear)  # noqa: S101  for type checkers
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.ln_1(tokens)
        tokens = tokens + self.self_attention(x, x, x, need_weights=False)[0]
        summed: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return summed
