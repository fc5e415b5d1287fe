"""Normalization of decoded values that are repeated to the shape of a parameter.

(Knyazev et al., NeurIPS 2021, section 4.1 and appendix B.)  The factor depends on the shape of the parameter alone, so
it can be applied before the repetition, when there are fewer values.  So can the standard deviation of the repeated
values, which follows from the number of repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from deepnets.architecture import tile

__all__ = ["dirac", "gain", "is_kernel", "standardize", "write_product"]

SLAB = 1 << 19
"""Number of elements whose squares are computed at once for a standard deviation."""

_PLAIN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
"""Of cached tensors, which must not depend on the defaults of the first caller."""


def gain(shape: Sequence[int], fan: str = "in", *, positional: bool = True) -> float:
    """The factor by which a predicted tensor of rank 2 or more is multiplied; as in He et al. (2015).

    Parameters
    ----------
    shape
        Shape of the parameter.
    fan
        "in" to scale by the number of inputs of an output, or "out" by the number of outputs of an input.
    positional
        Whether a shape with a first size of 1 and a third one of 11 or more is taken for a positional encoding, which
        is not scaled.  The published tools do so for kernels, too.

    Examples
    --------
    >>> round(gain((64, 32, 3, 3)), 4)  # sqrt(2 / fan_in)
    0.0833
    """
    rank = len(shape)
    fan_in = max(1, math.prod(shape[1:]) if fan == "in" else shape[0] * math.prod(shape[2:]))
    if positional and rank > 2 and shape[0] == 1 and shape[2] >= 11:  # a positional encoding
        return 1.0
    if rank > 2 and (shape[1] == 1 or (rank > 3 and shape[2] < shape[3])):  # depthwise, and 1 x k
        return math.sqrt(1 / fan_in)
    return math.sqrt(2 / fan_in)


def is_kernel(shape: Sequence[int]) -> bool:
    """Whether a shape is that of the kernel of a convolution of features, and not of images.

    Examples
    --------
    >>> is_kernel((64, 1, 3, 3)), is_kernel((64, 3, 3, 3)), is_kernel((64, 64))
    (True, False, False)
    """
    return len(shape) == 4 and shape[1] not in (2, 3, 4)


def dirac(block_shape: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The block that `tile` repeats to a kernel with which a convolution returns its input, for `GHNConfig.dirac`.

    The rows of the kernel are those of `torch.nn.init.dirac_` for as many channels as the block has.  Inputs that share
    a column of the block are averaged.

    Parameters
    ----------
    block_shape, shape
        Shapes of the block and of the kernel.

    Returns
    -------
    A tensor of the shape of the block.  It is 0 if the block has not the height and width of the kernel.

    Examples
    --------
    >>> dirac((2, 2, 1, 1), (4, 4, 1, 1)).flatten(1)
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    is_whole = tuple(block_shape[2:]) == tuple(shape[2:])
    return _dirac(tuple(block_shape), shape[1]) if is_whole else torch.zeros(tuple(block_shape), **_PLAIN)


@lru_cache(1024)
def _dirac(block_shape: tuple[int, ...], inputs: int) -> Tensor:
    rows, columns, height, width = block_shape
    block = torch.zeros(block_shape, **_PLAIN)
    block[range(rows), [row % columns for row in range(rows)], height // 2, width // 2] = columns / inputs
    return block


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
    factors = std / (standard_deviations(blocks, shape) + 1e-7)
    return blocks * factors.view(-1, *(1 for _ in shape)).to(blocks)


def standard_deviations(blocks: Tensor, shape: Sequence[int]) -> Tensor:
    """The standard deviations `(n,) float64` of the tensors that `tile` makes of blocks, without making them.

    Parameters
    ----------
    blocks, shape
        As in `standardize`.

    Examples
    --------
    >>> block = torch.tensor([[1.0, 2.0, 4.0]])
    >>> standard_deviations(block, (7,)), tile(block[0], (7,)).std()
    (tensor([1.3452], dtype=torch.float64), tensor(1.3452))
    """
    count = math.prod(shape)
    times = _repetitions(blocks.shape[1], shape[0], blocks.device)
    mean = (_row_sums(blocks, shape[1:]) * times).sum(1) / count
    centre = mean.view(-1, *(1 for _ in shape)).to(blocks)
    step = max(1, SLAB * blocks.shape[1] // max(1, blocks.numel()))  # few rows at a time, to save memory
    squares = [_row_sums((rows - centre).square(), shape[1:]) for rows in torch.split(blocks, step, dim=1)]
    variances = (torch.cat(squares, dim=1) * times).sum(1) / max(1, count - 1)
    return variances.clamp(min=1e-40).sqrt()  # the gradient of the root is infinite at 0, that of constant tensors


def _repetitions(size: int, length: int, device: torch.device) -> Tensor:
    """How often each of `size` rows occurs where they are repeated to a length: `(size,) float64`."""
    whole, rest = divmod(length, size)
    return whole + (torch.arange(size, device=device) < rest).double()


def _row_sums(blocks: Tensor, shape: Sequence[int]) -> Tensor:
    """Sums `(n, rows) float64` over all axes but the first two, of which the last ones are repeated to a shape."""
    for length in reversed(shape):
        whole, rest = divmod(length, blocks.shape[-1])
        total = blocks.sum(-1, dtype=torch.float64)
        blocks = whole * total + (blocks[..., :rest].sum(-1, dtype=torch.float64) if rest else 0)
    return blocks.double()


def write_product(left: Tensor, right: Tensor, out: Tensor, std: float | None = None) -> None:
    """Write the product of two factors into a matrix, in place, and repeat it to the shape of the matrix.

    The result is that of `tile`, and before it of `standardize`, but no other large tensor is made.

    Parameters
    ----------
    left, right
        `(rows, rank)` and `(columns, rank)`, with at most as many rows and columns as the matrix has.
    out
        The matrix, of any dtype, layout and device.  The product is not copied if they are those of the factors.
    std
        Standard deviation of the result; None to keep the values of the product.

    Examples
    --------
    >>> out = torch.zeros(3, 2)
    >>> write_product(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0]]), out)
    >>> out
    tensor([[1., 1.],
            [2., 2.],
            [1., 1.]])
    """
    rows, columns = len(left), len(right)
    is_direct = out.is_contiguous() and (out.dtype, out.device) == (left.dtype, left.device)
    block = out[:rows, :columns] if is_direct else left.new_empty(rows, columns)
    for start in range(0, rows, 256):  # the parts fit in the caches of a CPU, which saves a quarter of the time
        torch.mm(left[start : start + 256], right.t(), out=block[start : start + 256])
    if std is not None:
        block.mul_(float(std / (standard_deviations(block[None], out.shape) + 1e-7)))
    if not is_direct:
        tile(block, out.shape, out=out)
        return
    for start in range(columns, out.shape[1], columns):
        part = out[:rows, start : start + columns]
        part.copy_(block[:, : part.shape[1]])
    for start in range(rows, len(out), rows):
        part = out[start : start + rows]
        part.copy_(out[: len(part)])
