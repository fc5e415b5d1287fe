"""`Call`, one call of a torch function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Call", "in_place_target"]

_IN_PLACE = frozenset(
    ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__ipow__", "__imod__")
)


@dataclass(slots=True, eq=False)
class Call:
    """One call of a torch function, the argument of a rule.

    Attributes
    ----------
    name : str
        Name of the function, without its module.
    function : callable
        The function.
    args : tuple
        Positional arguments; parameters of the network are replaced by tensors on the `meta` device.
    kwargs : dict
        Keyword arguments, likewise.
    tensors : list of Tensor
        All tensors among the arguments.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(2, 3)
    >>> call = Call("flatten", torch.flatten, (x, 1), {}, [x])
    >>> call.argument(1, "start_dim", 0), call.argument(2, "end_dim", -1)
    (1, -1)
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument that is passed by position or by name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)


def in_place_target(call: Call) -> Tensor | None:
    """Return the tensor that a call changes in place: its first argument or `out`; None for other functions."""
    name = call.name
    out = call.kwargs.get("out")
    if isinstance(out, Tensor):
        return out
    if (name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))) and isinstance(call.args[0], Tensor):
        return call.args[0]
    return None
