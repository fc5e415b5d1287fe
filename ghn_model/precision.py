"""Hypernetworks compute in the type of their weights, also under autocast, another default type, or `meta`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

__all__ = ["in_usual_precision", "single_precision"]

Method = TypeVar("Method", bound=Callable[..., Any])


@contextlib.contextmanager
def single_precision() -> Iterator[None]:
    """Make new tensors in single precision, whatever `torch.set_default_dtype` has been called with.

    Examples
    --------
    >>> with single_precision():
    ...     torch.zeros(1).dtype
    torch.float32
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def in_usual_precision(method: Method) -> Method:
    """Make a method of a module compute without autocast, with the usual default type and on no default device `meta`.

    Predicted values are rounded to a few bits otherwise, and the tables that describe networks have no values.

    Parameters
    ----------
    method
        The method.

    Examples
    --------
    >>> class Double(torch.nn.Linear):
    ...     @in_usual_precision
    ...     def forward(self, x):
    ...         return super().forward(x)
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     Double(2, 2)(torch.ones(1, 2)).dtype
    torch.float32
    """

    @functools.wraps(method)
    def wrapped(self: torch.nn.Module, *arguments: Any, **named: Any) -> Any:
        device = next(self.parameters()).device.type
        with contextlib.ExitStack() as stack:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
            if torch.get_default_device().type == "meta":
                stack.enter_context(torch.device("cpu"))
            stack.enter_context(single_precision())
            return method(self, *arguments, **named)

    return wrapped  # type: ignore[return-value]
