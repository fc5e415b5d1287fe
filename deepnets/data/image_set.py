"""`ImageSet`, images held in memory as bytes, and `Images`, the interface that all image sets share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.data.rand_augment import rand_augmented
from deepnets.support import at_least, checked_integer

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "ImageSet", "Images"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Images(Protocol):
    """The interface of image sets, with which networks are trained and evaluated.

    `ImageSet` and `ImageFolders` implement it.
    """

    @property
    def name(self) -> str:
        """Name of the set."""

    @property
    def split(self) -> str:
        """Part of the set, one of `deepnets.support.IMAGE_SPLITS`."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def image_size(self) -> int:
        """Height and width of the images in batches, in pixels."""

    @property
    def device(self) -> torch.device:
        """Device of the batches."""

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
        """Iterate over the images once, with the parameters and results of `ImageSet.batches`."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory.

    Attributes
    ----------
    name, split : str
        The set, and the part of it.
    images : Tensor
        `(n, 3, height, width) uint8`, height and width equal.
    labels : Tensor
        `(n,) int64`, the class of every image.
    num_classes : int
        Number of classes.
    mean, std : tuple of three floats
        Mean and standard deviation of the channels of the training images, on a scale from 0 to 1.
    shift : int, default 0
        Largest random translation of images for training, in pixels.
    flip : bool, default False
        Whether images for training are mirrored horizontally at random.
    noise : float, default 0
        Standard deviation of Gaussian noise that is added to the pixels, on a scale from 0 to 1.
    resize : int, optional
        Height and width of the images in batches, if they differ from those of `images`.
    rand_augment : str, default ""
        Configuration of timm's RandAugment for batches with augmentation (`deepnets.data.rand_augment`); empty for
        none.

    Examples
    --------
    >>> images = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    >>> labels = torch.tensor([0, 1, 0, 1, 0, 1])
    >>> black = ImageSet("black", "train", images, labels, num_classes=2, mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> len(black), black.image_size
    (6, 8)
    >>> [tuple(pixels.shape) for pixels, _ in black.batches(4)]
    [(4, 3, 8, 8), (2, 3, 8, 8)]
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shift: int = 0
    flip: bool = False
    noise: float = 0.0
    resize: int | None = None
    rand_augment: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Height and width of the images in batches, in pixels."""
        return self.resize or self.images.shape[-1]

    @property
    def device(self) -> torch.device:
        """Device of the images, the labels and the batches."""
        return self.images.device

    def to(self, device: torch.device | str) -> ImageSet:
        """Return the set with its images and labels on a device.

        Examples
        --------
        >>> from deepnets.data import load_images
        >>> load_images("digits", "val").to("meta").device
        device(type='meta')
        """
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def with_options(
        self, *, device: torch.device | str = "cpu", image_size: int | None = None, noise: float = 0.0
    ) -> ImageSet:
        """Return the set with the options that every loader takes (see `deepnets.data.ImageLoader`).

        Parameters
        ----------
        device : torch.device or str, default "cpu"
            Device of the batches.
        image_size : int, optional
            Height and width of the images in batches, in pixels; by default those of `images`.
        noise : float, default 0
            Standard deviation of Gaussian noise.

        Returns
        -------
        ImageSet
            The images are resized batch by batch, not in memory.

        Examples
        --------
        >>> from deepnets.data import load_images
        >>> load_images("digits", "val").with_options(image_size=64).image_size
        64
        """
        resize = None if image_size in (None, self.images.shape[-1]) else image_size
        return replace(self, resize=resize, noise=noise).to(device)

    def pixels(self, rows: Tensor, augment: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Return images as they are in batches, before `normalized`: augmented on request, and resized.

        Parameters
        ----------
        rows : Tensor
            `(n,) int64`, positions of the images.
        augment : bool, default False
            Whether to augment them, as `augmented` and `rand_augment` say.
        generator : torch.Generator, optional
            Random numbers, on the device of the images; by default PyTorch's global generator.

        Returns
        -------
        Tensor
            `(n, 3, image_size, image_size)`, values from 0 to 255; uint8, or float32 if they are resized.

        Examples
        --------
        >>> from deepnets.data import load_images
        >>> digits = load_images("digits", "val", image_size=64)
        >>> digits.pixels(torch.tensor([0, 1])).shape
        torch.Size([2, 3, 64, 64])
        """
        images = self.images[rows]
        if augment:
            images = self.augmented(images, generator)
            if self.rand_augment:
                images = rand_augmented(images, self.rand_augment, generator)
        if self.resize:
            side = (self.resize, self.resize)
            images = F.interpolate(images.float(), side, mode="bilinear", antialias=True).clamp_(0, 255)
        return images

    def normalized(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normalise images to mean 0 and variance 1 per channel, after adding noise if `noise` is not 0.

        Parameters
        ----------
        images : Tensor
            `(..., 3, height, width)`, values from 0 to 255.
        generator : torch.Generator, optional
            Random numbers of the noise, on the device of the images; by default PyTorch's global generator.

        Returns
        -------
        Tensor
            The same shape, float32.

        Examples
        --------
        >>> from deepnets.data import load_images
        >>> digits = load_images("digits", "train")
        >>> round(digits.normalized(digits.images).mean().item(), 2)
        0.0
        """
        pixels = images.float() / 255
        if self.noise:
            noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
            pixels = (pixels + self.noise * noise).clamp_(0, 1)
        mean, std = self._constants.to(pixels.device).unbind()
        return (pixels - mean) / std

    def augmented(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Translate every image of a batch by up to `shift` pixels, and mirror it at random if `flip` is set.

        All images are processed at once on their device, without synchronisation.  Pixels from outside are black.

        Parameters
        ----------
        images : Tensor
            `(n, 3, height, width)`, uint8 or normalised float32.
        generator : torch.Generator, optional
            Random numbers, on the device of the images; by default PyTorch's global generator.

        Returns
        -------
        Tensor
            The same shape and dtype.

        Examples
        --------
        >>> from deepnets.data import load_images
        >>> digits = load_images("digits", "train")
        >>> digits.augmented(digits.images[:5]).shape
        torch.Size([5, 3, 32, 32])
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
        """Iterate over the images once.

        Parameters
        ----------
        batch_size : int
            Images in a batch.
        shuffle : bool, default False
            Whether to use a random order.
        augment : bool, default False
            Whether to translate and mirror images at random, as `augmented` does.
        drop_last : bool, default False
            Whether to leave out the last batch if it is smaller than `batch_size`.
        generator : torch.Generator, optional
            Random numbers, on the device of the images; by default PyTorch's global generator.  The same state of the
            generator gives the same batches.

        Yields
        ------
        images : Tensor
            `(batch_size, 3, image_size, image_size) float32`, normalised.
        labels : Tensor
            `(batch_size,) int64`.

        Raises
        ------
        ConfigError
            If `batch_size` is not a positive integer.

        Examples
        --------
        >>> from deepnets.data import load_images
        >>> digits = load_images("digits", "test")
        >>> sum(len(labels) for _, labels in digits.batches(100, drop_last=True))
        200
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
            yield self.normalized(self.pixels(rows, augment, generator), generator), self.labels[rows]

    @cached_property
    def _constants(self) -> Tensor:
        """`(2, 3, 1, 1)`, mean and standard deviation; cached, because copying them to a GPU synchronises with it."""
        return torch.tensor([self.mean, self.std]).view(2, 3, 1, 1).to(self.device)
