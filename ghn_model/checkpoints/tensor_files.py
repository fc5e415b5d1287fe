"""safetensors files that are written atomically and contain a checksum.

The metadata of a file contain the SHA-256 of its tensors and of its other metadata, which `TensorFile.check` verifies.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from deepnets.support import CheckpointError, ConfigError, atomic_write, check_regular
from ghn_model.choices import FORMATS

__all__ = [
    "DIGEST",
    "TensorFile",
    "check_suffix",
    "check_tensors",
    "check_writable",
    "file_digest",
    "is_safetensors",
    "separate_tensors",
    "write_state_dict",
    "write_tensors",
]

DIGEST = "content_sha256"
TRAINED = ("ghn.safetensors", "hypernetwork.safetensors")  # in the folder of a training
LARGEST_HEADER = 16 << 20  # bytes; enough for 100,000 tensors, which take 200 MB of memory even if they are empty


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and strings to a safetensors file, atomically; an existing file is replaced.

    Parameters
    ----------
    path
        The file.
    tensors
        Tensors by name, on any device.  Tensors that share memory are written separately.
    metadata
        Strings by name.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    ConfigError
        If the names and strings take more than the 16 MB that `TensorFile` reads.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder, "file.safetensors"), {"x": torch.ones(2)}, {"key": "value"})
    ...     file = TensorFile(Path(folder, "file.safetensors"))
    ...     file.check()
    >>> file.tensors["x"], file.metadata["key"]
    (tensor([1., 1.]), 'value')
    """
    plain = separate_tensors(tensors)
    metadata = {**metadata, DIGEST: content_digest(plain, metadata)}
    _refuse_folder(path)
    try:
        with atomic_write(path) as temporary:
            mode = temporary.stat().st_mode
            save_file(plain, temporary, metadata)
            temporary.chmod(mode)  # safetensors makes files that only their owner can read
            _check_header(temporary)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be written: {reason}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be written: {error}") from error


def check_suffix(path: Path, format: str) -> None:
    """Raise a `ConfigError` if the name of a file contradicts its format, so that other programs would misread it.

    Parameters
    ----------
    path
        The file.
    format
        One of `FORMATS`.

    Examples
    --------
    >>> check_suffix(Path("ghn.safetensors"), "deepnets1m")
    >>> check_suffix(Path("ghn.pt"), "deepnets1m")
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: ghn.pt: files of the format deepnets1m end in .safetensors
    """
    own = format == FORMATS[0]
    if path.suffix.lower() in ((".pt", ".pth") if own else (".safetensors",)):
        raise ConfigError(f"{path}: files of the format {format} end in {'.safetensors' if own else '.pt'}")


