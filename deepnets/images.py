"""Image sets that networks are trained and evaluated on: `digits` (part of scikit-learn), `cifar10`, `imagenet`.

The first two fit into memory: an `ImageSet` holds them as bytes, on any device, and makes batches there.  ImageNet is
read from its folders as it is needed (`deepnets.imagenet`).  Nothing is downloaded unless `download=True` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.errors import ConfigError

__all__ = ["IMAGE_SETS", "SPLITS", "ImageSet", "load_images"]

IMAGE_SETS = ("digits", "cifar10")
SPLITS = ("train", "val", "test", "trainval")
"""Parts of a set: to train on, to choose by, to report on; `trainval` is the first two together."""


@dataclass(frozen=True)
class ImageSet:
    """Images in memory.

    Attributes
    ----------
    name, split
        Which set, and which part of it.
    images
        `(n, 3, size, size) uint8`.
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

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Height and width, in pixels."""
        return self.images.shape[-1]

    def to(self, device: torch.device | str) -> ImageSet:
        """The same on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def normalized(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bytes `(..., 3, h, w)` as float32 of mean 0 and variance 1 per channel, after noise, if the set has any."""
        pixels = images.float() / 255
        if self.noise:
            noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
            pixels = (pixels + self.noise * noise).clamp(0, 1)
        mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    def augmented(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A batch of normalised images, each moved by up to `shift` pixels (zeros come in), and mirrored or not.

        All images of a batch at once, on their device, without waiting for it.
        """
        n, _, height, width = images.shape
        device = images.device
        padded = F.pad(images, [self.shift] * 4)
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
            Of the random numbers, on the device of the images; its state is that of the pass.

        Yields
        ------
        Normalised images `(batch_size, 3, size, size) float32` and labels `(batch_size,) int64`.
        """
        device = self.images.device
        order = torch.arange(len(self), device=device)
        if shuffle:
            order = torch.randperm(len(self), generator=generator, device=device)
        for rows in order.split(batch_size):
            if drop_last and len(rows) < batch_size:
                return
            images = self.normalized(self.images[rows], generator)
            yield self.augmented(images, generator) if augment else images, self.labels[rows]


def load_images(
    name: str,
    split: str = "train",
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    noise: float = 0.0,
) -> ImageSet:
    """Load part of an image set into memory.

    Parameters
    ----------
    name
        "digits": scikit-learn's 1,797 handwritten digits, enlarged to 3 x 32 x 32, which need no file.  "cifar10".
    split
        One of `SPLITS`.
    root
        Folder of the files of `cifar10`: the one that holds `cifar-10-batches-py`, or that one.
    download
        Whether to fetch missing files of `cifar10`.
    device, noise
        As in `ImageSet`.

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
    if name not in IMAGE_SETS:
        raise ConfigError(f"images: unknown {name!r}; use one of {', '.join(IMAGE_SETS)}")
    if split not in SPLITS:
        raise ConfigError(f"split of the images: unknown {split!r}; use one of {', '.join(SPLITS)}")
    if name == "digits":
        from deepnets.digits import load_digits

        loaded = load_digits(split)
    else:
        from deepnets.cifar import load_cifar10

        loaded = load_cifar10(split, root, download=download)
    return replace(loaded, noise=noise).to(device)
