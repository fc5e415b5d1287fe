"""`Capture`: the `TorchFunctionMode` that intercepts every torch function while a network runs.

Parameters are replaced by tensors on the `meta` device when they are passed to a function, so the network is not moved,
copied or changed.  What a tensor is computed from (its `Value`) is stored by its storage, so views, chunks and reshapes
need no rules.  Integer tensors keep their values, on the CPU, because networks use them as indices and in conditions.

With `real=True`, all tensors have values; this is for networks whose control flow depends on data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deepnets.support import TraceError
from deepnets.tracing.call import Call, in_place_target
from deepnets.tracing.recorder import INPUT, Pending, Recorder, Value
from deepnets.tracing.tensors import (
    is_integer,
    mapped,
    mapped_parts,
    on_cpu,
    requested_elements,
    storage_key,
    with_numbers,
)

__all__ = ["FACTORIES", "META", "Capture", "Rule"]

META = torch.device("meta")
CPU = torch.device("cpu")

LARGEST_REAL = 1 << 22
"""Largest number of elements of a constant that is created with values."""

# Functions that return properties of a tensor, not tensors.
_PROPERTIES = frozenset(
    (
        *("size", "dim", "numel", "nelement", "ndimension", "stride", "storage_offset", "element_size", "get_device"),
        *("is_floating_point", "is_complex", "is_contiguous", "is_signed", "is_inference", "is_same_size", "__len__"),
        *("__hash__", "untyped_storage", "data_ptr", "_is_view", "register_hook", "is_conj", "is_neg"),
        *("has_names", "broadcast_shapes", "result_type", "can_cast", "promote_types", "is_tensor", "is_storage"),
    )
)
# Functions whose tensor arguments after the first one are indices, which may be on another device.
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


Rule = Callable[["Capture", Call], Any]


class Capture(TorchFunctionMode):
    """Intercepts the torch functions of a network and applies a rule to each call.

    Parameters
    ----------
    recorder : Recorder
        Stores the nodes.
    parameters : mapping of str to Tensor
        The parameters of the network by name.
    rules : mapping of str to Rule
        The rule of each function, by its name.
    default : Rule
        The rule of all other functions.
    constants : iterable of Tensor
        Tensors of the network that are not parameters.
    real : bool, default False
        Whether tensors have values, on the CPU.

    Examples
    --------
    >>> from deepnets.tracing.rules import RULES, pass_on
    >>> model = torch.nn.Conv2d(3, 8, 3)
    >>> capture = Capture(Recorder(), dict(model.named_parameters()), RULES, pass_on)
    >>> image = capture.feed(torch.zeros(1, 3, 32, 32))
    >>> with capture:
    ...     output = model(image)
    >>> output.device, capture.value(output).nodes, [node.type for node in capture.recorder.nodes]
    (device(type='meta'), (2,), ['input', 'conv', 'bias'])
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
        self._alive: list[Any] = []  # a freed storage could be mistaken for a new one at the same address
        self._replacements: dict[int, Tensor] = {}
        self._created: set[int] = set()  # storages of constants that were created during the run
        self._hardswish: set[int] = set()  # storages of results of hardswish
        self._constants = constants
        self._known: set[int] | None = None  # storages of the network's constants, computed when first needed
        self._constant_nodes: dict[int, int] = {}

    # --- inputs and values ---

    def feed(self, inputs: Any) -> Any:
        """Return the tensors that replace the inputs of the network, in the same nested structure."""
        if isinstance(inputs, Tensor):
            if self.real or not inputs.is_floating_point():
                made = with_numbers(inputs).clone()
            else:
                made = torch.empty(tuple(inputs.shape), dtype=inputs.dtype, device=META)
            self.set_value(made, Value((INPUT,)))
            return made
        return mapped(inputs, self.feed) if isinstance(inputs, (list, tuple, dict)) else inputs

    def value(self, tensor: Tensor) -> Value:
        """Return what a tensor is computed from; `Value()` for a constant."""
        key = storage_key(tensor)
        value = self._values.get(key)
        if value is not None:
            return value
        if tensor.device.type == "meta" and key not in self._created:
            if self._known is None:
                self._known = {storage_key(constant) for constant in self._constants}
            if key not in self._known:
                raise TraceError(
                    "a tensor is created by code that cannot be traced (torch.jit.script, torch.vmap or a custom "
                    "operator); trace the network without it"
                )
        return _CONSTANT

    def has_value(self, tensor: Tensor) -> bool:
        """Return whether it is known what a tensor is computed from."""
        return storage_key(tensor) in self._values

    def set_value(self, tensor: Tensor, value: Value) -> None:
        """Set what a tensor, and every tensor with the same storage, is computed from."""
        key = storage_key(tensor)
        if key not in self._values:
            self._alive.append(tensor)
        self._values[key] = value

    def set_hardswish(self, tensor: Tensor) -> None:
        """Remember that a tensor is the result of a hardswish."""
        self._hardswish.add(storage_key(tensor))
        self._alive.append(tensor)

    def is_hardswish(self, tensor: Tensor) -> bool:
        """Return whether a tensor, or the tensor that it is a view of, is the result of a hardswish."""
        return storage_key(tensor) in self._hardswish

    def new(self, shape: Iterable[int], like: Tensor) -> Tensor:
        """Return a tensor of this shape on the `meta` device, with the dtype of another tensor."""
        return torch.empty(tuple(shape), dtype=like.dtype, device=META)

    def constant_node(self, tensor: Tensor) -> int:
        """Return the node of a constant that parameters are applied to."""
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
        if name in _PROPERTIES:
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
        """Return what several tensors together are computed from."""
        values = {value: None for value in map(self.value, tensors) if value != _CONSTANT}
        if len(values) <= 1:
            return next(iter(values), _CONSTANT)
        nodes = sorted({node for value in values for node in value.nodes})
        pending = {parameter: None for value in values for parameter in value.pending}
        kinds = [value.kind for value in values if value.kind]
        return Value(tuple(nodes), tuple(pending), kinds[0] if len(kinds) == 1 else "")

    def finish(self, call: Call, result: Any, value: Value) -> Any:
        """Set what the results of a call are computed from, and return them."""
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
                value = _CONSTANT  # floats computed from integers are masks
        elif result.dtype == torch.bool or not any(self.value(t) != _CONSTANT for t in call.tensors if is_integer(t)):
            value = _CONSTANT
        if value != _CONSTANT:
            self.set_value(result, value)
        elif all(storage_key(tensor) != key for tensor in call.tensors):  # otherwise it is a view of a constant
            self._created.add(key)
            self._alive.append(result)

    def _carriers(self, call: Call) -> list[Tensor]:
        return [tensor for tensor in call.tensors if self.value(tensor) != _CONSTANT]

    # --- running functions ---

    def execute(self, call: Call) -> Any:
        """Call the function with tensors on devices that fit together."""
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
            self._created.add(storage_key(copy))
            self._alive.append(copy)
        else:
            self.set_value(copy, value)
        return copy

    def _protect(self, call: Call, target: Tensor) -> None:
        """Make an in-place function change a copy of the user's tensor, which replaces it for the rest of the run."""
        key = storage_key(target)
        if key in self._created or (key in self._values and not self._values[key].pending):
            return
        copy = target.detach().to(CPU).clone()
        value = self.value(target)
        if value == _CONSTANT:
            self._created.add(storage_key(copy))
        else:
            self.set_value(copy, value)
        self._replacements[id(target)] = copy
        self._alive.append((target, copy))
        call.args = tuple(copy if argument is target else argument for argument in call.args)
        call.kwargs = {name: copy if argument is target else argument for name, argument in call.kwargs.items()}

    def _moved(self, call: Call) -> Any:
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
        if not isinstance(tensor, Tensor) or dtype in (None, tensor.dtype):
            return tensor
        return tensor.to(dtype)

    def _placed(self, call: Call) -> tuple[Any, Any]:
        """Return arguments of a function that creates a tensor: on the CPU if it is small, otherwise on `meta`."""
        args, kwargs = call.args, dict(call.kwargs)
        example = call.tensors[0] if call.tensors and any(word in call.name for word in _FROM_EXAMPLE) else None
        place = CPU
        if not self.real and example is not None and call.name.endswith("_like") and example.numel() > LARGEST_REAL:
            place = META
        if not self.real and requested_elements(args) > LARGEST_REAL:
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
        """Get or set an attribute of a tensor; some are views, such as `.T`, `.data` and `.real`."""
        result = call.function(*call.args, **call.kwargs)
        if call.name == "__get__" and isinstance(result, Tensor):
            return self.finish(call, result, self.union(call.tensors))
        return result

    # --- replacement of parameters ---

    def _replaced(self, argument: Any, tensors: list[Tensor]) -> Any:
        """Replace the network's own tensors in an argument, and append all its tensors to the list."""
        if isinstance(argument, Tensor):
            replacement = self._replacements.get(id(argument))
            if replacement is None:
                pending = self._pending.get(id(argument))
                replacement = argument if pending is None else self._replacement(argument, pending)
            tensors.append(replacement)
            return replacement
        if isinstance(argument, (list, tuple, dict)):
            return mapped_parts(argument, lambda part: self._replaced(part, tensors))
        return argument

    def _replacement(self, parameter: Tensor, pending: Pending) -> Tensor:
        if self.real:
            replacement = with_numbers(parameter)
        else:
            replacement = torch.empty(pending.shape, dtype=parameter.dtype, device=META)
        self._replacements[id(parameter)] = replacement
        self.set_value(replacement, Value(pending=(pending,)))
        return replacement


_CONSTANT = Value()
