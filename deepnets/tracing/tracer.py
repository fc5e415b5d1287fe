"""`trace`: the computational graph of any `torch.nn.Module`, recorded in one run without computation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deepnets.graph import Graph
from deepnets.support import ConfigError, TraceError
from deepnets.tracing.capture import Capture
from deepnets.tracing.checking import influential_parameters
from deepnets.tracing.finishing import finish, main_output, move_to_live
from deepnets.tracing.inputs import call_model
from deepnets.tracing.model import (
    default_inputs,
    failing_module,
    modules_of,
    parameter_slots,
    parameters_of,
    unwrapped,
)
from deepnets.tracing.origins import HiddenTensorError, UnknownTensorError
from deepnets.tracing.parts import settle, sources
from deepnets.tracing.recorder import Node, Recorder
from deepnets.tracing.rules import RULES, pass_on, rules_of
from deepnets.tracing.state import preserved, reachable
from deepnets.tracing.tensors import is_floating
from deepnets.tracing.vocabularies import check_vocabulary
from deepnets.tracing.watcher import Watcher, checked_results, without_compilation

__all__ = ["trace"]

log = logging.getLogger(__name__)


def trace(model: nn.Module, input: Any = None, *, vocabulary: str = "complete") -> Graph:
    """Convert a network to its computational graph, the input of a hypernetwork.

    A node is an operation with parameters (a convolution, a linear layer, a norm, a bias), a pooling, or an operation
    that combines several tensors (a sum, a concatenation, attention).  An edge leads from a node to every node that
    uses its output.  Activations, dropout and reshapes are not nodes.  Every node lists the parameters it stands for,
    by name, shape and role; nothing is matched by guessing names later.

    The network runs once, in evaluation mode, on the `meta` device: no values are computed, and the network is neither
    copied nor changed.  If parameters are left without a node, for example those of an auxiliary head, it also runs in
    training mode.  If the output is not computed from all parameters, PyTorch's autograd confirms that it does not
    depend on the others.  If the control flow depends on values of tensors, it runs with random values on the CPU.

    Parameters
    ----------
    model : torch.nn.Module
        The network, on any device including `meta`.  Wrappers of `torch.compile`, `DataParallel` and
        `DistributedDataParallel` are removed.
    input : tensor, tuple, list or dict, optional
        Example of the network's input: a tensor, a tuple or list of positional arguments, or a dict of keyword
        arguments.  The arguments may be objects of any type that hold tensors and that `copy.deepcopy` can copy.  Only
        shapes, dtypes and integers matter.  By default, one image of the size that the network states
        (`image_size`, `default_cfg` of timm, `dummy_inputs` of Hugging Face); otherwise one of 224 x 224 pixels.
    vocabulary : {"complete", "ghn3", "ppuda", "logah"}, default "complete"
        The operations that are nodes.

        - "complete": every parameter that receives data belongs to exactly one node, if necessary to one of the types
          in `deepnets.architecture.TRACED_NODE_TYPES`, such as `scale`, `token` or `gn`.
        - "ghn3" (alias "published"): the graphs of GHN-3 (Knyazev et al., ICML 2023), with the node types of
          DeepNets-1M only.  Other nodes are contracted, and their parameters are listed in `Graph.unused`.
        - "ppuda": the graphs of PPUDA (Knyazev et al., NeurIPS 2021), like "ghn3" except that a mean over the spatial
          axes has no node, a squeeze-excite block has a node for its adaptive pooling instead of its product (unless
          its gate is a hardswish, as in DeepNets-1M), and a convolutional classifier before a global pooling is an
          ordinary layer.
        - "logah": the graphs of LoGAH (Zhou et al., 2024), like "ghn3" except in language models: RMS norms, gates and
          rotary position encodings are nodes, and the output matrix of a GPT-2 reads the input.

    Returns
    -------
    Graph
        Nodes in the order of execution, with the output last.  `graph.unused` lists the parameters without a node,
        and those of an integer dtype, such as indices.

    Raises
    ------
    TraceError
        If the network cannot run on the input, returns nothing that depends on it, or hides its code: if it is a
        module of `torch.jit`, or the output depends on parameters in a way that cannot be followed.
    ConfigError
        If `model` is not a module, or `vocabulary` is unknown.

    References
    ----------
    Node types and rules: Knyazev et al., "Parameter Prediction for Unseen Deep Architectures" (NeurIPS 2021), appendix
    A, extended to other networks.

    Examples
    --------
    A network with a residual connection:

    >>> import torch
    >>> from torch import nn
    >>> from deepnets import NODE_TYPES, trace
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    ...         self.norm = nn.BatchNorm2d(8)
    ...         self.pool = nn.AdaptiveAvgPool2d(1)
    ...         self.fc = nn.Linear(8, 10)
    ...
    ...     def forward(self, x):
    ...         x = self.conv(x)
    ...         x = x + self.norm(x).relu()
    ...         return self.fc(self.pool(x).flatten(1))
    >>> graph = trace(Net(), torch.zeros(1, 3, 32, 32))
    >>> graph
    Graph(7 nodes, 7 edges)

    The nodes and what they stand for; a linear layer is a `conv` node, and its bias is a node of its own:

    >>> for node_type, slots in zip(graph.node_types, graph.parameters):
    ...     print(NODE_TYPES[node_type], [(slot.name, slot.shape) for slot in slots])
    input []
    conv [('conv.weight', (8, 3, 3, 3))]
    bn [('norm.weight', (8,)), ('norm.bias', (8,))]
    sum []
    glob_avg []
    conv [('fc.weight', (10, 8))]
    bias [('fc.bias', (10,))]

    The edges; the sum (node 3) reads the convolution (node 1) and the norm (node 2):

    >>> graph.edges.tolist()
    [[0, 1], [1, 2], [1, 3], [2, 3], [3, 4], [4, 5], [5, 6]]
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    vocabulary = check_vocabulary(vocabulary)
    parameters = parameters_of(model)
    slots = parameter_slots(model, parameters)
    inner = unwrapped(model)
    if isinstance(inner, torch.jit.ScriptModule):
        raise TraceError(
            f"{type(inner).__name__}: a scripted module cannot be traced; trace the module that it was made from"
        )
    run = _Tracer(inner, parameters).run(input, vocabulary)
    return finish(run.nodes, run.output, slots, vocabulary).replace(label=type(inner).__name__)


