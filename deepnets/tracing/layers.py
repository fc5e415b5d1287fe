"""Rules for functions that are layers: convolutions, norms, embeddings, recurrent layers, pooling.

A rule takes the `Capture` and the `Call`, adds nodes to the recorder, and returns the result of the call.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from deepnets.tracing.call import Call
from deepnets.tracing.capture import Capture
from deepnets.tracing.parts import chain, entry, given, linear_outputs, settle, weighted
from deepnets.tracing.recorder import Value
from deepnets.tracing.tensors import mapped

__all__ = [
    *("NORMS", "adaptive_avg_pool", "avg_pool", "bilinear", "convolution", "convolution_operator", "embedding"),
    *("linear", "max_pool", "mean", "norm", "prelu", "quantize", "recurrent", "with_copies"),
]


def linear(capture: Capture, call: Call) -> Any:
    """Linear layer: a `conv` node, and a `bias` node if it has a bias."""
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    if capture.real or weight.dim() != 2 or x.shape[-1:] != weight.shape[1:]:
        result = capture.execute(call)  # raises the error of PyTorch if the shapes do not fit
    else:
        result = capture.new((*x.shape[:-1], weight.shape[0]), x)
    bias = given(capture, call.argument(2, "bias"))
    node = weighted(capture, entry(capture, x), capture.value(weight), bias, outputs=weight.shape[0])
    return capture.finish(call, result, Value((node,)))


def convolution(capture: Capture, call: Call) -> Any:
    """Convolution, also transposed: `conv`, or `sep_conv` or `dil_conv` if it is grouped, and `bias`."""
    transposed = "transpose" in call.name
    groups = call.argument(6, "groups", 1)
    dilation = call.argument(7 if transposed else 5, "dilation", 1)
    kind = "conv"
    if groups > 1:
        largest = max(dilation) if isinstance(dilation, (tuple, list)) else dilation
        kind = "dil_conv" if largest > 1 else "sep_conv"
    shape = None if capture.real or transposed else _convolved(call, groups)
    result = capture.execute(call) if shape is None else capture.new(shape, call.argument(0, "input"))
    bias = given(capture, call.argument(2, "bias"))
    node = entry(capture, call.argument(0, "input"))
    node = weighted(capture, node, capture.value(call.argument(1, "weight")), bias, kind)
    return capture.finish(call, result, Value((node,)))


def _convolved(call: Call, groups: int) -> tuple[int, ...] | None:
    """Return the shape of a convolution's result; None for unusual or invalid arguments, which are left to PyTorch."""
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    rank = weight.dim() - 2
    steps = [call.argument(i, name, i != 4) for i, name in ((3, "stride"), (4, "padding"), (5, "dilation"))]
    stride, padding, dilation = ((int(step),) * rank if isinstance(step, int) else step for step in steps)
    if isinstance(padding, str) or x.dim() != weight.dim() or x.shape[1] != weight.shape[1] * groups:
        return None
    if x.dtype != weight.dtype or not len(stride) == len(padding) == len(dilation) == rank:
        return None
    sizes = [
        (size + 2 * pad - spread * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, spread in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    ]
    return (x.shape[0], weight.shape[0], *sizes) if min(sizes) > 0 else None


def convolution_operator(capture: Capture, call: Call) -> Any:
    """The operator of all convolutions, `torch.ops.aten.convolution`."""
    kind = "conv"
    if call.argument(8, "groups", 1) > 1:
        kind = "dil_conv" if max(call.argument(5, "dilation", (1,))) > 1 else "sep_conv"
    x, weight, bias = (call.argument(i, name) for i, name in enumerate(("input", "weight", "bias")))
    result = capture.execute(call)
    node = weighted(capture, entry(capture, x), capture.value(weight), given(capture, bias), kind)
    return capture.finish(call, result, Value((node,)))


NORMS = {  # node type, and positions of the arguments weight and bias
    "batch_norm": ("bn", 3, 4),
    "instance_norm": ("gn", 3, 4),
    "layer_norm": ("ln", 2, 3),
    "group_norm": ("gn", 2, 3),
    "rms_norm": ("rms", 2, 99),
    # operators of `torch.ops.aten`
    "native_batch_norm": ("bn", 1, 2),
    "_native_batch_norm_legit": ("bn", 1, 2),
    "_native_batch_norm_legit_no_training": ("bn", 1, 2),
    "_batch_norm_impl_index": ("bn", 1, 2),
    "_batch_norm_with_update": ("bn", 1, 2),
    "native_layer_norm": ("ln", 2, 3),
    "native_group_norm": ("gn", 1, 2),
    "_fused_rms_norm": ("rms", 2, 99),
}


def norm(capture: Capture, call: Call) -> Any:
    """Normalisation: a node if it has a weight or a bias."""
    kind, weight, bias = NORMS[call.name]
    if call.function in (torch.batch_norm, torch.instance_norm) or (
        call.is_operator and call.name in ("batch_norm", "instance_norm")
    ):
        weight, bias = 1, 2
    x = call.argument(0, "input")
    gain, shift = (given(capture, call.argument(i, name)) for i, name in ((weight, "weight"), (bias, "bias")))
    if call.name != "batch_norm" and (gain.pending or shift.pending):
        entry(capture, x)  # learned queries; but batch norms of parameters standardise weights
    value = capture.value(x)
    if value.nodes and (gain.pending or shift.pending):
        pending = [(parameter, "norm_weight") for parameter in gain.pending]
        pending += [(parameter, "norm_bias") for parameter in shift.pending]
        value = Value((capture.recorder.add(kind, [settle(capture, value)], pending),))
    elif gain.pending or shift.pending:  # standardised weights
        value = capture.union([tensor for tensor in call.tensors if capture.value(tensor).pending])
    if gain.nodes or shift.nodes:
        value = Value((capture.recorder.add("other", [*value.nodes, *gain.nodes, *shift.nodes]),))
    fast = not capture.real and call.name in ("batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm")
    result = capture.new(x.shape, x) if fast else capture.execute(with_copies(capture, call))
    return capture.finish(call, result, value)


def with_copies(capture: Capture, call: Call) -> Call:
    """Return the call with copies of constants, because it may update them, for example running statistics."""

    def copy(tensor: Tensor) -> Tensor:
        return tensor if capture.has_value(tensor) else tensor.clone()

    return Call(call.name, call.function, mapped(call.args, copy), mapped(call.kwargs, copy), call.tensors)


def quantize(capture: Capture, call: Call) -> Any:
    """Quantisation in training, which updates its statistics: the identity."""
    return capture.finish(call, capture.execute(with_copies(capture, call)), capture.value(call.tensors[0]))


def prelu(capture: Capture, call: Call) -> Any:
    """ReLU with a learned slope: a `scale` node."""
    x, slope = call.argument(0, "input"), capture.value(call.argument(1, "weight"))
    node = chain(capture, entry(capture, x), slope.pending, "scale", "scale")
    if slope.nodes:  # a slope that is computed from data
        node = capture.recorder.add("other", [node, *slope.nodes])
    return capture.finish(call, capture.execute(call), Value((node,)))


def embedding(capture: Capture, call: Call) -> Any:
    """Embedding: an `embed` node if the indices are data; otherwise the result is computed from what the table is.

    A table that is a parameter then stays pending, as a position encoding.
    """
    index, table = call.argument(0, "input"), call.argument(1, "weight")
    if call.name == "embedding" and (call.function is torch.embedding or call.is_operator):
        index, table = table, index
    source, rows = capture.value(index), capture.value(table)
    weights = given(capture, call.argument(8, "per_sample_weights")) if call.name == "embedding_bag" else Value()
    if capture.real or call.name != "embedding":
        if call.argument(3, "max_norm") is not None:  # the table is normalised in place
            call.args, call.kwargs = (mapped(part, torch.clone) for part in (call.args, call.kwargs))
        result = capture.execute(call)
    else:
        result = capture.new((*index.shape, table.shape[1]), table)
    if not source.nodes and not weights.nodes:  # indices are constants, such as positions
        return capture.finish(call, result, rows)
    nodes = (*source.nodes, *rows.nodes, *weights.nodes)
    node = capture.recorder.add("embed", nodes, [(parameter, "embed") for parameter in rows.pending])
    capture.set_value(result, Value((chain(capture, node, weights.pending, "scale", "scale"),)))
    return result


def bilinear(capture: Capture, call: Call) -> Any:
    """Bilinear layer: a `conv` node, and a `bias` node if it has a bias."""
    a, b = call.argument(0, "input1"), call.argument(1, "input2")
    weight, bias = given(capture, call.argument(2, "weight")), given(capture, call.argument(3, "bias"))
    sources = [entry(capture, a), entry(capture, b), *weight.nodes]
    node = capture.recorder.add("conv", sources, [(p, "weight") for p in weight.pending])
    node = chain(capture, capture.recorder.join("sum", [node, *bias.nodes]), bias.pending, "bias", "bias")
    return capture.finish(call, capture.execute(call), Value((node,)))


def recurrent(capture: Capture, call: Call) -> Any:
    """Recurrent layer or cell: one `rnn` node for all its weights and biases."""
    value = capture.union(call.tensors)
    pending = [(p, "bias" if p.is_vector else "weight") for p in value.pending]
    node = capture.recorder.add("rnn", value.nodes or [capture.constant_node(call.args[0])], pending)
    result = capture.execute(call) if capture.real or "cell" in call.name else _states(capture, call)
    for tensor in (result,) if isinstance(result, Tensor) else result:
        capture.set_value(tensor, Value((node,)))
    return result


def _states(capture: Capture, call: Call) -> tuple[Tensor, ...]:
    """Return the results of a recurrent layer on `meta`: its outputs at all time steps, and its last states."""
    x = call.args[0]
    packed = isinstance(call.args[1], Tensor) and isinstance(call.args[3], (list, tuple))  # x, batch sizes, states
    states = call.args[2 if packed else 1]
    states = [states] if isinstance(states, Tensor) else list(states)
    both_ways = bool(call.args[-1 if packed else -2])
    output = capture.new((*x.shape[:-1], states[0].shape[-1] * (2 if both_ways else 1)), x)
    return (output, *(capture.new(state.shape, x) for state in states))


# --- pooling ---


def _pool(kind: str, capture: Capture, call: Call) -> Any:
    result = capture.execute(call)
    value = capture.value(call.argument(0, "input"))
    if value.nodes:
        place = 2 if call.name.startswith("lp_pool") else 1  # the norm comes first
        window = (0, 0) if "adaptive" in call.name else _window(call.argument(place, "kernel_size"), call.name)
        node = capture.recorder.add(kind, [settle(capture, value)], window=window)
        value = Value((node,))
    return capture.finish(call, result, value)


max_pool, avg_pool, adaptive_avg_pool = (partial(_pool, kind) for kind in ("max_pool", "avg_pool", "glob_avg"))


def _window(kernel: Any, name: str) -> tuple[int, int]:
    sizes = [int(size) for size in (kernel if isinstance(kernel, (tuple, list, torch.Size)) else (kernel,))]
    if len(sizes) == 1:
        sizes = [1 if "1d" in name else sizes[0], sizes[0]]
    return min(sizes[-2], 255), min(sizes[-1], 255)


def mean(capture: Capture, call: Call) -> Any:
    """Mean: a `glob_avg` node if it is over all pixels or all tokens."""
    x = call.argument(0, "input")
    result = capture.execute(call)
    value = capture.value(x)
    features_last = x.dim() == 3 and x.stride(-1) == 1 and x.shape[-1] == linear_outputs(capture, value)
    if (
        value.nodes
        and value.kind in ("", "numbers", "scores")
        and x.is_floating_point()
        and _is_global(x.dim(), *_axes_of_mean(call), features_last)
    ):
        detail = "mean" if x.dim() >= 4 else ""
        value = Value((capture.recorder.add("glob_avg", [settle(capture, value)], detail=detail),))
    return capture.finish(call, result, value)


def _axes_of_mean(call: Call) -> tuple[Any, bool]:
    """Return the axes of a mean, and whether they are kept; PyTorch also accepts the names that NumPy has for both."""
    axes = call.argument(1, "dim", call.kwargs.get("axis"))
    return axes, call.argument(2, "keepdim", call.kwargs.get("keepdims", False))


def _is_global(rank: int, dim: Any, keepdim: bool, features_last: bool) -> bool:
    """Return whether a mean is over all pixels, or over all tokens, of every example of a batch."""
    if dim is None:
        return False
    axes = sorted(axis % rank for axis in (dim if isinstance(dim, (tuple, list, torch.Size)) else (dim,)))
    if rank >= 4:  # channels are first or last
        return axes in (list(range(2, rank)), list(range(1, rank - 1)))
    return rank == 3 and (axes == [1] or (axes == [2] and not keepdim and not features_last))
