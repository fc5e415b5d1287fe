"""Helpers for tensors, and for nested lists, tuples and dicts of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = [
    *("is_floating", "mapped", "mapped_parts", "on_cpu", "requested_elements", "same_view", "storage_key"),
    "with_numbers",
]

CPU = torch.device("cpu")


def storage_key(tensor: Tensor) -> int:
    """Return an integer that identifies the storage of a tensor while the tensor exists."""
    try:
        key: int = tensor.untyped_storage()._cdata
        return key
    except (RuntimeError, NotImplementedError):  # sparse, nested and vmapped tensors have no storage
        return id(tensor)


def is_floating(tensor: Tensor) -> bool:
    """Return whether a tensor holds floating-point or complex numbers, not indices or conditions."""
    return tensor.is_floating_point() or tensor.is_complex()


def same_view(base: Tensor, tensor: Tensor) -> Tensor:
    """Return the view of the storage of `base` that has the dtype, shape, strides and offset of another tensor."""
    view = torch.empty(0, dtype=tensor.dtype, device=base.device)
    return view.set_(base.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def mapped(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """Apply a function to every tensor of nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        return change(tree)
    return mapped_parts(tree, lambda part: mapped(part, change)) if isinstance(tree, (list, tuple, dict)) else tree


def mapped_parts(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a function to every element of a list or tuple, or to every value of a dict."""
    if isinstance(tree, dict):
        return {key: change(part) for key, part in tree.items()}
    parts = [change(part) for part in tree]
    if isinstance(tree, list):
        return parts
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def on_cpu(tensor: Tensor) -> Tensor:
    """Return the tensor if it is on the CPU, otherwise a copy there."""
    return tensor if tensor.device.type == "cpu" else with_numbers(tensor)


def with_numbers(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU with the same values; one on `meta` gets random numbers, or zeros if it is integer."""
    if tensor.device.type != "meta":
        return tensor.detach().to(CPU)
    generator = torch.Generator().manual_seed(0)
    if not is_floating(tensor):
        return torch.zeros(tuple(tensor.shape), dtype=tensor.dtype)
    kind = torch.complex64 if tensor.is_complex() else torch.float32
    return torch.randn(tuple(tensor.shape), generator=generator, dtype=kind).mul_(0.02).to(tensor.dtype)


def requested_elements(args: Iterable[Any]) -> int:
    """Return the product of the integers in the arguments of a function that creates a tensor, the size it has."""
    count = 1
    for argument in args:
        for size in argument if isinstance(argument, (list, tuple)) else (argument,):
            if isinstance(size, int) and not isinstance(size, bool):
                count *= max(1, size)
    return count
