"""What functions of PyTorch mean for the graph: which of them are nodes, and which of their arguments parameters.

The rules are those of Knyazev et al. (NeurIPS 2021, appendix A) for the published node types, continued for what other
networks do.  Functions go by the name under which users call them (`conv2d`, `add`, `cat`), which does not change from one
release of PyTorch to the next.  One that has no rule passes on what goes in; where several tensors of data meet in it,
that is a node of type `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from deepnets.tracing.capture import Call, Capture, is_in_place
from deepnets.tracing.recorder import Pending, Value

__all__ = ["RULES", "pass_on", "settle"]

# --- parts of rules ---


def settle(capture: Capture, value: Value) -> int:
    """The one node whose data a tensor of data carries: a product of matrices that is no attention becomes a node."""
    if len(value.nodes) == 1:
        return value.nodes[0]
    return capture.recorder.add("matmul", value.nodes)


def _chain(capture: Capture, node: int, pending: Iterable[Pending], kind: str, role: str) -> int:
    """Nodes one behind the other, one for each parameter."""
    for parameter in pending:
        node = capture.recorder.add(kind, [node], [(parameter, role)])
    return node


def _sources(capture: Capture, pending: Iterable[Pending], kind: str) -> tuple[int, ...]:
    """Nodes without inputs, one for each parameter."""
    return tuple(capture.recorder.add(kind, (), [(parameter, kind)]) for parameter in pending)


def _weighted(
    capture: Capture, source: int, weight: Value, bias: Value, kind: str = "conv", node: str = "weight"
) -> int:
    """A layer with a weight, made of one or more parameters (the largest is the weight, others scale it), and a bias."""
    pending = sorted(weight.pending, key=lambda parameter: -_numel(parameter))
    if pending:
        source = capture.recorder.add(kind, [source], [(pending[0], node)])
        source = _chain(capture, source, pending[1:], "scale", "scale")
    if weight.nodes or bias.nodes:  # weights that are computed from data
        source = capture.recorder.add("matmul", [source, *weight.nodes, *bias.nodes])
    return _chain(capture, source, bias.pending, "bias", "bias")


def _numel(parameter: Pending) -> int:
    count = 1
    for size in parameter.shape:
        count *= size
    return count


def _given(capture: Capture, tensor: Any) -> Value:
    """What an optional argument is made of."""
    return capture.value(tensor) if isinstance(tensor, Tensor) else Value()


def _entry(capture: Capture, tensor: Tensor) -> int:
    """The node that a layer reads: data, parameters that are read like data (learned queries), or a constant."""
    value = capture.value(tensor)
    if value.nodes:
        node = settle(capture, value)
    elif value.pending:
        tokens = _sources(capture, value.pending, "token")
        node = tokens[0] if len(tokens) == 1 else capture.recorder.add("sum", tokens)
    else:
        return capture.constant_node(tensor)
    if value.nodes != (node,):
        capture.set_value(tensor, Value((node,)))
    return node


# --- functions that pass on what goes in ---


def pass_on(capture: Capture, call: Call) -> Any:
    """A function without a rule of its own."""
    value = capture.union(call.tensors)
    if is_in_place(call):
        value = _written(capture, call)
    elif value.nodes and value.pending:
        pending = [(parameter, "bias" if parameter.is_vector else "weight") for parameter in value.pending]
        value = Value((capture.recorder.add("other", value.nodes, pending),))
    elif len(value.nodes) > 1 and len({capture.value(tensor) for tensor in call.tensors}) > 1 and not value.kind:
        value = Value((capture.recorder.add("other", value.nodes),))
    return capture.finish(call, capture.execute(call), value)


def _written(capture: Capture, call: Call) -> Value:
    """A tensor into which another was written: a concatenation, unless it is written over."""
    value = capture.union(call.tensors)
    if not value.nodes:
        return value
    nodes = value.nodes + _sources(capture, value.pending, "token")
    if len(nodes) > 1 and not value.kind:
        return Value((capture.recorder.add("concat", nodes),))
    return Value(nodes, (), value.kind)


def _unary(capture: Capture, call: Call) -> Any:
    """An elementwise function of one tensor: nothing needs to be computed."""
    x = call.args[0] if call.args else call.kwargs.get("input")
    if capture.real or not isinstance(x, Tensor) or x.device.type != "meta" or call.kwargs.get("dtype") is not None:
        return pass_on(capture, call)
    if call.kwargs.get("inplace") or is_in_place(call):
        return x
    return capture.finish(call, capture.new(x.shape, x), capture.value(x))


def _dropout(capture: Capture, call: Call) -> Any:
    return call.args[0]


def _softmax(capture: Capture, call: Call) -> Any:
    result = _unary(capture, call)
    value = capture.value(result)
    if value.nodes:
        capture.set_value(result, Value(value.nodes, (), "weights"))
    return result


# --- layers ---


def _linear(capture: Capture, call: Call) -> Any:
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = _given(capture, call.argument(2, "bias"))
    node = _weighted(capture, _entry(capture, x), capture.value(weight), bias)
    result = capture.execute(call) if capture.real else capture.new((*x.shape[:-1], weight.shape[0]), x)
    if result.shape[-1:] and x.shape[-1] != weight.shape[-1]:
        return call.function(*call.args, **call.kwargs)  # for its error
    return capture.finish(call, result, Value((node,)))


def _convolution(capture: Capture, call: Call) -> Any:
    transposed = "transpose" in call.name
    groups = call.argument(6, "groups", 1)
    dilation = call.argument(7 if transposed else 5, "dilation", 1)
    kind = "conv"
    if groups > 1:
        largest = max(dilation) if isinstance(dilation, (tuple, list)) else dilation
        kind = "dil_conv" if largest > 1 else "sep_conv"
    result = capture.execute(call)
    bias = _given(capture, call.argument(2, "bias"))
    node = _entry(capture, call.argument(0, "input"))
    node = _weighted(capture, node, capture.value(call.argument(1, "weight")), bias, kind)
    return capture.finish(call, result, Value((node,)))


_NORMS = {  # type, and positions of weight and bias
    "batch_norm": ("bn", 3, 4),
    "instance_norm": ("gn", 3, 4),
    "layer_norm": ("ln", 2, 3),
    "group_norm": ("gn", 2, 3),
    "rms_norm": ("rms", 2, 99),
}


def _norm(capture: Capture, call: Call) -> Any:
    kind, weight, bias = _NORMS[call.name]
    if call.function in (torch.batch_norm, torch.instance_norm):
        weight, bias = 1, 2
    x = call.argument(0, "input")
    gain, shift = (_given(capture, call.argument(i, name)) for i, name in ((weight, "weight"), (bias, "bias")))
    value = capture.value(x)
    if value.nodes and (gain.pending or shift.pending):
        pending = [(parameter, "norm_weight") for parameter in gain.pending]
        pending += [(parameter, "norm_bias") for parameter in shift.pending]
        value = Value((capture.recorder.add(kind, [settle(capture, value)], pending),))
    elif gain.pending or shift.pending:  # standardised weights
        value = capture.union([tensor for tensor in call.tensors if capture.value(tensor).pending])
    if gain.nodes or shift.nodes:
        value = Value((capture.recorder.add("other", [*value.nodes, *gain.nodes, *shift.nodes]),))
    result = capture.execute(call) if capture.real else capture.new(x.shape, x)
    return capture.finish(call, result, value)


def _prelu(capture: Capture, call: Call) -> Any:
    x, slope = call.args[0], capture.value(call.argument(1, "weight"))
    node = _chain(capture, _entry(capture, x), slope.pending, "scale", "scale")
    return capture.finish(call, capture.execute(call), Value((node,)))


def _embedding(capture: Capture, call: Call) -> Any:
    index, table = call.argument(0, "input"), call.argument(1, "weight")
    if call.name == "embedding" and call.function is torch.embedding:
        index, table = table, index
    source, pending = capture.value(index), capture.value(table).pending
    result = capture.execute(call)
    if not source.nodes:  # positions
        return capture.finish(call, result, Value(pending=pending))
    node = capture.recorder.add("embed", source.nodes, [(parameter, "embed") for parameter in pending])
    capture.set_value(result, Value((node,)))
    return result


def _bilinear(capture: Capture, call: Call) -> Any:
    a, b, weight = call.args[:3]
    sources = [_entry(capture, a), _entry(capture, b)]
    node = capture.recorder.add("conv", sources, [(p, "weight") for p in capture.value(weight).pending])
    node = _chain(capture, node, _given(capture, call.argument(3, "bias")).pending, "bias", "bias")
    return capture.finish(call, capture.execute(call), Value((node,)))


def _recurrent(capture: Capture, call: Call) -> Any:
    """A recurrent layer, or a step of one: a single node for all its weights."""
    value = capture.union(call.tensors)
    pending = [(p, "bias" if p.is_vector else "weight") for p in value.pending]
    node = capture.recorder.add("rnn", value.nodes or [capture.constant_node(call.args[0])], pending)
    result = capture.execute(call)
    for tensor in (result,) if isinstance(result, Tensor) else result:
        capture.set_value(tensor, Value((node,)))
    return result


# --- pooling ---


def _pool(kind: str) -> Any:
    def rule(capture: Capture, call: Call) -> Any:
        x = call.argument(0, "input")
        result = capture.execute(call)
        value = capture.value(x)
        if value.nodes:
            window = (0, 0) if "adaptive" in call.name else _window(call.argument(1, "kernel_size"), call.name)
            node = capture.recorder.add(kind, [settle(capture, value)], window=window)
            value = Value((node,))
        return capture.finish(call, result, value)

    return rule


def _window(kernel: Any, name: str) -> tuple[int, int]:
    sizes = [int(size) for size in (kernel if isinstance(kernel, (tuple, list, torch.Size)) else (kernel,))]
    if len(sizes) == 1:
        sizes = [1 if "1d" in name else sizes[0], sizes[0]]
    return min(sizes[-2], 255), min(sizes[-1], 255)


def _mean(capture: Capture, call: Call) -> Any:
    x = call.args[0]
    result = capture.execute(call)
    value = capture.value(x)
    if (
        value.nodes
        and value.kind == ""
        and _is_global(x.dim(), call.argument(1, "dim"), call.argument(2, "keepdim", False))
    ):
        value = Value((capture.recorder.add("glob_avg", [settle(capture, value)]),))
    return capture.finish(call, result, value)


def _is_global(rank: int, dim: Any, keepdim: bool) -> bool:
    """Whether a mean is over all pixels, or over all tokens, of a batch."""
    if dim is None:
        return False
    axes = sorted(axis % rank for axis in (dim if isinstance(dim, (tuple, list, torch.Size)) else (dim,)))
    if rank >= 4:  # channels first or last
        return axes in (list(range(2, rank)), list(range(1, rank - 1)))
    return rank == 3 and (axes == [1] or (axes == [2] and not keepdim))


# --- where tensors meet ---


def _operands(capture: Capture, call: Call) -> Value:
    """What goes into a function in which tensors meet, where parts that differ are told from the whole."""
    return capture.union(call.tensors)


def _binary_result(capture: Capture, call: Call) -> Any:
    """The result of an elementwise function of two tensors, computed only if their shapes or types differ."""
    tensors = call.tensors
    if (
        not capture.real
        and len(tensors) <= 2
        and tensors
        and not is_in_place(call)
        and tensors[0].device.type == "meta"
    ):
        a, b = tensors[0], tensors[-1]
        if a.shape == b.shape and a.dtype == b.dtype and a.dtype.is_floating_point and "out" not in call.kwargs:
            others = [arg for arg in call.args if not isinstance(arg, Tensor)]
            if len(tensors) == 2 or all(isinstance(arg, (int, float)) for arg in others):
                return capture.new(a.shape, a)
    if not capture.real and is_in_place(call) and call.args and call.args[0].device.type == "meta":
        return call.args[0]
    return capture.execute(call)


def _add(capture: Capture, call: Call) -> Any:
    """Sums, differences: data and data meet in a node; parameters are biases, encodings of positions, or tables."""
    value = capture.union(call.tensors)
    if value.nodes and value.pending:
        if value.kind:
            value = Value(value.nodes + _sources(capture, value.pending, "rel_pos"), (), value.kind)
        else:
            positions = [parameter for parameter in value.pending if not parameter.is_vector]
            node = _meet(capture, call, Value(value.nodes))
            node = _chain(capture, node, [p for p in value.pending if p.is_vector], "bias", "bias")
            if positions:
                node = capture.recorder.add("sum", [node, *_sources(capture, positions, "pos_enc")])
            value = Value((node,))
    elif len(value.nodes) > 1 and not value.kind:
        value = Value((_meet(capture, call, value),))
    return capture.finish(call, _binary_result(capture, call), value)


def _meet(capture: Capture, call: Call, value: Value) -> int:
    return value.nodes[0] if len(value.nodes) == 1 else capture.recorder.add("sum", value.nodes)


def _multiply(capture: Capture, call: Call) -> Any:
    """Products: data and data are a gate; parameters scale."""
    value = capture.union(call.tensors)
    if value.nodes and value.pending:
        node = capture.recorder.add("scale", value.nodes, [(value.pending[0], "scale")])
        value = Value((_chain(capture, node, value.pending[1:], "scale", "scale"),), (), value.kind)
    elif len(value.nodes) > 1 and len({capture.value(tensor).nodes for tensor in call.tensors} - {()}) > 1:
        data = [tensor for tensor in call.tensors if capture.value(tensor).nodes]
        kind = "mul" if all(tensor.shape == data[0].shape for tensor in data) else "cse"
        value = Value((capture.recorder.add(kind, value.nodes),))
    return capture.finish(call, _binary_result(capture, call), value)


def _concatenate(capture: Capture, call: Call) -> Any:
    value = capture.union(call.tensors)
    result = capture.execute(call)
    if value.nodes:
        nodes = value.nodes + _sources(capture, value.pending, "token")
        several = len({node for node in nodes}) > 1 and len({capture.value(tensor) for tensor in call.tensors}) > 1
        value = Value((capture.recorder.add("concat", nodes),)) if several else Value(nodes, (), value.kind)
    return capture.finish(call, result, value)


def _matmul(capture: Capture, call: Call) -> Any:
    """Products of matrices: a layer, if one is a parameter; attention, if one went through a softmax."""
    values = {capture.value(tensor): None for tensor in call.tensors}
    value = capture.union(call.tensors)
    result = capture.execute(call)
    if value.nodes and value.pending:
        data = Value(value.nodes, (), value.kind)
        value = Value((_weighted(capture, settle(capture, data), Value(pending=value.pending), Value()),))
    elif value.nodes:
        if any(part.kind == "weights" for part in values):
            value = Value((capture.recorder.add("msa", value.nodes),))
        elif sum(bool(capture.value(tensor).nodes) for tensor in call.tensors) > 1:
            value = Value(value.nodes, (), "scores")
    return capture.finish(call, result, value)


def _fused_matmul(capture: Capture, call: Call) -> Any:
    """`addmm` and its kin: something to add, and two matrices to multiply."""
    added, left, right = call.args[:3]
    product = capture.union([left, right])
    shift = capture.value(added)
    result = capture.execute(call)
    if product.nodes and product.pending:
        value = Value(
            (_weighted(capture, settle(capture, Value(product.nodes)), Value(pending=product.pending), shift),)
        )
    else:
        value = capture.union([added, left, right])
        if value.nodes and value.pending:
            value = Value(value.nodes + _sources(capture, value.pending, "rel_pos"), (), "scores")
        elif product.nodes:
            value = Value(value.nodes, (), "scores")
    return capture.finish(call, result, value)


# --- attention ---


def _attention(capture: Capture, call: Call) -> Any:
    """`scaled_dot_product_attention`: parameters among its arguments are keys that were learned, or positions."""
    mask = call.argument(3, "attn_mask")
    data = capture.union([tensor for tensor in call.tensors if tensor is not mask])
    shift = _given(capture, mask)
    nodes = data.nodes + _sources(capture, data.pending, "token")
    nodes += shift.nodes + _sources(capture, shift.pending, "rel_pos")
    query, value = call.argument(0, "query"), call.argument(2, "value")
    result = capture.execute(call) if capture.real else capture.new((*query.shape[:-1], value.shape[-1]), query)
    if not nodes:
        return capture.finish(call, result, data)
    return capture.finish(call, result, Value((capture.recorder.add("msa", nodes),)))


def _multi_head_attention(capture: Capture, call: Call) -> Any:
    """`multi_head_attention_forward`, the one call of `nn.MultiheadAttention`: projection, attention, projection."""

    def pending(position: int, name: str) -> tuple[Pending, ...]:
        return _given(capture, call.argument(position, name)).pending

    query, key = call.argument(0, "query"), call.argument(1, "key")
    inputs = [call.argument(i, name) for i, name in enumerate(("query", "key", "value"))]
    entries = sorted({_entry(capture, tensor) for tensor in inputs})
    separate = [pending(17 + i, f"{letter}_proj_weight") for i, letter in enumerate("qkv")]
    if any(separate):
        projected = [
            _weighted(capture, _entry(capture, tensor), Value(pending=weight), Value())
            for tensor, weight in zip(inputs, separate)
        ]
    else:
        projected = [capture.recorder.add("conv", entries, [(p, "weight") for p in pending(5, "in_proj_weight")])]
    shift = [(p, "bias") for p in pending(6, "in_proj_bias")]
    if shift:
        projected = [capture.recorder.add("bias", projected, shift)]
    projected += _sources(capture, pending(7, "bias_k") + pending(8, "bias_v"), "token")
    mask = _given(capture, call.argument(16, "attn_mask"))
    projected += [*mask.nodes, *_sources(capture, mask.pending, "rel_pos")]
    node = capture.recorder.add("msa", projected)
    weight, bias = (_given(capture, call.argument(i, f"out_proj_{name}")) for i, name in ((11, "weight"), (12, "bias")))
    node = _weighted(capture, node, weight, bias)
    if capture.real:
        result = capture.execute(call)
    else:
        batch = query.shape[1:-1]
        maps = (*batch, query.shape[0], key.shape[0])
        if not call.argument(23, "average_attn_weights", True):
            maps = (*batch, call.argument(4, "num_heads"), query.shape[0], key.shape[0])
        wanted = call.argument(15, "need_weights", True)
        result = (capture.new(query.shape, query), capture.new(maps, query) if wanted else None)
    return capture.finish(call, result, Value((node,)))


# --- the table ---


def _named(names: str) -> Sequence[str]:
    return names.split()


_ELEMENTWISE = _named(
    "relu relu6 gelu silu hardswish hardsigmoid sigmoid tanh leaky_relu elu selu celu mish softplus softsign logsigmoid "
    "hardtanh rrelu clamp clip exp log sqrt rsqrt square abs neg reciprocal sin cos erf log1p expm1 local_response_norm "
    "relu_ relu6_ silu_ hardswish_ hardsigmoid_ sigmoid_ tanh_ leaky_relu_ elu_ selu_ hardtanh_ clamp_ clip_ exp_ "
    "normalize clone __neg__ log_softmax"
)
_ADDITIONS = _named(
    "add add_ sub sub_ rsub subtract subtract_ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ lerp lerp_ maximum "
    "minimum where logaddexp masked_fill masked_fill_"
)
_PRODUCTS = _named(
    "mul mul_ multiply multiply_ __mul__ __rmul__ __imul__ div div_ divide true_divide __div__ __truediv__ __rtruediv__ "
    "__itruediv__ __rdiv__ pow pow_ __pow__ __rpow__ float_power"
)

RULES: dict[str, Any] = {
    **dict.fromkeys(_ELEMENTWISE, _unary),
    **dict.fromkeys(
        _named("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout dropout_"), _dropout
    ),
    **dict.fromkeys(_named("softmax sparsemax softmin"), _softmax),
    **dict.fromkeys(_ADDITIONS, _add),
    **dict.fromkeys(_PRODUCTS, _multiply),
    **dict.fromkeys(_named("cat concat concatenate stack hstack vstack dstack column_stack row_stack"), _concatenate),
    **dict.fromkeys(_named("matmul __matmul__ __rmatmul__ mm bmm mv einsum tensordot inner dot"), _matmul),
    **dict.fromkeys(_named("addmm addbmm baddbmm addmv"), _fused_matmul),
    **dict.fromkeys(
        _named("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
        _convolution,
    ),
    "linear": _linear,
    **dict.fromkeys(_NORMS, _norm),
    "prelu": _prelu,
    "embedding": _embedding,
    "embedding_bag": _embedding,
    "bilinear": _bilinear,
    **dict.fromkeys(_named("lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"), _recurrent),
    **dict.fromkeys(
        _named("max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d"), _pool("max_pool")
    ),
    **dict.fromkeys(_named("adaptive_max_pool3d fractional_max_pool2d"), _pool("max_pool")),
    **dict.fromkeys(_named("avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d"), _pool("avg_pool")),
    **dict.fromkeys(_named("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"), _pool("glob_avg")),
    "mean": _mean,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
}
"""What to do at a call of a function, by its name."""
