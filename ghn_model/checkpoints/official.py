"""Checkpoints of the original releases: PPUDA (MLP, GHN-1, GHN-2), GHN-3 and LoGAH, in all formats that were used.

=================  ===============================================================================================
PPUDA, ``.pt``     `torch.save` of `state_dict`, `config` (constructor arguments) and training state
GHN-3, ``.pt``     the same with an optional `config`; trainers add `args`, an `argparse.Namespace`
LoGAH, ``.pt``     the same; `config` always
GHN-3, hub         joblib pickle of the bare `state_dict`
=================  ===============================================================================================

No code in a file is executed: `deepnets.support.read_pickle` reads pickles as data.  (`torch.load` with
``weights_only=True`` does not execute code, either, but it supports neither joblib nor namespaces, and some damaged
files make it crash or allocate all memory.)
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from deepnets.support import Bounded, Budget, CheckpointError, ConfigError, parse_json
from deepnets.tracing import check_vocabulary
from ghn_model.checkpoints.decompression import decompressed
from ghn_model.checkpoints.official_layouts import (
    add_unused_tensors,
    current_names,
    current_ranks,
    infer_config,
    infer_fields,
)
from ghn_model.checkpoints.pickled_tensors import read_old_format, read_tensors, view_numbers

__all__ = ["OfficialFile", "read_official", "read_saved"]

LARGEST_RATIO = 16  # limit of decompression; trained weights compress much less
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_KINDS = {  # first bytes of files
    b"PK\x03\x04": "zip",
    _OLD_TORCH: "old torch",
    b"\x80": "pickle",
    b"\x78": "zlib",
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x89HDF\r\n\x1a\n": "HDF5",
}
_GHN3_KEYWORDS = {"layers", "heads", "is_ghn2"}
_KEYWORDS = {
    *("max_shape", "num_classes", "hypernet", "decoder", "weight_norm", "ve", "layernorm", "hid"),
    *_GHN3_KEYWORDS,
    *("lora", "lora_r", "max_ck_lora", "use_1d_decoder"),
}


class OfficialFile(NamedTuple):
    """The content of a file of the original releases.

    Attributes
    ----------
    config
        Constructor arguments of the original classes, inferred from the tensors where the file has none.
    tensors
        The state_dict, with the tensor names of `GHN`.
    inferred
        Whether the file has no config.
    vocabulary
        The vocabulary of the graphs that it was trained with: the one that the file states, or that of the code that
        wrote the file, "ppuda", "ghn3" or "logah".
    metadata
        Metadata of a file that `save_official` wrote.
    fields
        Fields of `GHNConfig` that the arguments do not state (see `infer_fields`).
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    inferred: bool
    vocabulary: str
    metadata: dict[str, Any]
    fields: dict[str, Any]


