"""From the embedding of a node to a block of values: maps for kernels and matrices, vectors for norms and biases.

(Knyazev et al., NeurIPS 2021, section 4.1; the `centre` window: ICML 2023.)  A kernel's element [o, i, y, x] depends on
its own rows of the decoder's weights only, so that no more is computed than is wanted.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from ghn_model.gated_gnn import MLP

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
        `(n, rows, columns, height, width)`.
        """
        out, into, side, _ = self.max_shape
        spread, first, last = (_affine(layer) for layer in (self.fc[0], self.conv[0], self.conv[2]))
        positions = self._positions(height, width)  # (height * width,)
        weight = spread.weight.view(-1, side * side, x.shape[1])[:, positions]  # (4h, P, h)
        bias = spread.bias.view(-1, side * side)[:, positions]  # (4h, P)
        u = torch.addmm(bias.flatten(), x, weight.flatten(0, 1).t()).relu().view(len(x), *bias.shape)  # (n, 4h, P)
        w1, w2 = first.weight.flatten(1), last.weight.flatten(1)  # (8h, 4h), (out * into, 8h)
        b2: Tensor = last.bias
        if rows < out or columns < into:
            w2 = w2.view(out, into, -1)[:rows, :columns].flatten(0, 1)
            b2 = b2.view(out, into)[:rows, :columns].flatten()
        if len(positions) == 1:
            hidden = torch.addmm(first.bias, u[:, :, 0], w1.t()).relu()  # (n, 8h)
            maps = torch.addmm(b2, hidden, w2.t())
        else:
            hidden = torch.matmul(w1, u).add_(first.bias[:, None]).relu_()  # (n, 8h, P)
            maps = torch.baddbmm(b2[:, None], w2.expand(len(x), *w2.shape), hidden)  # (n, rows * columns, P)
        return maps.view(len(x), rows, columns, height, width)

    def classes(self, maps: Tensor) -> Tensor:
        """Weights of classifiers `(n, num_classes, columns)` from maps `(n, out, columns, 1, 1)` with all rows."""
        head = _affine(self.class_layer_predictor[1])
        return torch.matmul(head.weight.flatten(1), maps.flatten(2).relu()) + head.bias[:, None]

    def _positions(self, height: int, width: int) -> Tensor:
        """Which of the S * S positions a kernel of this size takes."""
        side = self.max_shape[2]
        tops = [side // 2 - size // 2 if self.window == "centre" else 0 for size in (height, width)]
        rows, columns = (
            torch.arange(top, top + size, device=_affine(self.fc[0]).weight.device)
            for top, size in zip(tops, (height, width))
        )
        return (rows[:, None] * side + columns).flatten()


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
        last = _affine(self.mlp.fc[2])
        part = (slice(rows), slice(columns), slice(height), slice(width))
        weight = last.weight.view(*self.max_shape, -1)[part].flatten(0, 3)  # (rows * columns * height * width, 2h)
        bias = last.bias.view(self.max_shape)[part].flatten()
        hidden = self.mlp.fc[0](x).relu()
        return torch.addmm(bias, hidden, weight.t()).view(len(x), rows, columns, height, width)

    def classes_of(self, x: Tensor) -> Tensor:
        """Weights of classifiers `(n, num_classes, out)` from embeddings `(n, hidden)`."""
        weights: Tensor = self.class_layer_predictor(self.mlp.fc[0](x))
        return weights.view(len(x), -1, self.max_shape[0])


class VectorDecoder(MLP):
    """Decodes two vectors of a node: the weight of a norm, and a bias."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__(hidden, 2 * hidden, 2 * channels, last_relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, hidden)` -> `(n, 2, channels)`."""
        return super().forward(x).view(len(x), 2, -1)


class ClassHead(nn.Sequential):
    """The bias of a classifier from a decoded bias: `(n, channels)` -> `(n, num_classes)`."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(nn.ReLU(), nn.Linear(channels, num_classes))


def _affine(layer: nn.Module) -> nn.Linear:
    """A linear layer, or a pointwise convolution used as one."""
    return cast(nn.Linear, layer)


def _pointwise_convolution(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1)
