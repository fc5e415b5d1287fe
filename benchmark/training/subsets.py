"""Small training sets: the first images of every class (Knyazev et al., NeurIPS 2021, section 5.4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from deepnets.data import ImageFolders, Images, ImageSet
from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["n_shot"]


def n_shot(images: Images, n: int) -> Images:
    """Return the first n images of every class, in their order in the set.

    Parameters
    ----------
    images
        An image set in memory or in folders.
    n
        Number of images per class, 1 or more; 100 in the paper.

    Returns
    -------
    A set of the same kind, on the same device, with ``n * num_classes`` images.

    Raises
    ------
    ConfigError
        If a class has fewer images, or the set is of another kind.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> len(n_shot(load_images("digits", "train"), 20))
    200
    """
    n = checked_integer("n", n, at_least(1))
    if isinstance(images, ImageSet):
        rows = torch.from_numpy(_first(images, images.labels.cpu().numpy(), n)).to(images.device)
        return replace(images, images=images.images[rows], labels=images.labels[rows])
    if isinstance(images, ImageFolders):
        kept = _first(images, images.labels, n)
        return replace(images, paths=[images.paths[row] for row in kept.tolist()], labels=images.labels[kept])
    raise ConfigError(f"images: expected an ImageSet or ImageFolders, got {type(images).__name__}")


def _first(images: Images, labels: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Return the positions of the first n images of every class, in increasing order."""
    counts = np.bincount(labels, minlength=images.num_classes)
    if counts.min() < n:
        raise ConfigError(
            f"n: class {int(counts.argmin())} of {images.name} ({images.split}) has only {int(counts.min())} images, "
            f"expected {n} or more (--shots; 0 for all images)"
        )
    order = np.argsort(labels, kind="stable")  # class by class
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - starts[labels[order]]  # position of each image within its class
    return np.sort(order[rank < n])
