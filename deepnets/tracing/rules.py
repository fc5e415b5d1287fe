"""`RULES`, the rule of each torch function: whether it becomes a node, and which of its arguments are parameters.

The rules are those of Knyazev et al. (NeurIPS 2021, appendix A) for the published node types, extended to other
networks.  Functions are identified by the public name (`conv2d`, `add`, `cat`), which does not change between releases
of PyTorch.  The result of a function without a rule is computed from the same nodes as its arguments; if it combines
several tensors of data, it becomes a node of type `other`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepnets.tracing import layers, merging
from deepnets.tracing.call import Call, in_place_targets
from deepnets.tracing.capture import META, Capture, Rule
from deepnets.tracing.execution import FACTORIES
from deepnets.tracing.parts import given, sources
from deepnets.tracing.recorder import Value
from deepnets.tracing.tensors import is_floating

__all__ = ["RULES", "pass_on", "rules_of"]


def pass_on(capture: Capture, call: Call) -> Any:
    """Apply the default rule, for functions without a rule."""
    result = capture.execute(call)
    if in_place_targets(call):
        return capture.finish(call, result, _written_value(capture, call))
    value = capture.union(call.tensors)
    several = len({capture.value(tensor) for tensor in call.tensors} - {Value()}) > 1
    if several and value.nodes and _has_new_values(capture, result):
        pending = [(parameter, "bias" if parameter.is_vector else "weight") for parameter in value.pending]
        if pending or (len(value.nodes) > 1 and not value.kind):
            value = Value((capture.recorder.add("other", value.nodes, pending),))
    return capture.finish(call, result, value)


def _has_new_values(capture: Capture, result: Any) -> bool:
    return any(
        isinstance(leaf, Tensor) and is_floating(leaf) and not capture.has_value(leaf)
        for leaf in (result if isinstance(result, (list, tuple)) else (result,))
    )


def _written_value(capture: Capture, call: Call) -> Value:
    """Return the value of a tensor that another tensor was written to: a concatenation."""
    value = capture.operands(call)
    if not value.nodes or (value.kind and not value.pending):
        return value
    return Value((capture.recorder.join("concat", value.nodes + sources(capture, value.pending, "token")),))


def selection(capture: Capture, call: Call) -> Any:
    """Selection of elements: an `embed` node if they are those of a parameter, and the indices are data."""
    table, value = given(capture, call.argument(0, "input")), capture.union(call.tensors)
    if not table.pending or not value.nodes or in_place_targets(call):
        return pass_on(capture, call)
    result = capture.execute(call)
    node = capture.recorder.add("embed", value.nodes, [(parameter, "embed") for parameter in value.pending])
    return capture.finish(call, result, Value((node,)))


def overwrite(capture: Capture, call: Call) -> Any:
    """Function that replaces all elements of its first argument, such as `copy_` and `zero_`."""
    (target,) = in_place_targets(call)
    others = [tensor for tensor in call.tensors if tensor is not target]
    result = capture.execute(call)
    if target.layout is not torch.strided or target.nbytes < target.untyped_storage().nbytes():  # a part of a tensor
        return capture.finish(call, result, _written_value(capture, call))
    return capture.finish(call, result, capture.union(others))


def itself(capture: Capture, call: Call) -> Any:
    """Method that changes how a tensor is stored or whether it requires a gradient, and returns it."""
    return call.args[0]


def first_argument(capture: Capture, call: Call) -> Any:
    """Function that uses only the shape or dtype of its arguments after the first."""
    return capture.finish(call, capture.execute(call), capture.value(call.tensors[0]))


def created(capture: Capture, call: Call) -> Any:
    """Function that creates a tensor: a constant, unless it copies another tensor."""
    result = capture.execute(call)
    copies = call.name in ("tensor", "as_tensor", "asarray", "new_tensor")
    return capture.finish(call, result, capture.union(call.tensors) if copies else Value())


def views(capture: Capture, call: Call) -> Any:
    """Function that returns a view of each of its arguments."""
    return capture.execute(call)


def unary(capture: Capture, call: Call) -> Any:
    """Elementwise function of one tensor; it need not be executed."""
    x = call.argument(0, "input")
    fast = not capture.real and len(call.tensors) == 1 and x.device.type == "meta" and not x.is_complex()
    if not fast or call.kwargs.get("dtype") is not None:
        return pass_on(capture, call)
    if in_place_targets(call):
        return x
    return capture.finish(call, capture.new(x.shape, x), capture.value(x))


def hardswish(capture: Capture, call: Call) -> Any:
    """Hardswish, by which PPUDA recognizes the gate of a squeeze-excite block."""
    result = unary(capture, call)
    capture.set_hardswish(result)
    return result


def negation(capture: Capture, call: Call) -> Any:
    """Negation: in the vocabulary "logah" a `rot` node, which stays if it is part of a rotary position encoding."""
    result = unary(capture, call)
    value = capture.value(result)
    if len(value.nodes) == 1 and not value.kind and not in_place_targets(call):
        capture.set_value(result, Value((capture.recorder.add("rot", value.nodes),)))
    return result


def dropout(capture: Capture, call: Call) -> Any:
    """Dropout: the identity; while it is active, it returns another tensor unless it is in place."""
    x = call.argument(0, "input")
    active = call.argument(2, "training", call.kwargs.get("train", "alpha" not in call.name))
    if not active or call.argument(3, "inplace", False) or in_place_targets(call):
        return x
    result = x.clone() if capture.real or x.device != META else capture.new(x.shape, x)
    return capture.finish(call, result, capture.value(x))


def softmax(capture: Capture, call: Call) -> Any:
    """Softmax: its result may be attention weights."""
    result = unary(capture, call)
    value = capture.value(result)
    if value.nodes and not value.selects:
        capture.set_value(result, Value(value.nodes, (), "weights"))
    return result


# --- the rules by name ---

_NAMES: dict[Rule, str] = {
    unary: (
        "relu relu6 gelu silu hardsigmoid sigmoid tanh leaky_relu elu selu celu mish softplus softsign rrelu "
        "hardtanh logsigmoid clamp clip exp log sqrt rsqrt square abs neg __neg__ reciprocal sin cos erf log1p expm1 "
        "clone local_response_norm normalize log_softmax "
        "relu_ relu6_ silu_ hardsigmoid_ sigmoid_ tanh_ leaky_relu_ elu_ selu_ hardtanh_ clamp_ clip_ exp_"
    ),
    hardswish: "hardswish hardswish_",
    dropout: "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout dropout_",
    softmax: "softmax softmin _softmax",
    selection: "__getitem__ index index_select gather take_along_dim",
    overwrite: "copy_ zero_ fill_ normal_ uniform_ random_ exponential_ geometric_ cauchy_ log_normal_ bernoulli_",
    itself: "requires_grad_ share_memory_",
    first_argument: "type_as expand_as view_as reshape_as to _to_copy",
    created: " ".join(FACTORIES),
    views: "broadcast_tensors atleast_1d atleast_2d atleast_3d",
    merging.add: (
        "add add_ sub sub_ rsub subtract subtract_ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ lerp lerp_ "
        "maximum minimum fmax fmin where logaddexp masked_fill masked_fill_"
    ),
    merging.extreme: "max min",
    merging.add_product: "addcmul addcdiv addcmul_ addcdiv_",
    merging.multiply: (
        "mul mul_ multiply multiply_ __mul__ __rmul__ __imul__ div div_ divide divide_ true_divide __div__ __truediv__ "
        "__rtruediv__ __itruediv__ __rdiv__ pow pow_ __pow__ __rpow__ float_power"
    ),
    merging.concatenate: "cat concat concatenate stack hstack vstack dstack column_stack row_stack",
    merging.matmul: "matmul __matmul__ __rmatmul__ mm bmm mv einsum tensordot inner dot",
    merging.fused_matmul: "addmm addbmm baddbmm addmv addmm_ addbmm_ baddbmm_ addmv_",
    merging.attention: "scaled_dot_product_attention",
    merging.fused_attention: (
        "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math"
    ),
    merging.flex_attention: "flex_attention",
    merging.multi_head_attention: "multi_head_attention_forward",
    layers.linear: "linear",
    layers.convolution: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    layers.convolution_operator: "convolution _convolution",
    layers.norm: " ".join(layers.NORMS),
    layers.quantize: "fused_moving_avg_obs_fake_quant _fused_moving_avg_obs_fq_helper",
    layers.prelu: "prelu",
    layers.embedding: "embedding embedding_bag",
    layers.bilinear: "bilinear",
    layers.recurrent: "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    layers.max_pool: (
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "max_pool2d_with_indices max_pool3d_with_indices"
    ),
    layers.avg_pool: "avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d",
    layers.adaptive_avg_pool: (
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d"
    ),
    layers.mean: "mean",
}
RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""The rule of each function, by its name."""


def rules_of(vocabulary: str) -> dict[str, Rule]:
    """Return the rules for a vocabulary, by the names of functions.

    Examples
    --------
    >>> rules_of("complete") is RULES, sorted(rules_of("logah").keys() - RULES.keys())
    (True, [])
    """
    return RULES if vocabulary != "logah" else {**RULES, "neg": negation, "__neg__": negation}
