"""`Capture`: the `TorchFunctionMode` that intercepts every torch function while a network runs.

Parameters are replaced by tensors on the `meta` device when they are passed to a function, so the network is not moved,
copied or changed.  Integer tensors keep their values, on the CPU, because networks use them as indices and in
conditions.

With `real=True`, all tensors have values; this is for networks whose control flow depends on data.

The mode does not see functions that compiled code calls (`torch.jit`), nor the tensors inside `torch.vmap`.  If a
tensor appears that no function of the run returned and that the network does not hold, the run stops with an
`UnknownTensorError`, and is repeated with `watched=True`, where a `Watcher` passes on the operators of such code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deepnets.tracing.call import Call, in_place_targets
from deepnets.tracing.execution import CPU, META, execute
from deepnets.tracing.inputs import replaced_inputs
from deepnets.tracing.origins import CONSTANT, Origins
from deepnets.tracing.recorder import INPUT, Pending, Recorder, Value
from deepnets.tracing.redirection import Redirections
from deepnets.tracing.tensors import is_floating, mapped, mapped_parts, same_view, storage_key, with_numbers

__all__ = ["META", "Capture", "Rule"]

# Functions that return properties of a tensor, not tensors.
_PROPERTIES = frozenset(
    (
        *("size", "dim", "numel", "nelement", "ndimension", "stride", "storage_offset", "element_size", "get_device"),
        *("is_floating_point", "is_complex", "is_contiguous", "is_signed", "is_inference", "is_same_size", "__len__"),
        *("__hash__", "untyped_storage", "data_ptr", "_is_view", "register_hook", "is_conj", "is_neg"),
        *("has_names", "broadcast_shapes", "result_type", "can_cast", "promote_types", "is_tensor", "is_storage"),
    )
)
Rule = Callable[["Capture", Call], Any]


class Capture(Origins, TorchFunctionMode):
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
    watched : bool, default False
        Whether a `Watcher` passes on the operators that this mode does not see.

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
        watched: bool = False,
    ) -> None:
        TorchFunctionMode.__init__(self)
        Origins.__init__(self, parameters, constants, watched)
        self.recorder = recorder
        self.real = real
        self.depth = 0  # of functions that a rule executes, which are not intercepted
        self._rules = rules
        self._default = default
        self._replacements: dict[int, Tensor] = {}
        self._redirections = Redirections()
        self._fed: dict[int, Tensor] = {}
        self._hardswish: set[int] = set()  # storages of results of hardswish
        self._constant_nodes: dict[int, int] = {}

    def feed(self, inputs: Any) -> Any:
        """Return the inputs of the network with other tensors: without values, or copied."""
        return replaced_inputs(inputs, self._feed_tensor, self._parameters)

    def _feed_tensor(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._fed:
            if self.real or not is_floating(tensor):
                made = with_numbers(tensor).clone()
            else:
                made = torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device=META)
            self.set_value(made, Value((INPUT,), (), "" if is_floating(tensor) else "numbers"))
            self._fed[id(tensor)] = made
            self._alive.append(tensor)
        return self._fed[id(tensor)]

    @property
    def is_fed(self) -> bool:
        """Whether an input of the network holds a tensor."""
        return bool(self._fed)

    def current_value(self, tensor: Tensor) -> Value:
        """Return what a tensor of the network's code is computed from; its own tensors may have been replaced."""
        return self.value(self._replaced(tensor, []))

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
        if self.depth or func.__name__ in _PROPERTIES:
            return func(*args, **(kwargs or {}))
        return self.apply(func, args, kwargs or {})

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply the rule of a function to its arguments, and return the result."""
        name = function.__name__.partition(".")[0]  # without the overload of an operator
        if name.startswith("_foreach_"):
            return self._for_each(name.removeprefix("_foreach_"), args, kwargs)
        self.depth += 1
        try:
            tensors: list[Tensor] = []
            replaced = tuple([self._replaced(argument, tensors) for argument in args])
            named = {key: self._replaced(argument, tensors) for key, argument in kwargs.items()} if kwargs else {}
            call = Call(name, function, replaced, named, tensors)
            if name in ("__get__", "__set__"):
                return self._property(call, args)
            if self._watched and any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors)):
                self.depth -= 1
                try:
                    return function(*replaced, **named)  # the watcher sees the tensors inside
                finally:
                    self.depth += 1
            rule = self._rules.get(name, self._default)
            if not in_place_targets(call):
                return rule(self, call)
            call = self._secured(call)
            targets = in_place_targets(Call(name, function, args, kwargs, []))
            originals = {id(new): old for new, old in zip(in_place_targets(call), targets)}
            return mapped(rule(self, call), lambda tensor: originals.get(id(tensor), tensor))
        finally:
            self.depth -= 1

    def outside(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function whose operators are intercepted again, while a rule is applied."""
        depth, self.depth = self.depth, 0
        try:
            with self:
                return function(*args, **kwargs)
        finally:
            self.depth = depth

    def _for_each(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply a function to every tensor of a list, for functions such as `torch._foreach_add_`."""
        results = []
        for i, first in enumerate(args[0]):
            function = getattr(Tensor, name, None) or getattr(torch, name.rstrip("_"))
            each = [argument[i] if isinstance(argument, (list, tuple)) else argument for argument in args[1:]]
            chosen = {
                key: argument[i] if isinstance(argument, (list, tuple)) else argument
                for key, argument in kwargs.items()
            }
            result = self.apply(function, (first, *each), chosen)
            if name.endswith("_") and function.__name__ != name:
                self.apply(Tensor.copy_, (first, result), {})
            results.append(result)
        return None if name.endswith("_") else type(args[0])(results)

    def finish(self, call: Call, result: Any, value: Value) -> Any:
        """Set what the results of a call are computed from, and return them."""
        targets = in_place_targets(call)
        for target in targets:
            typed = self.typed(call, target, value)
            if typed != CONSTANT or not value.nodes:
                self._set_written(target, typed)
        if not targets:
            self._finish_results(call, result, value)
        return result

    def _set_written(self, target: Tensor, value: Value) -> None:
        if value != CONSTANT or storage_key(target) in self._values:
            self.set_value(target, value)

    def _finish_results(self, call: Call, result: Any, value: Value) -> None:
        if isinstance(result, Tensor):
            self._finish_tensor(call, result, value)
        elif isinstance(result, (list, tuple)):
            for part in result:
                self._finish_results(call, part, value)

    def _finish_tensor(self, call: Call, result: Tensor, value: Value) -> None:
        key = storage_key(result)
        if key in self._values:  # a view
            return
        value = self.typed(call, result, value)
        if value != CONSTANT:
            self.set_value(result, value)
        elif all(storage_key(tensor) != key for tensor in call.tensors):  # otherwise it is a view of a constant
            self._created.add(key)
            self._alive.append(result)

    def execute(self, call: Call) -> Any:
        """Call the function with tensors on devices that fit together."""
        return execute(call, self.real, self.on_meta)

    def on_meta(self, tensor: Tensor) -> Tensor:
        """Return the tensor if it is on `meta`, otherwise a copy there, without values."""
        if tensor.device.type == "meta":
            return tensor
        copy = torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device=META)
        self.copy_value(tensor, copy)
        return copy

    # --- tensors that are changed, and parameters ---

    def _secured(self, call: Call) -> Call:
        """Return an in-place call that changes neither the user's tensors nor values by unknown ones."""
        place = META if not self.real and any(tensor.device.type == "meta" for tensor in call.tensors) else CPU
        changed = {}
        for target in in_place_targets(call):
            if target.device.type != place.type or not self.is_own(target):
                changed[id(target)] = self._redirected(target, place)
        if not changed:
            return call

        def change(tensor: Tensor) -> Tensor:
            return changed.get(id(tensor), tensor)

        args, kwargs = mapped(call.args, change), mapped(call.kwargs, change)
        return Call(call.name, call.function, args, kwargs, [change(tensor) for tensor in call.tensors])

    def _redirected(self, target: Tensor, place: torch.device) -> Tensor:
        try:
            content = self._redirections.move(target, place)
        except (RuntimeError, NotImplementedError):  # sparse tensors have no storage
            copy = self.on_meta(target) if place is META else with_numbers(target).clone()
            self._replacements[id(target)] = copy
            self._alive.append(target)
            self.copy_value(target, copy)
            return copy
        self.copy_value(target, content)
        return same_view(content, target)

    def _property(self, call: Call, given: tuple[Any, ...]) -> Any:
        """Get or set an attribute of a tensor; some are views, such as `.T`, `.data` and `.real`."""
        if call.name == "__get__":
            result = call.function(*call.args, **call.kwargs)
            return self.finish(call, result, self.union(call.tensors)) if isinstance(result, Tensor) else result
        if call.function.__self__.__name__ == "data":  # type: ignore[attr-defined]
            self._replacements[id(given[0])] = call.args[1]
            self._alive.append(given[0])
        elif self.is_own(call.args[0]):
            call.function(*call.args, **call.kwargs)
        return None

    def _replaced(self, argument: Any, tensors: list[Tensor]) -> Any:
        """Replace the network's own tensors in an argument, and append all its tensors to the list."""
        if isinstance(argument, Tensor):
            replacement = self._replacements.get(id(argument))
            if replacement is None:
                pending = self._pending.get(id(argument))
                replacement = argument if pending is None else self._replacement(argument, pending)
            if self._redirections:
                replacement = self._redirections.current(replacement)
            tensors.append(replacement)
            return replacement
        if isinstance(argument, (list, tuple, dict)):
            return mapped_parts(argument, lambda part: self._replaced(part, tensors))
        return argument

    def _replacement(self, parameter: Tensor, pending: Pending) -> Tensor:
        if self.real:
            replacement = with_numbers(parameter)
            self._borrowed.add(storage_key(replacement))
        else:
            replacement = torch.empty(pending.shape, dtype=parameter.dtype, device=META)
        self._replacements[id(parameter)] = replacement
        self.set_value(replacement, Value(pending=(pending,)))
        return replacement
