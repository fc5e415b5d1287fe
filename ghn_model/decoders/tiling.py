"""From what is decoded to the tensor that is wanted: values repeated to its shape, and scaled by its fan-in.

(Knyazev et al., NeurIPS 2021, section 4.1 and appendix B.)  The scale depends on the wanted shape alone, so it can be
applied to the small block before it is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = ["gain", "tile"]


def gain(shape: Sequence[int]) -> float:
    """What a predicted tensor of rank 2 or more is multiplied by, given its shape; as in He et al. (2015)."""
    rank = len(shape)
    fan_in = max(1, math.prod(shape[1:]))
    if rank > 2 and shape[0] == 1 and shape[2] >= 11:  # an encoding of positions
        return 1.0
    if rank > 2 and (shape[1] == 1 or (rank > 3 and shape[2] < shape[3])):  # depthwise, and 1 x k
        return math.sqrt(1 / fan_in)
    return math.sqrt(2 / fan_in)


def tile(block: Tensor, shape: Sequence[int], out: Tensor | None = None) -> Tensor:
    """Repeat a block along all axes, the last copies cut off where they do not fit.

    Parameters
    ----------
    block
        Of the rank of the result, no axis longer than wanted.
    shape
        Of the result.
    out
        Where to put it: a tensor of this shape, of any type, layout and device.

    Returns
    -------
    The tensor, `out` if that was given; `block` itself, if nothing is to be repeated.
    """
    for axis in reversed(range(1, block.dim())):  # the first axis last: until then, little is copied
        block = _repeated(block, axis, shape[axis])
    if out is None:
        return _repeated(block, 0, shape[0]) if block.dim() else block
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


def _repeated(block: Tensor, axis: int, length: int) -> Tensor:
    size = block.shape[axis]
    if size == length:
        return block
    times = math.ceil(length / size)
    repeated = block.unsqueeze(axis).expand(*block.shape[:axis], times, *block.shape[axis:]).flatten(axis, axis + 1)
    return repeated if repeated.shape[axis] == length else repeated.narrow(axis, 0, length)
