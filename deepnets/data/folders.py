"""The image sets `folder:PATH`: image files in one folder per class.

    PATH/cat/*.png, PATH/dog/*.png, ...                      divided into parts at random, with a seed
    PATH/train/cat/*.png, ..., PATH/test/cat/*.png, ...      parts of your own; PATH/val/ (or valid/) is optional

Images may lie in folders inside the folder of their class.  They are used as viewers show them: turned as their EXIF
orientation says, and with white behind transparent pixels.  Any number of classes from 2 on, grey or colour.  Grey
images are repeated for the three channels that networks take.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deepnets.data.decoding import read_image
from deepnets.data.names import SetName
from deepnets.data.parts import MAX_BYTES, check_side, divide, in_memory, pixels_of, root_of, sums_of
from deepnets.data.statistics import ImageStatistics
from deepnets.support import ConfigError, FormatError, MissingDataError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from deepnets.data.image_files import ImageFolders
    from deepnets.data.image_set import ImageSet

__all__ = ["FORMATS", "SUFFIXES", "FolderSource"]

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Formats that are read, all by Pillow itself."""

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pbm", ".pgm", ".ppm", ".tif", ".tiff", ".webp"))
"""What names of image files end with; other files are ignored."""

_PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Names of the folders of each part."""

_HASHED = 4096
"""Bytes at the beginning and at the end of every file that identify its content: whole files would take too long."""

_MAX_WORKERS = 8


class FolderSource:
    """The files of an image set in folders.

    Parameters
    ----------
    name : SetName
        The name of the set.
    root : Path or str, optional
        Folder that a relative path is relative to; by default the current one.
    image_size : int, optional
        Height and width, instead of that in the name.
    download : bool
        Not used.

    Raises
    ------
    ConfigError
        If an option is unknown.
    MissingDataError
        If the folder does not exist.
    FormatError
        If the parts have different classes, there are fewer than two classes, or a class has no or too few images.

    Examples
    --------
    >>> from deepnets.data.names import parse_name
    >>> FolderSource(parse_name("folder:no/pets"))
    Traceback (most recent call last):
    deepnets.support.errors.MissingDataError: images: no/pets: no such folder
    """

    def __init__(
        self, name: SetName, root: Path | str | None = None, image_size: int | None = None, download: bool = False
    ) -> None:
        if name.others:
            raise ConfigError(
                f"images: {name.text}: unknown option {next(iter(name.others))!r}; "
                "use image_size, val, test, seed or flip"
            )
        self.name = name
        self.folder = root_of(name.argument, root)
        self.image_size = image_size or name.options.image_size
        if not self.folder.is_dir():
            raise MissingDataError(f"images: {self.folder}: no such folder")
        self.classes, self.parts = self._scan()

    def statistics(self) -> ImageStatistics:
        """Compute the statistics of the training images, which decodes all of them."""
        return sums_of(self._pixels(self.parts["train"])).statistics(self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the names, sizes, and first and last 4 KiB of all files, and of their division into parts."""
        digest = hashlib.sha256(str(self.side).encode())
        for part, files in self.parts.items():
            for file in files:
                with (self.folder / file).open("rb") as opened:
                    size = opened.seek(0, os.SEEK_END)
                    digest.update(f"\n{part} {file} {size}\n".encode(errors="surrogatepass"))
                    for place in (0, max(0, size - _HASHED)):
                        opened.seek(place)
                        digest.update(opened.read(_HASHED))
        return digest.hexdigest()[:16]

    @cached_property
    def side(self) -> int:
        """Height and width of the images in batches.  The headers of all files are read and checked here."""
        first: tuple[str, tuple[int, int]] | None = None
        for files in self.parts.values():
            for file in files:
                path = str(self.folder / file)
                size = _opened(path, decode=False).size
                if self.image_size is None:
                    check_side(path, size, first)
                first = first or (path, size)
        assert first is not None  # noqa: S101  every class has images
        return self.image_size or first[1][0]

    def open(
        self,
        split: str,
        *,
        device: torch.device | str = "cpu",
        noise: float = 0.0,
        statistics: ImageStatistics | None = None,
        workers: int | None = None,
    ) -> ImageSet | ImageFolders:
        """Open one part.

        Parameters
        ----------
        split, device, noise, workers
            As for `deepnets.data.open_images`.
        statistics : ImageStatistics, optional
            Those that were stored beside a run; by default they are computed.

        Returns
        -------
        ImageSet or ImageFolders
            `ImageSet` for sets of up to `MAX_BYTES`, whose images are all decoded here.

        Raises
        ------
        FormatError
            If a file cannot be read, or has another size than the others; the message names it.
        """
        side = self.side
        files = [*self.parts["train"], *self.parts["val"]] if split == "trainval" else self.parts[split]
        position = {name: label for label, name in enumerate(self.classes)}
        labels = np.array([position[self._class_of(file)] for file in files], np.int64)
        total = 3 * side * side * sum(map(len, self.parts.values()))
        statistics = self._checked(statistics)
        if total <= MAX_BYTES:
            images = self._pixels(files)
            options = {"side": side, "device": device, "noise": noise}
            return in_memory(self.name, split, images, labels, len(self.classes), statistics, **options)  # type: ignore[arg-type]
        return self._from_files(split, files, labels, statistics, device, noise, workers)

    def _checked(self, statistics: ImageStatistics | None) -> ImageStatistics:
        if statistics is None:
            return self.statistics()
        if statistics.fingerprint != self.fingerprint:
            raise ConfigError(
                f"images: {self.name.text}: the files in {self.folder}, or the size of the images, have changed since "
                "the run began; use another folder for the run"
            )
        return statistics

    def _from_files(
        self,
        split: str,
        files: list[str],
        labels: npt.NDArray[np.int64],
        statistics: ImageStatistics,
        device: torch.device | str,
        noise: float,
        workers: int | None,
    ) -> ImageFolders:
        import torch

        from deepnets.data.image_files import ImageFolders, torchvision_transforms

        torchvision_transforms()
        return ImageFolders(
            name=self.name.text,
            split=split,
            paths=[str(self.folder / file) for file in files],
            labels=labels,
            num_classes=len(self.classes),
            image_size=self.side,
            device=torch.device(device),
            noise=noise,
            workers=min(os.cpu_count() or 1, _MAX_WORKERS) if workers is None else workers,
            mean=statistics.mean,
            std=statistics.std,
            flip=self.name.options.flip,
            crop_ratio=1.0,
            formats=FORMATS,
            as_viewed=True,
        )

    def _pixels(self, files: list[str]) -> Iterator[npt.NDArray[np.uint8]]:
        for file in files:
            yield pixels_of(_opened(str(self.folder / file)), self.side)

    def _scan(self) -> tuple[list[str], dict[str, list[str]]]:
        """Return the classes, and the files of each part relative to the folder."""
        if not self._has_parts:
            found = _class_folders(self.folder, self.folder)
            options = self.name.options
            return list(found), divide(
                {str(self.folder / name): files for name, files in found.items()},
                {"val": options.val, "test": options.test},
                options.seed,
            )
        if not (self.folder / "test").is_dir():
            raise MissingDataError(
                f"images: {self.folder / 'test'}: no such folder; {self.folder} has a folder train, so test images are "
                "expected in a folder test beside it"
            )
        present = self._folders_of_parts()
        by_part = {part: _class_folders(folder, self.folder) for part, folder in present.items()}
        classes = list(by_part["train"])
        for part in present:
            if different := sorted(set(classes) ^ set(by_part[part])):
                lacks = part if different[0] in classes else "train"
                raise FormatError(
                    f"{present[lacks]}: has no folder of the class {different[0]!r}, which another part has"
                )
        parts = {part: [file for name in classes for file in by_part[part][name]] for part in present}
        if "val" not in parts:
            named = {str(self.folder / "train" / name): files for name, files in by_part["train"].items()}
            parts |= divide(named, {"val": self.name.options.val}, self.name.options.seed)
        return classes, parts

    @cached_property
    def _has_parts(self) -> bool:
        return (self.folder / "train").is_dir()

    def _folders_of_parts(self) -> dict[str, Path]:
        found = {}
        for part, names in _PARTS.items():
            folders = [self.folder / name for name in names if (self.folder / name).is_dir()]
            if len(folders) > 1:
                raise FormatError(f"{folders[0]} and {folders[1]}: two folders for the part {part}; keep one of them")
            if folders:
                found[part] = folders[0]
        return found

    def _class_of(self, file: str) -> str:
        return Path(file).parts[1 if self._has_parts else 0]


def _class_folders(folder: Path, base: Path) -> dict[str, list[str]]:
    """Return the files of every class in a folder, relative to `base`."""
    found: dict[str, list[str]] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        paths = sorted(_images_in(entry.path))
        if not paths:
            raise FormatError(f"{entry.path}: the class has no images ({', '.join(sorted(SUFFIXES))})")
        found[entry.name] = [os.path.relpath(path, base) for path in paths]
    if len(found) < 2:
        some = f"only the class {next(iter(found))!r}" if found else "no folders of classes"
        raise FormatError(f"{folder}: holds {some}; expected one folder per class, two or more")
    return found


def _images_in(folder: str) -> Iterator[str]:
    """Yield the image files in a folder and the folders inside it; links to folders are not followed."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _images_in(entry.path)
        elif Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file():
            yield entry.path


def _opened(path: str, decode: bool = True) -> Image:
    image = read_image(path, None, formats=FORMATS, decode=decode, as_viewed=True)
    if image.mode.startswith(("I", "F")):
        raise FormatError(f"{path}: has {image.mode} pixels of more than 8 bits per channel; convert it to 8 bits")
    return image
