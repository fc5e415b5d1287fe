"""From the embedding of a node to a block of values: maps for kernels and matrices, vectors for norms and biases.

(Knyazev et al., NeurIPS 2021, section 4.1; the `centre` window: ICML 2023.)  A kernel's element [o, i, y, x] depends on
its own rows of the decoder's weights only, so that no more is computed than is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_model.encoders import MLP

Part = tuple[int, int, int, int]
"""Of a map: rows, columns, height, width."""

__all__ = ["ClassHead", "ConvDecoder", "MLPDecoder", "VectorDecoder"]


class ConvDecoder(nn.Module):
    """Decodes maps: a linear layer spreads an embedding over S x S positions, pointwise layers make the channels.

    Parameters
    ----------
    hidden
        Width of the embeddings, h.
    max_shape
        Channels out and in, height and width (S) of the whole map.
    num_classes
        Rows of the classifiers that `class_layer_predictor` makes.
    window
        "corner" or "centre", as in `GHNConfig`.  With it goes the layout of the weights in the published files:
        convolutions for the one, linear layers for the other.
    """

    def __init__(self, hidden: int, max_shape: tuple[int, int, int, int], num_classes: int, window: str) -> None:
        super().__init__()
        out, into, side, _ = max_shape
        self.max_shape = max_shape
        self.window = window
        pointwise = _pointwise_convolution if window == "corner" else nn.Linear
        self.fc: nn.Sequential = nn.Sequential(nn.Linear(hidden, 4 * hidden * side * side))
        self.conv = nn.Sequential(pointwise(4 * hidden, 8 * hidden), nn.ReLU(), pointwise(8 * hidden, out * into))
        self.class_layer_predictor = nn.Sequential(nn.ReLU(), pointwise(out, num_classes))

    def forward(self, x: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
        """Part of the maps of several nodes.

        Parameters
        ----------
        x
            `(n, hidden)`.
        rows, columns, height, width
            Wanted channels out and in, and window, none larger than `max_shape`.

        Returns
        -------
        `(n, rows, columns, height, width)`, channels last in memory.
        """
        return next(self.decode([x], [(rows, columns, height, width)]))

    def decode(self, inputs: Sequence[Tensor], parts: Sequence[Part]) -> Iterator[Tensor]:
        """Several parts of maps, each of the nodes given with it, as `forward` decodes them one by one.

        Together, gradients with respect to the weights are put together once, not once for every part.
        """
        out, into, side, _ = self.max_shape
        spread, first, last = (_affine(layer) for layer in (self.fc[0], self.conv[0], self.conv[2]))
        windows = [(slice(None), self._window(height), self._window(width)) for _, _, height, width in parts]
        channels = [(slice(rows), slice(columns)) for rows, columns, _, _ in parts]
        pieces = zip(
            inputs,
            parts,
            sliced(spread.weight.view(-1, side, side, spread.weight.shape[1]), windows),
            sliced(spread.bias.view(-1, side, side), windows),
            sliced(last.weight.view(out, into, -1), channels),
            sliced(last.bias.view(out, into), channels),
        )
        w1, b1 = first.weight.flatten(1), first.bias
        for x, (rows, columns, height, width), w0, b0, w2, b2 in pieces:
            # channels last, so that every layer is one product of matrices for all nodes and positions (P)
            u = F.linear(x, w0.permute(1, 2, 0, 3).flatten(0, 2), b0.permute(1, 2, 0).flatten()).relu()
            u = F.linear(u.view(-1, w1.shape[1]), w1, b1).relu()  # (n * P, 8h)
            maps = F.linear(u, w2.flatten(0, 1), b2.flatten()).view(len(x), height, width, rows, columns)
            yield maps.permute(0, 3, 4, 1, 2)

    def classes(self, maps: Tensor) -> Tensor:
        """Weights of classifiers `(n, num_classes, columns)` from maps `(n, out, columns, 1, 1)` with all rows."""
        head = _affine(self.class_layer_predictor[1])
        return torch.matmul(head.weight.flatten(1), maps.flatten(2).relu()) + head.bias[:, None]

    def _window(self, size: int) -> slice:
        """The part of S rows or columns that a kernel of this size takes."""
        start = self.max_shape[2] // 2 - size // 2 if self.window == "centre" else 0
        return slice(start, start + size)


class MLPDecoder(nn.Module):
    """The ablation of `ConvDecoder`: two linear layers make the whole map, of which a part is taken."""

    def __init__(self, hidden: int, max_shape: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.max_shape = max_shape
        self.window = "corner"
        self.mlp = MLP(hidden, 2 * hidden, math.prod(max_shape), last_relu=False)
        self.class_layer_predictor = nn.Sequential(nn.ReLU(), nn.Linear(2 * hidden, num_classes * max_shape[0]))

    def forward(self, x: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
        """As `ConvDecoder.forward`."""
        return next(self.decode([x], [(rows, columns, height, width)]))

    def decode(self, inputs: Sequence[Tensor], parts: Sequence[Part]) -> Iterator[Tensor]:
        """As `ConvDecoder.decode`."""
        last = _affine(self.mlp.fc[2])
        places = [tuple(slice(size) for size in part) for part in parts]
        weights = sliced(last.weight.view(*self.max_shape, -1), places)
        for x, part, weight, bias in zip(inputs, parts, weights, sliced(last.bias.view(self.max_shape), places)):
            hidden = self.mlp.fc[0](x).relu()
            yield F.linear(hidden, weight.flatten(0, 3), bias.flatten()).view(len(x), *part)

    def classes_of(self, x: Tensor) -> Tensor:
        """Weights of classifiers `(n, num_classes, out)` from embeddings `(n, hidden)`."""
        weights: Tensor = self.class_layer_predictor(self.mlp.fc[0](x))
        return weights.view(len(x), -1, self.max_shape[0])


class VectorDecoder(MLP):
    """Decodes two vectors of a node: the weight of a norm, and a bias."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__(hidden, 2 * hidden, 2 * channels, last_relu=False)
        self.channels = channels

    def forward(self, x: Tensor, row: int) -> Tensor:  # type: ignore[override]
        """`(n, hidden)` -> `(n, channels)`: the weight of a norm (row 0), or a bias (row 1)."""
        first, _, last = self.fc
        part = slice(row * self.channels, (row + 1) * self.channels)
        return F.linear(first(x).relu(), last.weight[part], last.bias[part])  # type: ignore[index]


