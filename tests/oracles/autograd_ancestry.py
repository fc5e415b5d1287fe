"""The parameters that influence the operands of other parameters: from autograd, and from a `Graph`.

An oracle for the tracing of any network.  It runs the model once, with real values on the CPU, and reads PyTorch's
autograd graph; it uses none of the code that it checks.

Definitions.  Every autograd function yields one of three things: a *constant* (nothing requires a gradient), something
*pending* (computed from parameters and constants only, such as a standardised weight), or *data*.  A parameter *meets*
data at the first function, in the order of execution, that combines a pending operand computed from it with data.  The
kind of this function determines the *upstream* parameters, which influence the operands it is combined with:

- multiplied with data, or the weight or bias of a layer: everything that the data depends on;
- added to data: likewise if it has at most one axis (a bias), nothing if it is larger (a positional encoding, a table
  of relative positions, which are separate sources);
- placed next to data (concatenation, assignment to a slice, `where`) or looked up (embedding): nothing.

The data operand of a layer is defined by its position, so that this operand is data even if no input influences it
(latents, positions, constants).  Operands of one operation have no order: parameters that meet data in the same
function may or may not be upstream of each other.  The oracle therefore returns a lower and an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from deepnets import Graph

__all__ = ["Upstream", "ancestry_differences", "autograd_ancestry", "graph_ancestry"]


@dataclass
class Upstream:
    """The parameters upstream of a parameter, as bit sets: bit i is the i-th parameter of `named_parameters()`.

    Attributes
    ----------
    least, most
        The parameters that must be upstream, and those that may be.
    all_uses
        The parameters that may be upstream of any use of the parameter, not only of the first.
    """

    least: int
    most: int
    all_uses: int


def autograd_ancestry(model: nn.Module, inputs: Any) -> dict[str, Upstream]:
    """Return, for every parameter that meets data, the parameters upstream of its first use.

    Parameters
    ----------
    model
        A model on the CPU.  It is run in evaluation mode, and also in training mode if some parameters were not used.
        The model is not changed.
    inputs
        A tensor, a tuple of arguments, or a dictionary of keyword arguments.

    Returns
    -------
    dict of Upstream
        By name; shared tensors have the first of their names.  Parameters that meet no data are missing.
    """
    parameters = dict(model.named_parameters())
    model = getattr(model, "_orig_mod", model)  # the original of a model compiled by torch.compile
    found = _run(model, inputs, parameters, training=False)
    if len(found) < len(parameters):
        found = {**_run(model, inputs, parameters, training=True), **found}
    for group, opaque in _modules_of_many(model, parameters):
        members = [found[name] for name in group if name in found]
        mask = _mask(list(parameters).index(name) for name in group)
        most = _union(upstream.all_uses for upstream in members) if not opaque else 0
        least = _union(upstream.least for upstream in members) & ~mask
        for upstream in members:
            upstream.least = least if opaque else upstream.least & ~mask
            upstream.most |= mask | most | upstream.least
    return found


def graph_ancestry(graph: Graph) -> dict[str, frozenset[str]]:
    """Return, for every parameter that has a node, the parameters of the strict ancestors of this node."""
    names = [slot.name for slots in graph.parameters for slot in slots]
    masks = _graph_masks(graph, {name: i for i, name in enumerate(names)})
    return {name: frozenset(_names(mask, names)) for name, mask in masks.items()}


def ancestry_differences(graph: Graph, model: nn.Module, inputs: Any) -> list[str]:
    """Return messages about errors in the parameters of a graph and their ancestry; an empty list if there are none.

    Every parameter must be in exactly one place: a node, or `graph.unused` if it meets no data; and its ancestors must
    be those that autograd finds.
    """
    names = [name for name, _ in model.named_parameters()]
    index = {name: i for i, name in enumerate(names)}
    truth = autograd_ancestry(model, inputs)
    placed = [slot.name for slots in graph.parameters for slot in slots]
    unused = [slot.name for slot in graph.unused]
    differences = [f"{name}: is no parameter of the model" for name in {*placed, *unused} - set(names)]
    masks = _graph_masks(graph, index)
    for name in names:
        count = placed.count(name) + unused.count(name)
        if count != 1:
            differences.append(f"{name}: is in {count} places instead of one")
        if name in unused and name in truth:
            differences.append(f"{name}: is listed as unused, but meets data")
        if name in masks and name in truth:
            missing = truth[name].least & ~masks[name]
            extra = masks[name] & ~truth[name].most
            if missing:
                differences.append(f"{name}: these ancestors are missing: {_abridged(missing, names)}")
            if extra:
                differences.append(f"{name}: these are no ancestors: {_abridged(extra, names)}")
    return differences


def _graph_masks(graph: Graph, index: dict[str, int]) -> dict[str, int]:
    """Return, by parameter, the set of parameters of the strict ancestors of its node."""
    own = [_mask(index[slot.name] for slot in slots if slot.name in index) for slots in graph.parameters]
    above = [0] * graph.num_nodes
    for source, target in graph.edges.tolist():  # sorted by target, and sources come before targets
        above[target] |= above[source] | own[source]
    return {slot.name: above[node] for node, slots in enumerate(graph.parameters) for slot in slots}


def _modules_of_many(model: nn.Module, parameters: dict[str, Tensor]) -> Iterator[tuple[list[str], bool]]:
    """Yield the parameters that one call takes together, and whether the call is opaque to autograd."""
    name_of = {id(parameter): name for name, parameter in parameters.items()}
    for module in model.modules():
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            yield [name_of[id(parameter)] for parameter in module.parameters()], True
        elif isinstance(module, nn.MultiheadAttention):
            yield [name_of[id(parameter)] for parameter in module.parameters(recurse=False)], False


# --- reading the autograd graph ---


class State(NamedTuple):
    """The output of a function, unless it is a constant (None).

    Attributes
    ----------
    is_data
        Whether the output is data; otherwise it is pending.
    mask
        The parameters that it depends on.
    sure
        Those of these parameters whose first use it depends on, as nodes of later uses have no parameters.
    """

    is_data: bool
    mask: int
    sure: int


# Functions with an operand that is always data, and the position of this operand.  Batch norm is not among them,
# because it also standardises weights.
_LAYERS = {
    "ConvolutionBackward0": 0,
    "AddmmBackward0": 1,
    "LinearBackward0": 0,
    "EmbeddingBackward0": 0,
    "NativeLayerNormBackward0": 0,
    "NativeGroupNormBackward0": 0,
    "FusedRmsNormBackward0": 0,
    "EmbeddingBagBackward0": 0,
    "PreluKernelBackward0": 0,
    "ScaledDotProductFlashAttentionForCpuBackward0": 0,
}
_SUMS = frozenset(("AddBackward0", "SubBackward0", "RsubBackward0"))
_SUMS_WITH_PRODUCTS = frozenset(("AddmmBackward0", "BaddbmmBackward0", "AddbmmBackward0", "AddcmulBackward0"))
_PLACES = frozenset(
    (
        *("CatBackward0", "StackBackward0", "torch::autograd::CopySlices", "WhereBackward0", "IndexPutBackward0"),
        *("IndexCopyBackward0", "IndexAddBackward0", "SliceScatterBackward0", "SelectScatterBackward0"),
        "MaskedScatterBackward0",
    )
)


@dataclass
class _Reader(TorchFunctionMode):
    """Inspects the results of all torch functions of a forward pass, also those that do not reach the output."""

    parameters: dict[str, Tensor]
    met: dict[int, Upstream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._bit_of = {id(parameter): i for i, parameter in enumerate(self.parameters.values())}
        self._long_axes = [sum(n > 1 for n in parameter.shape) for parameter in self.parameters.values()]
        self._rank = [parameter.dim() for parameter in self.parameters.values()]
        self._states: dict[Any, State | None] = {None: None}  # also keeps the functions alive

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                self._visit(tensor.grad_fn)
        return result

    def _visit(self, root: Any) -> None:
        stack = [root]
        while stack:
            function = stack[-1]
            unseen = [f for f, _ in function.next_functions if f not in self._states]
            if unseen:
                stack.extend(reversed(unseen))
                continue
            stack.pop()
            if function not in self._states:
                self._states[function] = self._interpret(function)

    def _interpret(self, function: Any) -> State | None:
        kind = function.name()
        if kind == "torch::autograd::AccumulateGrad":
            bit = self._bit_of.get(id(function.variable))
            return State(True, 0, 0) if bit is None else State(False, 1 << bit, 0)
        states = [self._states[f] for f, _ in function.next_functions]
        if not any(state is not None and state.is_data for state in states):
            if kind in _LAYERS:
                states[_LAYERS[kind]] = self._as_data(states[_LAYERS[kind]])
            elif kind == "MmBackward0" and _is_plain_weight(function):
                states[0] = State(True, 0, 0)  # a linear layer on a constant
        if kind in _SUMS_WITH_PRODUCTS:
            return self._add([states[0], self._apply(states[1:])])
        if kind in _SUMS:
            return self._add(states)
        if kind in _PLACES:
            return self._place(states)
        return self._apply(states)

    def _as_data(self, state: State | None) -> State:
        if state is None:
            return State(True, 0, 0)
        return State(True, state.mask, self._meet(state.mask, 0, state.mask))

    def _apply(self, states: Sequence[State | None]) -> State | None:
        data, pending = _split(states)
        if data is None:
            return _pending(pending)
        return _joined(data, pending, self._meet(pending, data.sure, data.mask | pending))

    def _add(self, states: Sequence[State | None]) -> State | None:
        data, pending = _split(states)
        if data is None:
            return _pending(pending)
        new = 0
        for state in states:
            if state is not None and not state.is_data:
                largest = max(_bits(state.mask), key=lambda bit: (self._long_axes[bit], self._rank[bit]))
                least = data.sure if self._rank[largest] <= 1 else 0
                most = data.mask if self._long_axes[largest] <= 1 else 0
                new |= self._meet(state.mask, least, most | pending)
        return _joined(data, pending, new)

    def _place(self, states: Sequence[State | None]) -> State | None:
        data, pending = _split(states)
        if data is None:
            return _pending(pending)
        return _joined(data, pending, self._meet(pending, 0, pending))

    def _meet(self, pending: int, least: int, most: int) -> int:
        """Record that these parameters meet data; return those that do so for the first time."""
        new = 0
        for bit in _bits(pending):
            if bit not in self.met:
                self.met[bit] = Upstream(least, most & ~(1 << bit), 0)
                new |= 1 << bit
            self.met[bit].all_uses |= most & ~pending
        return new


def _is_plain_weight(function: Any) -> bool:
    """Return whether the first factor of a product is a constant, and the second one the transpose of a parameter."""
    (first, _), (second, _) = function.next_functions
    if first is not None or second is None or second.name() != "TBackward0":
        return False
    return bool(second.next_functions[0][0].name() == "torch::autograd::AccumulateGrad")


def _split(states: Sequence[State | None]) -> tuple[State | None, int]:
    """Return the union of the data operands (None if there are none), and the parameters of the other operands."""
    data = [state for state in states if state is not None and state.is_data]
    pending = _union(state.mask for state in states if state is not None and not state.is_data)
    if not data:
        return None, pending
    return State(True, _union(state.mask for state in data), _union(state.sure for state in data)), pending


def _joined(data: State, pending: int, new: int) -> State:
    return State(True, data.mask | pending, data.sure | new)


def _pending(mask: int) -> State | None:
    return State(False, mask, 0) if mask else None


def _run(model: nn.Module, inputs: Any, parameters: dict[str, Tensor], *, training: bool) -> dict[str, Upstream]:
    reader = _Reader(parameters)
    with _prepared(model, parameters, training), torch.enable_grad(), reader:
        arguments = tree_map(_as_data_input, inputs)
        try:
            if isinstance(arguments, dict):
                model(**arguments)
            else:
                model(*(arguments if isinstance(arguments, tuple) else (arguments,)))
        except Exception:
            if not training:  # some layers cannot be trained on a single sample
                raise
    names = list(parameters)
    return {names[bit]: upstream for bit, upstream in reader.met.items()}


def _run_at_once(run: Any, preserve: bool, *args: Any) -> Any:
    """Replace a reentrant checkpoint, whose operations are not in the autograd graph."""
    return run(*args)


def _as_data_input(value: Any) -> Any:
    if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
        return value.detach().clone().requires_grad_().clone()  # not a leaf, as models may change it in place
    return value


@contextmanager
def _prepared(model: nn.Module, parameters: dict[str, Tensor], training: bool) -> Iterator[None]:
    """Let all parameters require gradients, set the mode, and replace checkpoints; restore all at exit."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    required = [(parameter, parameter.requires_grad) for parameter in parameters.values()]
    checkpoint = torch.utils.checkpoint.CheckpointFunction
    try:
        for parameter in parameters.values():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.requires_grad_()
        model.train(training)
        with torch.random.fork_rng(devices=[]), mock.patch.object(checkpoint, "apply", _run_at_once):
            yield
    finally:
        for parameter, flag in required:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


# --- sets of bits ---


def _union(masks: Iterable[int]) -> int:
    result = 0
    for mask in masks:
        result |= mask
    return result


def _mask(bits: Iterable[int]) -> int:
    return _union(1 << bit for bit in bits)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _names(mask: int, names: Sequence[str]) -> list[str]:
    return [names[bit] for bit in _bits(mask)]


def _abridged(mask: int, names: Sequence[str], limit: int = 6) -> str:
    found = _names(mask, names)
    return ", ".join(found[:limit]) + (f" and {len(found) - limit} more" if len(found) > limit else "")
