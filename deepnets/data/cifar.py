"""The image set `cifar10`, in the standard python-version folder `cifar-10-batches-py` (Krizhevsky, 2009).

The files are pickles, which are programs.  They are read as data (`deepnets.support.pickles`): arrays of bytes, lists,
texts, numbers, and nothing else.  The archive of the folder is read as it is, without unpacking it.

Splits and constants are those of Knyazev et al. (NeurIPS 2021): the last tenth of the training images, 5,000, is for
validation.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import secrets
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deepnets.data.image_set import ImageSet
from deepnets.support import DAMAGED, Bounded, ConfigError, FormatError, IntegrityError, Unfinished, read_pickle, shown

__all__ = ["ARCHIVE", "FOLDER", "fetch", "load_cifar10"]

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
SIZE = 170_498_071

_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_NUM_CLASSES = 10
_VALIDATION = 10  # one in so many training images, the last ones
_LARGEST_FILE = 200 << 20  # bytes; the real ones have 31 MB
_MEAN = (0.49139968, 0.48215827, 0.44653124)
_STD = (0.24703233, 0.24348505, 0.26158768)

Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def load_cifar10(split: str, root: Path | str | None, *, download: bool = False) -> ImageSet:
    """Part of CIFAR-10: `train` (45,000 images), `val` (5,000), `trainval` (50,000) or `test` (10,000).

    Parameters
    ----------
    split
        Which.
    root
        Folder that holds `cifar-10-batches-py` or `cifar-10-python.tar.gz`, or the former itself.
    download
        Whether to fetch the archive into `root` if neither is there.

    Raises
    ------
    ConfigError
        If there are no files.
    FormatError, IntegrityError
        If a file is not what it should be.
    """
    if root is None:
        raise ConfigError(f"root: cifar10 needs the folder that holds {FOLDER}; name it, or use the images 'digits'")
    names = _TEST if split == "test" else _TRAIN
    parts = [_read(where, content) for where, content in _contents(Path(root), names, download)]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    held_out = len(images) // _VALIDATION
    rows = {"train": slice(len(images) - held_out), "val": slice(len(images) - held_out, None)}.get(split, slice(None))
    return ImageSet(
        name="cifar10",
        split=split,
        images=torch.from_numpy(images[rows]),
        labels=torch.from_numpy(labels[rows]),
        num_classes=_NUM_CLASSES,
        mean=_MEAN,
        std=_STD,
        shift=4,
        flip=True,
    )


# --- files ---


def _contents(root: Path, names: tuple[str, ...], download: bool) -> list[tuple[str, bytes]]:
    """The files of these names, in this order: where each is, and its bytes."""
    folder = next((f for f in (root / FOLDER, root) if any((f / name).exists() for name in (*_TRAIN, *_TEST))), None)
    if folder is not None:
        return [(str(folder / name), _file(folder / name)) for name in names]
    archive = root / ARCHIVE
    if not archive.exists():
        if not download:
            raise ConfigError(
                f"root: {root} holds neither {FOLDER} (data_batch_1 to 5, test_batch) nor {ARCHIVE}; get the latter "
                f"from {URL}, or let it be fetched with download=True"
            )
        archive = fetch(root)
    members = _members(archive)
    if missing := [name for name in names if name not in members]:
        raise FormatError(f"{archive}: holds no file {FOLDER}/{missing[0]}; is it the python version of CIFAR-10?")
    return [(f"{archive}: {FOLDER}/{name}", members[name]) for name in names]


def _file(path: Path) -> bytes:
    try:
        _check_size(str(path), path.stat().st_size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; unpack {ARCHIVE} again") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {_reason(error)}") from error


def _members(archive: Path) -> dict[str, bytes]:
    """The files with images in an archive, read in one go to its end, where its checksum is."""
    found = {}
    try:
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as tar:
            for member in tar:
                name = member.name.removeprefix(f"{FOLDER}/")
                if name in (*_TRAIN, *_TEST) and (file := tar.extractfile(member) if member.isfile() else None):
                    _check_size(f"{archive}: {member.name}", member.size)
                    found[name] = file.read()
            while unzipped.read(1 << 20):
                pass
    except FormatError:
        raise
    except Exception as error:  # zlib and tarfile have many
        raise FormatError(f"{archive}: is damaged: {_reason(error)}; get it again") from error
    return found


def _check_size(where: str, size: int) -> None:
    if size > _LARGEST_FILE:
        raise FormatError(f"{where}: is too large for a file of CIFAR-10: {size:,} bytes")


def fetch(folder: Path, url: str = URL, sha256: str = SHA256, size: int = SIZE) -> Path:
    """Download the archive of CIFAR-10 (170 MB), whose checksum must be right.

    Parameters
    ----------
    folder
        Where `cifar-10-python.tar.gz` is to be; it appears there when it is complete.
    url, sha256, size
        What to fetch; size in bytes.

    Returns
    -------
    The path of the archive.

    Raises
    ------
    ConfigError
        If it cannot be downloaded or written.
    IntegrityError
        If something else was downloaded.
    """
    archive = folder / ARCHIVE
    partial = archive.with_name(f".{ARCHIVE}.{secrets.token_hex(4)}.partial")
    digest, received = hashlib.sha256(), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=60) as source, partial.open("wb") as target:  # noqa: S310
            while received <= size and (block := source.read(1 << 20)):
                received += len(block)
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != sha256:
            raise IntegrityError(
                f"{url}: what was downloaded ({received:,} bytes) has another checksum than CIFAR-10; try again, or "
                f"put {ARCHIVE} into {folder} yourself"
            )
        partial.replace(archive)
    except (OSError, ValueError) as error:  # HTTP errors are of OSError, a wrong address is a ValueError
        raise ConfigError(f"{url}: cannot be downloaded into {folder}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return archive


# --- content ---


def _read(where: str, pickled: bytes) -> Part:
    """Images `(n, 3, 32, 32) uint8` and labels `(n,) int64` of a file."""
    try:
        content = read_pickle(Bounded(io.BytesIO(pickled), len(pickled)), _BUILDERS)
    except Exception as error:  # whatever a damaged or hostile pickle leads to
        raise FormatError(f"{where}: is no file of CIFAR-10: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise FormatError(f"{where}: is no file of CIFAR-10: expected a dictionary, got a {type(content).__name__}")
    # Texts of Python 2 are read as texts; programs in Python 3 write keys of bytes as well.
    images, labels = (content.get(key, content.get(key.encode())) for key in ("data", "labels"))
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != 3 * 32 * 32:
        raise FormatError(f"{where}: data: expected an array of (n, 3072) bytes, got {_described(images)}")
    if not isinstance(labels, list) or len(labels) != len(images):
        raise FormatError(f"{where}: labels: expected a list of {len(images)}, got {_described(labels)}")
    if wrong := [label for label in labels if type(label) is not int or not 0 <= label < _NUM_CLASSES]:
        raise FormatError(f"{where}: labels: expected integers from 0 to 9, got {shown(str(wrong[0]))}")
    return images.reshape(-1, 3, 32, 32), np.array(labels, np.int64)


def _dtype(name: Any, *_: Any) -> Unfinished:
    if name not in ("u1", b"u1"):
        raise ValueError(f"has an array of {shown(name)}, not of bytes")
    return Unfinished(lambda _, state: np.dtype(np.uint8))


def _array(_: Bounded, state: Any) -> npt.NDArray[np.uint8]:
    _version, shape, dtype, fortran, data = state
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes | bytearray) or type(shape) is not tuple:
        raise ValueError(DAMAGED)
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(DAMAGED)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _encoded(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ValueError(DAMAGED)
    return text.encode("latin1")


_BUILDERS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _dtype,
    "_codecs.encode": _encoded,  # how Python 3 writes bytes for Python 2
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: Unfinished(_array) for core in ("core", "_core")},
}


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"one of {value.shape}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"


def _reason(error: BaseException) -> str:
    """Why something failed, in a line."""
    text = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
    return " ".join(str(text).split())[:200] or type(error).__name__
