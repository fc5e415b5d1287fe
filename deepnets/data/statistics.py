"""`ImageStatistics`: mean and standard deviation of the channels of training images, computed once for a run.

The image sets that come with the toolkit have published constants.  Those of `folder:` and `torchvision:` are computed
from their training images and stored in `image_statistics.json` in the folder of a run, together with a fingerprint of
the images: a run that is resumed uses the same numbers, and other images are an error.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.support import ConfigError, FormatError, in_one_line, replace_file

__all__ = ["STATISTICS_FILE", "ImageStatistics", "PixelSums", "read_statistics", "store_statistics"]

STATISTICS_FILE = "image_statistics.json"
"""Name of the file in the folder of a run."""

_LARGEST_FILE = 1 << 20


class ImageStatistics(NamedTuple):
    """What is computed from the training images of a set.

    Attributes
    ----------
    mean, std : tuple of three floats
        Mean and standard deviation of the channels, on a scale from 0 to 1.
    num_images : int
        Number of training images.
    fingerprint : str
        Digest of the files or pixels of the whole set.

    Examples
    --------
    >>> sums = PixelSums()
    >>> sums.add(np.full((2, 3, 16, 16), 51, np.uint8))
    >>> sums.statistics("a1").mean
    (0.2, 0.2, 0.2)
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_images: int
    fingerprint: str


class PixelSums:
    """Exact sums of pixels, so that the statistics are the same on every machine and in every order.

    Examples
    --------
    >>> sums = PixelSums()
    >>> sums.add(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=1))
    >>> sums.statistics("a1").std
    (0.5, 0.5, 0.5)
    """

    def __init__(self) -> None:
        self._images = self._pixels = 0
        self._sums, self._squares = [0, 0, 0], [0, 0, 0]

    def add(self, images: npt.NDArray[np.uint8]) -> None:
        """Add images, `(n, 3, height, width) uint8`."""
        self._images += len(images)
        self._pixels += images[:, 0].size
        for channel in range(3):
            counts = np.bincount(images[:, channel].ravel(), minlength=256)
            values = np.arange(256)
            self._sums[channel] += int((counts * values).sum())
            self._squares[channel] += int((counts * values**2).sum())

    def statistics(self, fingerprint: str) -> ImageStatistics:
        """Return the statistics.  A standard deviation is at least 1 / 255, also that of images of one colour."""
        n = self._pixels
        means = [total / n for total in self._sums]
        # The numerator is an exact integer.
        stds = [math.sqrt(max(n * q - s * s, 0)) / n for s, q in zip(self._sums, self._squares)]
        mean, std = tuple(m / 255 for m in means), tuple(max(s, 1.0) / 255 for s in stds)
        return ImageStatistics(mean, std, self._images, fingerprint)  # type: ignore[arg-type]


def read_statistics(folder: Path | str, name: str) -> ImageStatistics | None:
    """Read the statistics that were stored beside a run.

    Parameters
    ----------
    folder : Path or str
        Folder of the run.
    name : str
        Name of the image set.

    Returns
    -------
    ImageStatistics or None
        None if there are none.

    Raises
    ------
    FormatError
        If the file has another format.

    Examples
    --------
    >>> read_statistics("no folder", "folder:pets") is None
    True
    """
    path = Path(folder) / STATISTICS_FILE
    found = _entries(path).get(name)
    if found is None:
        return None
    try:
        mean, std = (tuple(float(value) for value in found[key]) for key in ("mean", "std"))
        valid = len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0
        statistics = ImageStatistics(mean, std, int(found["num_images"]), str(found["fingerprint"]))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{path}: {name}: is not valid: {in_one_line(error)}; remove the file") from error
    if not valid:
        raise FormatError(f"{path}: {name}: expected three means and standard deviations; remove the file")
    return statistics


def store_statistics(folder: Path | str, name: str, statistics: ImageStatistics) -> None:
    """Store statistics beside a run, next to those of other image sets.

    Parameters
    ----------
    folder : Path or str
        Folder of the run, which is created.
    name : str
        Name of the image set.
    statistics : ImageStatistics
        Its statistics.

    Raises
    ------
    ConfigError
        If the run was begun with other images of this name.
    FormatError
        If there is a file of another format.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store_statistics(folder, "folder:pets", ImageStatistics((0.5,) * 3, (0.2,) * 3, 60, "a1"))
    ...     read_statistics(folder, "folder:pets").num_images
    60
    """
    path = Path(folder) / STATISTICS_FILE
    known = read_statistics(folder, name)
    if known == statistics:
        return
    if known is not None:
        raise ConfigError(
            f"images: {name} is not what it was when {path} was written (then {known.num_images:,} training images); "
            "use another folder for the run"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = {**_entries(path), name: statistics._asdict()}
    replace_file(path, json.dumps(entries, indent=1) + "\n")


def _entries(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("is too large")
        entries = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: expected JSON: {in_one_line(error)}; remove the file") from error
    if not isinstance(entries, dict):
        raise FormatError(f"{path}: expected an object with one entry per image set; remove the file")
    return entries
