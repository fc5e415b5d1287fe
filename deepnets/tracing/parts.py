"""What rules are made of: nodes for parameters, and the node that a tensor's data comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from deepnets.tracing.capture import Capture
from deepnets.tracing.recorder import Pending, Value

__all__ = ["chain", "entry", "given", "settle", "sources", "weighted"]


def settle(capture: Capture, value: Value) -> int:
    """The one node whose data a tensor of data carries: a product of matrices that is no attention becomes a node."""
    if len(value.nodes) == 1:
        return value.nodes[0]
    return capture.recorder.add("matmul", value.nodes)


def chain(capture: Capture, node: int, pending: Iterable[Pending], kind: str, role: str) -> int:
    """Nodes one behind the other, one for each parameter."""
    for parameter in pending:
        node = capture.recorder.add(kind, [node], [(parameter, role)])
    return node


def sources(capture: Capture, pending: Iterable[Pending], kind: str) -> tuple[int, ...]:
    """Nodes without inputs, one for each parameter."""
    return tuple(capture.recorder.add(kind, (), [(parameter, kind)]) for parameter in pending)


def weighted(capture: Capture, source: int, weight: Value, bias: Value, kind: str = "conv") -> int:
    """A layer with a weight and a bias; where the weight is made of several parameters, the smaller ones scale it."""
    pending = sorted(weight.pending, key=lambda parameter: -math.prod(parameter.shape))
    if pending:
        source = capture.recorder.add(kind, [source], [(pending[0], "weight")])
        source = chain(capture, source, pending[1:], "scale", "scale")
    if weight.nodes or bias.nodes:  # weights that are computed from data
        source = capture.recorder.add("matmul", [source, *weight.nodes, *bias.nodes])
    return chain(capture, source, bias.pending, "bias", "bias")


def given(capture: Capture, tensor: Any) -> Value:
    """What an optional argument is made of."""
    return capture.value(tensor) if isinstance(tensor, Tensor) else Value()


def entry(capture: Capture, tensor: Tensor) -> int:
    """The node that a layer reads: data, parameters that are read like data (learned queries), or a constant."""
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