def write_state_dict(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as a dict with `torch.save`, atomically; `torch.load(path, weights_only=True)` reads it.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    tensors
        Tensors by name, on any device.

    Raises
    ------
    CheckpointError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_state_dict(Path(folder, "file.pt"), {"x": torch.ones(2)})
    ...     torch.load(Path(folder, "file.pt"), weights_only=True)
    {'x': tensor([1., 1.])}
    """
    save_with_torch(path, separate_tensors(tensors))


def save_with_torch(path: Path, content: Any) -> None:
    """Write what `torch.load(path, weights_only=True)` can read, atomically; equal contents are equal files.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    content
        Tensors, numbers and texts, in containers.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    _refuse_folder(path)
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:  # given a path, torch writes its name
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be written: {reason}") from error


def check_writable(path: Path) -> None:
    """Raise a `CheckpointError` if `write_tensors` could not create a file, because the folder is missing or read-only.

    Examples
    --------
    >>> check_writable(Path("/no/such/folder/file"))
    Traceback (most recent call last):
        ...
    deepnets.support.errors.CheckpointError: /no/such/folder/file: cannot be written: No such file or directory
    """
    _refuse_folder(path)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error


class TensorFile:
    """The content of a safetensors file.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    metadata : dict of str to str
        The strings of the file, the checksum among them.
    tensors : dict of str to Tensor
        The tensors, which are memory-mapped: they take memory only when they are read.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is incomplete or of another kind.

    Examples
    --------
    >>> from ghn_model.checkpoints import PRETRAINED
    >>> file = TensorFile(PRETRAINED / "ghn2-digits.safetensors")
    >>> file.metadata["format"], file.tensors["ln.weight"].shape
    ('deepnets1m hypernetwork', torch.Size([32]))
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            check_regular(path)
            _check_header(path)
            with safe_open(path, framework="pt") as file:
                self.metadata: dict[str, str] = dict(file.metadata() or {})
                self.tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path}: is damaged or incomplete ({text}); get the file again") from error

    def check(self) -> None:
        """Raise a `CheckpointError` if the content does not match the checksum in the metadata."""
        others = {name: text for name, text in self.metadata.items() if name != DIGEST}
        if self.metadata.get(DIGEST) != content_digest(self.tensors, others):
            raise CheckpointError(f"{self.path}: does not match its SHA-256; the file is damaged or was changed")


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that tensors have the names, shapes and dtypes of others.

    Parameters
    ----------
    found
        Tensors of a file.
    expected
        Tensors like those that the file should hold, on any device.

    Raises
    ------
    ValueError
        If a tensor is missing, has another shape or dtype, or is not expected.

    Examples
    --------
    >>> check_tensors({"x": torch.ones(2)}, {"x": torch.ones(3)})
    Traceback (most recent call last):
    ValueError: x: expected (3,) torch.float32, got (2,) torch.float32
    """
    for names, verb in ((expected.keys() - found.keys(), "lacks"), (found.keys() - expected.keys(), "also holds")):
        if names:
            some = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise ValueError(f"{verb} {len(names)} tensors: {some[:200]}")
    for name, tensor in expected.items():
        got = found[name]
        if (got.shape, got.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(
                f"{name}: expected {tuple(tensor.shape)} {tensor.dtype}, got {tuple(got.shape)} {got.dtype}"
            )


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of the names, dtypes, shapes and values of tensors and of strings, sorted by name.

    Examples
    --------
    >>> content_digest({"x": torch.ones(2)}, {})[:8]
    'e1dfb293'
    """
    digest = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        digest.update(f"{len(name)} {len(text)} {name}{text}".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{len(name)} {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises
    ------
    CheckpointError
        If the file cannot be read.

    Examples
    --------
    >>> from ghn_model.checkpoints import PRETRAINED, model_card
    >>> file_digest(PRETRAINED / "ghn2-digits.safetensors") == model_card("ghn2-digits")["sha256"]
    True
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def is_safetensors(path: Path) -> bool:
    """Whether a file starts like a safetensors file: with the length of a JSON header.

    Raises
    ------
    CheckpointError
        If the path is not a file, or cannot be read.

    Examples
    --------
    >>> is_safetensors(Path(__file__))
    False
    """
    try:
        if not path.is_file():
            found = next((name for name in TRAINED if (path / name).is_file()), None)
            hint = f"is the folder of a training; use {path / found}" if found else "is not a file"
            raise CheckpointError(f"{path}: {hint if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            start = file.read(9)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return len(start) == 9 and start[5:] == b"\0\0\0{"


def separate_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors on the CPU that share no memory with each other and are not views of larger ones.

    Parameters
    ----------
    tensors
        Tensors by name, on any device.  They are copied only where necessary.

    Examples
    --------
    >>> separate = separate_tensors({"x": torch.zeros(1).expand(3)})
    >>> separate["x"].stride()
    (1,)
    """
    separate: dict[str, Tensor] = {}
    used: set[int] = set()
    for name, tensor in tensors.items():
        plain: Any = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in used or storage.nbytes() != plain.numel() * plain.element_size():
            plain = plain.clone()
        used.add(plain.untyped_storage().data_ptr())
        separate[name] = plain
    return separate


def _check_header(path: Path) -> None:
    """Refuse a header that describes too many tensors, before it is parsed."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if LARGEST_HEADER < length <= path.stat().st_size:  # an even larger one is truncated
        raise ValueError(f"its header of {length:,} bytes is larger than {LARGEST_HEADER:,}")


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path}: cannot be written: it is a folder")
