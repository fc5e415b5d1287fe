"""Normalizations: the rules of their operators, and those that a model spells out in elementary operators.

Exporters spell out layer norm and group norm.  The elementary operators become one node when a parameter scales or
shifts their result:

    y = (x - mean(x)) / sqrt(mean((x - mean(x)) ** 2) + eps)    layer norm
    y = x / sqrt(mean(x ** 2) + eps)                            RMSNorm
    y = reshape(InstanceNormalization(reshape(x), 1, 0))        group norm

    y * weight + bias                                           the parameters of the node
"""

from __future__ import annotations

import math

from deepnets.graph import ParameterSlot
from deepnets.onnx_models.model import Normalized, OnnxModel, Operator
from deepnets.tracing import Pending, Value, chain, settle, union

__all__ = ["normalization", "scaled", "shifted", "skip_normalization", "spelled_out"]

_SKIPPED = ("Cast", "Identity", "Add", "Clip", "Max")  # between the mean and the square root


def spelled_out(model: OnnxModel, operator: Operator) -> str | None:
    """Return the tensor that a division or product normalizes; None if it is another division or product.

    The type of the normalization is stored in `OnnxModel.normalized`, by the names of the outputs.
    """
    for position in (0, 1):
        numerator, other = operator.input(position), operator.input(1 - position)
        if operator.type == "Div" and position == 1:
            break
        root = model.producer(other)
        if operator.type == "Mul":
            if root is None or root.type != "Reciprocal":
                continue
            root = model.producer(root.input(0))
        if root is None or root.type != "Sqrt" or not model.value(numerator).nodes:
            continue
        kind = _kind(model, numerator, root)
        if kind:
            for name in operator.outputs:
                model.normalized[name] = Normalized(kind, None)
            return numerator
    return None


def _kind(model: OnnxModel, numerator: str, root: Operator) -> str | None:
    mean = model.producer(root.input(0))
    for _ in range(4):
        if mean is None or mean.type not in _SKIPPED:
            break
        inputs = [name for name in mean.inputs if name and model.value(name).nodes]
        mean = model.producer(inputs[0]) if len(inputs) == 1 else None
    if mean is None or mean.type != "ReduceMean":
        return None
    square = model.producer(mean.input(0))
    if square is None or square.type not in ("Pow", "Mul"):
        return None
    if square.type == "Mul" and square.input(0) != square.input(1):
        return None
    if _uncast(model, square.input(0)) == _uncast(model, numerator):
        centered = model.producer(_uncast(model, numerator))
        return "ln" if centered is not None and _is_centered(model, centered) else "rms"
    centered, other = (model.producer(_uncast(model, name)) for name in (numerator, square.input(0)))
    alike = centered is not None and other is not None and _is_centered(model, centered) and _is_centered(model, other)
    return "ln" if alike and centered and other and centered.input(0) == other.input(0) else None


def _uncast(model: OnnxModel, name: str) -> str:
    operator = model.producer(name)
    return operator.input(0) if operator is not None and operator.type in ("Cast", "Identity") else name


def _is_centered(model: OnnxModel, operator: Operator) -> bool:
    mean = model.producer(operator.input(1))
    return (
        operator.type == "Sub"
        and mean is not None
        and mean.type == "ReduceMean"
        and _uncast(model, mean.input(0)) == _uncast(model, operator.input(0))
    )


def scaled(model: OnnxModel, operator: Operator, value: Value) -> Value | None:
    """Return the value of a normalized tensor that a parameter scales; None for other products."""
    return _with_parameter(model, operator, value, "norm_weight")


def shifted(model: OnnxModel, operator: Operator, value: Value) -> Value | None:
    """Return the value of a normalized tensor that a parameter shifts; None for other sums."""
    return _with_parameter(model, operator, value, "norm_bias")


def _with_parameter(model: OnnxModel, operator: Operator, value: Value, role: str) -> Value | None:
    data = [name for name in operator.inputs if model.value(name).nodes]
    if len(value.pending) != 1 or not value.pending[0].is_vector or len(data) != 1 or data[0] not in model.normalized:
        return None
    kind, node = model.normalized[data[0]]
    parameter = Pending(value.pending[0].name, (math.prod(value.pending[0].shape),))
    if node is None:
        node = model.recorder.add(kind, value.nodes, [(parameter, role)])
    else:
        slots = model.recorder.nodes[node].slots
        if any(slot.role in (role, "norm_bias") for slot in slots) or parameter.name in model.recorder.claimed:
            return None
        model.recorder.claimed.add(parameter.name)
        slots.append(ParameterSlot(*parameter, role))
    for name in operator.outputs:
        model.normalized[name] = Normalized(kind, node)
    return Value((node,))


# --- rules of operators ---


def normalization(kind: str, model: OnnxModel, operator: Operator) -> Value:
    """Return the value of a normalized tensor: a node if the operator has a weight or a bias."""
    value = model.value(operator.input(0))
    if kind == "bn":
        model.statistics.update(operator.inputs[3:5])
    if operator.type == "InstanceNormalization" and _is_identity(model, operator):
        for name in operator.outputs:
            model.normalized[name] = Normalized("gn", None)
        return value
    if not value.nodes:  # of a weight that is standardized
        return union([model.value(name) for name in operator.inputs if name not in model.statistics])
    roles = zip(operator.inputs[1:3], ("norm_weight", "norm_bias"))
    given = [(name, role) for name, role in roles if name and not model.is_placeholder(name)]
    computed = [node for name, _ in given for node in model.value(name).nodes]
    pending = [(parameter, role) for name, role in given for parameter in model.parameter(name)]
    if pending:
        value = Value((model.recorder.add(kind, [settle(model, value)], pending),))
    if computed:
        value = Value((model.recorder.add("other", [*value.nodes, *computed]),))
    return value


def _is_identity(model: OnnxModel, operator: Operator) -> bool:
    """Return whether a normalization of groups has ones and zeros as parameters, as in an exported group norm."""
    before = model.producer(operator.input(0))
    if before is None or before.type != "Reshape":
        return False
    weight, bias = (model.constant(operator.input(position)) for position in (1, 2))
    alike = weight is not None and bias is not None and bool((weight == 1).all() and (bias == 0).all())
    if alike:
        model.statistics.update(operator.inputs[1:3])
    return alike


def skip_normalization(kind: str, model: OnnxModel, operator: Operator) -> Value:
    """Sum of two tensors, and of a bias, followed by a normalization (operators of onnxruntime)."""
    has_bias = kind == "ln"
    total = model.recorder.join("sum", union([model.value(operator.input(i)) for i in (0, 1)]).nodes)
    total = chain(model, total, model.parameter(operator.input(4 if has_bias else 3)), "bias", "bias")
    if name := operator.output(3):  # the sum, for the next residual connection
        model.own[name] = Value((total,))
    pending = [(parameter, "norm_weight") for parameter in model.parameter(operator.input(2))]
    pending += [(parameter, "norm_bias") for parameter in model.parameter(operator.input(3)) if has_bias]
    return Value((model.recorder.add(kind, [total], pending),))
