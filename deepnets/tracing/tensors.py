"""Small questions about tensors, and nests of lists, tuples and dicts with tensors in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["asked_elements", "is_integer", "mapped", "mapped_parts", "on_cpu", "storage_key", "with_numbers"]

CPU = torch.device("cpu")


def storage_key(tensor: Tensor) -> int:
    """What tells the storage of a tensor from all others, as long as it lives."""
    try:
        key: int = tensor.untyped_storage()._cdata
        return key
    except (RuntimeError, NotImplementedError):  # sparse, nested and vmapped tensors have no storage
        return id(tensor)


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor holds integers, which may be indices."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def mapped(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same nest of lists, tuples and dicts with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    return mapped_parts(tree, lambda part: mapped(part, change)) if isinstance(tree, (list, tuple, dict)) else tree


def mapped_parts(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same list, tuple or dict with every part changed."""
    if isinstance(tree, dict):
        return {key: change(part) for key, part in tree.items()}
    parts = [change(part) for part in tree]
    if isinstance(tree, list):
        return parts
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def on_cpu(tensor: Tensor) -> Tensor:
    """A tensor itself, if it is there, or else a copy."""
    return tensor if tensor.device.type == "cpu" else with_numbers(tensor)


def with_numbers(tensor: Tensor) -> Tensor:
    """A tensor on the CPU with the same numbers, or with some, if it has none."""
    if tensor.device.type != "meta":
        return tensor.detach().to(CPU)
    generator = torch.Generator().manual_seed(0)
    if not tensor.is_floating_point():
        return torch.zeros(tuple(tensor.shape), dtype=tensor.dtype)
    return torch.randn(tuple(tensor.shape), generator=generator).mul_(0.02).to(tensor.dtype)


def asked_elements(args: Iterable[Any]) -> int:
    """How many elements a function that makes a tensor is asked for, as far as its arguments say so."""
    count = 1
    for argument in args:
        for size in argument if isinstance(argument, (list, tuple)) else (argument,):
            if isinstance(size, int) and not isinstance(size, bool):
                count *= max(1, size)
    return count
