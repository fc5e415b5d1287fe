"""Replacing the tensors in the inputs of a network, in containers and objects of any type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deepnets.support import TraceError
from deepnets.tracing.tensors import mapped_parts

__all__ = ["call_model", "replaced_inputs"]

_FEW = (type(None), bool, int, float, complex, str, bytes, nn.Module)
"""Types of inputs that hold no tensors of data."""


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call a network; a mapping holds keyword arguments, a tuple or list positional ones.

    Examples
    --------
    >>> import torch
    >>> call_model(nn.Bilinear(2, 3, 4), (torch.zeros(1, 2), torch.zeros(1, 3))).shape
    torch.Size([1, 4])
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def replaced_inputs(inputs: Any, replace: Callable[[Tensor], Tensor], kept: Iterable[object] = ()) -> Any:
    """Return inputs of a network with other tensors.

    Containers and objects of all types are copied, as by `copy.deepcopy`, and keep their types.

    Parameters
    ----------
    inputs : object
        A tensor, or an object that holds tensors.
    replace : callable
        Called with every tensor; returns the one to use instead.
    kept : iterable of object
        Objects that are not copied, such as parameters.

    Raises
    ------
    TraceError
        If an object cannot be copied.

    Examples
    --------
    >>> import torch
    >>> from collections import UserDict
    >>> replaced_inputs(UserDict(x=torch.ones(2)), torch.zeros_like)
    {'x': tensor([0., 0.])}
    """
    if isinstance(inputs, Tensor):
        return replace(inputs)
    if isinstance(inputs, _FEW):
        return inputs
    if type(inputs) in (list, tuple, dict):
        return mapped_parts(inputs, lambda part: replaced_inputs(part, replace, kept))
    try:
        with _Copying(replace):
            return deepcopy(inputs, {id(each): each for each in kept})
    except Exception as error:
        raise TraceError(
            f"the tensors in an input of the type {type(inputs).__name__} cannot be followed, because it cannot be "
            f"copied: {type(error).__name__}: {error}"
        ) from error


class _Copying(TorchFunctionMode):
    """Replaces every tensor that `copy.deepcopy` meets."""

    def __init__(self, replace: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._replace = replace

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._replace(args[0]) if func.__name__ == "__deepcopy__" else func(*args, **(kwargs or {}))
