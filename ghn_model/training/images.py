"""Batches of training images by step.

Every pass goes through all images once, in a new order.  The batch of a step is a function of the seed, the number of
the step and, for augmentation of images in memory, PyTorch's random numbers; so a training can resume at any step.  The
networks of a step, in all processes, share its images, or divide them among themselves (`Recipe.share_images`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from deepnets.data import ImageFolders, ImageSet, open_images, open_source, run_statistics
from deepnets.support import ConfigError, EndWithParent
from ghn_model.training.loading import supervised

__all__ = ["FolderStream", "ImageStream", "Images", "image_stream", "order_of_epoch", "random_numbers"]


class Images(Protocol):
    """Batches of training images by step; must return the same images in every process.

    Attributes
    ----------
    name : str
        Name of the image set, stored with the hypernetwork.
    num_classes, image_size : int
        Number of classes; height and width in pixels.
    per_epoch : int
        Steps in one pass through the images.

    Examples
    --------
    >>> class Noise:
    ...     name, num_classes, image_size, per_epoch = "noise", 10, 32, 100
    ...
    ...     def at(self, step):
    ...         return torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    >>> images: Images = Noise()
    """

    name: str
    num_classes: int
    image_size: int
    per_epoch: int

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a step: `(B, 3, image_size, image_size) float32` and `(B,) int64`, on the device."""


class ImageStream:
    """Batches of an image set in memory, made on its device without synchronizing with it.

    Parameters
    ----------
    images : ImageSet
        The images, on the device of the training.
    batch_size : int
        Images per step.  The last images of a pass are left out if they do not fill a batch.
    augment : bool, default True
        Whether to augment the images with random numbers of PyTorch's global generator for the device.
    seed : int, default 0
        Seed of the order.

    Attributes
    ----------
    name, num_classes, image_size, per_epoch
        As for `Images`.
    fingerprint : str or None
        Digest of the files, by which a run that is resumed notices other files; None for sets that do not change.

    Raises
    ------
    ConfigError
        If there are fewer images than `batch_size`.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> stream = ImageStream(load_images("digits", "train"), batch_size=16)
    >>> images, labels = stream.at(0)
    >>> images.shape, labels.shape
    (torch.Size([16, 3, 32, 32]), torch.Size([16]))
    """

    fingerprint: str | None = None

    def __init__(self, images: ImageSet, batch_size: int, *, augment: bool = True, seed: int = 0) -> None:
        self.name, self.num_classes, self.image_size = images.name, images.num_classes, images.image_size
        self.per_epoch = _steps_per_epoch(images, batch_size)
        self._images, self._batch_size, self._augment, self._seed = images, batch_size, augment, seed
        without_noise = replace(images, noise=0.0)
        black, white = without_noise.normalized(
            torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
        )
        self._slope, self._start = (part.to(images.images.device) for part in ((white - black) / 255, black))
        self._epoch = -1
        self._order = torch.empty(0)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return normalized images `(batch_size, 3, size, size) float32` and labels `(batch_size,) int64`."""
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            order = torch.from_numpy(order_of_epoch(len(self._images), self._seed, epoch))
            self._epoch, self._order = epoch, order.to(self._images.images.device)
        rows = self._order[number * self._batch_size : (number + 1) * self._batch_size]
        images = self._images.pixels(rows, self._augment)
        if self._images.noise:
            return self._images.normalized(images), self._images.labels[rows]
        return images * self._slope + self._start, self._images.labels[rows]


class FolderStream:
    """Batches of images that worker processes decode from files a few steps ahead.

    One data loader serves the whole training.  Its workers are started with the method "forkserver", since a process
    that uses CUDA cannot be forked.  Every training process decodes the images that it uses itself.  If networks share
    images, these are all images of a step, so several processes on a host need correspondingly more cores.

    Parameters
    ----------
    images : ImageFolders
        The images, with the device that batches go to and the number of worker processes.
    batch_size, augment, seed
        As for `ImageStream`, but the augmentation depends on the seed and the step only.

    Attributes
    ----------
    name, num_classes, image_size, per_epoch, fingerprint
        As for `ImageStream`.
    batch_size : int
        Images per step.

    Raises
    ------
    ConfigError
        If there are fewer images than `batch_size`.
    FormatError
        From `at`, if a file cannot be read as an image.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from deepnets.data import ImageFolders
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = str(Path(folder) / "grey.png")
    ...     Image.new("L", (8, 8), 128).save(path)
    ...     folders = ImageFolders("mine", "train", [path] * 4, np.arange(4), num_classes=4, image_size=8)
    ...     FolderStream(folders, batch_size=2).per_epoch
    2
    """

    fingerprint: str | None = None

    def __init__(self, images: ImageFolders, batch_size: int, *, augment: bool = True, seed: int = 0) -> None:
        self.name, self.num_classes, self.image_size = images.name, images.num_classes, images.image_size
        self.per_epoch = _steps_per_epoch(images, batch_size)
        self._images, self.batch_size, self._augment, self._seed = images, batch_size, augment, seed
        self._next: tuple[int, slice] | None = None
        self._batches: Iterator[Any] = iter(())

    def at(self, step: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return normalized images `(batch_size, 3, size, size) float32` and labels `(batch_size,) int64`.

        With `rows`, only these images of the step are decoded and returned.
        """
        if self._next != (step, rows):
            self._batches = self._load_from(step, rows)
        batch = next(self._batches)
        self._next = step + 1, rows
        if isinstance(batch, Exception):
            raise batch
        images, labels = (part.to(self._images.device, non_blocking=True) for part in batch)
        return images, labels

    def _load_from(self, step: int, rows: slice) -> Iterator[Any]:
        workers = self._images.workers
        loader: DataLoader[Any] = DataLoader(
            _Decoded(self._images, self._augment),
            batch_sampler=_Rows(len(self._images), self.batch_size, self._seed, step, rows),
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=self._images.device.type == "cuda",
            multiprocessing_context="forkserver" if workers else None,
            worker_init_fn=EndWithParent(),
            generator=torch.Generator(),  # leaves PyTorch's global generator alone
        )
        return supervised(loader)


