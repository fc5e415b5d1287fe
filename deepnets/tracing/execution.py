"""Execution of torch functions on tensors of the run, some of which are on `meta` and some on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deepnets.tracing.call import Call
from deepnets.tracing.tensors import mapped, on_cpu, requested_elements

__all__ = ["CPU", "FACTORIES", "META", "execute"]

META = torch.device("meta")
CPU = torch.device("cpu")

LARGEST_REAL = 1 << 22
"""Largest number of elements of a constant that is created with values."""

# Functions whose tensor arguments after the first one are indices, which may be on another device.
_INDEXING = frozenset(("__getitem__", "__setitem__", "index_put", "index_put_", "embedding"))
_MOVES = frozenset(("to", "cpu", "cuda", "xpu", "mps", "npu", "_to_copy"))
FACTORIES = frozenset(
    (
        *("zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "eye", "tensor", "as_tensor", "rand"),
        *("randn", "randint", "randperm", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like"),
        *("randn_like", "randint_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "tril_indices"),
        *("triu_indices", "scalar_tensor", "empty_strided", "new_empty_strided", "range", "asarray", "hann_window"),
    )
)
_FROM_EXAMPLE = ("_like", "new_")
_COPIES = ("tensor", "as_tensor", "asarray", "new_tensor")


def execute(call: Call, real: bool, on_meta: Callable[[Tensor], Tensor]) -> Any:
    """Call the function with tensors on devices that fit together.

    Parameters
    ----------
    call : Call
        The function and its arguments.
    real : bool
        Whether all tensors have values, on the CPU.
    on_meta : callable
        Returns a copy of a tensor on `meta`.
    """
    args, kwargs = call.args, call.kwargs
    if call.name in _MOVES:
        return _moved(call)
    if call.name in FACTORIES or "device" in kwargs:
        args, kwargs = _placed(call, real)
    elif not real and any(tensor.device.type == "meta" for tensor in call.tensors):
        keep = call.name in _INDEXING

        def convert(tensor: Tensor) -> Tensor:
            if tensor.device.type == "meta":
                return tensor
            return tensor.to(CPU) if keep and not tensor.is_floating_point() else on_meta(tensor)

        args, kwargs = mapped(args, convert), mapped(kwargs, convert)
    elif real:
        args, kwargs = mapped(args, on_cpu), mapped(kwargs, on_cpu)
    return call.function(*args, **kwargs)


def _moved(call: Call) -> Any:
    """Apply `Tensor.to` and similar methods: they may change the dtype, but not the device."""
    tensor = call.args[0]
    dtype = call.kwargs.get("dtype")
    for argument in call.args[1:]:
        if isinstance(argument, torch.dtype):
            dtype = argument
        elif isinstance(argument, Tensor):
            dtype = argument.dtype
    if isinstance(call.kwargs.get("other"), Tensor):
        dtype = call.kwargs["other"].dtype
    if not isinstance(tensor, Tensor):
        return tensor
    flags = [argument for argument in call.args[1:] if isinstance(argument, bool)]  # non_blocking, copy
    copy = call.kwargs.get("copy", len(flags) > 1 and flags[1])
    if dtype in (None, tensor.dtype):
        return tensor.clone() if copy else tensor
    return tensor.to(dtype)


def _sizes(call: Call) -> list[Any]:
    """The sizes of a tensor that is created, among the arguments of a function."""
    if call.name.endswith("_like") or call.name == "scalar_tensor":
        return []
    if call.name in ("arange", "range"):
        given = call.args if len(call.args) > 1 or "end" in call.kwargs else (0, *call.args)
        numbers = {"start": 0, "end": 0, "step": 1}
        numbers |= dict(zip(numbers, given))
        start, end, step = (call.kwargs.get(name, number) for name, number in numbers.items())
        known = all(isinstance(number, (int, float)) and math.isfinite(number) for number in (start, end, step))
        return [int(abs((end - start) / step))] if known and step else []
    if call.name in ("linspace", "logspace"):
        return [call.argument(2, "steps", 1)]
    sizes = [call.kwargs["size"]] if "size" in call.kwargs else []
    if call.name in ("full", "new_full", "randint"):
        return sizes or [argument for argument in call.args if isinstance(argument, (list, tuple))]
    return [*call.args, *sizes]


def _placed(call: Call, real: bool) -> tuple[Any, Any]:
    """Return arguments of a function that creates a tensor: on the CPU if it is small, otherwise on `meta`."""
    args, kwargs = call.args, dict(call.kwargs)
    example = call.tensors[0] if call.tensors and any(word in call.name for word in _FROM_EXAMPLE) else None
    place = CPU
    if not real and example is not None and call.name.endswith("_like") and example.numel() > LARGEST_REAL:
        place = META
    if not real and call.name not in _COPIES and requested_elements(_sizes(call)) > LARGEST_REAL:
        place = META
    if call.name in _COPIES and any(t.device.type == "meta" for t in call.tensors):
        place = META
    kwargs["device"] = place
    if call.name in ("as_tensor", "asarray") and call.tensors and place is CPU:
        kwargs["device"] = call.tensors[0].device
    return args, kwargs
