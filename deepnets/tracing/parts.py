"""Helpers of the rules: nodes for parameters, and the node of a tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from deepnets.tracing.capture import Capture
from deepnets.tracing.recorder import Pending, Recording, Value, ancestors

__all__ = ["chain", "entry", "given", "linear_outputs", "settle", "sources", "sum_with_scores", "weighted"]


def settle(capture: Recording, value: Value) -> int:
    """Return the node of a value with data; a product of matrices that is not attention becomes a `matmul` node."""
    if len(value.nodes) == 1:
        return value.nodes[0]
    return capture.recorder.add("matmul", value.nodes)


def chain(capture: Recording, node: int, pending: Iterable[Pending], kind: str, role: str) -> int:
    """Add a chain of nodes after a node, one for each parameter; return the last."""
    for parameter in pending:
        node = capture.recorder.add(kind, [node], [(parameter, role)])
    return node


def sources(capture: Recording, pending: Iterable[Pending], kind: str) -> tuple[int, ...]:
    """Add nodes without inputs, one for each parameter."""
    return tuple(capture.recorder.add(kind, (), [(parameter, kind)]) for parameter in pending)


def sum_with_scores(capture: Recording, values: Iterable[Value]) -> Value | None:
    """Return the sum of a product of matrices, or of the result of a softmax, and other data; None if it is no node.

    What is added to the scores of attention is computed beside them, and belongs to the attention.  If it is what they
    are computed from, as in a residual connection, they are features.  After the softmax, it is a sum like others.
    """
    parts = list(dict.fromkeys(value for value in values if value.nodes and not value.selects))
    scores = [value for value in parts if value.attends]
    others = [value for value in parts if not value.attends]
    if not scores or not others:
        return None
    before = ancestors(capture.recorder.nodes, [node for value in scores for node in value.nodes])
    features = all(node in before for value in others for node in value.nodes)
    if not features and any(value.kind == "scores" for value in scores):
        return None
    nodes = {settle(capture, value) for value in parts}
    return Value((capture.recorder.join("sum", nodes),), (), "" if features else "weights")


def weighted(capture: Recording, source: int, weight: Value, bias: Value, kind: str = "conv", outputs: int = 0) -> int:
    """Add the nodes of a layer: weight and bias.

    If the weight is computed from several parameters (weight normalisation), all but the largest are `scale` nodes.
    `outputs` is as in `Node`.
    """
    pending = sorted(weight.pending, key=lambda parameter: -math.prod(parameter.shape))
    if pending:
        source = capture.recorder.add(kind, [source], [(pending[0], "weight")])
        capture.recorder.nodes[source].outputs = outputs
        source = chain(capture, source, pending[1:], "scale", "scale")
    if weight.nodes or bias.nodes:  # weights that are computed from data
        source = capture.recorder.add("matmul", [source, *weight.nodes, *bias.nodes])
    return chain(capture, source, bias.pending, "bias", "bias")


def linear_outputs(capture: Recording, value: Value) -> int:
    """Return the size of the last axis of the result of a linear layer; 0 for other values."""
    if len(value.nodes) != 1:
        return 0
    nodes = capture.recorder.nodes
    node = nodes[value.nodes[0]]
    while node.type in ("bias", "scale") and len(node.sources) == 1:
        node = nodes[node.sources[0]]
    return node.outputs


def given(capture: Capture, tensor: Any) -> Value:
    """Return what an optional argument is computed from."""
    return capture.value(tensor) if isinstance(tensor, Tensor) else Value()


def entry(capture: Capture, tensor: Tensor) -> int:
    """Return the node that a layer reads.

    The tensor may be data, parameters that are used like data (learned queries), or a constant.
    """
    value = capture.value(tensor)
    if value.nodes:
        node = settle(capture, value)
    elif value.pending:
        tokens = sources(capture, value.pending, "token")
        node = tokens[0] if len(tokens) == 1 else capture.recorder.add("sum", tokens)
    else:
        return capture.constant_node(tensor)
    if value.nodes != (node,):
        capture.set_value(tensor, Value((node,)))
    return node
