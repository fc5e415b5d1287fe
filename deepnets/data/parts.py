"""What image sets of files and of torchvision share: the division into parts, sizes, and images in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from deepnets.architecture import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from deepnets.data.statistics import ImageStatistics, PixelSums
from deepnets.support import ConfigError, FormatError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from deepnets.data.image_set import Images, ImageSet
    from deepnets.data.names import SetName

__all__ = ["MAX_BYTES", "ImageSource", "check_side", "divide", "in_memory", "pixels_of", "root_of", "sums_of"]

MAX_BYTES = 2 << 30
"""Sets of up to 2 GiB of pixels, with all parts, are held in memory; larger ones are read from files."""


class ImageSource(Protocol):
    """An image set whose statistics are computed."""

    def statistics(self) -> ImageStatistics:
        """Compute the statistics of the training images."""

    def open(
        self,
        split: str,
        *,
        device: torch.device | str,
        noise: float,
        statistics: ImageStatistics | None,
        workers: int | None,
    ) -> Images:
        """Open one part, after checking all that can be checked."""


def divide(classes: Mapping[str, Sequence[str]], fractions: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Divide the images of every class into parts, at random but always in the same way.

    Parameters
    ----------
    classes : mapping of str to sequence of str
        Names of the images of every class.
    fractions : mapping of str to float
        Fractions that are held out, by part; of every class at least one image.  The rest is the part "train".
    seed : int
        Seed.  The part of an image depends on its own name and on the number of images of its class that come before
        it in the random order, so that adding images changes few others.

    Returns
    -------
    dict of str to list of str
        The names of each part, in the order of the classes.

    Raises
    ------
    FormatError
        If a class has too few images.

    Examples
    --------
    >>> parts = divide({"cat": [f"cat/{i}" for i in range(10)]}, {"test": 0.2}, seed=0)
    >>> len(parts["train"]), len(parts["test"])
    (8, 2)
    """
    parts: dict[str, list[str]] = {part: [] for part in ("train", *fractions)}
    for name, images in classes.items():
        if len(images) <= len(fractions):
            raise FormatError(
                f"{name}: holds {len(images)} image{'s' * (len(images) != 1)}; {len(fractions) + 1} or more are needed "
                f"for the parts train, {', '.join(fractions)}"
            )
        order = sorted(
            images, key=lambda image: hashlib.sha256(f"{seed}:{image}".encode(errors="surrogatepass")).digest()
        )
        counts = {part: max(1, round(fraction * len(order))) for part, fraction in fractions.items()}
        while sum(counts.values()) >= len(order):  # few images, and large fractions
            counts[max(counts, key=lambda part: counts[part])] -= 1
        begin = 0
        for part, number in counts.items():
            parts[part] += order[begin : begin + number]
            begin += number
        parts["train"] += order[begin:]
    return {part: sorted(names) for part, names in parts.items()}


def check_side(where: str, size: tuple[int, int], first: tuple[str, tuple[int, int]] | None) -> None:
    """Check that an image can be used without resizing.

    Parameters
    ----------
    where : str
        The file of the image.
    size : tuple of two ints
        Its width and height.
    first : tuple, optional
        The file and the size of the first image of the set.

    Raises
    ------
    FormatError
        If it is no square, too small or too large, or of another size than the first image.

    Examples
    --------
    >>> check_side("a.png", (32, 40), None)
    Traceback (most recent call last):
    deepnets.support.errors.FormatError: a.png: is 32 x 40 pixels; expected squares of 16 to 512 pixels; the option \
image_size resizes and crops all images, as in ...?image_size=64
    """
    width, height = size
    hint = "the option image_size resizes and crops all images, as in ...?image_size=64"
    if first is not None and size != first[1]:
        raise FormatError(
            f"{where}: is {width} x {height} pixels, but {first[0]} is {first[1][0]} x {first[1][1]}; images must have "
            f"one size; {hint}"
        )
    if width != height or not MIN_IMAGE_SIZE <= width <= MAX_IMAGE_SIZE:
        raise FormatError(
            f"{where}: is {width} x {height} pixels; expected squares of {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels; "
            f"{hint}"
        )


def pixels_of(image: Image, side: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image, `(3, side, side) uint8`; grey is repeated for the three channels.

    An image of another size is resized, its shorter side to `side` pixels, and cropped to its center.

    Examples
    --------
    >>> from PIL import Image
    >>> pixels_of(Image.new("L", (20, 40), 7), 16).shape
    (3, 16, 16)
    """
    from PIL import Image as Pillow

    if image.size != (side, side):
        width, height = (max(side, round(length * side / min(image.size))) for length in image.size)
        image = image.convert("RGB").resize((width, height), Pillow.Resampling.BILINEAR)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.convert("RGB"), np.uint8).transpose(2, 0, 1)


def sums_of(images: Iterable[npt.NDArray[np.uint8]]) -> PixelSums:
    """Return the sums of single images, `(3, side, side)`."""
    sums = PixelSums()
    for image in images:
        sums.add(image[None])
    return sums


def in_memory(
    name: SetName,
    split: str,
    images: Iterator[npt.NDArray[np.uint8]],
    labels: npt.NDArray[np.int64],
    num_classes: int,
    statistics: ImageStatistics,
    *,
    side: int,
    device: torch.device | str,
    noise: float,
) -> ImageSet:
    """Return images in memory, in a fixed random order: batch statistics need batches of mixed classes."""
    import torch

    from deepnets.data.image_files import evaluation_order
    from deepnets.data.image_set import ImageSet

    if not len(labels):
        raise ConfigError(f"images: {name.text} has no images in the part {split}")
    pixels = np.empty((len(labels), 3, side, side), np.uint8)
    for row, image in enumerate(images):
        pixels[row] = image
    order = evaluation_order(len(labels))
    return ImageSet(
        name=name.text,
        split=split,
        images=torch.from_numpy(pixels)[order],
        labels=torch.from_numpy(labels)[order],
        num_classes=num_classes,
        mean=statistics.mean,
        std=statistics.std,
        shift=max(1, side // 8),  # 4 for 32 pixels, as usual for CIFAR-10
        flip=name.options.flip,
    ).with_options(device=device, noise=noise)


def root_of(path: str, root: Path | str | None) -> Path:
    """Return a path of a name; a relative one is relative to `root`, if there is one."""
    return Path(path) if root is None else Path(root) / path
