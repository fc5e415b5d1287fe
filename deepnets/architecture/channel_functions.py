"""Layers of networks for `Channels` and for `Repeated` parameters; imported for the functions that it registers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.architecture.channels import CACHED, Channels, Index, per_channel, taken
from deepnets.architecture.compact_tensor import Repeated, implements, tile, whole
from deepnets.architecture.depthwise import depthwise_conv2d

__all__: list[str] = []


def _channels(x: Any, *parameters: Any) -> Channels | None:
    """`x` itself; or a tensor, if a parameter is `Repeated`, so that its outputs are known to be equal."""
    if isinstance(x, Channels):
        return x
    is_known = any(isinstance(each, Repeated) for each in parameters)
    return Channels(x, Index.identity(x.shape[1])) if is_known else None


def _rows(parameter: Any, first: npt.NDArray[np.int64]) -> Any:
    """Rows of a parameter `(C, ...)`, which repeats itself along its other axes as before; None for None."""
    if isinstance(parameter, Repeated):
        return Repeated(taken(parameter.block, first % len(parameter.block), 0), (len(first), *parameter.shape[1:]))
    return None if parameter is None else taken(parameter, first, 0)


def _dense(x: Channels, weight: Any, bias: Any) -> tuple[Tensor, Tensor | None, Index]:
    """The weight `(D_out, D_in, ...)` from distinct inputs to distinct outputs, its bias, and the outputs' index."""
    index = x.rows(weight, bias)

    def make() -> tuple[Tensor, Tensor | None]:
        rows, its_bias = _rows(weight, index.first()), _rows(bias, index.first())
        return _columns(rows, x.index), whole(its_bias)

    if x.memory is None:
        return *make(), index
    weight, bias = whole(weight), whole(bias)
    given = [each for each in (weight, bias) if each is not None]
    return *x.remembered("dense", [*given, x.index], make), index


def _columns(weight: Any, inputs: Index) -> Any:
    """The weights `(O, D, ...)` of the distinct channels of inputs: sums of those `(O, C, ...)` of equal channels."""
    if inputs.is_identity:
        return whole(weight)
    if isinstance(weight, Repeated):
        block = tile(weight.block, (weight.shape[0], weight.block.shape[1], *weight.shape[2:]))
        counts, column, times = inputs.columns(block.shape[1])
        if column is not None:  # inputs that are equal have equal weights
            return taken(block, column) * times.to(block).view(1, -1, *(1 for _ in block.shape[2:]))
        return torch.tensordot(block, torch.from_numpy(counts).to(block), dims=([1], [0])).movedim(-1, 1)
    total = weight.new_zeros(len(weight), inputs.distinct, *weight.shape[2:])
    return total.index_add(1, torch.from_numpy(inputs.positions).to(weight.device), weight)


@implements(F.conv2d)
def _conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    x = _channels(input, weight, bias)
    if x is None:
        return None
    if groups == 1:
        reduced, reduced_bias, index = _dense(x, weight, bias)
        values = F.conv2d(x.values, reduced, reduced_bias, stride, padding, dilation)
        return Channels(values, index, x.memory)
    if not groups == weight.shape[0] == x.shape[1]:
        return None
    x, first = per_channel(x, weight, bias)
    weight, bias = whole((_rows(weight, first), _rows(bias, first)))
    return x.with_values(F.conv2d(x.values, weight, bias, stride, padding, dilation, len(first)))


@implements(depthwise_conv2d)
def _depthwise_conv2d(x: Any, weight: Any, stride: int = 1, dilation: int = 1) -> Any:
    x = _channels(x, weight)
    if x is None:
        return None
    x, first = per_channel(x, weight)
    return x.with_values(depthwise_conv2d(x.values, whole(_rows(weight, first)), stride, dilation))


@implements(F.batch_norm)
def _batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    x = _channels(input, weight, bias)
    if x is None or running_mean is not None or running_var is not None:
        return None
    x, first = per_channel(x, weight, bias)
    selected = whole([_rows(each, first) for each in (weight, bias)])
    weight, bias = (None if each is None else each.contiguous() for each in selected)
    return x.with_values(F.batch_norm(x.values, None, None, weight, bias, training, momentum, eps))


@implements(F.linear)
def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    if not isinstance(input, Channels) or input.values.dim() != 2:
        return None
    reduced, reduced_bias, index = _dense(input, weight, bias)
    return Channels(F.linear(input.values, reduced, reduced_bias), index, input.memory)


@implements(F.dropout)
def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return None if training else input


@implements(F.pad)
def _pad(input: Any, pad: Sequence[int], *options: Any, **named: Any) -> Any:
    if not isinstance(input, Channels) or len(pad) > 2 * (input.values.dim() - 2):  # of the channels, too
        return None
    return input.with_values(F.pad(input.values, pad, *options, **named))


@lru_cache(CACHED)
def _concatenated(*indices: Index) -> Index:
    starts = np.cumsum([0, *(index.distinct for index in indices)])
    return Index(np.concatenate([index.positions + start for index, start in zip(indices, starts)]))


@implements(torch.cat)
def _cat(tensors: Sequence[Any], dim: int = 0, *, axis: int | None = None) -> Any:
    if (dim if axis is None else axis) != 1 or not all(isinstance(tensor, Channels) for tensor in tensors):
        return None
    values = torch.cat([tensor.values for tensor in tensors], dim=1)
    return Channels(values, _concatenated(*(tensor.index for tensor in tensors)), tensors[0].memory)
