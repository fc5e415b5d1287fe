"""The image set `digits`: scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set.

1,797 images of 8 x 8 pixels in 17 shades, by 13 writers (Alpaydin and Kaynak, 1998).  They are enlarged four times by
bilinear interpolation and repeated in three channels, so that networks for CIFAR-10 take them as they are.

One sixth of every class is for validation and one sixth for testing.  Which, is decided by raw words of a Philox
stream, which no library will ever change.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from deepnets.data.image_set import ImageSet

__all__ = ["load_digits"]

_KEY = 1998
_SIDE = 32
_NUM_CLASSES = 10
_MEAN, _STD = 0.3053, 0.3232  # of the training images as they are here


def load_digits(split: str) -> ImageSet:
    """Part of the digits: `train` (1,199 images), `val` (299), `test` (299) or `trainval` (1,498).

    Parameters
    ----------
    split
        Which.  Images keep the order of the original, in which classes are mixed.
    """
    from sklearn.datasets import load_digits as load

    bunch = load()
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    small = torch.from_numpy(bunch.images.astype(np.float32))[:, None] / 16  # (n, 1, 8, 8), 0 to 1
    # Every value is a multiple of 1/1024: exact, whatever the order of additions, and so the same on every machine.
    large = F.interpolate(small, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
    images = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
    rows = torch.from_numpy(_rows(bunch.target, split))
    return ImageSet(
        name="digits",
        split=split,
        images=images[rows].contiguous(),
        labels=labels[rows],
        num_classes=_NUM_CLASSES,
        mean=(_MEAN,) * 3,
        std=(_STD,) * 3,
        shift=2,
        flip=False,  # a mirrored digit is another one, or none
    )


def _rows(labels: npt.NDArray[np.int64], split: str) -> npt.NDArray[np.int64]:
    """The images of a split, in the order of the original."""
    words = np.random.Philox(key=_KEY).random_raw(len(labels))
    part = np.empty(len(labels), "<U5")
    for label in range(_NUM_CLASSES):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(words[members], kind="stable")]
        held_out = round(len(members) / 6)
        part[members] = "train"
        part[members[:held_out]] = "test"
        part[members[held_out : 2 * held_out]] = "val"
    return np.flatnonzero(part != "test" if split == "trainval" else part == split)