class _Run(NamedTuple):
    """Result of one run, and how it was made.

    Attributes
    ----------
    nodes : list of Node
        In the order of execution.
    output : int
        The node of the network's output.
    returned : tuple of int
        The positions of the tensors that this node computes among all that the network returns.
    claimed, live : set of str
        The names of the parameters that have a node, and of those from whose nodes the output is computed.
    input : object
        The input of the run.
    training, real : bool
        Whether the network was in training mode, and whether tensors had values.
    """

    nodes: list[Node]
    output: int
    returned: tuple[int, ...]
    claimed: set[str]
    live: set[str]
    input: Any
    training: bool
    real: bool


class _Tracer:
    """Tries inputs and modes until the network runs and all parameters have a node."""

    def __init__(self, inner: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        self.model = inner
        self.name = type(inner).__name__
        self.parameters = dict(parameters)
        self.wanted = {name for name, parameter in self.parameters.items() if is_floating(parameter)}
        self.rules = RULES
        self.watched = any(isinstance(module, torch.jit.ScriptModule) for module in modules_of(inner))

    def run(self, input: Any, vocabulary: str) -> _Run:
        self.rules = rules_of(vocabulary)
        inputs = default_inputs(self.model) if input is None else [input]
        best = self._first(inputs, training=False)
        if vocabulary == "complete" and not self.wanted <= best.claimed:
            try:
                other = self._first([best.input, *inputs], training=True)
            except TraceError as error:
                log.info("%s cannot run in training mode: %s", self.name, error)
            else:
                if best.claimed < other.claimed:
                    best = other
        if not self.wanted <= best.live:
            self._check(best)
        return best

    def _check(self, run: _Run) -> None:
        """Raise an error if the output of a run depends on parameters from whose nodes it is not computed."""
        unused = [name for name in self.parameters if name in self.wanted and name not in run.live]
        try:
            with preserved(self.model, run.training) as constants, without_compilation():
                lost = influential_parameters(
                    self.model, self.parameters, constants, run.input, run.real, returned=run.returned
                )
        except Exception as error:
            log.log(
                logging.INFO if set(unused) <= run.claimed else logging.WARNING,
                "%s: autograd cannot confirm that the output does not depend on %s: %s: %s",
                self.name,
                ", ".join(unused),
                type(error).__name__,
                error,
            )
            return
        lost = [name for name in lost if name in unused]
        if lost:
            raise TraceError(
                f"{self.name}: its output depends on these parameters, but how cannot be traced: {', '.join(lost)}"
            )

    def _first(self, inputs: list[Any], training: bool) -> _Run:
        """Run the network on the first input that it accepts."""
        problem: Exception | None = None
        for each in inputs:
            try:
                return self._watch(each, training)
            except TraceError:
                raise
            except Exception as error:
                problem = problem or error
        try:
            return self._attempt(inputs[0], training, real=True, watched=True)
        except TraceError:
            raise
        except Exception as error:
            problem = error
        given = ", ".join(_described(leaf) for leaf in tree_leaves(inputs[0]))
        raise TraceError(
            f"{self.name} cannot run on {given}: {type(problem).__name__}: {_first_line(problem)}; pass `input`, an "
            "example of its input"
        ) from problem

    def _watch(self, input: Any, training: bool) -> _Run:
        """Run the network on `meta`, and again with a `Watcher` if it has code that needs one."""
        if not self.watched:
            try:
                return self._attempt(input, training, real=False, watched=False)
            except UnknownTensorError:
                self.watched = True
        try:
            return self._attempt(input, training, real=False, watched=True)
        except TraceError as error:
            if isinstance(error.__cause__ or error, HiddenTensorError):  # which module has returned this tensor?
                self._attempt(input, training, real=False, watched=True, checked=True)
            raise

    def _attempt(self, input: Any, training: bool, real: bool, watched: bool, checked: bool = False) -> _Run:
        recorder = Recorder()
        with (
            preserved(self.model, training) as constants,
            _Cells(self.model, recorder),
            without_compilation(),
            torch.no_grad(),
        ):
            capture = Capture(recorder, self.parameters, self.rules, pass_on, constants, real, watched)
            fed = capture.feed(input)
            if not capture.is_fed and tree_leaves(input):
                raise TraceError(f"{self.name}: the input, {_described(input)}, holds no tensor")
            try:
                checking = checked_results(self.model, capture) if checked else nullcontext()
                with checking, Watcher(capture) if watched else nullcontext(), capture:
                    output = call_model(self.model, fed)
            except UnknownTensorError:
                raise
            except TraceError as error:
                module = failing_module(self.model, error)
                raise TraceError(f"{self.name}, module {module!r}: {error}" if module else str(error)) from error
            chosen, returned = self._output(capture, output)
            live = move_to_live(recorder.nodes, chosen)
            return _Run(recorder.nodes, chosen, returned, recorder.claimed, live, input, training, real)

    def _output(self, capture: Capture, output: Any) -> tuple[int, tuple[int, ...]]:
        """Return the node of the network's output, selected from all tensors that it returns, and their positions."""
        tensors = [part for part in reachable(output, set()) if isinstance(part, Tensor)]
        values = [capture.current_value(tensor) for tensor in tensors]
        found = {place: settle(capture, value) for place, value in enumerate(values) if value.nodes}
        if not found:
            what = "no tensor" if not tensors else "nothing that depends on its input"
            raise TraceError(f"{self.name} returns {what}")
        learned = {parameter: None for value in values if not value.nodes for parameter in value.pending}
        sources(capture, [p for p in learned if p.name not in capture.recorder.claimed], "token")
        scalars = [tensor.dim() == 0 for tensor, value in zip(tensors, values) if value.nodes]  # losses, statistics
        chosen = main_output(capture.recorder.nodes, list(found.values()), scalars)
        return chosen, tuple(place for place, node in found.items() if node == chosen)


class _Cells:
    """Tells the recorder which cell runs, for networks with a `ModuleList` named `cells`."""

    def __init__(self, model: nn.Module, recorder: Recorder) -> None:
        cells = getattr(model, "cells", None)
        self._cells = list(cells) if isinstance(cells, nn.ModuleList) else []
        self._recorder = recorder

    def __enter__(self) -> None:
        self._hooks = [
            cell.register_forward_pre_hook(lambda *_, k=k: self._enter(k)) for k, cell in enumerate(self._cells)
        ]

    def _enter(self, k: int) -> None:
        self._recorder.cell = k

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__


def _first_line(error: Exception | None) -> str:
    return str(error).strip().partition("\n")[0][:300]
