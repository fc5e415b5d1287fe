"""Image sets that networks are trained and evaluated on: `digits` (part of scikit-learn), `cifar10`, `imagenet`.

The first two fit into memory: an `ImageSet` holds them as bytes, on any device, and makes batches there.  ImageNet is
read from its folders while it is needed (`deepnets.imagenet`).  Nothing is downloaded unless `download=True` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.errors import ConfigError
from deepnets.space import at_least, checked_integer

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "IMAGE_SETS", "SPLITS", "ImageSet", "Images", "load_images", "open_images"]

IMAGE_SETS = ("digits", "cifar10", "imagenet")
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


def load_images(
    name: str,
    split: str = "train",
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    noise: float = 0.0,
    image_size: int | None = None,
) -> ImageSet:
    """Load part of an image set into memory.

    Parameters
    ----------
    name
        "digits": scikit-learn's 1,797 handwritten digits, enlarged to 3 x 32 x 32, which need no file.  "cifar10".
    split
        One of `SPLITS`.
    root
        Folder of the files of `cifar10`: the one that holds `cifar-10-batches-py` or `cifar-10-python.tar.gz`.
    download
        Whether to fetch missing files of `cifar10` (170 MB) into it.
    device
        Where images are kept and batches are made.
    noise
        As in `ImageSet`.
    image_size
        Height and width of the images in batches, 32 by default.  At another size, images of `cifar10` are normalised
        with the constants of ImageNet, as those networks expect that were made for it.

    Raises
    ------
    ConfigError
        For an unknown name or split, or a folder without the files; says where they come from.
    FormatError, IntegrityError
        If a file is not what it should be.

    Examples
    --------
    >>> digits = load_images("digits", "test")
    >>> digits.images.shape, digits.num_classes
    (torch.Size([299, 3, 32, 32]), 10)
    """
    _check(name, split, noise)
    if name == "imagenet":
        raise ConfigError("images: imagenet does not fit into memory; use open_images, or one of digits, cifar10")
    if image_size is not None:
        image_size = checked_integer("image_size", image_size, at_least(1))
    if name == "digits":
        from deepnets.digits import load_digits

        loaded = load_digits(split)
    else:
        from deepnets.cifar import load_cifar10

        loaded = load_cifar10(split, root, download=download)
    if image_size not in (None, loaded.image_size):
        loaded = replace(loaded, resize=image_size)
        if name == "cifar10":
            loaded = replace(loaded, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return replace(loaded, noise=float(noise)).to(device)


def open_images(
    name: str,
    split: str = "train",
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    noise: float = 0.0,
    image_size: int | None = None,
    workers: int | None = None,
) -> Images:
    """Part of any image set: in memory, or, for "imagenet", read from folders while it is needed.

    Parameters
    ----------
    name, split, download, device, noise, image_size
        As in `load_images`; images of ImageNet are 224 pixels wide and high by default.
    root
        Folder of the files: for `imagenet`, the one with the folders `train` and `val`.
    workers
        Processes that read images of ImageNet; by default one per core, 8 at most.

    Raises
    ------
    ConfigError, FormatError, IntegrityError
        As `load_images`, and `deepnets.imagenet.load_imagenet`.
    """
    _check(name, split, noise)
    if name != "imagenet":
        return load_images(name, split, root=root, download=download, device=device, noise=noise, image_size=image_size)
    from deepnets.imagenet import load_imagenet

    return load_imagenet(split, root, device=device, noise=noise, image_size=image_size or 224, workers=workers)


def _check(name: str, split: str, noise: float) -> None:
    if name not in IMAGE_SETS:
        raise ConfigError(f"images: unknown {name!r}; use one of {', '.join(IMAGE_SETS)}")
    if split not in SPLITS:
        raise ConfigError(f"split of the images: unknown {split!r}; use one of {', '.join(SPLITS)}")
    if not 0 <= noise < float("inf"):
        raise ConfigError(f"noise: expected a standard deviation, 0 or more; got {noise!r}")
