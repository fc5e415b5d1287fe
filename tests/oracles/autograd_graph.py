"""The computational graph of a `Network`, derived from the autograd graph of a real forward pass.

An oracle for all code of the toolkit that makes graphs.  It uses the definition of nodes (spec/deepnets-1m.md,
section 3.1), the functions of PyTorch's autograd on the CPU, and, of the network, only its cells `network.cells`.  It
uses no code of `deepnets`.  Unknown functions raise an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

__all__ = ["OracleGraph", "OracleNode", "autograd_graph", "canonical_form"]


class OracleNode(NamedTuple):
    """A node: its type, its parameters with their shapes, and its cell."""

    type: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    cell: int


@dataclass(frozen=True)
class OracleGraph:
    """The result of `autograd_graph`.

    Attributes
    ----------
    nodes
        Nodes in the order of execution, including dead ones.
    edges
        Pairs (source, target) of positions in `nodes`, in increasing order.
    dead
        Positions of the nodes that depend on the input but do not reach the output.
    starved
        Names of the parameters that are not applied to data, in the order of the network.
    """

    nodes: tuple[OracleNode, ...]
    edges: tuple[tuple[int, int], ...]
    dead: frozenset[int]
    starved: tuple[str, ...]

    def pruned(self) -> OracleGraph:
        """Return the graph without the dead nodes."""
        kept = [i for i in range(len(self.nodes)) if i not in self.dead]
        position = {node: i for i, node in enumerate(kept)}
        edges = tuple((position[a], position[b]) for a, b in self.edges if a in position and b in position)
        return OracleGraph(tuple(self.nodes[i] for i in kept), edges, frozenset(), self.starved)


def autograd_graph(network: nn.Module) -> OracleGraph:
    """Run a `Network` on one image and return its graph.

    The network must be on the CPU, its parameters must require gradients, and it must have no auxiliary head.  It is
    run in evaluation mode, without dropout.  Its mode and its parameters are not changed.
    """
    images = torch.randn(1, 3, network.image_size, network.image_size, requires_grad=True)
    recorder = _Recorder(images, dict(network.named_parameters()))
    hooks = []
    for k, cell in enumerate(network.cells):
        hooks.append(cell.register_forward_pre_hook(lambda module, args, k=k: recorder.enter_cell(k)))
    hooks.append(cell.register_forward_hook(lambda module, args, output: recorder.leave_cells()))
    training = network.training
    try:
        network.eval()
        with torch.enable_grad(), recorder:
            logits = network(images)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return recorder.graph(logits)


# Autograd functions that add no node: their output is attributed to the node of their only data input.
_TRANSPARENT = frozenset(
    (
        *("ReluBackward0", "GeluBackward0", "HardswishBackward0"),
        *("SliceBackward0", "SplitBackward0", "SelectBackward0", "UnbindBackward0", "CloneBackward0"),
        *("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "AliasBackward0", "ExpandBackward0"),
        *("TransposeBackward0", "TBackward0", "PermuteBackward0", "UnsqueezeBackward0", "SqueezeBackward1"),
    )
)
_NORMS = {"NativeBatchNormBackward0": "bn", "NativeLayerNormBackward0": "ln"}
_POOLS = {"MaxPool2DWithIndicesBackward0": "max_pool", "AvgPool2DBackward0": "avg_pool"}


class _Recorder(TorchFunctionMode):
    """Inspects the result of every torch function of a forward pass, including branches that do not reach the output.

    Of every autograd function it remembers what it passes on: the node that produced the data (an int), the name of a
    parameter (a str), or nothing (None; constants such as the zeros for an absent state).
    """

    def __init__(self, images: Tensor, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self._parameters = parameters
        self._name_of = {id(parameter): name for name, parameter in parameters.items()}
        self._images = images
        self._produced: dict[Any, int | str | None] = {None: None}  # also keeps the functions alive
        self._nodes = [OracleNode("input", (), (), 0)]
        self._edges: set[tuple[int, int]] = set()
        self._cell = 0
        self._in_head = False

    def enter_cell(self, k: int) -> None:
        self._cell = k

    def leave_cells(self) -> None:
        self._in_head = True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                self._visit(tensor.grad_fn)
        return result

    def graph(self, logits: Tensor) -> OracleGraph:
        sources: dict[int, list[int]] = {}
        for a, b in self._edges:
            sources.setdefault(b, []).append(a)
        stack = [self._produced[logits.grad_fn]]
        alive = set(stack)
        while stack:
            new = set(sources.get(stack.pop(), ())) - alive
            alive |= new
            stack.extend(new)
        used = {name for node in self._nodes for name in node.names}
        return OracleGraph(
            nodes=tuple(self._nodes),
            edges=tuple(sorted(self._edges)),
            dead=frozenset(range(len(self._nodes))) - alive,
            starved=tuple(name for name in self._parameters if name not in used),
        )

    def _visit(self, root: Any) -> None:
        stack = [root]
        while stack:
            function = stack[-1]
            unseen = [f for f, _ in function.next_functions if f not in self._produced]
            if unseen:
                stack.extend(reversed(unseen))
                continue
            stack.pop()
            if function not in self._produced:
                self._produced[function] = self._interpret(function)

    def _interpret(self, function: Any) -> int | str | None:
        """Return the output of a function, given the outputs of the functions before it."""
        kind = function.name()
        inputs = [self._produced[f] for f, _ in function.next_functions]
        if kind == "torch::autograd::AccumulateGrad":
            return 0 if function.variable is self._images else self._name_of[id(function.variable)]
        if kind in _TRANSPARENT or (kind == "MeanBackward1" and not self._in_head):
            (source,) = inputs
            return source
        if kind == "ConvolutionBackward0":
            source, weight, bias = inputs
            return self._layer(_convolution_type(function), source, weight, bias)
        if kind == "AddmmBackward0":
            bias, source, weight = inputs
            return self._layer("conv", source, weight, bias)
        if kind == "MmBackward0":
            source, weight = inputs
            return self._layer("conv", source, weight, None)
        if kind in _NORMS:
            source, weight, bias = inputs
            return self._node(_NORMS[kind], [source], (weight, bias))
        if kind in _POOLS:
            return self._node(_POOLS[kind], inputs)
        if kind == "MeanBackward1":
            return self._node("glob_avg", inputs)
        if kind == "ScaledDotProductFlashAttentionForCpuBackward0":
            return self._node("msa", inputs[:3])
        if kind == "MulBackward0":
            return self._merge("cse", inputs)
        if kind == "AddBackward0":
            return self._merge("sum", [self._node("pos_enc", (), (x,)) if isinstance(x, str) else x for x in inputs])
        if kind == "CatBackward0":
            return self._merge("concat", inputs)
        raise NotImplementedError(f"the oracle does not know the autograd function {kind}")

    def _layer(self, kind: str, source: Any, weight: Any, bias: Any) -> int:
        node = self._node(kind, [source], (weight,))
        return node if bias is None else self._node("bias", [node], (bias,))

    def _merge(self, kind: str, inputs: Sequence[Any]) -> int | None:
        """Add a node for two or more distinct sources; a single source is returned, even if it occurs several times."""
        distinct = {source for source in inputs if source is not None}
        if len(distinct) >= 2:
            return self._node(kind, inputs)
        return distinct.pop() if distinct else None

    def _node(self, kind: str, sources: Iterable[Any], names: tuple[Any, ...] = ()) -> int:
        assert all(isinstance(name, str) for name in names), (kind, names)
        node = len(self._nodes)
        shapes = tuple(tuple(self._parameters[name].shape) for name in names)
        self._nodes.append(OracleNode(kind, names, shapes, self._cell))
        present = {source for source in sources if source is not None}
        assert all(isinstance(source, int) for source in present), (kind, present)
        self._edges |= {(source, node) for source in present}
        return node


def _convolution_type(function: Any) -> str:
    if function._saved_groups == 1:
        return "conv"
    return "dil_conv" if max(function._saved_dilation) > 1 else "sep_conv"


def canonical_form(nodes: Sequence[Any], edges: Iterable[tuple[int, int]]) -> Hashable:
    """Return a form of a labelled directed graph that does not depend on the order of its nodes.

    Parameters
    ----------
    nodes
        The label of every node: anything that JSON can write, such as an `OracleNode` or a tuple
        (type, names, shapes, cell).  Lists and tuples, and the integers of Python and NumPy, count as the same.
    edges
        Pairs (source, target) of positions in `nodes`.

    Returns
    -------
    Hashable
        Equal for isomorphic graphs; different for others, unless colour refinement cannot distinguish them.  If every
        node gets a unique colour, equality proves isomorphism.
    """
    edges = [(int(a), int(b)) for a, b in edges]
    before: list[list[int]] = [[] for _ in nodes]
    after: list[list[int]] = [[] for _ in nodes]
    for a, b in edges:
        after[a].append(b)
        before[b].append(a)
    colours = [_digest([node]) for node in nodes]
    classes = 0
    while len(set(colours)) > classes:
        classes = len(set(colours))
        colours = [
            _digest([colours[i], sorted(colours[j] for j in before[i]), sorted(colours[j] for j in after[i])])
            for i in range(len(nodes))
        ]
    return tuple(sorted(colours)), tuple(sorted((colours[a], colours[b]) for a, b in edges))


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, default=int).encode(), digest_size=12).hexdigest()
