"""The decoder of LoGAH: every matrix is a product of two factors of low rank (Zhou et al., arXiv 2405.16287).

The published code computes both factors as a whole.  An element of the product depends only on one row of each factor,
and a row of a factor only on few rows of the last two layers, so only these are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_model.decoders.modules import sliced
from ghn_model.prepared_batch import Window

__all__ = ["Factors", "LowRankDecoder", "VectorPlaceholders"]


class Factors(NamedTuple):
    """The parts of both factors that a window needs.

    Attributes
    ----------
    left
        `(n, rows * height, rank)`.
    right
        `(n, columns * width, rank)`.
    """

    left: Tensor
    right: Tensor

    def product(self, window: Window) -> Tensor:
        """The maps `(n, rows, columns, height, width)`."""
        rows, columns, height, width = window
        product = torch.matmul(self.left, self.right.transpose(1, 2))  # (n, rows * height, columns * width)
        return product.view(-1, rows, height, columns, width).transpose(2, 3)


class LowRankDecoder(nn.Module):
    """Decodes maps as products of two factors: linear layers produce the factors from an embedding.

    Three linear layers turn an embedding into a matrix `w` of shape `(2 * rank, rank)`, and a fourth one turns each row
    of `w.relu()` into `factor_rows` numbers.  The first `rank` rows of the result, read row by row, are the factor A of
    shape `(factor_rows, rank)`, and the others are the factor B.  An element of a kernel is

        kernel[o, i, y, x] = A[o * height + y] @ B[i * width + x]

    Parameters
    ----------
    hidden
        Width of the embeddings, h.
    rank
        Number of columns of the factors.
    factor_rows
        Number of rows of the factors, which limits the size of kernels: neither output channels times height nor input
        channels times width can be larger.

    Examples
    --------
    >>> decoder = LowRankDecoder(hidden=8, rank=4, factor_rows=64)
    >>> decoder(torch.zeros(2, 8), rows=16, columns=3, height=4, width=4).shape
    torch.Size([2, 16, 3, 4, 4])
    """

    def __init__(self, hidden: int, rank: int, factor_rows: int) -> None:
        super().__init__()
        self.rank, self.factor_rows = rank, factor_rows
        self.mlp = nn.Module()
        self.mlp.fc = nn.Sequential(
            nn.Linear(hidden, 4 * hidden),
            nn.ReLU(),
            nn.Linear(4 * hidden, 8 * hidden),
            nn.ReLU(),
            nn.Linear(8 * hidden, 2 * rank * rank),
        )
        # The published decoder has this layer, but does not use it.
        self.l1 = nn.Linear(rank, rank).requires_grad_(False)
        self.l2 = nn.Linear(rank, factor_rows)

    def forward(self, x: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
        """Decode a window of the maps of several nodes.

        Parameters
        ----------
        x
            `(n, hidden)`, embeddings of the nodes.
        rows, columns, height, width
            Output channels, input channels, height and width of the window; neither `rows * height` nor
            `columns * width` may exceed `factor_rows`.

        Returns
        -------
        `(n, rows, columns, height, width)`.

        Raises
        ------
        RuntimeError
            If the window is larger than the factors.
        """
        return next(self.decode_windows([x], [(rows, columns, height, width)]))

    def decode_windows(
        self, inputs: Sequence[Tensor], windows: Sequence[Window], scales: Sequence[Tensor | None] | None = None
    ) -> Iterator[Tensor]:
        """Decode several windows, each for its own nodes; equivalent to calls of `forward`.

        Parameters
        ----------
        inputs, windows, scales
            As in `decode_factors`.

        Returns
        -------
        What `forward` returns, multiplied by the scales, for one window after the other.
        """
        factors = self.decode_factors(inputs, windows, scales)
        return (each.product(window) for each, window in zip(factors, windows))

    def decode_factors(
        self, inputs: Sequence[Tensor], windows: Sequence[Window], scales: Sequence[Tensor | None] | None = None
    ) -> Iterator[Factors]:
        """Decode the factors of several windows, each for its own nodes.

        In the backward pass, the gradients of the slices of a weight are added into one tensor for all windows.

        Parameters
        ----------
        inputs
            For every window `(n, hidden)`, embeddings of nodes.
        windows
            Output channels, input channels, height and width of every window.
        scales
            For every window `(n,)`, numbers by which the first factors are multiplied, or None.

        Yields
        ------
        The factors of one window after the other.

        Raises
        ------
        RuntimeError
            If a window is larger than the factors.
        """
        layers = cast(nn.Sequential, self.mlp.fc)
        factor, last = cast(nn.Linear, layers[4]), self.l2
        sizes = [(rows * height, columns * width) for rows, columns, height, width in windows]
        places, outputs = [], []
        for first, number in chain.from_iterable(((0, a), (self.rank, b)) for a, b in sizes):
            if number > self.factor_rows:
                raise RuntimeError(f"window: needs {number} rows of a factor, which has {self.factor_rows}")
            values = number * self.rank
            places.append((slice(first, first + -(-values // self.factor_rows)),))
            outputs.append((slice(min(values, self.factor_rows)),))
        pieces = zip(
            sliced(factor.weight.view(2 * self.rank, self.rank, -1), places),
            sliced(factor.bias.view(2 * self.rank, self.rank), places),
            sliced(last.weight, outputs),
            sliced(last.bias, outputs),
        )
        for x, (a, b), scale in zip(inputs, sizes, scales or [None] * len(windows)):
            u = layers[:4](x)  # (n, 8h)
            left, right = (self._factor(u, number, *next(pieces)) for number in (a, b))
            if scale is not None:  # a factor is smaller than the product
                left = left * scale.to(left.dtype).view(-1, 1, 1)
            yield Factors(left, right)

    def _factor(self, u: Tensor, number: int, w: Tensor, c: Tensor, v: Tensor, d: Tensor) -> Tensor:
        """The first rows `(n, number, rank)` of a factor, from the rows of the last two layers that they need."""
        hidden = F.linear(u, w.flatten(0, 1), c.flatten()).view(len(u), -1, self.rank).relu()
        values = F.linear(hidden, v, d).flatten(1)
        return values[:, : number * self.rank].view(len(u), number, self.rank)

    def output_layers(self) -> tuple[nn.Module, ...]:
        """The last layer, which makes the first predictions small if `GHNConfig.init` is "small"."""
        return (self.l2,)


class VectorPlaceholders(nn.Sequential):
    """The two weights that the published LoGAH has in place of a decoder of vectors; they are not used.

    Examples
    --------
    >>> [name for name, _ in VectorPlaceholders(first=1).named_parameters()]
    ['1.weight', '1.bias']
    """

    def __init__(self, first: int) -> None:
        super().__init__(*(nn.Identity() for _ in range(first)), nn.Linear(1, 1).requires_grad_(False))

    def forward(self, *_: Any) -> Tensor:
        """Raise an error: nothing is decoded."""
        raise NotImplementedError("a hypernetwork without a decoder of vectors reads them from its maps")
