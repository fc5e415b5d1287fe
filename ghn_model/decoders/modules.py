"""The modules that turn the embedding of a node into values: maps for kernels and matrices, vectors for the rest.

(Knyazev et al., NeurIPS 2021, section 4.1; the `centre` window: ICML 2023.)  An element [o, i, y, x] of a kernel
depends only on its own rows of the decoder's weights, so only the requested elements are computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_model.encoders import MLP
from ghn_model.prepared_batch import Window

__all__ = ["ClassHead", "ConvDecoder", "MLPDecoder", "VectorDecoder"]


class ConvDecoder(nn.Module):
    """Decodes maps: a linear layer produces the positions, pointwise layers produce the channels.

    Parameters
    ----------
    hidden
        Width of the embeddings, h.
    max_shape
        Output channels, input channels, height and width of the whole map.
    num_classes
        Number of classes of the predicted classifiers.
    window
        "corner" or "centre", as in `GHNConfig`.  It also selects the layout of the weights in the official files:
        convolutions for "corner", linear layers for "centre".

    Examples
    --------
    >>> decoder = ConvDecoder(hidden=8, max_shape=(16, 16, 5, 5), num_classes=10, window="corner")
    >>> decoder(torch.zeros(2, 8), rows=16, columns=3, height=5, width=5).shape
    torch.Size([2, 16, 3, 5, 5])
    >>> decoder.class_weights(torch.zeros(2, 8)).shape
    torch.Size([2, 10, 16])
    """

    def __init__(self, hidden: int, max_shape: tuple[int, int, int, int], num_classes: int, window: str) -> None:
        super().__init__()
        out, into, height, width = max_shape
        self.max_shape = max_shape
        self.window = window
        pointwise = _pointwise_convolution if window == "corner" else nn.Linear
        self.fc: nn.Sequential = nn.Sequential(nn.Linear(hidden, 4 * hidden * height * width))
        self.conv = nn.Sequential(pointwise(4 * hidden, 8 * hidden), nn.ReLU(), pointwise(8 * hidden, out * into))
        self.class_layer_predictor = nn.Sequential(nn.ReLU(), pointwise(out, num_classes))

    def forward(self, x: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
        """Decode a window of the maps of several nodes.

        Parameters
        ----------
        x
            `(n, hidden)`, embeddings of the nodes.
        rows, columns, height, width
            Output channels, input channels, height and width of the window, at most those of `max_shape`.

        Returns
        -------
        `(n, rows, columns, height, width)`, with the channels last in memory.
        """
        return next(self.decode_windows([x], [(rows, columns, height, width)]))

    def decode_windows(self, inputs: Sequence[Tensor], windows: Sequence[Window]) -> Iterator[Tensor]:
        """Decode several windows, each for its own nodes; equivalent to calls of `forward`.

        In the backward pass, the gradients of the slices of a weight are added into one tensor for all windows, instead
        of one tensor of full size for each.

        Parameters
        ----------
        inputs
            For every window `(n, hidden)`, embeddings of nodes.
        windows
            Output channels, input channels, height and width of every window.

        Yields
        ------
        What `forward` returns, for one window after the other.
        """
        out, into, *sides = self.max_shape
        spread, first, last = (_as_linear(layer) for layer in (self.fc[0], self.conv[0], self.conv[2]))
        positions = [(slice(None), *map(self._window, window[2:], sides)) for window in windows]
        channels = [(slice(rows), slice(columns)) for rows, columns, _, _ in windows]
        pieces = zip(
            inputs,
            windows,
            sliced(spread.weight.view(-1, *sides, spread.weight.shape[1]), positions),
            sliced(spread.bias.view(-1, *sides), positions),
            sliced(last.weight.view(out, into, -1), channels),
            sliced(last.bias.view(out, into), channels),
        )
        w1, b1 = first.weight.flatten(1), first.bias
        for x, (rows, columns, height, width), w0, b0, w2, b2 in pieces:
            # With the channels last, each layer is one matrix product for all nodes and all P positions.
            u = F.linear(x, w0.permute(1, 2, 0, 3).flatten(0, 2), b0.permute(1, 2, 0).flatten()).relu()
            u = F.linear(u.view(-1, w1.shape[1]), w1, b1).relu()  # (n * P, 8h)
            maps = F.linear(u, w2.flatten(0, 1), b2.flatten()).view(len(x), height, width, rows, columns)
            yield maps.permute(0, 3, 4, 1, 2)

    def class_weights(self, x: Tensor) -> Tensor:
        """Decode the weights of classifiers `(n, num_classes, input channels)` from embeddings `(n, hidden)`."""
        out, into, _, _ = self.max_shape
        head = _as_linear(self.class_layer_predictor[1])
        maps = self(x, out, into, 1, 1).flatten(2).relu()  # (n, out, into)
        return torch.matmul(head.weight.flatten(1), maps) + head.bias[:, None]

    def output_layers(self) -> tuple[nn.Module, ...]:
        """The last layers, which `GHN` initializes with small weights."""
        return self.conv[2], self.class_layer_predictor[1]

    def _window(self, size: int, side: int) -> slice:
        """The rows or columns that a kernel of this size takes of a map of this side."""
        start = side // 2 - size // 2 if self.window == "centre" else 0
        return slice(start, start + size)


class MLPDecoder(nn.Module):
    """The ablation of `ConvDecoder`: two linear layers produce the whole map.

    Parameters
    ----------
    hidden, max_shape, num_classes
        As in `ConvDecoder`; the window is "corner".

    Examples
    --------
    >>> decoder = MLPDecoder(hidden=8, max_shape=(16, 16, 5, 5), num_classes=10)
    >>> decoder(torch.zeros(2, 8), rows=16, columns=3, height=5, width=5).shape
    torch.Size([2, 16, 3, 5, 5])
    """

    def __init__(self, hidden: int, max_shape: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.max_shape = max_shape
        self.mlp = MLP(hidden, 2 * hidden, math.prod(max_shape), last_relu=False)
        self.class_layer_predictor = nn.Sequential(nn.ReLU(), nn.Linear(2 * hidden, num_classes * max_shape[1]))

    def forward(self, x: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
        """Decode a window of the maps of several nodes, as `ConvDecoder.forward`."""
        return next(self.decode_windows([x], [(rows, columns, height, width)]))

    def decode_windows(self, inputs: Sequence[Tensor], windows: Sequence[Window]) -> Iterator[Tensor]:
        """Decode several windows, as `ConvDecoder.decode_windows`."""
        last = _as_linear(self.mlp.fc[2])
        places = [tuple(slice(size) for size in window) for window in windows]
        weights = sliced(last.weight.view(*self.max_shape, -1), places)
        biases = sliced(last.bias.view(self.max_shape), places)
        for x, window, weight, bias in zip(inputs, windows, weights, biases):
            hidden = self.mlp.fc[0](x).relu()
            yield F.linear(hidden, weight.flatten(0, 3), bias.flatten()).view(len(x), *window)

    def class_weights(self, x: Tensor) -> Tensor:
        """Decode the weights of classifiers `(n, num_classes, input channels)` from embeddings `(n, hidden)`."""
        weights: Tensor = self.class_layer_predictor(self.mlp.fc[0](x))
        return weights.view(len(x), -1, self.max_shape[1])

    def output_layers(self) -> tuple[nn.Module, ...]:
        """The last layers, which `GHN` initializes with small weights."""
        return self.mlp.fc[2], self.class_layer_predictor[1]


class VectorDecoder(MLP):
    """Decodes two vectors of a node: the weight of a normalization layer and a bias.

    Parameters
    ----------
    hidden
        Width of the embeddings.
    channels
        Length of the vectors.

    Examples
    --------
    >>> VectorDecoder(hidden=8, channels=16)(torch.zeros(5, 8), row=1).shape
    torch.Size([5, 16])
    """

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__(hidden, 2 * hidden, 2 * channels, last_relu=False)
        self.channels = channels

    def forward(self, x: Tensor, row: int) -> Tensor:  # type: ignore[override]
        """`(n, hidden)` -> `(n, channels)`: the weight of a normalization layer (row 0) or a bias (row 1)."""
        first, _, last = self.fc
        part = slice(row * self.channels, (row + 1) * self.channels)
        return F.linear(first(x).relu(), last.weight[part], last.bias[part])  # type: ignore[index]


class ClassHead(nn.Sequential):
    """Turns a decoded bias into the bias of a classifier: `(n, channels)` -> `(n, num_classes)`.

    Parameters
    ----------
    channels, num_classes
        Length of the decoded bias and number of classes.

    Examples
    --------
    >>> ClassHead(channels=16, num_classes=10)(torch.zeros(5, 16)).shape
    torch.Size([5, 10])
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(nn.ReLU(), nn.Linear(channels, num_classes))


def sliced(tensor: Tensor, places: Sequence[tuple[slice, ...]]) -> Iterable[Tensor]:
    """Return slices of a tensor whose gradients are added into one tensor.

    Autograd would allocate a tensor of full size for the gradient of every slice, and add all of them.
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


def _as_linear(layer: nn.Module) -> nn.Linear:
    """A linear layer, or a pointwise convolution that is used as one."""
    return cast(nn.Linear, layer)


def _pointwise_convolution(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1)
