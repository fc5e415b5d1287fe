"""The image set `imagenet` (ILSVRC 2012): JPEG files in a folder per class, read and varied by worker processes.

    ROOT/train/n01440764/*.JPEG, ...    ROOT/val/n01440764/*.JPEG, ...

Splits, transforms and orders are those of Knyazev et al. (NeurIPS 2021): the last 50 training images of every class, in
the order of their names, are for validation, and images for evaluation come in a fixed random order, so that batch
norms which normalise by the batch see mixed classes.  The transforms are torchvision's.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepnets.data.image_set import IMAGENET_MEAN, IMAGENET_STD
from deepnets.support import ConfigError, FormatError, at_least, checked_integer, import_torchvision

__all__ = ["ImageFolders", "evaluation_order", "load_imagenet"]

EVALUATION_SEED = 1111
HELD_OUT = 50
NUM_CLASSES = 1000

_SUFFIXES = {".jpeg", ".jpg", ".png"}
_MOST_WORKERS = 8
_COLOR_JITTER = (0.4, 0.4, 0.4, 0.2)  # brightness, contrast, saturation, hue


class _Job(NamedTuple):
    """What a worker makes an image for a batch from."""

    path: str
    label: int
    seed: int


@dataclass(frozen=True, eq=False)
class ImageFolders:
    """Images in folders, of which a pass reads one batch after the other.

    Attributes
    ----------
    name, split
        Which set, and which part of it.
    paths
        The files, class by class.
    labels
        `(n,) int64`, the number of each one's class, in the order of the classes' names.
    num_classes
        Number of different labels.
    image_size
        Height and width of the images in batches.
    device
        Where batches end up.
    noise
        Standard deviation of the noise that is added on a scale from 0 to 1 (0.18 in the published test of robustness).
    workers
        Processes that read images; 0 for none.
    mean, std
        Of the channels, on a scale from 0 to 1.
    """

    name: str
    split: str
    paths: list[str]
    labels: npt.NDArray[np.int64]
    num_classes: int
    image_size: int = 224
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    noise: float = 0.0
    workers: int = 0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __len__(self) -> int:
        return len(self.paths)

    def to(self, device: torch.device | str) -> ImageFolders:
        """The same with batches on a device."""
        return replace(self, device=torch.device(device))

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: bool = False,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the images once, in the order of the published evaluation (`evaluation_order`) by default.

        Parameters
        ----------
        batch_size
            Images in a batch; the last one may have fewer, unless `drop_last`.
        shuffle
            Random order.
        augment
            Random crop, mirror image and colours, instead of the central crop.
        generator
            Of the random numbers, on the CPU; PyTorch's own by default.  The number of workers makes no difference.

        Yields
        ------
        Normalised images `(batch_size, 3, image_size, image_size) float32` and labels `(batch_size,) int64`.

        Raises
        ------
        FormatError
            If a file cannot be read as an image.
        """
        batch_size = checked_integer("batch_size", batch_size, at_least(1))
        return self._batches(batch_size, shuffle, augment, drop_last, generator)

    def decode(self, row: int, seed: int = 0, *, augment: bool = False) -> Tensor:
        """Read one image from its file.

        Parameters
        ----------
        row : int
            Number of the image, from 0.
        seed : int, default 0
            Seed of the augmentation and the noise.
        augment : bool, default False
            Whether to augment the image.

        Returns
        -------
        Tensor
            `(3, image_size, image_size) float32`, normalized, on the CPU.

        Raises
        ------
        FormatError
            If the file cannot be read as an image.
        """
        return _decode(self.paths[row], seed, _transform(self.image_size, augment, self.noise, self.mean, self.std))

    def _batches(
        self, batch_size: int, shuffle: bool, augment: bool, drop_last: bool, generator: torch.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        from torch.utils.data import DataLoader

        n = len(self)
        order = torch.randperm(n, generator=generator) if shuffle else evaluation_order(n)
        seeds = torch.randint(2**62, (n,), generator=generator) if augment or self.noise else torch.zeros_like(order)
        jobs = [
            _Job(self.paths[i], int(self.labels[i]), seed)
            for i, seed in zip(order.tolist(), seeds.tolist(), strict=True)
        ]
        loader: DataLoader[Any] = DataLoader(
            _Decoded(jobs, _transform(self.image_size, augment, self.noise, self.mean, self.std)),
            batch_size=batch_size,
            drop_last=drop_last,
            num_workers=self.workers,
            collate_fn=_collated,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # of seeds of workers, which nothing depends on
        )
        for batch in loader:
            if isinstance(batch, FormatError):
                raise batch
            images, labels = batch
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def load_imagenet(
    split: str,
    root: Path | str | None,
    *,
    device: torch.device | str = "cpu",
    noise: float = 0.0,
    image_size: int = 224,
    workers: int | None = None,
    num_classes: int = NUM_CLASSES,
) -> ImageFolders:
    """Part of ImageNet: `train` (1,231,167 images), `val` (50,000), `trainval` (1,281,167) or `test` (50,000).

    Parameters
    ----------
    split
        Which.  `test` are the images of ILSVRC's folder `val`, whose labels are public.
    root
        Folder with the folders `train` and `val`, each with one folder per class.
    device, noise, image_size
        As in `ImageFolders`.
    workers
        Processes that read images; by default one per core, 8 at most.
    num_classes
        How many folders there must be: another number for a part of ImageNet, or for images of your own.

    Raises
    ------
    ConfigError
        If a folder is missing or holds no images, or torchvision is missing.
    FormatError
        If there are more or fewer classes, or too few images to hold some out.
    """
    image_size = checked_integer("image_size", image_size, at_least(1))
    if workers is None:
        workers = min(os.cpu_count() or 1, _MOST_WORKERS)
    workers = checked_integer("workers", workers, at_least(0))
    if root is None:
        raise ConfigError("root: imagenet needs the folder that holds its folders train and val; name it")
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
    _torchvision()
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


def evaluation_order(n: int, seed: int = EVALUATION_SEED) -> Tensor:
    """`(n,) int64`, the order in which the published evaluations see images.

    It is what a `DataLoader` makes of a generator with this seed: one number for its workers, then a permutation.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.empty((), dtype=torch.int64).random_(generator=generator)
    return torch.randperm(n, generator=generator)


# --- folders ---


def _classes(root: Path, expected: int) -> list[str]:
    """Names of the classes, those of the folders in `train` and `val`."""
    found = {}
    for part in ("train", "val"):
        folder = root / part
        if not folder.is_dir():
            raise ConfigError(
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


# --- images ---


def _torchvision() -> Any:
    try:
        torchvision: Any = import_torchvision()
    except ImportError as error:
        raise ConfigError(f"the transforms of imagenet are torchvision's: {error}") from error
    return torchvision.transforms


@functools.cache
def _transform(
    size: int, augment: bool, noise: float, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Any], Tensor]:
    """From an image of Pillow to a normalised tensor."""
    transforms = _torchvision()
    if augment:
        view = [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(*_COLOR_JITTER),
        ]
    else:  # 256 for 224 pixels, as published, which has no smaller images
        view = [transforms.Resize(max(size, 256) if size >= 224 else size), transforms.CenterCrop(size)]
    noisy = [_Noise(noise)] if noise else []
    whole: Callable[[Any], Tensor] = transforms.Compose(
        [*view, transforms.ToTensor(), *noisy, transforms.Normalize(mean, std)]
    )
    return whole


class _Noise:
    def __init__(self, std: float) -> None:
        self.std = std

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels + self.std * torch.randn_like(pixels)).clamp(0, 1)


class _Decoded(torch.utils.data.Dataset[Any]):
    """Images by their place in the pass; what is wrong with one is returned, to be raised where it is understood."""

    def __init__(self, jobs: list[_Job], transform: Callable[[Any], Tensor]) -> None:
        self.jobs, self.transform = jobs, transform

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | FormatError:
        job = self.jobs[index]
        try:
            return _decode(job.path, job.seed, self.transform), job.label
        except FormatError as error:
            return error


def _decode(path: str, seed: int, transform: Callable[[Any], Tensor]) -> Tensor:
    """Decode and transform an image, with random numbers of its own."""
    from PIL import Image

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            with Image.open(path) as image:
                return transform(image.convert("RGB"))
        except Exception as error:  # Pillow raises any exception
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise FormatError(f"{path}: cannot be read as an image: {text}") from error


def _collated(items: list[tuple[Tensor, int] | FormatError]) -> tuple[Tensor, Tensor] | FormatError:
    for item in items:
        if isinstance(item, FormatError):
            return item
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels)
