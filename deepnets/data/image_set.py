"""`ImageSet`: images in memory, as bytes, on any device; `Images`: the interface of every image set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.support import at_least, checked_integer

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "SPLITS", "ImageSet", "Images"]

SPLITS = ("train", "val", "test", "trainval")
"""Parts of a set: to train on, to choose by, to report on; `trainval` is the first two together."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Images(Protocol):
    """What networks can be trained and evaluated on: an `ImageSet`, or images in folders."""

    @property
    def name(self) -> str:
        """Which set."""

    @property
    def split(self) -> str:
        """Which part of it, one of `SPLITS`."""

    @property
    def num_classes(self) -> int:
        """Number of different labels."""

    @property
    def image_size(self) -> int:
        """Height and width that batches have, in pixels."""

    @property
    def device(self) -> torch.device:
        """Where batches are."""

    def __len__(self) -> int: ...

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: bool = False,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the images once, as `ImageSet.batches`."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory.

    Attributes
    ----------
    name, split
        Which set, and which part of it.
    images
        `(n, 3, h, w) uint8`.
    labels
        `(n,) int64`.
    num_classes
        Number of different labels.
    mean, std
        Of the channels of the training images, on a scale from 0 to 1.
    shift, flip
        How far, in pixels, and whether, images are moved and mirrored for training.
    noise
        Standard deviation of the noise that is added on a scale from 0 to 1 (0.08 in the published test of robustness).
    resize
        Height and width that batches have, if not those of `images`.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shift: int
    flip: bool
    noise: float = 0.0
    resize: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Height and width that batches have, in pixels."""
        return self.resize or self.images.shape[-1]

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def to(self, device: torch.device | str) -> ImageSet:
        """The same on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def normalized(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bytes `(..., 3, h, w)` as float32 of mean 0 and variance 1 per channel, after noise, if the set has any."""
        pixels = images.float() / 255
        if self.noise:
            noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
            pixels = (pixels + self.noise * noise).clamp_(0, 1)
        mean, std = self._constants.to(pixels.device).unbind()
        return (pixels - mean) / std

    def augmented(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A batch, each image of which is moved by up to `shift` pixels (black comes in), and mirrored or not.

        All images of a batch at once, on their device, without waiting for it.

        Parameters
        ----------
        images
            `(n, 3, h, w)`, bytes or normalised float32.
        generator
            Of the random numbers, on the device of the images.
        """
        n, _, height, width = images.shape
        device = images.device
        padded = images.new_zeros(n, 3, height + 2 * self.shift, width + 2 * self.shift)
        if images.is_floating_point():
            mean, std = self._constants.to(device).unbind()
            padded += (0 - mean) / std
        padded[..., self.shift : self.shift + height, self.shift : self.shift + width] = images
        offsets = torch.randint(2 * self.shift + 1, (2, n, 1), generator=generator, device=device)
        rows = offsets[0] + torch.arange(height, device=device)  # (n, height)
        columns = offsets[1] + torch.arange(width, device=device)
        if self.flip:
            mirrored = torch.rand(n, 1, generator=generator, device=device) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        sample = torch.arange(n, device=device)[:, None, None, None]
        channel = torch.arange(3, device=device)[:, None, None]
        return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: bool = False,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the images once.

        Parameters
        ----------
        batch_size
            Images in a batch; the last one may have fewer, unless `drop_last`.
        shuffle, augment
            Random order; random shifts (and mirror images).
        generator
            Of the random numbers, on the device of the images; PyTorch's own by default.  With the state that it has
            before a pass, the pass can be repeated.

        Yields
        ------
        Normalised images `(batch_size, 3, image_size, image_size) float32` and labels `(batch_size,) int64`.
        """
        batch_size = checked_integer("batch_size", batch_size, at_least(1))
        return self._batches(batch_size, shuffle, augment, drop_last, generator)

    def _batches(
        self, batch_size: int, shuffle: bool, augment: bool, drop_last: bool, generator: torch.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        n, device = len(self), self.device
        order = torch.randperm(n, generator=generator, device=device) if shuffle else torch.arange(n, device=device)
        for rows in torch.split(order, batch_size):
            if drop_last and len(rows) < batch_size:
                return
            images = self.images[rows]
            if augment:
                images = self.augmented(images, generator)
            if self.resize:
                side = (self.resize, self.resize)
                images = F.interpolate(images.float(), side, mode="bilinear", antialias=True).clamp_(0, 255)
            yield self.normalized(images, generator), self.labels[rows]

    @cached_property
    def _constants(self) -> Tensor:
        """`(2, 3, 1, 1)`, mean and std; kept, because to copy them to a device means to wait for it."""
        return torch.tensor([self.mean, self.std]).view(2, 3, 1, 1).to(self.device)