def read_official(path: Path) -> OfficialFile:
    """Read a file of the original releases.

    Parameters
    ----------
    path
        The file; its content decides, not its suffix.

    Returns
    -------
    The content.  Tensors may be memory-mapped; their shapes are not compared with the config.

    Raises
    ------
    CheckpointError
        If the file is of another kind, damaged, or contains anything but data.

    Examples
    --------
    >>> import tempfile
    >>> from ghn_model import GHN
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": GHN("ghn1").state_dict()}, f"{folder}/ghn1.pt")
    ...     official = read_official(Path(folder, "ghn1.pt"))
    >>> official.inferred, official.config["hypernet"], official.config["ve"], official.vocabulary
    (True, 'gatedgnn', False, 'ppuda')
    """
    payload = read_saved(path)
    if type(payload) is not dict:
        raise CheckpointError(f"{path}: holds a {type(payload).__name__}, expected a dictionary with a state_dict")
    state = payload.get("state_dict", payload)
    if not isinstance(state, dict) or not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        keys = ", ".join(str(key)[:40] for key in list(payload)[:6])
        raise CheckpointError(
            f"{path}: expected the state_dict of a hypernetwork, got a dictionary with {keys or 'nothing'}"
        )
    config = None if state is payload else payload.get("config")
    if config is not None:
        config = _checked_config(path, config)
    tensors = current_names(state)
    _check_claims(path, tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = infer_config(shapes)
    if found is None:
        names = ", ".join(list(tensors)[:4])
        raise CheckpointError(f"{path}: its tensors ({names}, ...) are not those of a hypernetwork")
    graphormer = found["hypernet"] == "graphormer"
    last = tensors.get("decoder.conv.2.weight")
    # The code of GHN-3, which also trains GHN-2, has more arguments, and linear layers instead of convolutions.
    of_ghn3 = graphormer or bool(_GHN3_KEYWORDS & (config or {}).keys()) or (last is not None and last.ndim == 2)
    told = {**found, **(config or {}), "hypernet": found["hypernet"]}
    vocabulary, fields = "ghn3" if of_ghn3 else "ppuda", {}
    if of_ghn3:
        told["is_ghn2"] = not graphormer
    if found["decoder"] == "conv":
        current_ranks(tensors, graphormer)
    elif found["decoder"] == "lowrank":
        told["lora"] = True
        vocabulary, fields = "logah", infer_fields(shapes, config or {})
        add_unused_tensors(tensors)
    stated = {} if state is payload else payload
    vocabulary = _stated_vocabulary(path, stated) or vocabulary
    return OfficialFile(told, tensors, config is None, vocabulary, _stated_metadata(stated), fields)


def _checked_config(path: Path, config: Any) -> dict[str, Any]:
    """The known arguments, after a check that they are plain values."""
    if type(config) is not dict:
        raise CheckpointError(f"{path}: config: expected a dictionary, got a {type(config).__name__}")
    for name in (known := _KEYWORDS & config.keys()):
        value = config[name]
        for item in value if isinstance(value, tuple | list) else [value]:
            if not isinstance(item, bool | int | float | str | None):
                raise CheckpointError(f"{path}: config: {name}: expected a plain value, got a {type(item).__name__}")
    return {name: config[name] for name in known}


def _stated_vocabulary(path: Path, payload: Mapping[str, Any]) -> str | None:
    """The vocabulary that `save_official` stored, if any."""
    if (stated := payload.get("vocabulary")) is None:
        return None
    try:
        return check_vocabulary(stated)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _stated_metadata(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that `save_official` stored; other entries of this name are ignored."""
    try:
        metadata = parse_json(payload.get("metadata", "{}"))
    except (TypeError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _check_claims(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that claim to be larger than their storage, such as expanded or sparse ones."""
    storages: dict[int, int] = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise CheckpointError(f"{path}: {name}: is not a dense tensor on the CPU; refused")
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > sum(storages.values()):
        raise CheckpointError(f"{path}: its tensors claim {claimed:,} bytes, more than it holds; refused")


# --- the formats of files ---


def read_saved(path: Path) -> Any:
    """Read a file written by `torch.save` or `joblib.dump`, without executing code.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    The stored object: tensors on the CPU, in containers.

    Raises
    ------
    CheckpointError
        If the file is of another kind, damaged, or contains anything but data.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"x": torch.ones(2)}, f"{folder}/file.pt")
    ...     read_saved(Path(folder, "file.pt"))
    {'x': tensor([1., 1.])}
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            start = file.read(len(_OLD_TORCH))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), "unknown")
    if kind in ("HDF5", "unknown"):
        what = "is an HDF5 file" if kind == "HDF5" else "is of an unknown kind" if start else "is empty"
        raise CheckpointError(f"{path}: {what}; expected a checkpoint: .safetensors, .pt or a joblib pickle")
    if kind == "lz4":
        raise CheckpointError(f"{path}: is compressed with lz4; decompress it first: lz4 -d FILE")
    try:
        if kind == "zip":
            return _zipped(path)
        if kind == "old torch":
            return read_old_format(np.memmap(path, np.uint8, "c"))
        size = path.stat().st_size
        with decompressed(path, kind) as stream:
            limit = size + 1 if kind == "pickle" else LARGEST_RATIO * size + (1 << 24)
            bounded = Bounded(stream, limit, Budget(size))
            payload = read_tensors(bounded)
            if bounded.read(1):  # also makes gzip and others verify their checksums
                raise ValueError("has data after its end")
            return payload
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {_reason(error)}") from error


def _zipped(path: Path) -> Any:
    """Read the zip format of `torch.save`."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"{path}: is a zip archive, but not one of torch.save")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError(f"{path}: is a compressed zip archive, which torch.save does not write; refused")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CheckpointError(f"{path}: claims to contain more than its size; refused")
        if (damaged := archive.testzip()) is not None:
            raise CheckpointError(f"{path}: {damaged} does not match its checksum (CRC-32); the file is damaged")
        folder = pickles[0].filename.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("holds numbers of another byte order")
        starts = {entry.filename: _start(file, entry) for entry in entries}
        content = np.memmap(path, np.uint8, "c")
        found: dict[str, Tensor] = {}

        def storage(key: str, dtype: torch.dtype, number: int) -> Tensor:
            name = f"{folder}data/{key}"
            if archive.getinfo(name).file_size != number * dtype.itemsize:
                raise ValueError("has a storage whose size differs from the stated one")
            if key not in found:
                found[key] = view_numbers(content, dtype, number, starts[name])
            if found[key].dtype != dtype:
                raise ValueError("has a storage of two types")
            return found[key]

        with archive.open(pickles[0]) as stream:
            pickled = io.BytesIO(stream.read())  # as large as the file at most; small reads of an entry are slow
        return read_tensors(Bounded(pickled, pickles[0].file_size), storage)


def _start(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """Offset of the content of an entry: after a header of 30 bytes, the name and the extra field."""
    file.seek(entry.header_offset)
    header = file.read(30)
    return entry.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    text = " ".join(str(error).split())
    return text[:200] if isinstance(error, ValueError | RuntimeError) and text else "is damaged"
