"""The image sets `torchvision:NAME`: classification data sets of torchvision, in memory.

Files are read from the root folder; they are downloaded only if that is asked for.  torchvision verifies the checksums
of the files that it unpickles, those of CIFAR.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deepnets.data.names import SetName
from deepnets.data.parts import MAX_BYTES, check_side, divide, in_memory, pixels_of, sums_of
from deepnets.data.statistics import ImageStatistics
from deepnets.support import (
    ConfigError,
    FormatError,
    MissingDataError,
    MissingDependencyError,
    exclusive,
    import_torchvision,
    in_one_line,
)

if TYPE_CHECKING:
    import torch

    from deepnets.data.image_set import ImageSet

__all__ = ["TORCHVISION_SETS", "TorchvisionSource"]


def _by_flag(part: str) -> dict[str, Any]:
    return {"train": part == "train"}


def _by_split(part: str) -> dict[str, Any]:
    return {"split": part}


_TRAIN_TEST = ("train", "test")
_ALL = ("train", "val", "test")

TORCHVISION_SETS: dict[str, tuple[dict[str, str], Callable[[str], dict[str, Any]]]] = {
    **dict.fromkeys(
        ("CIFAR10", "CIFAR100", "EMNIST", "FashionMNIST", "KMNIST", "MNIST", "USPS"),
        ({part: part for part in _TRAIN_TEST}, _by_flag),
    ),
    **dict.fromkeys(("Food101", "GTSRB", "STL10", "SVHN"), ({part: part for part in _TRAIN_TEST}, _by_split)),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"), ({p: p for p in _ALL}, _by_split)),
    "Country211": ({"train": "train", "val": "valid", "test": "test"}, _by_split),
    "Imagenette": ({"train": "train", "test": "val"}, _by_split),
    "OxfordIIITPet": ({"train": "trainval", "test": "test"}, _by_split),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397"), ({"train": ""}, lambda part: {})),
}
"""Data sets that can be used: the parts that torchvision has, and the arguments for a part.  Parts that are missing are
divided off the training images at random, with a seed."""

_OTHER_OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "EMNIST": {"split": ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")},
    "Imagenette": {"size": ("full", "320px", "160px")},
    "FGVCAircraft": {"annotation_level": ("variant", "family", "manufacturer")},
}
"""Options of single sets with their values, the default first."""


class TorchvisionSource:
    """A data set of torchvision as an image set.

    Parameters
    ----------
    name : SetName
        The name of the set.
    root : Path or str, optional
        Folder of the files of torchvision.
    image_size : int, optional
        Height and width, instead of that in the name.
    download : bool, default False
        Whether to download missing files into `root`.

    Raises
    ------
    ConfigError
        If the set or an option is unknown, or there is no root.
    MissingDataError
        If files are missing, or cannot be downloaded.
    MissingDependencyError
        If torchvision is not installed.

    Examples
    --------
    >>> from deepnets.data.names import parse_name
    >>> TorchvisionSource(parse_name("torchvision:CIFAR100"))
    Traceback (most recent call last):
    deepnets.support.errors.ConfigError: root: torchvision:CIFAR100 needs a folder of files (--image-root)
    """

    def __init__(
        self, name: SetName, root: Path | str | None = None, image_size: int | None = None, download: bool = False
    ) -> None:
        if name.argument not in TORCHVISION_SETS:
            known = ", ".join(sorted(TORCHVISION_SETS))
            raise ConfigError(f"images: {name.text}: unknown data set {name.argument!r}; use one of {known}")
        if root is None:
            raise ConfigError(f"root: {name.text} needs a folder of files (--image-root)")
        self.name = name
        self.root = Path(root)
        self.image_size = image_size or name.options.image_size
        self._options = _other_options(name)
        self._datasets = self._open(download)
        own = {part: [f"{part}/{row}" for row in range(len(data))] for part, data in self._datasets.items()}
        fractions = {part: getattr(name.options, part) for part in ("val", "test") if part not in own}
        self.classes = sorted({self._labels[row] for row in own["train"]})
        if len(self.classes) < 2:
            raise FormatError(f"images: {name.text}: has one class; two or more are needed")
        rows: dict[int, list[str]] = {label: [] for label in self.classes}
        for row in own["train"]:
            rows[self._labels[row]].append(row)
        named = {f"{name.text}: class {label}": members for label, members in rows.items()}
        self.parts = {**own, **divide(named, fractions, name.options.seed)}

    def statistics(self) -> ImageStatistics:
        """Compute the statistics of the training images."""
        return sums_of(self._pixels(self.parts["train"])).statistics(self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """Digest of the labels of all parts, whose files torchvision verifies."""
        labels = ",".join(str(label) for label in self._labels.values())
        sizes = ",".join(f"{part} {len(rows)}" for part, rows in self.parts.items())
        return hashlib.sha256(f"{self.name.argument} {self.image_size} {sizes} {labels}".encode()).hexdigest()[:16]

    def open(
        self,
        split: str,
        *,
        device: torch.device | str = "cpu",
        noise: float = 0.0,
        statistics: ImageStatistics | None = None,
        workers: int | None = None,
    ) -> ImageSet:
        """Open one part.

        Parameters
        ----------
        split, device, noise
            As for `deepnets.data.open_images`.
        statistics : ImageStatistics, optional
            Those that were stored beside a run; by default they are computed.
        workers : int, optional
            Not used.

        Returns
        -------
        ImageSet
            The images.

        Raises
        ------
        ConfigError
            If the set is too large for memory, or is not the one of the statistics.
        FormatError
            If the images have different sizes, or labels of other classes than the training images.
        """
        rows = [*self.parts["train"], *self.parts["val"]] if split == "trainval" else self.parts[split]
        position = {label: number for number, label in enumerate(self.classes)}
        if unknown := sorted({self._labels[row] for row in rows} - set(position)):
            raise FormatError(f"images: {self.name.text}: {split}: no training image has the label {unknown[0]}")
        labels = np.array([position[self._labels[row]] for row in rows], np.int64)
        if statistics is None:
            statistics = self.statistics()
        elif statistics.fingerprint != self.fingerprint:
            raise ConfigError(
                f"images: {self.name.text}, or the size of its images, has changed since the run began; use another "
                "folder for the run"
            )
        options = {"side": self._side, "device": device, "noise": noise}
        return in_memory(self.name, split, self._pixels(rows), labels, len(self.classes), statistics, **options)  # type: ignore[arg-type]

    def _open(self, download: bool) -> dict[str, Any]:
        if not download:
            return self._read(download=False)
        with contextlib.suppress(OSError):
            self.root.mkdir(parents=True, exist_ok=True)
        if not os.access(self.root, os.W_OK):  # torchvision needs to write only if files are missing
            return self._read(download=True)
        with exclusive(self.root, wait=True):  # the first of several processes downloads
            return self._read(download=True)

    def _read(self, download: bool) -> dict[str, Any]:
        module: Any = import_torchvision().datasets
        kind = getattr(module, self.name.argument)
        parts, arguments = TORCHVISION_SETS[self.name.argument]
        found = {}
        for part, own in parts.items():
            options = {**self._options, **arguments(own)}
            try:
                found[part] = kind(str(self.root), download=download, **options)
            except ImportError as error:  # a reader that torchvision uses, such as SciPy or gdown
                raise MissingDependencyError(f"images: {self.name.text}: {in_one_line(error)}") from error
            except Exception as error:  # torchvision raises many types
                hint = "" if download else "; put the files there, or download them (--download, download=True)"
                raise MissingDataError(
                    f"images: {self.name.text} ({part}): cannot be opened in {self.root}: {in_one_line(error)}{hint}"
                ) from error
        return found

    @cached_property
    def _labels(self) -> dict[str, int]:
        """The label of every image of every part, as torchvision numbers them."""
        found: dict[str, int] = {}
        for part, data in self._datasets.items():
            known = next((getattr(data, name) for name in _LABELS if hasattr(data, name)), None)
            labels = known if known is not None else [data[row][1] for row in range(len(data))]
            found |= {f"{part}/{row}": int(label) for row, label in enumerate(labels)}
        return found

    @cached_property
    def _side(self) -> int:
        """Height and width of the images."""
        side = self.image_size
        if side is None:
            first = self._datasets["train"][0][0]
            check_side(f"images: {self.name.text}: image 0", first.size, None)
            side = int(first.size[0])
        if 3 * side * side * len(self._labels) > MAX_BYTES:
            raise ConfigError(
                f"images: {self.name.text}: {len(self._labels):,} images of {side} pixels do not fit into "
                f"{MAX_BYTES >> 30} GiB of memory; choose a smaller one, as in {self.name.text}?image_size=64"
            )
        return side

    def _pixels(self, rows: list[str]) -> Iterator[npt.NDArray[np.uint8]]:
        side = self._side
        for name in rows:
            part, _, row = name.partition("/")
            try:
                image = self._datasets[part][int(row)][0]
            except Exception as error:  # a damaged file
                raise FormatError(f"images: {self.name.text}: {name} cannot be read: {in_one_line(error)}") from error
            if self.image_size is None:
                check_side(f"images: {self.name.text}: {name}", image.size, ("the first image", (side, side)))
            yield pixels_of(image, side)


_LABELS = ("targets", "labels", "_labels")


def _other_options(name: SetName) -> dict[str, str]:
    known = _OTHER_OPTIONS.get(name.argument, {})
    for key, value in name.others.items():
        if key not in known:
            raise ConfigError(
                f"images: {name.text}: unknown option {key!r}; use "
                f"{', '.join(('image_size', 'val', 'test', 'seed', 'flip', *known))}"
            )
        if value not in known[key]:
            raise ConfigError(f"images: {name.text}: {key}: expected one of {', '.join(known[key])}, got {value!r}")
    return {key: name.others.get(key, values[0]) for key, values in known.items()}
