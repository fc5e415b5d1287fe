"""The images of Penn-Fudan (Wang et al., 2007): photographs of pedestrians with a mask of every pedestrian.

    ROOT/PNGImages/FudanPed00001.png        the photographs
    ROOT/PedMasks/FudanPed00001_mask.png    0 for the background, and a number for every pedestrian

`ROOT` can also be the folder that holds `PennFudanPed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepnets.data.decoding import read_image
from deepnets.support import ConfigError, FormatError, MissingDataError, at_least, checked_integer

__all__ = ["PennFudan", "open_penn_fudan"]

SPLIT_SEED = 1111
_TEST_IMAGES = 50
_MAX_PIXELS = 25_000_000
_URL = "https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip"


@dataclass(frozen=True)
class PennFudan:
    """A part of the images.

    Attributes
    ----------
    split
        "train" or "test".
    files
        Pairs of an image and its masks.

    Examples
    --------
    >>> len(PennFudan("test", ()))
    0
    """

    split: str
    files: Sequence[tuple[Path, Path]]

    name = "penn-fudan"

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the names and contents of the files, by which a training that is continued notices other images.

        Examples
        --------
        >>> PennFudan("test", ()).fingerprint
        'e3b0c44298fc1c14'
        """
        digest = hashlib.sha256()
        for path in (path for pair in self.files for path in pair):
            digest.update(
                f"{path.name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode(errors="surrogatepass")
            )
        return digest.hexdigest()[:16]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Read an image.

        Parameters
        ----------
        index
            Its number, from 0.

        Returns
        -------
        The image, ``(3, H, W) float32`` from 0 to 1, and the boxes of the pedestrians, ``(n, 4) float32``: the smallest
        and largest coordinates of their pixels, x1, y1, x2, y2.  Pedestrians that are one pixel wide or high are left
        out.

        Raises
        ------
        FormatError
            If a file cannot be read, or the masks have another size than the image.
        """
        image_path, mask_path = self.files[index]
        image = _read(image_path, "RGB")
        masks = _read(mask_path, None)
        if masks.ndim != 2 or masks.shape != image.shape[:2]:
            raise FormatError(f"{mask_path}: expected masks of shape {image.shape[:2]}, got {masks.shape}")
        boxes = []
        for number in np.unique(masks[masks > 0]):
            rows, columns = np.nonzero(masks == number)
            box = columns.min(), rows.min(), columns.max(), rows.max()
            if box[0] < box[2] and box[1] < box[3]:
                boxes.append(box)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        return pixels, torch.tensor(np.array(boxes, np.float32).reshape(-1, 4))


def open_penn_fudan(root: Path | str, test_images: int = _TEST_IMAGES) -> tuple[PennFudan, PennFudan]:
    """Open the images for training and those for evaluation.

    Parameters
    ----------
    root
        Folder of the images.
    test_images
        Number of images for evaluation: the last ones of a random order, which is the same for every run.  50 in the
        published protocol, which leaves 120 of the 170 images for training.

    Raises
    ------
    ConfigError
        If too few images remain for training.
    MissingDataError
        If a folder or the masks of an image are missing.

    Examples
    --------
    >>> open_penn_fudan("no folder")
    Traceback (most recent call last):
    deepnets.support.errors.MissingDataError: root: no folder: has no folders PNGImages and PedMasks; unpack ...
    """
    root = Path(root)
    test_images = checked_integer("test_images", test_images, at_least(1))
    folder = next((each for each in (root, root / "PennFudanPed") if (each / "PNGImages").is_dir()), None)
    if folder is None or not (folder / "PedMasks").is_dir():
        raise MissingDataError(f"root: {root}: has no folders PNGImages and PedMasks; unpack {_URL} there")
    files = [(path, folder / "PedMasks" / f"{path.stem}_mask.png") for path in sorted(folder.glob("PNGImages/*.png"))]
    for _, masks in files:
        if not masks.is_file():
            raise MissingDataError(f"root: {masks}: no such file; every image needs masks")
    if len(files) < test_images + 2:
        raise ConfigError(
            f"test_images: {folder} has {len(files)} images, of which {test_images} are for evaluation; expected 2 or "
            "more for training"
        )
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    chosen = [files[i] for i in order]
    return PennFudan("train", chosen[:-test_images]), PennFudan("test", chosen[-test_images:])


def _read(path: Path, mode: str | None) -> npt.NDArray[Any]:
    return np.asarray(read_image(path, mode, _MAX_PIXELS))
