"""The image set `digits`: scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set.

The set has 1,797 images of 8 x 8 pixels with 17 grey levels, by 13 writers (Alpaydin and Kaynak, 1998).  Images are
enlarged to 32 x 32 pixels by bilinear interpolation and repeated in three channels, the input format of networks for
CIFAR-10.

One sixth of every class is held out for validation and one sixth for testing.  The split is derived from the raw output
of a Philox generator, which does not change between versions of NumPy.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from deepnets.data.image_set import ImageSet

__all__ = ["load_digits"]

_KEY = 1998
_SIDE = 32
_NUM_CLASSES = 10
_MEAN, _STD = 0.3053, 0.3232  # of the enlarged training images


def load_digits(
    split: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
    noise: float = 0.0,
) -> ImageSet:
    """Load one part of the digits.

    Parameters
    ----------
    split : {"train", "val", "test", "trainval"}
        The part: 1,199, 299, 299 or 1,498 images.  They keep the order of the original, in which classes are mixed.
    root, download
        Not used: the images are part of scikit-learn.
    device, image_size, noise
        As for `deepnets.data.open_images`.

    Returns
    -------
    ImageSet
        Images `(n, 3, 32, 32) uint8` and labels.

    Examples
    --------
    >>> load_digits("val").images.shape
    torch.Size([299, 3, 32, 32])
    """
    originals, targets = _read_originals()
    labels = torch.from_numpy(targets)
    small = torch.from_numpy(originals.astype(np.float32))[:, None] / 16  # (n, 1, 8, 8), 0 to 1
    # Every value is a multiple of 1/1024, so floating-point sums are exact and equal on every machine.
    large = F.interpolate(small, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
    images = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
    rows = torch.from_numpy(_rows(targets, split))
    digits = ImageSet(
        name="digits",
        split=split,
        images=images[rows].contiguous(),
        labels=labels[rows],
        num_classes=_NUM_CLASSES,
        mean=(_MEAN,) * 3,
        std=(_STD,) * 3,
        shift=2,
        flip=False,  # a mirrored digit is not the same digit
    )
    return digits.with_options(device=device, image_size=image_size, noise=noise)


def _read_originals() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the images `(n, 8, 8)` with values 0 to 16, and their labels.

    The file of scikit-learn is read without importing scikit-learn, which would take much longer than all the rest, and
    which every process that evaluates networks would have to do.
    """
    package = importlib.util.find_spec("sklearn")
    folder = Path(package.origin).parent if package and package.origin else Path()
    path = folder / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        table = np.loadtxt(path, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits as load  # a version that stores the file elsewhere

    bunch = load()
    return bunch.images, bunch.target.astype(np.int64)


def _rows(labels: npt.NDArray[np.int64], split: str) -> npt.NDArray[np.int64]:
    """Return the positions of the images of a split, in the order of the original."""
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
