"""The image set `cifar10`, in the standard python-version folder `cifar-10-batches-py` (Krizhevsky, 2009).

The files are pickles, which are programs.  They are read by an unpickler that can make arrays of NumPy and nothing else.
Splits and constants are those of Knyazev et al. (NeurIPS 2021): the last 5,000 training images are for validation.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepnets.errors import ConfigError, FormatError, IntegrityError
from deepnets.images import ImageSet

__all__ = ["FOLDER", "fetch", "load_cifar10"]

FOLDER = "cifar-10-batches-py"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_VALIDATION = 10  # one in so many training images, the last ones
_LARGEST_FILE = 200 << 20
_MEAN = (0.49139968, 0.48215827, 0.44653124)
_STD = (0.24703233, 0.24348505, 0.26158768)


def load_cifar10(split: str, root: Path | str | None, *, download: bool = False) -> ImageSet:
    """Part of CIFAR-10: `train` (45,000 images), `val` (5,000), `trainval` (50,000) or `test` (10,000)."""
    folder = _folder(root, download)
    parts = [_read(folder / name) for name in (_TEST if split == "test" else _TRAIN)]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    held_out = len(images) // _VALIDATION
    rows = {"train": slice(len(images) - held_out), "val": slice(len(images) - held_out, None)}.get(split, slice(None))
    return ImageSet(
        name="cifar10",
        split=split,
        images=torch.from_numpy(images[rows]),
        labels=torch.from_numpy(labels[rows]),
        num_classes=10,
        mean=_MEAN,
        std=_STD,
        shift=4,
        flip=True,
    )


def _folder(root: Path | str | None, download: bool) -> Path:
    if root is None:
        raise ConfigError(f"root: cifar10 needs the folder that holds {FOLDER}; name it, or use the images 'digits'")
    base = Path(root)
    candidates = (base, base / FOLDER)
    for folder in candidates:
        if all((folder / name).is_file() for name in (*_TRAIN, *_TEST)):
            return folder
    if download:
        return fetch(base)
    raise ConfigError(
        f"root: {base} holds no complete {FOLDER} (data_batch_1 to 5, test_batch); unpack cifar-10-python.tar.gz there, "
        "or fetch it with download=True (--download)"
    )


def _read(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images `(n, 3, 32, 32) uint8` and labels `(n,) int64` of a file."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise FormatError(f"{path}: is too large for a file of CIFAR-10")
        content = _Arrays(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except FormatError:
        raise
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever a damaged or hostile pickle leads to
        raise FormatError(f"{path}: is no file of CIFAR-10: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise FormatError(f"{path}: expected a dictionary, got a {type(content).__name__}")
    images, labels = (content.get(key, content.get(key.decode())) for key in (b"data", b"labels"))
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072:
        raise FormatError(f"{path}: data: expected (n, 3072) uint8")
    if not isinstance(labels, list) or len(labels) != len(images):
        raise FormatError(f"{path}: labels: expected a list of {len(images)}")
    if not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise FormatError(f"{path}: labels: expected integers from 0 to 9")
    return images.reshape(-1, 3, 32, 32), np.array(labels, np.int64)


class _Arrays(pickle.Unpickler):
    """Knows what arrays of NumPy are pickled with."""

    _KNOWN = {
        ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
        ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The few things that may be called."""
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in old protocols
            return lambda text, encoding="latin1": str(text).encode("latin1")
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise FormatError(f"a file of CIFAR-10 must not ask for {module}.{name}; it is not loaded") from None


def fetch(folder: Path, url: str = URL, sha256: str = SHA256) -> Path:
    """Download and unpack CIFAR-10 (170 MB), whose checksum must be right.

    Parameters
    ----------
    folder
        Where `cifar-10-batches-py` is to be.
    url, sha256
        What to fetch.

    Returns
    -------
    The unpacked folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "cifar-10-python.tar.gz.partial"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url) as source, archive.open("wb") as target:  # noqa: S310
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
    except OSError as error:
        archive.unlink(missing_ok=True)
        raise ConfigError(f"{url}: cannot be downloaded: {error}") from error
    if digest.hexdigest() != sha256:
        archive.unlink()
        raise IntegrityError(f"{url}: what was downloaded has another checksum than CIFAR-10; try again")
    unpacked = folder / f"{FOLDER}.partial"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    os.replace(unpacked / FOLDER, folder / FOLDER)
    shutil.rmtree(unpacked)
    archive.unlink()
    return folder / FOLDER
