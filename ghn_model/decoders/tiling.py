"""Repetition of decoded values to the shape of a parameter, and their normalization.

(Knyazev et al., NeurIPS 2021, section 4.1 and appendix B.)  The factor depends on the shape of the parameter alone, so
it can be applied before the repetition, when there are fewer values.  So can the standard deviation of the repeated
values, which follows from the number of repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["gain", "standardize", "tile"]


def gain(shape: Sequence[int], fan: str = "in") -> float:
    """The factor by which a predicted tensor of rank 2 or more is multiplied; as in He et al. (2015).

    Parameters
    ----------
    shape
        Shape of the parameter.
    fan
        "in" to scale by the number of inputs of an output, or "out" by the number of outputs of an input.

    Examples
    --------
    >>> round(gain((64, 32, 3, 3)), 4)  # sqrt(2 / fan_in)
    0.0833
    """
    rank = len(shape)
    fan_in = max(1, math.prod(shape[1:]) if fan == "in" else shape[0] * math.prod(shape[2:]))
    if rank > 2 and shape[0] == 1 and shape[2] >= 11:  # a positional encoding
        return 1.0
    if rank > 2 and (shape[1] == 1 or (rank > 3 and shape[2] < shape[3])):  # depthwise, and 1 x k
        return math.sqrt(1 / fan_in)
    return math.sqrt(2 / fan_in)


def standardize(blocks: Tensor, shape: Sequence[int], std: float) -> Tensor:
    """Scale blocks such that the tensors that `tile` makes of them have a given standard deviation.

    The mean is not changed to 0.  (As in LoGAH for texts: p / (std(p) + 1e-7) * std.)

    Parameters
    ----------
    blocks
        `(n, ...)`, blocks of the rank of the tensors.
    shape
        Shape of the tensors.
    std
        The standard deviation, with Bessel's correction.

    Examples
    --------
    >>> block = torch.tensor([[1.0, 2.0, 4.0]])
    >>> tile(standardize(block, (7,), std=0.5)[0], (7,)).std()
    tensor(0.5000)
    """
    count = math.prod(shape)
    if count < 2:  # a single number has no standard deviation
        return blocks
    mean = _repeated_sum(blocks, shape) / count
    deviations = blocks - mean.view(-1, *(1 for _ in shape)).to(blocks)
    variance = _repeated_sum(deviations.square(), shape) / (count - 1)
    factors = std / (variance.sqrt() + 1e-7)
    return blocks * factors.view(-1, *(1 for _ in shape)).to(blocks)


def _repeated_sum(blocks: Tensor, shape: Sequence[int]) -> Tensor:
    """Sums `(n,) float64` of the elements of the tensors that `tile` makes of blocks, without making them."""
    for length in reversed(shape):
        whole, rest = divmod(length, blocks.shape[-1])
        total = blocks.sum(-1, dtype=torch.float64)
        blocks = whole * total + (blocks[..., :rest].sum(-1, dtype=torch.float64) if rest else 0)
    return blocks


def tile(block: Tensor, shape: Sequence[int], out: Tensor | None = None) -> Tensor:
    """Repeat a block along all axes until it fills a shape; the last copy is cut off where it does not fit.

    Parameters
    ----------
    block
        Tensor of the rank of the result, no longer than it along any axis.
    shape
        Shape of the result.
    out
        Tensor of this shape, of any dtype, layout and device, into which to write the result.

    Returns
    -------
    The result: `out` if given; `block` itself if it already has the shape; else a new tensor or a view of one.

    Examples
    --------
    >>> import torch
    >>> tile(torch.tensor([1, 2, 3]), (7,))
    tensor([1, 2, 3, 1, 2, 3, 1])
    """
    for axis in reversed(range(1, block.dim())):  # the first axis last, so that little is copied until then
        block = _repeat(block, axis, shape[axis])
    if out is None:
        return _repeat(block, 0, shape[0]) if block.dim() else block
    target = out.detach()
    if not block.dim():
        return target.copy_(block)
    length, size = shape[0], block.shape[0]
    whole = length // max(1, size)
    if whole > 1:
        block = block.contiguous()
    target[: whole * size].view(whole, *block.shape).copy_(block.expand(whole, *block.shape))
    if whole * size < length:
        target[whole * size :].copy_(block[: length - whole * size])
    return out


def _repeat(block: Tensor, axis: int, length: int) -> Tensor:
    size = block.shape[axis]
    if size == length:
        return block
    times = math.ceil(length / size)
    repeated = block.unsqueeze(axis).expand(*block.shape[:axis], times, *block.shape[axis:]).flatten(axis, axis + 1)
    return repeated if repeated.shape[axis] == length else repeated.narrow(axis, 0, length)
