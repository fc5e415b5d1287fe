"""`depthwise_conv2d`: a depthwise convolution with a fast backward pass on CPUs.

PyTorch's backward pass of a dilated depthwise convolution takes 20 to 30 times as long as the forward pass on a CPU,
and networks of DeepNets-1M have many of them.  Here the gradient with respect to the input is a forward convolution
with the flipped kernel, and the gradient with respect to the weight is a compiled loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import handle_torch_function, has_torch_function

from deepnets.support.compilation import compiled

__all__ = ["depthwise_conv2d"]


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Compute a depthwise convolution with padding that keeps the resolution at stride 1.

    Parameters
    ----------
    x
        `(B, C, H, W)`.
    weight
        `(C, 1, k, k)` with an odd k.
    stride, dilation
        As in `torch.nn.functional.conv2d`.

    Returns
    -------
    Tensor
        `(B, C, ceil(H / stride), ceil(W / stride))`, equal to the result of `conv2d`.  It can be differentiated once;
        second derivatives raise a `RuntimeError`.

    Examples
    --------
    >>> import torch
    >>> x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 1, 3, 3)
    >>> expected = torch.nn.functional.conv2d(x, weight, padding=2, dilation=2, groups=4)
    >>> torch.equal(depthwise_conv2d(x, weight, dilation=2), expected)
    True
    """
    if has_torch_function((x, weight)):
        return handle_torch_function(depthwise_conv2d, (x, weight), x, weight, stride, dilation)
    result: Tensor = _DepthwiseConv2d.apply(x, weight, stride, dilation)  # type: ignore[no-untyped-call]
    return result


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return F.conv2d(x, weight, None, stride, _padding(weight, dilation), dilation, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, dilation = ctx.stride, ctx.dilation
        by_x = by_weight = None
        if ctx.needs_input_grad[1]:
            by_taps = np.zeros((*weight.shape[2:], x.shape[1]), _pixels(x).dtype)
            _add_weight_gradient(_pixels(x), _pixels(gradient), stride, dilation, by_taps)
            by_weight = torch.from_numpy(by_taps).permute(2, 0, 1).unsqueeze(1)
        if ctx.needs_input_grad[0]:
            if stride > 1:  # insert zeros for the pixels that were skipped
                spread = torch.zeros_like(x)
                spread[:, :, ::stride, ::stride] = gradient
                gradient = spread
            by_x = F.conv2d(gradient, weight.flip(2, 3), None, 1, _padding(weight, dilation), dilation, x.shape[1])
        return by_x, by_weight, None, None


def _padding(weight: Tensor, dilation: int) -> int:
    return dilation * (weight.shape[2] // 2)


def _pixels(images: Tensor) -> npt.NDArray[Any]:
    """`(B, C, H, W)` as a contiguous array `(B, H, W, C)`, without a copy where the memory format is channels-last."""
    return images.detach().permute(0, 2, 3, 1).contiguous().numpy()


@compiled
def _add_weight_gradient(
    x: npt.NDArray[Any], gradient: npt.NDArray[Any], stride: int, dilation: int, out: npt.NDArray[Any]
) -> None:
    """Add the gradient with respect to the weight, `(k, k, C)`, for an input and a gradient `(B, H, W, C)`."""
    kernel, channels = out.shape[0], out.shape[2]
    height, width = x.shape[1], x.shape[2]
    rows, columns = gradient.shape[1], gradient.shape[2]
    total = np.empty(channels, out.dtype)
    for b in range(x.shape[0]):
        for i in range(kernel):
            for j in range(kernel):
                right = dilation * (j - kernel // 2)
                # The columns of the output whose input column, stride * column + right, exists.
                first = max(0, (-right + stride - 1) // stride)
                last = min(columns, (width - 1 - right) // stride + 1)
                total[:] = 0
                for row in range(rows):
                    y = stride * row + dilation * (i - kernel // 2)
                    if y < 0 or y >= height:
                        continue
                    for column in range(first, last):
                        pixel, slope = x[b, y, stride * column + right], gradient[b, row, column]
                        for c in range(channels):
                            total[c] += pixel[c] * slope[c]
                out[i, j] += total
