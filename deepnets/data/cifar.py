"""The image set `cifar10`, from the python version of CIFAR-10, the folder `cifar-10-batches-py` (Krizhevsky, 2009).

The files are pickles, which can execute code when they are unpickled.  They are read by `deepnets.support.pickles`,
which accepts arrays of bytes, lists, texts and numbers, and nothing else.  The archive is read without unpacking it.

Splits and constants are those of Knyazev et al. (NeurIPS 2021): the last tenth of the training images, 5,000, is the
validation split.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.hub

from deepnets.data.image_set import IMAGENET_MEAN, IMAGENET_STD, ImageSet
from deepnets.support import (
    DAMAGED,
    Bounded,
    Budget,
    ConfigError,
    FormatError,
    IntegrityError,
    MissingDataError,
    Unfinished,
    check_regular,
    error_reason,
    read_pickle,
    shown,
)

__all__ = ["ARCHIVE", "FOLDER", "fetch", "load_cifar10"]

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_NUM_CLASSES = 10
_VALIDATION = 10  # the validation split is 1 / 10 of the training images
_LARGEST_FILE = 200 << 20  # bytes; the real files have 31 MB
_MOST_MEMBERS = 1000  # files and folders in an archive; the real one has 9
_LARGEST_HEADER = 1 << 16  # bytes, of one of them
_MEAN = (0.49139968, 0.48215827, 0.44653124)
_STD = (0.24703233, 0.24348505, 0.26158768)

LabelledImages = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def load_cifar10(
    split: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
    noise: float = 0.0,
) -> ImageSet:
    """Load one part of CIFAR-10.

    Parameters
    ----------
    split : {"train", "val", "test", "trainval"}
        The part: 45,000, 5,000, 10,000 or 50,000 images.
    root : Path or str
        Folder that holds `cifar-10-batches-py` or `cifar-10-python.tar.gz`, or the former itself.
    download : bool, default False
        Whether to download the archive (170 MB) into `root` if neither is there.
    device, image_size, noise
        As for `deepnets.data.open_images`.

    Returns
    -------
    ImageSet
        Images `(n, 3, 32, 32) uint8` and labels.

    Raises
    ------
    ConfigError
        If `root` is not given.
    MissingDataError
        If there are no files, or they cannot be downloaded.
    FormatError, IntegrityError
        If a file has the wrong format, or is damaged.

    Examples
    --------
    >>> load_cifar10("test", root="images")  # doctest: +SKIP
    ImageSet(name='cifar10', split='test', ...)
    """
    if root is None:
        raise ConfigError(f"root: cifar10 needs the folder that holds {FOLDER}; name it, or use the images 'digits'")
    names = _TEST if split == "test" else _TRAIN
    parts = [_read(*file) for file in _contents(Path(root), names, download)]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    held_out = len(images) // _VALIDATION
    rows = {"train": slice(len(images) - held_out), "val": slice(len(images) - held_out, None)}.get(split, slice(None))
    loaded = ImageSet(
        name="cifar10",
        split=split,
        images=torch.from_numpy(images[rows]),
        labels=torch.from_numpy(labels[rows]),
        num_classes=_NUM_CLASSES,
        mean=_MEAN,
        std=_STD,
        shift=4,
        flip=True,
    ).with_options(device=device, image_size=image_size, noise=noise)
    # Networks that take larger images were made for ImageNet and expect its normalisation.
    return replace(loaded, mean=IMAGENET_MEAN, std=IMAGENET_STD) if loaded.resize else loaded


# --- files ---


def _contents(root: Path, names: tuple[str, ...], download: bool) -> list[tuple[str, bytes, Budget]]:
    """Read files by name; return where each of them is, for error messages, its bytes and what it may describe."""
    folder = next((f for f in (root / FOLDER, root) if any((f / name).exists() for name in (*_TRAIN, *_TEST))), None)
    if folder is not None:
        files = [(folder / name, _file(folder / name)) for name in names]
        return [(str(path), content, Budget(len(content))) for path, content in files]
    archive = root / ARCHIVE
    if not archive.exists():
        if not download:
            raise MissingDataError(
                f"root: {root} holds neither {FOLDER} (data_batch_1 to 5, test_batch) nor {ARCHIVE}; download the "
                f"latter from {URL}, or pass download=True"
            )
        archive = fetch(root)
    members, budget = _members(archive)
    if missing := [name for name in names if name not in members]:
        raise FormatError(f"{archive}: holds no file {FOLDER}/{missing[0]}; is it the python version of CIFAR-10?")
    return [(f"{archive}: {FOLDER}/{name}", members[name], budget) for name in names]


def _file(path: Path) -> bytes:
    try:
        check_regular(path)
        _check_size(str(path), path.stat().st_size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file; unpack {ARCHIVE} again") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error_reason(error)}") from error


def _members(archive: Path) -> tuple[dict[str, bytes], Budget]:
    """Read the files with images of an archive, and the archive to its end, where its checksum is."""
    found = {}
    try:
        check_regular(archive)
        budget = Budget(archive.stat().st_size)
        with gzip.open(archive) as unzipped:
            stream = _Unzipped(unzipped, budget.limit // 4)
            with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
                for number, member in enumerate(tar):
                    name = member.name.removeprefix(f"{FOLDER}/")
                    if name in (*_TRAIN, *_TEST) and (file := tar.extractfile(member) if member.isfile() else None):
                        _check_size(f"{archive}: {member.name}", member.size)
                        stream.allow(member.size)
                        found[name] = file.read()
                    if number >= _MOST_MEMBERS:
                        raise FormatError(f"{archive}: holds more than {_MOST_MEMBERS:,} files; CIFAR-10 has 9")
                    stream.allow(_LARGEST_HEADER)
            stream.finish()
    except FormatError:
        raise
    except Exception as error:  # zlib and tarfile raise many types
        raise FormatError(f"{archive}: is damaged: {error_reason(error)}; download it again") from error
    return found, budget


class _Unzipped:
    """The decompressed bytes of an archive, whose headers and total size are limited.

    `tarfile` reads the names in headers whole, whatever size they state, and skips the content of files by seeking.
    """

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._limit, self._allowed = stream, limit, _LARGEST_HEADER

    def allow(self, size: int) -> None:
        """Allow this number of bytes to be read from now on."""
        self._allowed = size

    def read(self, size: int) -> bytes:
        """Read bytes."""
        self._allowed -= size
        self._check(self._stream.tell() if self._allowed >= 0 else self._limit, size)
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        """Go to a position."""
        self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()

    def finish(self) -> None:
        """Read to the end of the stream, where its checksum is verified."""
        while self._stream.read(1 << 20):
            self._check(self._stream.tell())

    def _check(self, position: int, size: int = 0) -> None:
        if position + size > self._limit:
            raise ValueError("it describes more data than an archive of its size can hold")


def _check_size(where: str, size: int) -> None:
    if size > _LARGEST_FILE:
        raise FormatError(f"{where}: is too large for a file of CIFAR-10: {size:,} bytes")


def fetch(folder: Path, url: str = URL, sha256: str = SHA256) -> Path:
    """Download the archive of CIFAR-10 (170 MB) and verify its checksum.

    Parameters
    ----------
    folder : Path
        Folder for `cifar-10-python.tar.gz`, created if necessary.  The file appears there once it is complete.
    url : str
        Address of the archive.
    sha256 : str
        Expected SHA-256 of the archive, 64 hexadecimal digits.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    MissingDataError
        If the archive cannot be downloaded or written.
    IntegrityError
        If the checksum of the download differs.

    Examples
    --------
    >>> import hashlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source = Path(folder, "source")
    ...     _ = source.write_bytes(b"images")
    ...     archive = fetch(Path(folder, "images"), source.as_uri(), hashlib.sha256(b"images").hexdigest())
    ...     archive.name, archive.read_bytes()
    ('cifar-10-python.tar.gz', b'images')
    """
    archive = folder / ARCHIVE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:  # removed after errors, too
            partial = Path(temporary, ARCHIVE)
            torch.hub.download_url_to_file(url, str(partial), hash_prefix=sha256, progress=False)
            partial.replace(archive)
    except RuntimeError as error:  # the hash differs
        raise IntegrityError(
            f"{url}: the download does not have the checksum of CIFAR-10; try again, or put {ARCHIVE} into {folder} "
            "yourself"
        ) from error
    except (OSError, ValueError) as error:  # HTTP errors are subclasses of OSError; a malformed URL is a ValueError
        raise MissingDataError(
            f"{url}: cannot be downloaded into {folder}: {error_reason(getattr(error, 'reason', None) or error)}"
        ) from error
    return archive


# --- content ---


def _read(where: str, pickled: bytes, budget: Budget) -> LabelledImages:
    """Return the images `(n, 3, 32, 32) uint8` and the labels `(n,) int64` of a file."""
    try:
        content = read_pickle(Bounded(io.BytesIO(pickled), len(pickled), budget), _BUILDERS)
    except Exception as error:  # damaged and malicious pickles raise many types
        raise FormatError(f"{where}: is not a file of CIFAR-10: {error_reason(error)[:200]}") from error
    if not isinstance(content, dict):
        raise FormatError(f"{where}: is not a file of CIFAR-10: expected a dictionary, got a {type(content).__name__}")
    # The official files have text keys; files rewritten by Python 3 programs often have bytes keys.
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
        return f"an array of shape {value.shape}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
