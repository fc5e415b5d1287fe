"""Helpers of the rules: nodes for parameters, and the node of a tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from deepnets.tracing.capture import Capture
from deepnets.tracing.recorder import Pending, Recording, Value

__all__ = ["chain", "entry", "given", "settle", "sources", "weighted"]


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


def weighted(capture: Recording, source: int, weight: Value, bias: Value, kind: str = "conv") -> int:
    """Add the nodes of a layer: weight and bias.

    If the weight is computed from several parameters (weight normalisation), all but the largest are `scale` nodes.
    """
    pending = sorted(weight.pending, key=lambda parameter: -math.prod(parameter.shape))
    if pending:
        source = capture.recorder.add(kind, [source], [(pending[0], "weight")])
        source = chain(capture, source, pending[1:], "scale", "scale")
    if weight.nodes or bias.nodes:  # weights that are computed from data
        source = capture.recorder.add("matmul", [source, *weight.nodes, *bias.nodes])
    return chain(capture, source, bias.pending, "bias", "bias")


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
