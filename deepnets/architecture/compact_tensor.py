"""Objects that stand for large tensors of which little is stored, and the functions of PyTorch that know them.

PyTorch calls the `__torch_function__` of such an object for all of its functions.  Those that are registered with
`implements` compute with what is stored; all others get the whole tensor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

__all__ = ["CompactTensor", "Repeated", "implements", "tile", "whole"]

Function = TypeVar("Function", bound=Callable[..., Any])

_implementations: dict[Callable[..., Any], Callable[..., Any]] = {}


class CompactTensor(ABC):
    """An object that can take the place of a tensor."""

    @abstractmethod
    def whole(self) -> Tensor:
        """The tensor."""

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply a function of PyTorch to arguments among which is an instance."""
        kwargs = kwargs or {}
        if function in _implementations:
            result = _implementations[function](*args, **kwargs)
            if result is not None:
                return result
        return function(*whole(args), **whole(kwargs))


def implements(*functions: Callable[..., Any]) -> Callable[[Function], Function]:
    """Register the decorated function in place of functions of PyTorch.

    It gets their arguments, and returns None if they are to get whole tensors.
    """

    def register(implementation: Function) -> Function:
        _implementations.update(dict.fromkeys(functions, implementation))
        return implementation

    return register


def whole(value: Any) -> Any:
    """A value, which can be nested, with tensors in the places of compact ones.

    Examples
    --------
    >>> whole([Repeated(torch.zeros(1), (2,)), "unchanged"])
    [tensor([0., 0.]), 'unchanged']
    """
    if isinstance(value, CompactTensor):
        return value.whole()
    if value is None or isinstance(value, (Tensor, int, float)):
        return value
    if type(value) in (tuple, list):  # without the search of `tree_map_only`, which takes longer than small layers
        return type(value)(whole(each) for each in value)
    return tree_map_only(CompactTensor, lambda each: each.whole(), value) if value else value


class Repeated(CompactTensor):
    """A parameter that consists of copies of a block, as hypernetworks predict them.

    `run_network` takes it in place of a tensor, and computes channels that are equal once.

    Parameters
    ----------
    block
        Tensor of the rank of the parameter, no longer than it along any axis.
    shape
        Shape of the parameter.

    Examples
    --------
    >>> Repeated(torch.tensor([1, 2, 3]), (7,)).whole()
    tensor([1, 2, 3, 1, 2, 3, 1])
    """

    def __init__(self, block: Tensor, shape: Sequence[int]) -> None:
        self.block, self.shape = block, torch.Size(shape)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements."""
        return self.block.dtype

    def whole(self) -> Tensor:
        """The whole tensor, which passes gradients on to the block."""
        return tile(self.block, self.shape)

    def contiguous(self) -> Repeated:
        """The parameter itself."""
        return self

    def __len__(self) -> int:
        return self.shape[0]


def tile(block: Tensor, shape: Sequence[int], out: Tensor | None = None) -> Tensor:
    """Repeat a block along all axes until it fills a shape; the last copy is cut off where it does not fit.

    Parameters
    ----------
    block
        Tensor of the rank of the result, no longer than it along any axis.
    shape
        Shape of the result.
    out
        Tensor of this shape, of any dtype, layout and device, into which to write the result.

    Returns
    -------
    The result: `out` if given; `block` itself if it already has the shape; else a new tensor or a view of one.

    Examples
    --------
    >>> tile(torch.tensor([1, 2, 3]), (7,))
    tensor([1, 2, 3, 1, 2, 3, 1])
    """
    for axis in reversed(range(1, block.dim())):  # the first axis last, so that little is copied until then
        block = _repeat(block, axis, shape[axis])
    if out is None:
        return _repeat(block, 0, shape[0]) if block.dim() else block
    target = out.detach()
    if not block.dim():
        return target.copy_(block)
    length, size = shape[0], block.shape[0]
    whole = length // max(1, size)
    if whole > 1:
        block = block.contiguous()
    target[: whole * size].view(whole, *block.shape).copy_(block.expand(whole, *block.shape))
    if whole * size < length:
        target[whole * size :].copy_(block[: length - whole * size])
    return out


def _repeat(block: Tensor, axis: int, length: int) -> Tensor:
    size = block.shape[axis]
    if size == length:
        return block
    times = math.ceil(length / size)
    repeated = block.unsqueeze(axis).expand(*block.shape[:axis], times, *block.shape[axis:]).flatten(axis, axis + 1)
    return repeated if repeated.shape[axis] == length else repeated.narrow(axis, 0, length)
