"""safetensors files that are whole or not there at all, and that know when a byte of them changed.

`write_tensors` writes beside the target, waits for the disk and renames.  The metadata of a file hold a SHA-256 of its
tensors and of its other metadata, which `TensorFile.check` compares.
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

from deepnets.support import CheckpointError, atomic_write

__all__ = ["DIGEST", "TensorFile", "check_writable", "file_digest", "is_safetensors", "write_tensors"]

DIGEST = "content_sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts to a safetensors file, which is replaced if it exists.

    Parameters
    ----------
    path
        The file; it appears when everything is on the disk, or not at all.
    tensors
        By name, on any device.  Tensors that share memory are written each for itself.
    metadata
        Texts by name.

    Raises
    ------
    CheckpointError
        If the file cannot be written: no folder, no space, no permission.
    """
    plain = _separate(tensors)
    metadata = {**metadata, DIGEST: content_digest(plain, metadata)}
    _refuse_folder(path)
    try:
        with atomic_write(path) as temporary:
            mode = temporary.stat().st_mode
            save_file(plain, temporary, metadata)
            temporary.chmod(mode)  # the library makes files that nobody else can read
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be written: {reason}") from error


def check_writable(path: Path) -> None:
    """Raise the `CheckpointError` that `write_tensors` would, if the folder is missing or nothing can be made in it."""
    _refuse_folder(path)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error


class TensorFile:
    """A safetensors file, open for reading; the library has checked that its sizes fit the file.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    metadata : dict of str to str
    tensors : dict of str to Tensor
        Views of the file: without memory until their numbers are read.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is incomplete or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                self.metadata: dict[str, str] = dict(file.metadata() or {})
                self.tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path}: is damaged or incomplete ({text}); get the file again") from error

    def check(self) -> None:
        """Compare the content with its digest: `CheckpointError` if anything has changed since it was written."""
        others = {name: text for name, text in self.metadata.items() if name != DIGEST}
        if self.metadata.get(DIGEST) != content_digest(self.tensors, others):
            raise CheckpointError(f"{self.path}: does not match its SHA-256; the file is damaged or was changed")


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, types, shapes and numbers of tensors, and of texts, in the order of their names."""
    digest = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        digest.update(f"{len(name)} {len(text)} {name}{text}".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{len(name)} {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a whole file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors files do: the length of a header, which is JSON.

    Raises
    ------
    CheckpointError
        If it is no file, or cannot be read.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            start = file.read(9)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return len(start) == 9 and start[5:] == b"\0\0\0{"


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, none of which shares memory with another or is part of a larger one."""
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


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path}: cannot be written: it is a folder")
