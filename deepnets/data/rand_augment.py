"""RandAugment (Cubuk et al., 2020) of timm, with random numbers that only depend on PyTorch's generators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepnets.support import ConfigError, error_reason, import_timm, seeded_globals

__all__ = ["RandAugment", "rand_augmented"]


class RandAugment:
    """A random augmentation of a Pillow image; its random numbers come from PyTorch's global generator.

    Parameters
    ----------
    config : str
        A configuration of timm, such as `"rand-m6-mstd0.5-inc1"`: magnitude 6 with a standard deviation of 0.5, of
        operations whose effect grows with the magnitude.

    Raises
    ------
    ConfigError
        If timm does not accept the configuration.
    MissingDependencyError
        If timm is not installed.

    Examples
    --------
    >>> try:
    ...     augment = RandAugment("rand-m6-mstd0.5-inc1")
    ... except MissingDependencyError:
    ...     pass
    """

    def __init__(self, config: str) -> None:
        self.config = config
        _transform(config)

    def __call__(self, image: Any) -> Any:
        """Augment an image."""
        return _augmented(self.config, image, int(torch.randint(2**32, ())))


def rand_augmented(images: Tensor, config: str, generator: torch.Generator | None = None) -> Tensor:
    """Augment every image of a batch.

    Parameters
    ----------
    images : Tensor
        `(n, 3, height, width) uint8`.
    config : str
        As for `RandAugment`.
    generator : torch.Generator, optional
        Random numbers, on the device of the images; by default PyTorch's global generator.

    Returns
    -------
    Tensor
        The same shape, dtype and device.  The images are processed one by one on the CPU.

    Raises
    ------
    ConfigError, MissingDependencyError
        As for `RandAugment`.

    Examples
    --------
    >>> try:
    ...     rand_augmented(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "rand-m6").shape
    ... except MissingDependencyError:
    ...     torch.Size([2, 3, 8, 8])
    torch.Size([2, 3, 8, 8])
    """
    from PIL import Image

    seeds = torch.randint(2**32, (len(images),), generator=generator, device=images.device).tolist()
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    done = [np.array(_augmented(config, Image.fromarray(each), seed)) for each, seed in zip(pixels, seeds)]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).contiguous().to(images.device)


def _augmented(config: str, image: Any, seed: int) -> Any:
    transform = _transform(config)
    with seeded_globals(seed):
        return transform(image)


@functools.cache
def _transform(config: str) -> Callable[[Any], Any]:
    module = import_timm("timm.data.auto_augment", purpose="rand_augment")
    try:
        transform: Callable[[Any], Any] = module.rand_augment_transform(config, {})
    except Exception as error:  # assertions and conversions of its parser
        raise ConfigError(
            f"rand_augment: expected a configuration of timm, such as rand-m6-mstd0.5-inc1, got {config!r} "
            f"({error_reason(error)})"
        ) from error
    return transform
