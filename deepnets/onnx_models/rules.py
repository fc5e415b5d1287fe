"""`apply_rule`, the rule of each ONNX operator: whether it becomes a node, and which of its inputs are parameters.

The rules give the same nodes as those of `deepnets.tracing` for the corresponding functions of PyTorch.  The result of
an operator without a rule is computed from the same nodes as its inputs; if it combines several tensors of data, it
becomes a node of type `other`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from deepnets.onnx_models import norms
from deepnets.onnx_models.model import OnnxModel, Operator
from deepnets.support import FormatError
from deepnets.tracing import (
    CONSTANT,
    Pending,
    Value,
    chain,
    linear_outputs,
    settle,
    sources,
    sum_with_scores,
    union,
    weighted,
)

__all__ = ["RULES", "apply_rule"]

Rule = Callable[[OnnxModel, Operator], Value]


def apply_rule(model: OnnxModel, operator: Operator) -> None:
    """Add the nodes of an operator, and set what its outputs are computed from.

    Raises
    ------
    FormatError
        If the operator contains other graphs (`If`, `Loop`, `Scan`), or has other inputs than its type allows.

    Examples
    --------
    See `read_onnx`.
    """
    needed, given = _LEAST_INPUTS.get(operator.type, 0), sum(bool(name) for name in operator.inputs)
    if given < needed:
        raise FormatError(f"operator {operator.type}: expected {needed} or more inputs, got {given}")
    rule = RULES.get(operator.type, _other)
    model.set_value(operator, rule(model, operator))


def _other(model: OnnxModel, operator: Operator) -> Value:
    values = model.values(operator)
    value = union(values)
    if value.nodes and len(set(values) - {CONSTANT}) > 1:
        pending = [(parameter, "bias" if parameter.is_vector else "weight") for parameter in value.pending]
        if pending or (len(value.nodes) > 1 and not value.kind):
            return Value((model.recorder.add("other", value.nodes, pending),))
    return value


def _first(model: OnnxModel, operator: Operator) -> Value:
    """Operator that changes the form of its first input; the others are sizes, indices or limits."""
    name = operator.input(0)
    if name in model.normalized:
        for output in operator.outputs:
            model.normalized[output] = model.normalized[name]
    return model.value(name)


def _dynamic_quantization(model: OnnxModel, operator: Operator) -> Value:
    """Its second and third output are the scale and the zero point."""
    model.own.update({name: CONSTANT for position in (1, 2) if (name := operator.output(position))})
    return _first(model, operator)


def _transpose(model: OnnxModel, operator: Operator) -> Value:
    if operator.input(0) not in model.flipped and len(model.shape(operator.input(0)) or ()) == 2:
        model.flipped.update(operator.outputs)
    return _first(model, operator)


def _constant(model: OnnxModel, operator: Operator) -> Value:
    """Operator whose result is a shape, an index, a condition or a random number."""
    return CONSTANT


def _control_flow(model: OnnxModel, operator: Operator) -> Value:
    raise FormatError(f"operator {operator.type}: control flow has no graph; export the model without it")


# --- layers ---


def _entry(model: OnnxModel, name: str) -> int:
    """Return the node that a layer reads: data, parameters that are used like data, or a constant."""
    value = model.value(name)
    if value.nodes:
        return settle(model, value)
    if value.pending:
        return model.recorder.join("sum", sources(model, value.pending, "token"))
    return model.recorder.add("const", ())


def _convolution(model: OnnxModel, operator: Operator, weight: int = 1, bias: int = 2) -> Value:
    kind = "conv"
    if operator.attribute("group", 1) > 1:
        kind = "dil_conv" if max(operator.attribute("dilations", [1])) > 1 else "sep_conv"
    given = _layer_parameters(model, operator, weight, bias)
    return Value((weighted(model, _entry(model, operator.input(0)), *given, kind),))


def _layer_parameters(model: OnnxModel, operator: Operator, weight: int, bias: int) -> tuple[Value, Value]:
    found = []
    for name in (operator.input(weight), operator.input(bias)):
        value = model.value(name)
        found.append(value if value.nodes or not name else Value(pending=model.parameter(name)))
    return found[0], found[1]


def _oriented(model: OnnxModel, name: str, value: Value, stored_as_output_input: bool) -> Value:
    """Return a weight whose shape is (outputs, inputs), as in PyTorch, however the file stores it."""
    if stored_as_output_input != (name in model.flipped):
        return value
    pending = tuple(Pending(p.name, p.shape[::-1] if len(p.shape) == 2 else p.shape) for p in value.pending)
    return value._replace(pending=pending)


def _gemm(model: OnnxModel, operator: Operator) -> Value:
    left, right, shift = (model.value(operator.input(position)) for position in range(3))
    if left.nodes and right.nodes:
        return _shifted(model, _product(model, [left, right]), shift)
    weight, position = (right, 1) if left.nodes or not right.nodes else (left, 0)
    as_output_input = bool(operator.attribute("transB" if position else "transA", 0)) == bool(position)
    if not weight.pending:
        return _shifted(model, union([left, right]), shift)
    oriented = _oriented(model, operator.input(position), weight, as_output_input)
    return Value((weighted(model, _entry(model, operator.input(1 - position)), oriented, shift),))


def _shifted(model: OnnxModel, value: Value, shift: Value) -> Value:
    if not shift.pending:
        total = union([value, shift])
        return Value((model.recorder.join("sum", total.nodes),)) if total.nodes and not total.kind else total
    return Value((chain(model, settle(model, value), shift.pending, "bias", "bias"),)) if value.nodes else value


def _matmul(model: OnnxModel, operator: Operator, left: int = 0, right: int = 1) -> Value:
    values = [model.value(operator.input(left)), model.value(operator.input(right))]
    if operator.type in ("QLinearMatMul", "MatMulInteger"):
        for place, position in enumerate((left, right)):
            if not values[place].nodes:
                values[place] = Value(pending=model.parameter(operator.input(position)))
    value = union(values)
    if value.nodes and value.pending:
        position = right if values[1].pending else left
        weight = Value(pending=values[0].pending or values[1].pending)
        weight = _oriented(model, operator.input(position), weight, stored_as_output_input=position == left)
        data = settle(model, Value(value.nodes, (), value.kind))
        shape = model.shape(operator.input(right)) or ()
        outputs = shape[-1] if position == right and len(shape) == 2 and isinstance(shape[-1], int) else 0
        return Value((weighted(model, data, weight, CONSTANT, outputs=outputs),))
    if all(part.nodes and not part.selects for part in values) or any(part.kind == "weights" for part in values):
        return _product(model, values)
    return value


def _product(model: OnnxModel, values: list[Value]) -> Value:
    """Return the product of matrices of data: attention, if one of them is the result of a softmax."""
    nodes = union(values).nodes
    if any(value.kind == "weights" for value in values):
        return Value((model.recorder.add("msa", nodes),))
    return Value(nodes, (), "scores")


def _recurrent(model: OnnxModel, operator: Operator) -> Value:
    pending = [(p, "weight") for name in operator.inputs[1:3] for p in model.parameter(name)]
    pending += [(p, "bias") for name in operator.inputs[3:4] if name for p in model.parameter(name)]
    states = union([model.value(name) for name in operator.inputs[5:7] if name])
    pending += [(parameter, "bias" if parameter.is_vector else "weight") for parameter in states.pending]
    computed = [node for name in operator.inputs[1:4] for node in model.value(name).nodes]
    return Value((model.recorder.add("rnn", [_entry(model, operator.input(0)), *states.nodes, *computed], pending),))


def _prelu(model: OnnxModel, operator: Operator) -> Value:
    name = operator.input(1)
    node = chain(model, _entry(model, operator.input(0)), model.parameter(name), "scale", "scale")
    return Value((model.recorder.add("other", [node, *computed]) if (computed := model.value(name).nodes) else node,))


def _gather(model: OnnxModel, operator: Operator) -> Value:
    """Selection by indices: an embedding if the table is a parameter and the indices are data."""
    table, index = (model.value(operator.input(position)) for position in (0, 1))
    if not table.pending or not index.nodes:
        return table if table != CONSTANT else index
    return Value((model.recorder.add("embed", index.nodes, [(parameter, "embed") for parameter in table.pending]),))


# --- pooling ---


def _pool(kind: str, model: OnnxModel, operator: Operator) -> Value:
    value = model.value(operator.input(0))
    sizes = [1, *operator.attribute("kernel_shape", [])][-2:] if "kernel_shape" in operator.attributes else [0, 0]
    window = (min(sizes[0], 255), min(sizes[1], 255))
    return Value((model.recorder.add(kind, [settle(model, value)], window=window),)) if value.nodes else value


def _mean(model: OnnxModel, operator: Operator) -> Value:
    """Mean: a `glob_avg` node if it is over all pixels or all tokens."""
    name = operator.input(0)
    value, rank = model.value(name), model.rank(name)
    axes = operator.attribute("axes")
    if axes is None and operator.input(1):
        found = model.constant(operator.input(1))
        axes = None if found is None else np.ravel(found).tolist()
    if not value.nodes or value.kind not in ("", "numbers") or rank is None or axes is None:
        return value
    if not all(-rank <= axis < rank for axis in axes):
        raise FormatError(f"operator ReduceMean: {name!r} has {rank} axes, got axes {list(axes)}")
    places, kept = sorted(axis % rank for axis in axes), bool(operator.attribute("keepdims", 1))
    spatial = rank >= 4 and places in (list(range(2, rank)), list(range(1, rank - 1)))
    features_last = (model.shape(name) or ("",))[-1] == linear_outputs(model, value)
    if spatial or (rank == 3 and (places == [1] or (places == [2] and not kept and not features_last))):
        return Value((model.recorder.add("glob_avg", [settle(model, value)], detail="mean" if rank >= 4 else ""),))
    return value


# --- operators that combine tensors ---


def _add(model: OnnxModel, operator: Operator) -> Value:
    return _sum(model, operator, operator.inputs)


def _sum(model: OnnxModel, operator: Operator, names: list[str]) -> Value:
    value = union([model.value(name) for name in names])
    if operator.type == "Add" and (found := norms.shifted(model, operator, value)) is not None:
        return found
    if value.attends and not value.pending:
        joined = sum_with_scores(model, [model.value(name) for name in names])
        if joined is not None:
            return joined
    if value.nodes and value.pending:
        looked_up = {parameter for name in names if value.attends for parameter in _looked_up(model, name)}
        vectors = [parameter for parameter in value.pending if parameter.is_vector and parameter not in looked_up]
        larger = [parameter for parameter in value.pending if parameter not in vectors]
        if value.attends:
            larger = [parameter for parameter in larger if not model.is_mask(parameter.name)]
            nodes = value.nodes + sources(model, larger, "rel_pos")
            if vectors:
                nodes = (chain(model, settle(model, Value(nodes)), vectors, "bias", "bias"),)
            return Value(nodes, (), value.kind)
        node = chain(model, model.recorder.join("sum", value.nodes), vectors, "bias", "bias")
        return Value((model.recorder.join("sum", (node, *sources(model, larger, "pos_enc"))),))
    if len(value.nodes) > 1 and not value.kind:
        return Value((model.recorder.join("sum", value.nodes),))
    return value


def _looked_up(model: OnnxModel, name: str) -> tuple[Pending, ...]:
    """Return the parameters of which a tensor holds elements or a matrix, looked up by the positions of two tokens."""
    shape, pending = model.shape(name), model.value(name).pending
    if shape is None or len(pending) != 1:
        return ()
    axes = sum(size != 1 for size in shape)
    return pending if axes > 1 or (axes == 0 and math.prod(pending[0].shape) > 1) else ()


def _where(model: OnnxModel, operator: Operator) -> Value:
    return _sum(model, operator, operator.inputs[1:])


def _multiply(model: OnnxModel, operator: Operator) -> Value:
    """Product, quotient or power: a `mul` or `cse` node for two tensors of data; parameters are `scale` nodes."""
    if operator.type != "Pow" and (name := norms.spelled_out(model, operator)) is not None:
        return model.value(name)
    values = model.values(operator)
    value = union(values)
    if value.nodes and value.pending:
        if operator.type == "Mul" and (found := norms.scaled(model, operator, value)) is not None:
            return found
        node = chain(model, settle(model, value._replace(kind="")), value.pending, "scale", "scale")
        return Value((node,), (), value.kind if value.attends else "")
    data = [(name, part.nodes) for name, part in zip(operator.inputs, values) if part.nodes and not part.selects]
    if len({nodes for _, nodes in data}) > 1:
        shapes = [model.shape(name) for name, _ in data]
        kind = "mul" if all(shape == shapes[0] for shape in shapes) else "cse"
        return Value((model.recorder.add(kind, value.nodes),))
    return value


def _concatenate(model: OnnxModel, operator: Operator) -> Value:
    values = model.values(operator)
    value = union(values)
    if value.nodes and len(set(values) - {CONSTANT}) > 1:
        return Value((model.recorder.join("concat", value.nodes + sources(model, value.pending, "token")),))
    return value


def _softmax(model: OnnxModel, operator: Operator) -> Value:
    value = model.value(operator.input(0))
    return Value(value.nodes, (), "weights") if value.nodes and not value.selects else value


def _attention(model: OnnxModel, operator: Operator) -> Value:
    """Attention as one operator: of ONNX or `MultiHeadAttention` (query, key, value, ...), or of onnxruntime (data)."""
    data = model.value(operator.input(0))
    if operator.type == "Attention" and data.nodes and model.value(operator.input(1)).pending:  # projections included
        given = _layer_parameters(model, operator, 1, 2)
        weight = _oriented(model, operator.input(1), given[0], stored_as_output_input=False)
        node = weighted(model, settle(model, data), weight, given[1])
        return Value((model.recorder.add("msa", [node]),))
    value = union([model.value(operator.input(position)) for position in range(3)])
    nodes = value.nodes + sources(model, value.pending, "token")
    rest = union([model.value(name) for name in operator.inputs[3:]])
    if operator.type == "MultiHeadAttention":
        for parameter in model.parameter(operator.input(3)) if nodes else ():
            nodes = (model.recorder.add("bias", nodes, [(parameter, "bias")]),)
        rest = union([model.value(name) for name in operator.inputs[4:]])
    nodes += tuple(rest.nodes if not rest.selects else ()) + sources(model, rest.pending, "rel_pos")
    return Value((model.recorder.add("msa", nodes),)) if nodes else CONSTANT


def _biased(model: OnnxModel, operator: Operator) -> Value:
    """Activation of the sum of a tensor and a bias (operators of onnxruntime)."""
    return Value((chain(model, _entry(model, operator.input(0)), model.parameter(operator.input(1)), "bias", "bias"),))


# --- the rules by name ---

_LEAST_INPUTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "Gemm", "MatMul", "PRelu", "Gather"), 2),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "InstanceNormalization", "GroupNormalization"), 3),
    "LayerNormalization": 2,
    "BatchNormalization": 5,
    "QLinearConv": 8,
    "QLinearMatMul": 8,
}

_NAMES: dict[Rule, str] = {
    _first: (
        "Identity Cast CastLike Reshape Flatten Squeeze Unsqueeze Slice Split Expand Tile Pad Resize Upsample Dropout "
        "Clip QuantizeLinear DequantizeLinear Trilu TopK DepthToSpace SpaceToDepth "
        "LpNormalization MeanVarianceNormalization LRN Relu Gelu Sigmoid HardSigmoid HardSwish Tanh Elu "
        "Selu Celu LeakyRelu Softplus Softsign Mish Swish Exp Log Sqrt Reciprocal Neg Abs Erf OneHot "
        "ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp CumSum LogSoftmax"
    ),
    _transpose: "Transpose",
    _dynamic_quantization: "DynamicQuantizeLinear",
    _constant: (
        "Shape Size ConstantOfShape Range EyeLike NonZero ArgMax ArgMin IsNaN IsInf Equal Greater GreaterOrEqual Less "
        "LessOrEqual Not And Or Xor RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli"
    ),
    _control_flow: "If Loop Scan SequenceMap",
    _convolution: "Conv ConvTranspose FusedConv",
    partial(_convolution, bias=4): "ConvInteger",  # which has none: its third and fourth inputs are zero points
    partial(_convolution, weight=3, bias=8): "QLinearConv",
    _gemm: "Gemm FusedGemm",
    _matmul: "MatMul FusedMatMul MatMulInteger Einsum",
    partial(_matmul, right=3): "QLinearMatMul",
    partial(norms.normalization, "bn"): "BatchNormalization",
    partial(norms.normalization, "ln"): "LayerNormalization",
    partial(norms.normalization, "gn"): "GroupNormalization InstanceNormalization",
    partial(norms.normalization, "rms"): "RMSNormalization SimplifiedLayerNormalization",
    partial(norms.skip_normalization, "ln"): "SkipLayerNormalization",
    partial(norms.skip_normalization, "rms"): "SkipSimplifiedLayerNormalization",
    _recurrent: "LSTM GRU RNN",
    _prelu: "PRelu",
    _gather: "Gather GatherElements GatherND",
    partial(_pool, "max_pool"): "MaxPool GlobalMaxPool",
    partial(_pool, "avg_pool"): "AveragePool LpPool",
    partial(_pool, "glob_avg"): "GlobalAveragePool",
    _mean: "ReduceMean",
    _add: "Add Sub Sum Max Min Mean",
    _where: "Where",
    _multiply: "Mul Div Pow",
    _concatenate: "Concat ScatterND ScatterElements",
    _softmax: "Softmax",
    _attention: "Attention MultiHeadAttention",
    _biased: "BiasGelu FastGelu",
}
RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""The rule of each operator, by its type."""
