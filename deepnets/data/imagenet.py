"""The image set `imagenet` (ILSVRC 2012): JPEG files in one folder per class.

    ROOT/train/n01440764/*.JPEG, ...    ROOT/val/n01440764/*.JPEG, ...

The splits are those of Knyazev et al. (NeurIPS 2021): the last 50 training images of every class, sorted by name, are
the validation split.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from deepnets.data.image_files import ImageFolders, torchvision_transforms
from deepnets.support import ConfigError, FormatError, MissingDataError, at_least, checked_integer

__all__ = ["load_imagenet"]

HELD_OUT = 50
NUM_CLASSES = 1000

_SUFFIXES = {".jpeg", ".jpg", ".png"}
_MAX_WORKERS = 8


def load_imagenet(
    split: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
    noise: float = 0.0,
    workers: int | None = None,
    num_classes: int = NUM_CLASSES,
) -> ImageFolders:
    """Open one part of ImageNet, or of images of your own in folders of the same layout.

    Parameters
    ----------
    split : {"train", "val", "test", "trainval"}
        The part: 1,231,167, 50,000, 50,000 or 1,281,167 images.  `test` are the images of ILSVRC's folder `val`, whose
        labels are public.
    root : Path or str
        Folder with the folders `train` and `val`, each with one folder per class.
    download
        Not used: ImageNet has to be requested from its authors.
    device, noise
        As for `deepnets.data.open_images`.
    image_size : int, default 224
        Height and width of the images in batches, in pixels.
    workers : int, optional
        Processes that read images; by default one per core, at most 8.
    num_classes : int, default 1000
        Expected number of class folders; another number for a subset of ImageNet, or for images of your own.

    Returns
    -------
    ImageFolders
        The files and their labels.

    Raises
    ------
    ConfigError
        If an argument is not valid.
    MissingDataError
        If a folder is missing.
    MissingDependencyError
        If torchvision is not installed.
    FormatError
        If the number of classes differs, or a class has no images, or too few to hold out 50.

    Examples
    --------
    >>> load_imagenet("test", root="no folder")
    Traceback (most recent call last):
    deepnets.support.errors.MissingDataError: root: no folder/train: no such folder; unpack the training ...
    """
    image_size = checked_integer("image_size", 224 if image_size is None else image_size, at_least(1))
    if workers is None:
        workers = min(os.cpu_count() or 1, _MAX_WORKERS)
    workers = checked_integer("workers", workers, at_least(0))
    if root is None:
        raise ConfigError("root: imagenet needs the folder that holds the folders train and val")
    classes = _classes(Path(root), num_classes)
    folder = Path(root) / ("val" if split == "test" else "train")
    paths: list[str] = []
    counts = []
    for name in classes:
        files = sorted(entry.path for entry in os.scandir(folder / name) if _is_image(entry))
        if split in ("train", "val"):
            if len(files) <= HELD_OUT:
                raise FormatError(
                    f"{folder / name}: holds {len(files)} images; {HELD_OUT} of every class are held out for "
                    "validation, so there must be more"
                )
            files = files[:-HELD_OUT] if split == "train" else files[-HELD_OUT:]
        elif not files:
            raise FormatError(f"{folder / name}: holds no images ({', '.join(sorted(_SUFFIXES))})")
        paths += files
        counts.append(len(files))
    torchvision_transforms()
    return ImageFolders(
        name="imagenet",
        split=split,
        paths=paths,
        labels=np.repeat(np.arange(len(classes)), counts),
        num_classes=len(classes),
        image_size=image_size,
        device=torch.device(device),
        noise=float(noise),
        workers=workers,
    )


def _classes(root: Path, expected: int) -> list[str]:
    """Return the names of the classes, which are the folders in `train` and in `val`."""
    found = {}
    for part in ("train", "val"):
        folder = root / part
        if not folder.is_dir():
            raise MissingDataError(
                f"root: {folder}: no such folder; unpack the training and validation images of ILSVRC 2012 "
                f"(https://image-net.org/download) into {root}/train and {root}/val, one folder per class in each"
            )
        found[part] = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        if len(found[part]) != expected:
            flat = part == "val" and not found[part]
            raise FormatError(
                f"{folder}: expected {expected:,} folders, one per class, found {len(found[part]):,}"
                + ("; move its images into folders named like those of train" if flat else "")
            )
    if different := sorted(set(found["train"]) ^ set(found["val"])):
        raise FormatError(f"{root}: train and val hold folders of different names, such as {different[0]}")
    return found["train"]


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in _SUFFIXES and entry.is_file()  # noqa: PTH122