class _Rows(Sampler[list[tuple[int, int]]]):
    """Some of the images of each step from some step on, without end, each with a seed for its augmentation."""

    def __init__(self, count: int, batch_size: int, seed: int, first: int, rows: slice) -> None:
        self.count, self.batch_size, self.seed, self.first, self.rows = count, batch_size, seed, first, rows

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.count // self.batch_size
        order, order_epoch = None, -1
        for step in itertools.count(self.first):
            epoch, number = divmod(step, per_epoch)
            if order is None or epoch != order_epoch:
                order, order_epoch = order_of_epoch(self.count, self.seed, epoch), epoch
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            seeds = random_numbers(self.seed, step, stream=3).integers(2**62, size=self.batch_size)
            yield list(zip(rows.tolist(), seeds.tolist()))[self.rows]


class _Decoded(Dataset[Any]):
    """Decodes images.  Errors are returned, so that the main process raises them without a traceback of the worker."""

    def __init__(self, images: ImageFolders, augment: bool) -> None:
        self.images, self.augment = images, augment

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int] | Exception:
        row, seed = place
        try:
            return self.images.decode(row, seed, augment=self.augment), int(self.images.labels[row])
        except Exception as error:
            return error


def _collate(items: list[tuple[Tensor, int] | Exception]) -> tuple[Tensor, Tensor] | Exception:
    for item in items:
        if isinstance(item, Exception):
            return item
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels)


def image_stream(
    name: str,
    batch_size: int,
    *,
    root: Path | None = None,
    download: bool = False,
    augment: bool = True,
    seed: int = 0,
    device: torch.device,
    run: Path | str | None = None,
) -> ImageStream | FolderStream:
    """Open the training images of an image set as batches by step.

    Parameters
    ----------
    name : str
        Image set that `deepnets.data.open_images` knows: "digits", "cifar10", "imagenet", "folder:PATH",
        "torchvision:NAME" or "module:attribute".
    batch_size, augment, seed
        As for `ImageStream`.
    root : Path, optional
        Folder of the files of the image set.
    download : bool, default False
        Whether to download missing files.
    device : torch.device
        Device of the batches.
    run : Path or str, optional
        Folder of the run, beside which the statistics of the images are stored, if they have to be computed.

    Raises
    ------
    ConfigError
        If the image set is unknown, its files are missing, or it has fewer images than `batch_size`.

    Examples
    --------
    >>> image_stream("digits", 16, device=torch.device("cpu")).per_epoch
    74
    """
    is_main = os.environ.get("RANK", "0") == "0"
    if run is not None:
        statistics = run_statistics(run, name, root=root, download=download, store=is_main)
    else:
        source = open_source(name, root=root, download=download)
        statistics = None if source is None else source.statistics()
    images = open_images(name, "train", root=root, download=download, device=device, statistics=statistics)
    stream: ImageStream | FolderStream
    if isinstance(images, ImageSet):
        stream = ImageStream(images, batch_size, augment=augment, seed=seed)
    elif isinstance(images, ImageFolders):
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        images = replace(images, workers=max(min(images.workers, 1), images.workers // processes))
        stream = FolderStream(images, batch_size, augment=augment, seed=seed)
    else:
        raise ConfigError(f"images: {name} has no training images that can be read by step")
    stream.fingerprint = None if statistics is None else statistics.fingerprint
    return stream


def order_of_epoch(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of the training examples in a pass through them."""
    return random_numbers(seed, epoch, stream=2).permutation(count)


def random_numbers(seed: int, number: int, stream: int) -> np.random.Generator:
    """Return the generator of a pass or a step; streams are independent of each other."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, number, stream]))


def _steps_per_epoch(images: ImageSet | ImageFolders, batch_size: int) -> int:
    if len(images) < batch_size:
        raise ConfigError(
            f"batch_size: {images.name} has only {len(images)} training images, fewer than {batch_size} per step; "
            "decrease batch_size, or let networks share images"
        )
    return len(images) // batch_size
