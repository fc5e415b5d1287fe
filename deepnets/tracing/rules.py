"""What functions of PyTorch mean for the graph: which of them are nodes, and which of their arguments parameters.

The rules are those of Knyazev et al. (NeurIPS 2021, appendix A) for the published node types, continued for what other
networks do.  Functions go by the name under which users call them (`conv2d`, `add`, `cat`), which does not change from
one release of PyTorch to the next.  One that has no rule passes on what goes in; where several tensors of data meet in
it, that is a node of type `other`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deepnets.tracing import layers, merging
from deepnets.tracing.capture import FACTORIES, Call, Capture, Rule, in_place_target
from deepnets.tracing.parts import sources
from deepnets.tracing.recorder import Value

__all__ = ["RULES", "pass_on"]


def pass_on(capture: Capture, call: Call) -> Any:
    """A function without a rule of its own."""
    result = capture.execute(call)
    if in_place_target(call) is not None:
        return capture.finish(call, result, _written(capture, call))
    value = capture.union(call.tensors)
    several = len({capture.value(tensor) for tensor in call.tensors} - {Value()}) > 1
    if several and value.nodes and _has_new_numbers(capture, result):
        pending = [(parameter, "bias" if parameter.is_vector else "weight") for parameter in value.pending]
        if pending or (len(value.nodes) > 1 and not value.kind):
            value = Value((capture.recorder.add("other", value.nodes, pending),))
    return capture.finish(call, result, value)


def _has_new_numbers(capture: Capture, result: Any) -> bool:
    return any(
        isinstance(leaf, Tensor) and leaf.is_floating_point() and not capture.is_made_of_something(leaf)
        for leaf in (result if isinstance(result, (list, tuple)) else (result,))
    )


def _written(capture: Capture, call: Call) -> Value:
    """A tensor into which another was written: a concatenation."""
    value = capture.union(call.tensors)
    if not value.nodes or value.kind:
        return value
    return Value((capture.recorder.join("concat", value.nodes + sources(capture, value.pending, "token")),))


def first(capture: Capture, call: Call) -> Any:
    """A function that asks all arguments but the first for their shape or type only."""
    return capture.finish(call, capture.execute(call), capture.value(call.tensors[0]))


def made(capture: Capture, call: Call) -> Any:
    """A function that makes a tensor: a constant, unless it is made from others."""
    result = capture.execute(call)
    copies = call.name in ("tensor", "as_tensor", "asarray", "new_tensor")
    return capture.finish(call, result, capture.union(call.tensors) if copies else Value())


def apart(capture: Capture, call: Call) -> Any:
    """A function whose results are views of its arguments, each of its own."""
    return capture.execute(call)


def unary(capture: Capture, call: Call) -> Any:
    """An elementwise function of one tensor: nothing needs to be computed."""
    x = call.argument(0, "input")
    if capture.real or len(call.tensors) != 1 or x.device.type != "meta" or call.kwargs.get("dtype") is not None:
        return pass_on(capture, call)
    if call.kwargs.get("inplace") or in_place_target(call) is not None:
        return x
    return capture.finish(call, capture.new(x.shape, x), capture.value(x))


def dropout(capture: Capture, call: Call) -> Any:
    """Nothing happens to what is not random."""
    return call.argument(0, "input")


def softmax(capture: Capture, call: Call) -> Any:
    """Where attention may begin."""
    result = unary(capture, call)
    value = capture.value(result)
    if value.nodes:
        capture.set_value(result, Value(value.nodes, (), "weights"))
    return result


# --- the table ---

_NAMES: dict[Rule, str] = {
    unary: (
        "relu relu6 gelu silu hardswish hardsigmoid sigmoid tanh leaky_relu elu selu celu mish softplus softsign rrelu "
        "hardtanh logsigmoid clamp clip exp log sqrt rsqrt square abs neg __neg__ reciprocal sin cos erf log1p expm1 "
        "clone local_response_norm normalize log_softmax "
        "relu_ relu6_ silu_ hardswish_ hardsigmoid_ sigmoid_ tanh_ leaky_relu_ elu_ selu_ hardtanh_ clamp_ clip_ exp_"
    ),
    dropout: "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout dropout_",
    softmax: "softmax softmin",
    first: "type_as expand_as view_as reshape_as to",
    made: " ".join(FACTORIES),
    apart: "broadcast_tensors atleast_1d atleast_2d atleast_3d",
    merging.add: (
        "add add_ sub sub_ rsub subtract subtract_ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ lerp lerp_ "
        "maximum minimum fmax fmin where logaddexp masked_fill masked_fill_"
    ),
    merging.extreme: "max min",
    merging.add_product: "addcmul addcdiv",
    merging.multiply: (
        "mul mul_ multiply multiply_ __mul__ __rmul__ __imul__ div div_ divide divide_ true_divide __div__ __truediv__ "
        "__rtruediv__ __itruediv__ __rdiv__ pow pow_ __pow__ __rpow__ float_power"
    ),
    merging.concatenate: "cat concat concatenate stack hstack vstack dstack column_stack row_stack",
    merging.matmul: "matmul __matmul__ __rmatmul__ mm bmm mv einsum tensordot inner dot",
    merging.fused_matmul: "addmm addbmm baddbmm addmv",
    merging.attention: "scaled_dot_product_attention",
    merging.multi_head_attention: "multi_head_attention_forward",
    layers.linear: "linear",
    layers.convolution: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    layers.norm: " ".join(layers.NORMS),
    layers.prelu: "prelu",
    layers.embedding: "embedding embedding_bag",
    layers.bilinear: "bilinear",
    layers.recurrent: "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    layers.max_pool: "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    layers.avg_pool: "avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d",
    layers.adaptive_avg_pool: "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
    layers.mean: "mean",
}
RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""What to do at a call of a function, by its name."""
