"""Tensors, arrays and other plain values in untrusted pickles of PyTorch, NumPy and joblib.

A tensor is pickled as a view of a storage.  Files of `torch.save` contain the storages outside of the pickle; joblib
pickles each storage as the bytes of a file in the format of PyTorch before 1.6, and inserts the values of NumPy arrays
between the instructions of the pickle.  An `argparse.Namespace` is read as a dictionary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepnets.support import DAMAGED, Bounded, Budget, Name, Unfinished, fill, read_pickle, shown

__all__ = ["read_old_format", "read_tensors", "view_numbers"]

Storages = Callable[[str, torch.dtype, int], Tensor]

MOST_AXES = 16
_TENSOR = 1024  # bytes that a tensor takes without its elements
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_ARRAY_DTYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # first values in files of PyTorch before 1.6


def read_tensors(stream: Bounded, storages: Storages | None = None) -> Any:
    """Read a pickle that contains tensors, without executing code.

    Parameters
    ----------
    stream
        Stream at the start of the pickle.
    storages
        Returns a storage that is not part of the pickle as a 1-D tensor, given its key, dtype and number of elements.

    Returns
    -------
    Containers, strings, bytes, numbers, None, `torch.Tensor` and `numpy.ndarray`.

    Raises
    ------
    ValueError
        If the pickle refers to anything else.  Damaged pickles may raise any exception.

    Examples
    --------
    >>> import io, pickle
    >>> data = pickle.dumps({"epochs": 3})
    >>> read_tensors(Bounded(io.BytesIO(data), len(data)))
    {'epochs': 3}
    """

    def find(key: Any) -> Tensor:
        if storages is None or type(key) is not tuple or key[0] != "storage":
            raise ValueError("refers to data outside of the pickle")
        kind, name, number = key[1], key[2], key[4]
        if type(kind) is not Name or not kind.startswith("torch.") or kind[6:] not in DTYPES or type(name) is not str:
            raise ValueError(f"has a storage of type {shown(kind)}")
        return storages(name, DTYPES[kind[6:]], _size(number))

    builders: dict[str, Callable[..., Any]] = {
        **_BUILDERS,
        **dict.fromkeys(
            ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"),
            functools.partial(_tensor, stream.budget),
        ),
        "torch.storage._load_from_bytes": functools.partial(_storage, stream.budget),
    }
    return read_pickle(stream, builders, find)


def read_old_format(buffer: Any, budget: Budget | None = None) -> Any:
    """Read a file in the format of PyTorch before 1.6: five pickles, the fourth with the value, then the storages.

    Parameters
    ----------
    buffer
        The bytes of the file, writable; tensors are views of them.
    budget
        Limit on what is created.  By default, that of a file of this size.

    Returns
    -------
    As in `read_tensors`.

    Raises
    ------
    ValueError
        As in `read_tensors`.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> torch.save(torch.ones(2), file, _use_new_zipfile_serialization=False)
    >>> read_old_format(bytearray(file.getvalue()))
    tensor([1., 1.])
    """
    view = memoryview(buffer)
    sizes: dict[str, tuple[torch.dtype, int]] = {}

    def note(key: str, dtype: torch.dtype, number: int) -> Tensor:
        sizes[key] = dtype, number
        return torch.empty(number, dtype=dtype, device="meta")

    stream = Bounded(_Bytes(view), len(view), budget)
    magic, protocol, _ = (read_tensors(stream) for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError("is in an unknown format")
    start = stream.position
    read_tensors(stream, note)
    keys = read_tensors(stream)

    position, found = stream.position, dict[str, Tensor]()
    for key in keys:
        dtype, number = sizes[key]
        if int.from_bytes(view[position : position + 8], "little") != number:
            raise ValueError(DAMAGED)
        found[key] = view_numbers(buffer, dtype, number, position + 8)
        position += 8 + number * dtype.itemsize
    if position != len(view):
        raise ValueError(DAMAGED)

    def storage(key: str, dtype: torch.dtype, number: int) -> Tensor:
        if (found[key].dtype, len(found[key])) != (dtype, number):
            raise ValueError(DAMAGED)
        return found[key]

    return read_tensors(Bounded(_Bytes(view[start:]), len(view) - start, stream.budget), storage)


def view_numbers(buffer: Any, dtype: torch.dtype, number: int, start: int) -> Tensor:
    """View part of a writable buffer as a 1-D tensor.

    Parameters
    ----------
    buffer
        The buffer.
    dtype, number
        Dtype and number of elements.
    start
        Offset in bytes.

    Raises
    ------
    ValueError
        If the buffer is too short.

    Examples
    --------
    >>> view_numbers(bytearray(8), torch.float32, number=1, start=4)
    tensor([0.])
    """
    if number * dtype.itemsize > len(buffer) - start:
        raise ValueError("ends in the middle of a tensor")
    return torch.frombuffer(buffer, dtype=dtype, count=number, offset=start) if number else torch.empty(0, dtype=dtype)


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    filled: dict[Any, Any] = {}
    fill(filled, [part for key, value in pairs for part in (key, value)])
    return filled


def _namespace(stream: Bounded, state: Any) -> dict[Any, Any]:
    if type(state) is not dict:
        raise ValueError(DAMAGED)
    return state


# --- tensors ---


def _tensor(budget: Budget, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """A view of a storage; refused if it claims to be larger than the storage."""
    shape, strides = _sizes(shape), _sizes(strides)
    if type(storage) is not Tensor or storage.ndim != 1 or len(shape) != len(strides):
        raise ValueError(DAMAGED)
    if math.prod(shape) > len(storage):
        raise ValueError(f"has a tensor of shape {tuple(shape)} on a storage of {len(storage):,} elements")
    budget.spend(_TENSOR)
    return storage.as_strided(shape, strides, _size(offset))


def _parameter(data: Any, *_: Any) -> Tensor:
    if type(data) is not Tensor:
        raise ValueError(DAMAGED)
    return data


def _storage(budget: Budget, data: Any) -> Tensor:
    """The storage in the bytes of a file in the old format."""
    if not isinstance(data, bytes | bytearray):
        raise ValueError(DAMAGED)
    storage = read_old_format(data if isinstance(data, bytearray) else bytearray(data), budget)
    if type(storage) is not Tensor:
        raise ValueError(DAMAGED)
    return storage


class _Bytes:
    def __init__(self, view: memoryview) -> None:
        self._view, self._position = view, 0

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        start, self._position = self._position, min(self._position + size, len(self._view))
        return bytes(self._view[start : self._position])


# --- arrays ---


def _numpy_dtype(name: Any, *_: Any) -> Unfinished:
    if name not in _ARRAY_DTYPES:
        raise ValueError(f"has an array of {shown(name)}")

    def finish(_: Bounded, state: Any) -> np.dtype[Any]:
        if state[1] not in ("<", "|", "="):
            raise ValueError("holds numbers of another byte order")
        return np.dtype(f"<{name}")

    return Unfinished(finish)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise ValueError(DAMAGED)
    return np.frombuffer(data, dtype, count=1)[0].item()


def _array(_: Bounded, state: Any) -> np.ndarray[Any, Any]:
    _version, shape, dtype, fortran, data = state
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes | bytearray):
        raise ValueError(DAMAGED)
    return np.frombuffer(data, dtype).reshape(_sizes(shape), order="F" if fortran else "C")


def _joblib_array(stream: Bounded, state: Any) -> np.ndarray[Any, Any]:
    if state["subclass"] not in ("numpy.ndarray", "numpy.memmap"):
        raise ValueError(f"has an array of type {shown(state['subclass'])}")
    dtype, shape = state["dtype"], _sizes(state["shape"])
    if not isinstance(dtype, np.dtype):
        raise ValueError(DAMAGED)
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.read(stream.read(1)[0])
    size = math.prod(shape) * dtype.itemsize
    data = stream.read(size)
    if len(data) != size:
        raise ValueError("ends in the middle of an array")
    return _array(stream, (1, tuple(shape), dtype, state["order"] == "F", bytearray(data)))


# --- small values ---


def _encoded(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise ValueError(DAMAGED)
    return text.encode("latin1")


def _device(kind: Any, index: Any = 0) -> str:
    if type(kind) is not str or type(index) is not int:
        raise ValueError(DAMAGED)
    return f"{kind}:{index}"


def _sizes(numbers: Any) -> list[int]:
    if type(numbers) is not tuple or len(numbers) > MOST_AXES:
        raise ValueError(DAMAGED)
    return [_size(number) for number in numbers]


def _size(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 1 << 48:
        raise ValueError(DAMAGED)
    return number


_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": lambda numbers: tuple(_sizes(numbers)),
    "torch.device": _device,
    "argparse.Namespace": lambda: Unfinished(_namespace),
    "joblib.numpy_pickle.NumpyArrayWrapper": lambda: Unfinished(_joblib_array),
    "numpy.dtype": _numpy_dtype,
    "_codecs.encode": _encoded,
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: Unfinished(_array) for core in ("core", "_core")},
}
