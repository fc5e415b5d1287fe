"""What the tensors of a run are computed from.

The `Value` of a tensor is stored by its storage, so views, chunks and reshapes need no rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from deepnets.support import TraceError
from deepnets.tracing.call import Call
from deepnets.tracing.recorder import CONSTANT, Pending, Value, union
from deepnets.tracing.tensors import is_floating, storage_key

__all__ = ["CONSTANT", "HiddenTensorError", "Origins", "UnknownTensorError"]


class UnknownTensorError(TraceError):
    """A tensor whose origin is not known, in a run without a `Watcher`."""


class HiddenTensorError(TraceError):
    """A tensor that no operator of a run with a `Watcher` has returned."""


class Origins:
    """The values of all tensors of a run.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        The parameters of the network by name.  Those of an integer dtype are constants.
    constants : iterable of Tensor
        Tensors of the network that are not parameters.
    watched : bool
        Whether all operators of the run are seen.  If not, a tensor that no function has returned raises an
        `UnknownTensorError`.

    Examples
    --------
    >>> origins = Origins({"weight": torch.ones(2)}, [torch.zeros(3)], watched=False)
    >>> x, y = torch.ones(2), torch.ones(2)
    >>> origins.set_value(x, Value((0,)))
    >>> origins.set_value(y, Value((3,)))
    >>> origins.union([x[:1], y]).nodes
    (0, 3)
    """

    def __init__(self, parameters: Mapping[str, Tensor], constants: Iterable[Tensor], watched: bool) -> None:
        self._watched = watched
        self._parameters = list(parameters.values())
        self._pending = {id(t): Pending(n, tuple(t.shape)) for n, t in parameters.items() if is_floating(t)}
        self._by_storage: dict[int, Pending] = {}  # filled when first needed
        self._values: dict[int, Value] = {}  # by storage
        self._alive: list[Any] = []  # a freed storage could be mistaken for a new one at the same address
        self._created: set[int] = set()  # storages of constants that were created during the run
        self._borrowed: set[int] = set()  # storages of the network's parameters that have a value
        self._constants = list(constants)
        self._known: set[int] = set()  # storages of `_constants`, when first needed, and of other constants

    def value(self, tensor: Tensor) -> Value:
        """Return what a tensor is computed from; `Value()` for a constant."""
        key = storage_key(tensor)
        value = self._values.get(key)
        if value is not None:
            return value
        if key in self._created or key in self._known:
            return CONSTANT
        return self._value_of_stranger(tensor, key)

    def _value_of_stranger(self, tensor: Tensor, key: int) -> Value:
        """Return what a tensor is computed from that no function of this run has returned."""
        if not self._by_storage:
            for parameter in self._parameters:
                if id(parameter) in self._pending:
                    self._by_storage[storage_key(parameter)] = self._pending[id(parameter)]
        pending = self._by_storage.get(key)
        if pending is not None:  # a view of a parameter
            self.set_value(tensor, Value(pending=(pending,)))
            self._borrowed.add(key)
            return self._values[key]
        if self._constants:
            self._known.update(map(storage_key, self._constants))
            self._alive += self._constants
            self._constants = []
            if key in self._known:
                return CONSTANT
        if not self._watched:
            raise UnknownTensorError("a tensor is created by code that cannot be intercepted")
        if tensor.device.type == "meta":
            raise HiddenTensorError(
                "a tensor is created by code that cannot be traced (torch.jit, torch.func or a custom operator); trace "
                "the network without it"
            )
        self._alive.append(tensor)
        self._known.add(key)  # created before the run
        return CONSTANT

    def has_value(self, tensor: Tensor) -> bool:
        """Return whether it is known what a tensor is computed from."""
        return storage_key(tensor) in self._values

    def set_value(self, tensor: Tensor, value: Value) -> None:
        """Set what a tensor, and every tensor with the same storage, is computed from."""
        key = storage_key(tensor)
        if key not in self._values:
            self._alive.append(tensor)
        self._values[key] = value

    def union(self, tensors: Iterable[Tensor]) -> Value:
        """Return what several tensors together are computed from.

        Integer inputs next to other data are indices or masks and do not count; comparisons of them count only alone.
        """
        return union(map(self.value, tensors))

    def operands(self, call: Call) -> Value:
        """Return `union` of the arguments of a sum or a concatenation, where numbers from integer inputs are data."""
        value = self.union(call.tensors)
        if value.nodes and not value.kind:
            parts = [self.value(tensor) for tensor in call.tensors if is_floating(tensor)]
            more = {node for part in parts if part.kind == "numbers" for node in part.nodes}
            value = Value(tuple(sorted({*value.nodes, *more})), value.pending)
        return value

    def typed(self, call: Call, result: Tensor, value: Value) -> Value:
        """Return what a result is computed from, given its dtype: indices and conditions are no data."""
        if is_floating(result):
            if value.kind == "numbers" and any(t.dtype == torch.uint8 and t.dim() >= 3 for t in call.tensors):
                return value._replace(kind="")  # pixels, which no other integers select
            return value._replace(kind="numbers") if value.kind == "flags" else value
        if not value.selects:
            return CONSTANT
        if result.dtype == torch.bool:
            sources = [tensor for tensor in call.tensors if self.value(tensor).selects]
            kept = value.kind == "numbers" and all(tensor.dtype == torch.bool for tensor in sources)
            return value if kept else value._replace(kind="flags")
        return value if value.kind == "numbers" else CONSTANT

    def copy_value(self, tensor: Tensor, copy: Tensor) -> None:
        """Set that a tensor is computed from the same as another one, of which it is a copy."""
        value = self.value(tensor)
        if value == CONSTANT:
            self._created.add(storage_key(copy))
            self._alive.append(copy)
        else:
            self.set_value(copy, value)

    def is_own(self, tensor: Tensor) -> bool:
        """Return whether the storage of a tensor was created in this run."""
        key = storage_key(tensor)
        return key in self._created or (key in self._values and key not in self._borrowed)
