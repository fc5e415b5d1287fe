"""Rules for functions that combine tensors: sums, products, concatenations, attention."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from deepnets.tracing.call import Call, in_place_targets
from deepnets.tracing.capture import META, Capture
from deepnets.tracing.origins import CONSTANT
from deepnets.tracing.parts import chain, entry, given, settle, sources, sum_with_scores, weighted
from deepnets.tracing.recorder import Value
from deepnets.tracing.tensors import is_floating

__all__ = [
    *("add", "add_product", "attention", "concatenate", "extreme", "flex_attention", "fused_attention", "fused_matmul"),
    *("matmul", "multi_head_attention", "multiply"),
]


def _elementwise(capture: Capture, call: Call) -> Any:
    """Return the result of an elementwise function; it is executed only if shapes or dtypes of its arguments differ."""
    if not capture.real:
        targets = in_place_targets(call)
        if targets and targets[0].device == META:
            return targets[0]
        if not targets and len(call.tensors) <= 2 and len(call.args) == 2:
            a, b = call.tensors[0], call.tensors[-1]
            if a.shape == b.shape and a.dtype == b.dtype and is_floating(a) and a.device == b.device == META:
                return capture.new(a.shape, a)
    return capture.execute(call)


def add(capture: Capture, call: Call) -> Any:
    """Sum or difference: a `sum` node for tensors of data; parameters are `bias`, `pos_enc` or `rel_pos` nodes."""
    return _added(capture, call, _elementwise(capture, call))


def extreme(capture: Capture, call: Call) -> Any:
    """`max` and `min`: like a sum if they compare two tensors."""
    return _added(capture, call, capture.execute(call))


def _added(capture: Capture, call: Call, result: Any) -> Any:
    return capture.finish(call, result, _sum(capture, call))


def _sum(capture: Capture, call: Call) -> Value:
    value = capture.operands(call)
    if value.attends and not value.pending:
        joined = sum_with_scores(capture, [capture.value(tensor) for tensor in call.tensors])
        if joined is not None:
            return joined
    if value.selects and _excludes(capture, call):
        value = CONSTANT
    elif value.nodes and value.pending:
        if value.attends:
            value = _shifted(capture, value, call.tensors)
        else:
            positions = [parameter for parameter in value.pending if not parameter.is_vector]
            node = capture.recorder.join("sum", value.nodes)
            node = chain(capture, node, [p for p in value.pending if p.is_vector], "bias", "bias")
            value = Value((capture.recorder.join("sum", (node, *sources(capture, positions, "pos_enc"))),))
    elif len(value.nodes) > 1 and not value.kind:
        value = Value((capture.recorder.join("sum", value.nodes),))
    return value


def _shifted(capture: Capture, value: Value, tensors: Iterable[Tensor]) -> Value:
    """Return the sum of products of data and parameters: vectors are biases, larger tensors relative positions."""
    large = set()
    for tensor in tensors:
        axes = sum(size > 1 for size in tensor.shape)
        for parameter in capture.value(tensor).pending:
            # a tensor that holds an element or a matrix of the parameter is looked up, by the positions of two tokens
            looked_up = axes > 1 or (tensor.numel() == 1 and math.prod(parameter.shape) > 1)
            if looked_up or not parameter.is_vector:
                large.add(parameter)
    nodes = value.nodes + sources(capture, [p for p in value.pending if p in large], "rel_pos")
    biases = [parameter for parameter in value.pending if parameter not in large]
    if biases:
        nodes = (chain(capture, settle(capture, Value(nodes)), biases, "bias", "bias"),)
    return Value(nodes, (), value.kind)


def _excludes(capture: Capture, call: Call) -> bool:
    """Return whether a function of integer inputs makes a mask for scores: with very large, or infinite, numbers."""
    for argument in (*call.args, *call.kwargs.values()):
        if isinstance(argument, Tensor) and argument.numel() == 1 and argument.device.type != "meta":
            argument = argument.item() if capture.value(argument) == CONSTANT else None
        if isinstance(argument, (int, float)) and (argument <= -1e3 or abs(argument) >= 1e8):
            return True
    return False


def multiply(capture: Capture, call: Call) -> Any:
    """Product: a `mul` or `cse` node for two tensors of data; parameters are `scale` nodes."""
    result = _elementwise(capture, call)
    value = capture.union(call.tensors)
    if value.selects and _excludes(capture, call):
        value = CONSTANT
    elif value.nodes and value.pending:
        node = capture.recorder.add("scale", value.nodes, [(value.pending[0], "scale")])
        kind = value.kind if value.attends else ""
        value = Value((chain(capture, node, value.pending[1:], "scale", "scale"),), (), kind)
    else:
        data = [tensor for tensor in call.tensors if capture.value(tensor).nodes]
        if not value.selects:  # integer inputs next to other data are masks
            data = [tensor for tensor in data if not capture.value(tensor).selects]
        if len({capture.value(tensor).nodes for tensor in data}) > 1:
            kind = "mul" if all(tensor.shape == data[0].shape for tensor in data) else "cse"
            gate = min(data, key=torch.Tensor.numel)
            detail = "hardswish" if kind == "cse" and capture.is_hardswish(gate) else ""
            value = Value((capture.recorder.add(kind, value.nodes, detail=detail),))
    return capture.finish(call, result, value)


def add_product(capture: Capture, call: Call) -> Any:
    """`addcmul` and `addcdiv`: a product of two tensors, and a sum."""
    added, left, right = call.argument(0, "input"), call.argument(1, "tensor1"), call.argument(2, "tensor2")
    product = multiply(capture, Call("mul", torch.mul, (left, right), {}, [left, right]))
    total = add(capture, Call("add", torch.add, (added, product), {}, [added, product]))
    targets = in_place_targets(call)
    return capture.finish(call, targets[0], capture.value(total)) if targets else total


def concatenate(capture: Capture, call: Call) -> Any:
    """Concatenation: a `concat` node for several tensors; parameters are `token` nodes."""
    value = capture.operands(call)
    result = capture.execute(call)
    if value.nodes and len({capture.value(tensor) for tensor in call.tensors} - {Value()}) > 1:
        nodes = value.nodes + sources(capture, value.pending, "token")
        value = Value((capture.recorder.join("concat", nodes),))
    return capture.finish(call, result, value)


def matmul(capture: Capture, call: Call) -> Any:
    """Product of matrices: a `conv` node if one is a parameter, an `msa` node if one is the result of a softmax."""
    return capture.finish(call, capture.execute(call), _product(capture, *call.tensors))


def _product(capture: Capture, *tensors: Tensor) -> Value:
    value = capture.union(tensors)
    values = [capture.value(tensor) for tensor in tensors]
    if value.nodes and value.pending:
        data = settle(capture, Value(value.nodes, (), value.kind))
        outputs = tensors[-1].shape[-1] if values[-1].pending and tensors[-1].dim() == 2 else 0
        return Value((weighted(capture, data, Value(pending=value.pending), Value(), outputs=outputs),))
    if any(part.nodes and part.kind == "weights" for part in values):
        return Value((capture.recorder.add("msa", value.nodes),))
    if sum(bool(part.nodes) and not part.selects for part in values) > 1:
        return Value(value.nodes, (), "scores")
    return value


_FACTORS = {"addmm": ("mat1", "mat2"), "addmv": ("mat", "vec")}  # the names of others are `batch1` and `batch2`


def fused_matmul(capture: Capture, call: Call) -> Any:
    """`addmm` and similar functions: a product of two matrices, and a sum."""
    names = _FACTORS.get(call.name.rstrip("_"), ("batch1", "batch2"))
    if all(isinstance(argument, Tensor) for argument in call.args[:3]):
        added, left, right = (call.argument(i, name) for i, name in enumerate(("input", *names)))
    else:  # an older form has factors between the tensors
        added, left, right = call.tensors[:3]
    result = capture.execute(call)
    product = torch.empty_like(result, device=META)
    capture.set_value(product, _product(capture, left, right))
    return capture.finish(call, result, _sum(capture, Call("add", torch.add, (added, product), {}, [added, product])))


# --- attention ---


def attention(capture: Capture, call: Call) -> Any:
    """`scaled_dot_product_attention`: an `msa` node; parameters are learned keys and values, or relative positions."""
    mask = call.argument(3, "attn_mask")
    data = capture.union([tensor for tensor in call.tensors if tensor is not mask])
    shift = _mask(capture, mask)
    nodes = data.nodes + sources(capture, data.pending, "token")
    nodes += shift.nodes + sources(capture, shift.pending, "rel_pos")
    query, value = call.argument(0, "query"), call.argument(2, "value")
    result = capture.execute(call) if capture.real else capture.new((*query.shape[:-1], value.shape[-1]), query)
    if not nodes:
        return capture.finish(call, result, data)
    return capture.finish(call, result, Value((capture.recorder.add("msa", nodes),)))


def _mask(capture: Capture, mask: Any) -> Value:
    """Return what is added to the scores of attention; integer inputs are masks, and do not count."""
    value = given(capture, mask)
    return CONSTANT if value.selects else value


def fused_attention(capture: Capture, call: Call) -> Any:
    """The operators that `scaled_dot_product_attention` selects from: an `msa` node."""
    result = capture.execute(call)
    value = capture.union(call.tensors)
    if value.nodes:
        nodes = value.nodes + sources(capture, value.pending, "token")
        value = Value((capture.recorder.add("msa", nodes),))
    return capture.finish(call, result, value)


def flex_attention(capture: Capture, call: Call) -> Any:
    """`flex_attention`: an `msa` node; parameters in the function that changes the scores are relative positions."""
    query, key, content = call.args[:3]
    data = capture.union([query, key, content])
    nodes = data.nodes + sources(capture, data.pending, "token")
    if not nodes:
        return capture.finish(call, capture.execute(call), data)
    score = query.new_zeros(())
    capture.set_value(score, Value(nodes, (), "scores"))
    place = torch.zeros((), dtype=torch.int32)
    capture.set_value(place, CONSTANT)
    changed = capture.outside(call.argument(3, "score_mod"), score, *[place] * 4)
    shift = _mask(capture, changed)
    nodes += shift.nodes + sources(capture, shift.pending, "rel_pos")
    grouped = key.shape[1] != query.shape[1]
    result = torch.nn.functional.scaled_dot_product_attention(query, key, content, enable_gqa=grouped)
    statistics = result.new_zeros(result.shape[:-1], dtype=torch.float32)
    results = (result, statistics, statistics.clone())
    return capture.finish(call, results, Value((capture.recorder.add("msa", nodes),)))


def multi_head_attention(capture: Capture, call: Call) -> Any:
    """`multi_head_attention_forward` of `nn.MultiheadAttention`: projections, attention, and the output projection."""

    query, key = call.argument(0, "query"), call.argument(1, "key")
    inputs = [call.argument(i, name) for i, name in enumerate(("query", "key", "value"))]
    entries = sorted({entry(capture, tensor) for tensor in inputs})
    separate = [given(capture, call.argument(18 + i, f"{letter}_proj_weight")) for i, letter in enumerate("qkv")]
    weight, shift, *more = (
        given(capture, call.argument(i, name))
        for i, name in ((5, "in_proj_weight"), (6, "in_proj_bias"), (7, "bias_k"), (8, "bias_v"))
    )
    if any(value != CONSTANT for value in separate):
        projected = [
            weighted(capture, entry(capture, tensor), value, Value()) for tensor, value in zip(inputs, separate)
        ]
    else:
        projected = [capture.recorder.add("conv", [*entries, *weight.nodes], [(p, "weight") for p in weight.pending])]
    if shift.pending:
        projected = [capture.recorder.add("bias", projected, [(p, "bias") for p in shift.pending])]
    projected += sources(capture, [p for value in more for p in value.pending], "token")
    projected += [node for value in (shift, *more) for node in value.nodes]  # computed from data
    mask = _mask(capture, call.argument(16, "attn_mask"))
    projected += [*mask.nodes, *sources(capture, mask.pending, "rel_pos")]
    node = capture.recorder.add("msa", projected)
    weight, bias = (given(capture, call.argument(i, f"out_proj_{name}")) for i, name in ((11, "weight"), (12, "bias")))
    node = weighted(capture, node, weight, bias)
    if capture.real:
        result = capture.execute(call)
    else:
        batch = query.shape[1:-1]
        maps = (*batch, query.shape[0], key.shape[0])
        if not call.argument(23, "average_attn_weights", True):
            maps = (*batch, call.argument(4, "num_heads"), query.shape[0], key.shape[0])
        need_weights = call.argument(15, "need_weights", True)
        result = (capture.new(query.shape, query), capture.new(maps, query) if need_weights else None)
    return capture.finish(call, result, Value((node,)))