class ClassHead(nn.Sequential):
    """The bias of a classifier from a decoded bias: `(n, channels)` -> `(n, num_classes)`."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(nn.ReLU(), nn.Linear(channels, num_classes))


def sliced(tensor: Tensor, places: Sequence[tuple[slice, ...]]) -> Iterable[Tensor]:
    """Slices of a tensor, whose gradients are added into one tensor.

    Autograd would make a tensor of zeros of full size for the gradient of every slice, and add them all up.
    """
    if not torch.is_grad_enabled() or not tensor.requires_grad:
        return (tensor[place] for place in places)
    slices: tuple[Tensor, ...] = _Slices.apply(tensor, places)  # type: ignore[no-untyped-call]
    return slices


class _Slices(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, places: Sequence[tuple[slice, ...]]) -> tuple[Tensor, ...]:
        ctx.places, ctx.shape = places, tensor.shape
        ctx.set_materialize_grads(False)
        return tuple(tensor[place].clone() for place in places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        given = [(place, gradient) for place, gradient in zip(ctx.places, gradients) if gradient is not None]
        if not given:
            return None, None
        total = given[0][1].new_zeros(ctx.shape)
        for place, gradient in given:
            total[place] += gradient
        return total, None


def _affine(layer: nn.Module) -> nn.Linear:
    """A linear layer, or a pointwise convolution used as one."""
    return cast(nn.Linear, layer)


def _pointwise_convolution(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1)
