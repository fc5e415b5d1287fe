"""Corrupted images of an image set: computed, or read from a folder such as CIFAR-10-C."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepnets.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from deepnets.data.image_files import ImageFolders
from deepnets.data.image_set import Images, ImageSet
from deepnets.support import ConfigError, FormatError, MissingDataError, error_reason

__all__ = ["CorruptedImages", "Corruption", "corrupted_images"]

_LABELS = "labels.npy"


class Corruption(NamedTuple):
    """A corruption and its severities.

    Attributes
    ----------
    name : str
        One of `deepnets.data.CORRUPTIONS`.
    severities : tuple of int
        Severities, from 1 to 5.

    Examples
    --------
    >>> Corruption.parse("fog").severities, Corruption.parse("fog:3").severities
    ((1, 2, 3, 4, 5), (3,))
    """

    name: str
    severities: tuple[int, ...] = SEVERITIES

    @classmethod
    def parse(cls, text: str) -> Corruption:
        """Parse a name, which stands for all severities, or `"name:severity"`.

        Raises
        ------
        ConfigError
            If there is no such corruption or severity.
        """
        name, colon, severity = text.partition(":")
        if name not in CORRUPTIONS:
            raise ConfigError(f"corruption: unknown {name!r}; use one of {', '.join(CORRUPTIONS)}")
        if colon and severity not in map(str, SEVERITIES):
            raise ConfigError(f"corruption: {text}: expected a severity from 1 to 5, got {severity!r}")
        return cls(name, (int(severity),) if colon else SEVERITIES)


@dataclass(frozen=True, eq=False)
class CorruptedImages:
    """Images with a corruption, one severity after the other; batches do not mix severities.

    Every severity has the same images, so a mean over all images is the mean of the severities.

    Attributes
    ----------
    parts : tuple of Images
        The images with each severity.

    Examples
    --------
    >>> from deepnets.data import open_images
    >>> len(open_images("digits", "test", corruption="contrast"))  # 299 images, 5 severities
    1495
    """

    parts: tuple[ImageSet | ImageFolders, ...]

    @property
    def name(self) -> str:
        """Name of the image set."""
        return self.parts[0].name

    @property
    def split(self) -> str:
        """Part of the image set."""
        return self.parts[0].split

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.parts[0].num_classes

    @property
    def image_size(self) -> int:
        """Height and width of the images in batches, in pixels."""
        return self.parts[0].image_size

    @property
    def device(self) -> torch.device:
        """Device of the batches."""
        return self.parts[0].device

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: bool = False,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the images once, with the parameters and results of `ImageSet.batches`."""
        for part in self.parts:
            yield from part.batches(
                batch_size, shuffle=shuffle, augment=augment, drop_last=drop_last, generator=generator
            )


def corrupted_images(images: Images, corruption: str, root: Path | str | None = None) -> CorruptedImages:
    """Corrupt the images of a set.

    Parameters
    ----------
    images : ImageSet or ImageFolders
        The original images.  Those of an `ImageSet` are corrupted here, those of `ImageFolders` after they were
        decoded, resized and cropped.
    corruption : str
        As for `Corruption.parse`.
    root : Path or str, optional
        Folder of corrupted images as those of CIFAR-10-C, which are read instead: `NAME.npy` for each corruption,
        `(5 n, side, side, 3) uint8`, the n images with severity 1, then 2, and so on; and `labels.npy`, `(5 n,)`.

    Returns
    -------
    CorruptedImages
        The same images for every call: random numbers depend on the corruption, its severity and the position of an
        image.

    Raises
    ------
    ConfigError
        If there is no such corruption, or the images cannot be corrupted.
    MissingDataError, FormatError
        If a file is missing, or is not one of corrupted versions of these images.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> digits = load_images("digits", "test")
    >>> corrupted_images(digits, "fog:3").parts[0].images.shape
    torch.Size([299, 3, 32, 32])
    """
    name, severities = Corruption.parse(corruption)
    if root is not None:
        if not isinstance(images, ImageSet):
            raise ConfigError(
                f"corruption: {images.name} is read from files; a folder of arrays such as CIFAR-10-C is for image "
                "sets that are held in memory"
            )
        parts: tuple[ImageSet | ImageFolders, ...] = tuple(_read(images, name, severities, Path(root)))
    elif isinstance(images, ImageFolders):
        parts = tuple(replace(images, corruption=name, severity=severity) for severity in severities)
    elif isinstance(images, ImageSet):
        parts = tuple(_computed(images, name, severity) for severity in severities)
    else:
        kind = type(images).__name__
        raise ConfigError(f"corruption: {images.name}: expected an ImageSet or ImageFolders, got {kind}")
    return CorruptedImages(parts)


def _computed(images: ImageSet, name: str, severity: int) -> ImageSet:
    originals = images.images.permute(0, 2, 3, 1).cpu().numpy()
    found = np.stack([corrupt(image, name, severity, row) for row, image in enumerate(originals)])
    return _with_pixels(images, found)


def _with_pixels(images: ImageSet, pixels: npt.NDArray[np.uint8]) -> ImageSet:
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return replace(images, images=tensor.to(images.device))


def _read(images: ImageSet, name: str, severities: tuple[int, ...], root: Path) -> Iterator[ImageSet]:
    path, n = root / f"{name}.npy", len(images)
    arrays = _array(path), _array(root / _LABELS)
    pixels, labels = arrays
    side = images.images.shape[-1]
    if pixels.dtype != np.uint8 or pixels.shape != (5 * n, side, side, 3):
        raise FormatError(
            f"{path}: expected uint8 of shape ({5 * n}, {side}, {side}, 3), for the {n} images of {images.name} "
            f"({images.split}) with 5 severities; got {pixels.dtype} of shape {pixels.shape}"
        )
    expected = images.labels.cpu().numpy()
    if labels.shape != (5 * n,) or labels.dtype.kind not in "iu" or not np.array_equal(labels, np.tile(expected, 5)):
        raise FormatError(f"{root / _LABELS}: the labels are not those of the images of {images.name} ({images.split})")
    for severity in severities:
        yield _with_pixels(images, np.array(pixels[(severity - 1) * n : severity * n]))


def _array(path: Path) -> npt.NDArray[Any]:
    if not path.is_file():
        raise MissingDataError(f"corruption: {path}: no such file; the folder is expected to be like CIFAR-10-C")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except Exception as error:  # NumPy raises several types
        raise FormatError(f"{path}: cannot be read as an array: {error_reason(error)}") from error
