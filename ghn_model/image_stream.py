"""Training images by the number of a step: every pass goes through all of them once, in an order of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepnets.errors import ConfigError
from deepnets.images import ImageSet, load_images

__all__ = ["ImageStream", "image_stream"]


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
        self.per_epoch = len(images) // batch
        if not self.per_epoch:
            raise ConfigError(f"batch: {images.name} has only {len(images)} images for training, fewer than {batch}")
        self._images, self._batch, self._augment, self._seed = images, batch, augment, seed
        black, white = images.normalized(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1))
        self._slope, self._start = (part.to(images.images.device) for part in ((white - black) / 255, black))
        self._epoch = -1
        self._order = torch.empty(0)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Normalised images `(batch, 3, size, size) float32` and labels `(batch,) int64` of a step."""
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            words = np.random.Philox(key=self._seed, counter=[0, 0, epoch, 2])
            order = np.random.Generator(words).permutation(len(self._images))
            self._order = torch.from_numpy(order).to(self._images.images.device)
            self._epoch = epoch
        rows = self._order[number * self._batch : (number + 1) * self._batch]
        images = self._images.images[rows] * self._slope + self._start
        return self._images.augmented(images) if self._augment else images, self._images.labels[rows]


def image_stream(
    name: str, batch: int, *, root: Path | None = None, augment: bool = True, seed: int = 0, device: torch.device
) -> ImageStream:
    """The stream of the training images of a set that `deepnets.images` knows."""
    return ImageStream(load_images(name, "train", root=root, device=device), batch, augment=augment, seed=seed)
