"""Training images by the number of a step: every pass goes through all of them once, in an order of its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deepnets.errors import ConfigError

__all__ = ["ImageStream"]


class ImageStream:
    """Images in memory, on the device, in batches.

    Parameters
    ----------
    name
        Of the set.
    images, labels
        `(n, 3, size, size)` and `(n,) int64`.
    num_classes
        How many labels there are.
    batch
        Images in a step.  The last images of a pass, if they are fewer, are left out.
    seed
        Of the orders.
    device
        Where they are to be.
    """

    def __init__(
        self,
        name: str,
        images: Tensor,
        labels: Tensor,
        num_classes: int,
        batch: int,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(images) < batch:
            raise ConfigError(f"batch: the images {name} are only {len(images)}, fewer than {batch}")
        self.name, self.num_classes, self.image_size = name, num_classes, images.shape[-1]
        self.images, self.labels = images.to(device), labels.to(device)
        self.batch, self.seed = batch, seed
        self.per_epoch = len(images) // batch
        self._order = torch.empty(0)
        self._epoch = -1

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """`(batch, 3, size, size)` and `(batch,)`."""
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            words = np.random.Philox(key=self.seed, counter=[0, 0, epoch, 2])
            order = np.random.Generator(words).permutation(len(self.images))
            self._order = torch.from_numpy(order).to(self.images.device)
            self._epoch = epoch
        rows = self._order[number * self.batch : (number + 1) * self.batch]
        return self.images[rows], self.labels[rows]
