"""Training images by the number of a step: every pass goes through all of them once, in an order of its own.

What comes in a step depends on the seed and its number, and on PyTorch's random numbers where images are in memory; so
a training that is continued sees what it would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepnets.data import ImageFolders, ImageSet, open_images
from deepnets.support import ConfigError

__all__ = ["FolderStream", "ImageStream", "image_stream"]

BLOCK = 200
"""Steps for which images are read in one go; when a training is continued, those of the block before are read again."""


class ImageStream:
    """Batches of an image set in memory, made on its device without waiting for it.

    Parameters
    ----------
    images
        The set, on the device of the training.
    batch
        Images in a step.  The last images of a pass, if they are fewer, are left out.
    augment
        Whether they are varied as is usual for the set, by random numbers of PyTorch's generator of the device.
    seed
        Of the orders.

    Attributes
    ----------
    name, num_classes, image_size
        As of the set.
    per_epoch : int
        Steps in a pass.

    Raises
    ------
    ConfigError
        If there are too few images for a batch.
    """

    def __init__(self, images: ImageSet, batch: int, *, augment: bool = True, seed: int = 0) -> None:
        self.name, self.num_classes, self.image_size = images.name, images.num_classes, images.image_size
        self.per_epoch = _steps(images, batch)
        self._images, self._batch, self._augment, self._seed = images, batch, augment, seed
        black, white = images.normalized(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1))
        self._slope, self._start = (part.to(images.images.device) for part in ((white - black) / 255, black))
        self._epoch = -1
        self._order = torch.empty(0)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Normalised images `(batch, 3, size, size) float32` and labels `(batch,) int64` of a step."""
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            order = torch.from_numpy(_order(len(self._images), self._seed, epoch))
            self._epoch, self._order = epoch, order.to(self._images.images.device)
        rows = self._order[number * self._batch : (number + 1) * self._batch]
        images = self._images.images[rows]
        if self._augment:
            images = self._images.augmented(images)
        return images * self._slope + self._start, self._images.labels[rows]


class FolderStream:
    """Batches of images that are read from their files, by processes of their own, a little ahead.

    Parameters and attributes are those of `ImageStream`.
    """

    def __init__(self, images: ImageFolders, batch: int, *, augment: bool = True, seed: int = 0) -> None:
        self.name, self.num_classes, self.image_size = images.name, images.num_classes, images.image_size
        self.per_epoch = _steps(images, batch)
        self._images, self._batch, self._augment, self._seed = images, batch, augment, seed
        self._next = -1
        self._batches: Iterator[tuple[Tensor, Tensor]] = iter(())

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Normalised images `(batch, 3, size, size) float32` and labels `(batch,) int64` of a step."""
        epoch, number = divmod(step, self.per_epoch)
        block, place = divmod(number, BLOCK)
        if step != self._next or place == 0:
            self._batches = self._block(epoch, block)
            for _ in range(place):
                next(self._batches)
        self._next = step + 1
        return next(self._batches)

    def _block(self, epoch: int, block: int) -> Iterator[tuple[Tensor, Tensor]]:
        images, size = self._images, BLOCK * self._batch
        rows = _order(len(images), self._seed, epoch)[block * size : (block + 1) * size]
        part = replace(images, paths=[images.paths[row] for row in rows.tolist()], labels=images.labels[rows])
        digest = hashlib.sha256(f"{self._seed} {epoch} {block}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        return part.batches(self._batch, shuffle=True, augment=self._augment, drop_last=True, generator=generator)


def image_stream(
    name: str, batch: int, *, root: Path | None = None, augment: bool = True, seed: int = 0, device: torch.device
) -> ImageStream | FolderStream:
    """The stream of the training images of a set that `deepnets.images` knows."""
    images = open_images(name, "train", root=root, device=device)
    if isinstance(images, ImageSet):
        return ImageStream(images, batch, augment=augment, seed=seed)
    if isinstance(images, ImageFolders):
        return FolderStream(images, batch, augment=augment, seed=seed)
    raise ConfigError(f"images: {name} cannot be trained on")


def _order(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    words = np.random.Philox(key=seed, counter=[0, 0, epoch, 2])
    return np.random.Generator(words).permutation(n)


def _steps(images: ImageSet | ImageFolders, batch: int) -> int:
    if len(images) < batch:
        raise ConfigError(f"batch: {images.name} has only {len(images)} images for training, fewer than {batch}")
    return len(images) // batch
