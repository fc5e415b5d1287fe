"""`load_images`, `open_images`: image sets by name, for training and evaluation.

`digits` (part of scikit-learn) and `cifar10` are loaded into memory as an `ImageSet`.  `imagenet` is read from its
folders on demand (`deepnets.data.imagenet`).  Files are downloaded only with `download=True`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from deepnets.data.image_set import IMAGENET_MEAN, IMAGENET_STD, SPLITS, Images, ImageSet
from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["IMAGE_SETS", "load_images", "open_images"]

IMAGE_SETS = ("digits", "cifar10", "imagenet")


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
        from deepnets.data.digits import load_digits

        loaded = load_digits(split)
    else:
        from deepnets.data.cifar import load_cifar10

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
        As `load_images`, and `deepnets.data.imagenet.load_imagenet`.
    """
    _check(name, split, noise)
    if name != "imagenet":
        return load_images(name, split, root=root, download=download, device=device, noise=noise, image_size=image_size)
    from deepnets.data.imagenet import load_imagenet

    return load_imagenet(split, root, device=device, noise=noise, image_size=image_size or 224, workers=workers)


def _check(name: str, split: str, noise: float) -> None:
    if name not in IMAGE_SETS:
        raise ConfigError(f"images: unknown {name!r}; use one of {', '.join(IMAGE_SETS)}")
    if split not in SPLITS:
        raise ConfigError(f"split of the images: unknown {split!r}; use one of {', '.join(SPLITS)}")
    if not 0 <= noise < float("inf"):
        raise ConfigError(f"noise: expected a standard deviation, 0 or more; got {noise!r}")
