"""`Call`, one call of a torch function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

__all__ = ["Call", "in_place_targets"]

_IN_PLACE = frozenset(
    (
        *("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ifloordiv__", "__ipow__"),
        *("__imod__", "__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__"),
    )
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

    @property
    def is_operator(self) -> bool:
        """Whether the function is an operator of `torch.ops`, whose arguments may have another order."""
        return isinstance(self.function, (OpOverload, OpOverloadPacket))

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument that is passed by position or by name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)


def in_place_targets(call: Call) -> list[Tensor]:
    """Return the tensors that a call changes in place: its first argument, or `out`; none for other functions.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.zeros(2), torch.zeros(2)
    >>> len(in_place_targets(Call("add_", torch.Tensor.add_, (x, 1), {}, [x])))
    1
    >>> len(in_place_targets(Call("frexp", torch.frexp, (x,), {"out": (x, y)}, [x, x, y])))
    2
    """
    name = call.name
    if call.kwargs:
        out = call.kwargs.get("out")
        if out is not None:
            return [part for part in (out if isinstance(out, (list, tuple)) else (out,)) if isinstance(part, Tensor)]
        if call.kwargs.get("inplace") is True and call.args and isinstance(call.args[0], Tensor):
            return [call.args[0]]
    if name in _IN_PLACE or (name.endswith("_") and not name.endswith("__")):
        # Functions of torch.nn.init pass `tensor=`.
        by_name = (call.kwargs[key] for key in ("input", "self", "tensor") if key in call.kwargs)
        first = call.args[0] if call.args else next(by_name, None)
        if isinstance(first, Tensor):
            return [first]
        if isinstance(first, (list, tuple)):
            return [part for part in first if isinstance(part, Tensor)]
    return []
