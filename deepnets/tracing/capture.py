"""The `TorchFunctionMode` under which a network runs without computing: tensors have shapes, and known makers.

Every call of a torch function passes through `Capture`.  Parameters are replaced on the way by stand-ins on the `meta`
device, so the network itself is never touched, moved or copied.  What a tensor is made of (its `Value`) is kept by its
storage: views, chunks and reshapes need no rules.  Integers stay real, on the CPU, because they index and steer.

A second way, `real=True`, runs the same capture with numbers, for networks whose control flow depends on data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deepnets.support import TraceError
from deepnets.tracing.recorder import INPUT, Pending, Recorder, Value
from deepnets.tracing.tensors import asked_elements, is_integer, mapped, mapped_parts, on_cpu, storage_key, with_numbers

__all__ = ["FACTORIES", "META", "Call", "Capture", "Rule", "in_place_target"]

META = torch.device("meta")
CPU = torch.device("cpu")

LARGEST_REAL = 1 << 22
"""Most elements of a constant that is made with real numbers."""

# Questions about a tensor, whose answers are no tensors.
_QUESTIONS = frozenset(
    (
        *("size", "dim", "numel", "nelement", "ndimension", "stride", "storage_offset", "element_size", "get_device"),
        *("is_floating_point", "is_complex", "is_contiguous", "is_signed", "is_inference", "is_same_size", "__len__"),
        *("__hash__", "untyped_storage", "data_ptr", "_is_view", "register_hook", "is_conj", "is_neg"),
        *("has_names", "broadcast_shapes", "result_type", "can_cast", "promote_types", "is_tensor", "is_storage"),
    )
)
# Functions whose tensor arguments behind the first are indices, which may live elsewhere.
_INDEXING = frozenset(("__getitem__", "__setitem__", "index_put", "index_put_", "embedding"))
_MOVES = frozenset(("to", "cpu", "cuda", "xpu", "mps", "npu"))
FACTORIES = frozenset(
    (
        *("zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "eye", "tensor", "as_tensor", "rand"),
        *("randn", "randint", "randperm", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like"),
        *("randn_like", "randint_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "tril_indices"),
        *("triu_indices", "scalar_tensor", "empty_strided", "new_empty_strided", "range", "asarray", "hann_window"),
    )
)
_FROM_EXAMPLE = ("_like", "new_")


class Call:
    """One call of a torch function, as a rule sees it.

    Attributes
    ----------
    name
        Of the function, without its module.
    function, args, kwargs
        The function and what it is called with, parameters replaced by stand-ins.
    tensors
        All tensors among the arguments.
    """

    __slots__ = ("args", "function", "kwargs", "name", "tensors")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
    ) -> None:
        self.name = name
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.tensors = tensors

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument given by position or by name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)


Rule = Callable[["Capture", Call], Any]


class Capture(TorchFunctionMode):
    """Records what a network does to the tensors that pass through it.

    Parameters
    ----------
    recorder
        Where nodes are written down.
    parameters
        By name, as `named_parameters()` gives them.
    rules, default
        What to do at a call, by name of function, and for all others.
    constants
        Tensors of the network that are no parameters.
    real
        Whether to run with real numbers, on the CPU.
    """

    def __init__(
        self,
        recorder: Recorder,
        parameters: Mapping[str, Tensor],
        rules: Mapping[str, Rule],
        default: Rule,
        constants: Iterable[Tensor] = (),
        real: bool = False,
    ) -> None:
        super().__init__()
        self.recorder = recorder
        self.real = real
        self._rules = rules
        self._default = default
        self._pending = {id(tensor): Pending(name, tuple(tensor.shape)) for name, tensor in parameters.items()}
        self._values: dict[int, Value] = {}  # by storage
        self._alive: list[Any] = []  # storages that are let go would be taken for others
        self._stand_ins: dict[int, Tensor] = {}
        self._made: set[int] = set()  # storages without value that came into being under this mode
        self._constants = constants
        self._known: set[int] | None = None  # storages of the network's own constants, once they matter
        self._constant_nodes: dict[int, int] = {}

    # --- what goes in and what comes out ---

    def feed(self, inputs: Any) -> Any:
        """What the network is called with instead of the given inputs."""
        if isinstance(inputs, Tensor):
            if self.real or not inputs.is_floating_point():
                made = with_numbers(inputs).clone()
            else:
                made = torch.empty(tuple(inputs.shape), dtype=inputs.dtype, device=META)
            self.set_value(made, Value((INPUT,)))
            return made
        return mapped(inputs, self.feed) if isinstance(inputs, (list, tuple, dict)) else inputs

    def value(self, tensor: Tensor) -> Value:
        """What a tensor is made of; nothing, if it is a constant."""
        key = storage_key(tensor)
        value = self._values.get(key)
        if value is not None:
            return value
        if tensor.device.type == "meta" and key not in self._made:
            if self._known is None:
                self._known = {storage_key(constant) for constant in self._constants}
            if key not in self._known:
                raise TraceError(
                    "a tensor comes out of code that cannot be seen (torch.jit.script, torch.vmap or a custom "
                    "operator); trace the network without it"
                )
        return _CONSTANT

    def is_made_of_something(self, tensor: Tensor) -> bool:
        """Whether it is known what a tensor is made of."""
        return storage_key(tensor) in self._values

    def set_value(self, tensor: Tensor, value: Value) -> None:
        """Say what a tensor, and all that shares its storage, is made of."""
        key = storage_key(tensor)
        if key not in self._values:
            self._alive.append(tensor)
        self._values[key] = value

    def new(self, shape: Iterable[int], like: Tensor) -> Tensor:
        """A tensor of this shape, and of the type of another, without numbers: none that control flow could look at."""
        return torch.empty(tuple(shape), dtype=like.dtype, device=META)

    def constant_node(self, tensor: Tensor) -> int:
        """The node of a constant that parameters are applied to."""
        key = storage_key(tensor)
        if key not in self._constant_nodes:
            self._constant_nodes[key] = self.recorder.add("const", ())
            self._alive.append(tensor)
        return self._constant_nodes[key]

    # --- the mode ---

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.__name__
        if name in _QUESTIONS:
            return func(*args, **(kwargs or {}))
        tensors: list[Tensor] = []
        args = tuple([self._replaced(argument, tensors) for argument in args])
        kwargs = {key: self._replaced(argument, tensors) for key, argument in kwargs.items()} if kwargs else {}
        call = Call(name, func, args, kwargs, tensors)
        if name in ("__get__", "__set__"):
            return self._property(call)
        target = in_place_target(call)
        if target is not None and target.device.type != "meta":
            self._protect(call, target)
        return self._rules.get(name, self._default)(self, call)

    def union(self, tensors: Iterable[Tensor]) -> Value:
        """What several tensors are made of together."""
        values = {value: None for value in map(self.value, tensors) if value != _CONSTANT}
        if len(values) <= 1:
            return next(iter(values), _CONSTANT)
        nodes = sorted({node for value in values for node in value.nodes})
        pending = {parameter: None for value in values for parameter in value.pending}
        kinds = [value.kind for value in values if value.kind]
        return Value(tuple(nodes), tuple(pending), kinds[0] if len(kinds) == 1 else "")

    def finish(self, call: Call, result: Any, value: Value) -> Any:
        """Say what the results of a call are made of, and return them."""
        target = in_place_target(call)
        if target is not None:
            if value != _CONSTANT:
                self.set_value(target, value)
            return result
        if isinstance(result, Tensor):
            self._finish_tensor(call, result, value)
        elif isinstance(result, (list, tuple)):
            for part in result:
                self.finish(call, part, value)
        return result

    def _finish_tensor(self, call: Call, result: Tensor, value: Value) -> None:
        key = storage_key(result)
        if key in self._values:  # a view
            return
        if result.dtype.is_floating_point or result.dtype.is_complex:
            if value.nodes and not any(t.is_floating_point() or t.is_complex() for t in self._carriers(call)):
                value = _CONSTANT  # integers that became numbers carry no gradient: masks
        elif result.dtype == torch.bool or not any(self.value(t) != _CONSTANT for t in call.tensors if is_integer(t)):
            value = _CONSTANT
        if value != _CONSTANT:
            self.set_value(result, value)
        elif all(storage_key(tensor) != key for tensor in call.tensors):  # else a view of a constant of the network
            self._made.add(key)
            self._alive.append(result)

    def _carriers(self, call: Call) -> list[Tensor]:
        return [tensor for tensor in call.tensors if self.value(tensor) != _CONSTANT]

    # --- running functions ---

    def execute(self, call: Call) -> Any:
        """Run a function of tensors, some of which may live on the `meta` device."""
        args, kwargs = call.args, call.kwargs
        if call.name in _MOVES:
            return self._moved(call)
        if call.name in FACTORIES or "device" in kwargs:
            args, kwargs = self._placed(call)
        elif not self.real and any(tensor.device.type == "meta" for tensor in call.tensors):
            keep = call.name in _INDEXING

            def convert(tensor: Tensor) -> Tensor:
                if tensor.device.type == "meta":
                    return tensor
                return tensor.to(CPU) if keep and not tensor.is_floating_point() else self._on_meta(tensor)

            args, kwargs = mapped(args, convert), mapped(kwargs, convert)
        elif self.real:
            args, kwargs = mapped(args, on_cpu), mapped(kwargs, on_cpu)
        return call.function(*args, **kwargs)

    def _on_meta(self, tensor: Tensor) -> Tensor:
        if tensor.device.type == "meta":
            return tensor
        copy = torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device=META)
        value = self.value(tensor)
        if value == _CONSTANT:
            self._made.add(storage_key(copy))
            self._alive.append(copy)
        else:
            self.set_value(copy, value)
        return copy

    def _protect(self, call: Call, target: Tensor) -> None:
        """Let a function that changes a tensor of the user's change a copy, which stands in for it from now on."""
        key = storage_key(target)
        if key in self._made or (key in self._values and not self._values[key].pending):
            return
        copy = target.detach().to(CPU).clone()
        value = self.value(target)
        if value == _CONSTANT:
            self._made.add(storage_key(copy))
        else:
            self.set_value(copy, value)
        self._stand_ins[id(target)] = copy
        self._alive.append((target, copy))
        call.args = tuple(copy if argument is target else argument for argument in call.args)
        call.kwargs = {name: copy if argument is target else argument for name, argument in call.kwargs.items()}

    def _moved(self, call: Call) -> Any:
        """`Tensor.to` and its kin: only types change, never devices."""
        tensor = call.args[0]
        dtype = call.kwargs.get("dtype")
        for argument in call.args[1:]:
            if isinstance(argument, torch.dtype):
                dtype = argument
            elif isinstance(argument, Tensor):
                dtype = argument.dtype
        if isinstance(call.kwargs.get("other"), Tensor):
            dtype = call.kwargs["other"].dtype
        if not isinstance(tensor, Tensor) or dtype in (None, tensor.dtype):
            return tensor
        return tensor.to(dtype)

    def _placed(self, call: Call) -> tuple[Any, Any]:
        """The arguments of a function that makes tensors, so that it makes them with real numbers, if they are few."""
        args, kwargs = call.args, dict(call.kwargs)
        example = call.tensors[0] if call.tensors and any(word in call.name for word in _FROM_EXAMPLE) else None
        place = CPU
        if not self.real and example is not None and call.name.endswith("_like") and example.numel() > LARGEST_REAL:
            place = META
        if not self.real and asked_elements(args) > LARGEST_REAL:
            place = META
        if call.name in ("tensor", "as_tensor", "asarray", "new_tensor") and any(
            t.device.type == "meta" for t in call.tensors
        ):
            place = META
        kwargs["device"] = place
        if call.name in ("as_tensor", "asarray") and call.tensors and place is CPU:
            kwargs["device"] = call.tensors[0].device
        return args, kwargs

    def _property(self, call: Call) -> Any:
        """Attributes of tensors: views (`.T`, `.data`, `.real`) are tensors, all others are answers."""
        result = call.function(*call.args, **call.kwargs)
        if call.name == "__get__" and isinstance(result, Tensor):
            return self.finish(call, result, self.union(call.tensors))
        return result

    # --- stand-ins ---

    def _replaced(self, argument: Any, tensors: list[Tensor]) -> Any:
        """The argument with stand-ins for the network's own tensors; all tensors in it are added to the list."""
        if isinstance(argument, Tensor):
            stand_in = self._stand_ins.get(id(argument))
            if stand_in is None:
                pending = self._pending.get(id(argument))
                stand_in = argument if pending is None else self._stand_in(argument, pending)
            tensors.append(stand_in)
            return stand_in
        if isinstance(argument, (list, tuple, dict)):
            return mapped_parts(argument, lambda part: self._replaced(part, tensors))
        return argument

    def _stand_in(self, parameter: Tensor, pending: Pending) -> Tensor:
        if self.real:
            stand_in = with_numbers(parameter)
        else:
            stand_in = torch.empty(pending.shape, dtype=parameter.dtype, device=META)
        self._stand_ins[id(parameter)] = stand_in
        self.set_value(stand_in, Value(pending=(pending,)))
        return stand_in


_CONSTANT = Value()

_IN_PLACE = frozenset(
    ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__ipow__", "__imod__")
)


def in_place_target(call: Call) -> Tensor | None:
    """The tensor that a function changes: its first argument, or the one called `out`; None if it makes a new one."""
    name = call.name
    out = call.kwargs.get("out")
    if isinstance(out, Tensor):
        return out
    if (name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))) and isinstance(call.args[0], Tensor):
        return call.args[0]
    return None
