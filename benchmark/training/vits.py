"""The vision transformers that LoGAH's tables are about, for images of 32 pixels in patches of 2 (arXiv 2405.16287).

Option ``--model`` takes them as ``benchmark.training.vits:vit_s``.  For ImageNet, they are
``timm:vit_small_patch16_224``, ``torchvision:vit_b_16`` and ``torchvision:vit_l_16``.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from deepnets.support import import_torchvision

__all__ = ["vit_b", "vit_l", "vit_s"]


def vit_s(num_classes: int = 10) -> nn.Module:
    """Return a ViT-S: 12 blocks, 384 wide, 6 heads.

    Parameters
    ----------
    num_classes
        Number of classes.

    Raises
    ------
    MissingDependencyError
        If torchvision is not installed.

    Examples
    --------
    >>> import torch
    >>> with torch.device("meta"):
    ...     sum(parameter.numel() for parameter in vit_s(num_classes=100).parameters())
    21436900
    """
    return _vit(12, 384, 6, num_classes)


def vit_b(num_classes: int = 10) -> nn.Module:
    """Return a ViT-B: 12 blocks, 768 wide, 12 heads.  Arguments and errors are those of `vit_s`."""
    return _vit(12, 768, 12, num_classes)


def vit_l(num_classes: int = 10) -> nn.Module:
    """Return a ViT-L: 24 blocks, 1,024 wide, 16 heads.  Arguments and errors are those of `vit_s`."""
    return _vit(24, 1024, 16, num_classes)


def _vit(layers: int, width: int, heads: int, num_classes: int) -> nn.Module:
    models: Any = import_torchvision().models
    net: nn.Module = models.VisionTransformer(
        image_size=32,
        patch_size=2,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=4 * width,
        num_classes=num_classes,
    )
    net.expected_input_sz = 32  # type: ignore[assignment]  # `deepnets.trace` reads it
    return net
