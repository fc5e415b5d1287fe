"""The operations of a cell as PyTorch modules (Knyazev et al., NeurIPS 2021, section 3 and appendix A).

`OPERATIONS` maps the name of a primitive to its constructor.  Every operation of a cell keeps the number of channels C
and divides the resolution by its stride: (B, C, H, W) -> (B, C, H / stride, W / stride).

Names of submodules are those of the original release, because nodes of graphs refer to them.  Positions in a sequence
include layers without parameters, such as the placeholder of a missing norm.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "OPERATIONS",
    "Absent",
    "ChannelAttention",
    "FactorizedReduce",
    "Norm",
    "SelfAttention",
    "Subsample",
    "convolution",
    "drop_path",
    "norm_layer",
    "shifted",
]

ATTENTION_HEADS = 8

Norm = Callable[[int], nn.Module]
"""Constructor of a norm for a number of channels."""

_conv = partial(nn.Conv2d, bias=False)


def norm_layer(norm: str | None) -> Norm:
    """Return the constructor of a norm.

    Parameters
    ----------
    norm
        One of `deepnets.architecture.NORMS`.  None: a placeholder without parameters.  "bnorm" and "bn": batch norm
        without running statistics, which always uses those of the batch.  "bn-track": batch norm with running
        statistics.

    Examples
    --------
    >>> norm_layer(None)(16)
    Identity()
    """
    if norm is None:
        return nn.Identity
    return partial(nn.BatchNorm2d, track_running_stats=norm == "bn-track")


class Absent(nn.Module):
    """The primitive `none`, which has no output.  That differs from an output of zeros.

    Examples
    --------
    >>> print(Absent()(torch.zeros(1)))
    None
    """

    def forward(self, x: Tensor) -> None:
        """Return None."""


class Subsample(nn.Module):
    """Select every second pixel in both dimensions: (B, C, H, W) -> (B, C, H / 2, W / 2).

    Examples
    --------
    >>> Subsample()(torch.zeros(1, 8, 4, 4)).shape
    torch.Size([1, 8, 2, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to x, (B, C, H, W)."""
        return x[:, :, ::2, ::2]


class ReluFirst(nn.Module):
    """A ReLU followed by layers, whose names are `op.1`, `op.2` and so on.

    Parameters
    ----------
    layers
        Modules.

    Examples
    --------
    >>> ReluFirst(nn.Identity())(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), *layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to x, (B, C, H, W)."""
        output: Tensor = self.op(x)
        return output


def convolution(inputs: int, outputs: int, kernel: int, stride: int, norm: Norm) -> nn.Module:
    """Make a ReLU, a convolution and a norm.

    Parameters
    ----------
    inputs, outputs
        Numbers of channels.
    kernel
        Kernel size, an odd number.
    stride
        Stride.
    norm
        Constructor of the norm.

    Examples
    --------
    >>> convolution(8, 16, 3, 2, norm_layer("bnorm"))(torch.zeros(1, 8, 32, 32)).shape
    torch.Size([1, 16, 16, 16])
    """
    return ReluFirst(_conv(inputs, outputs, kernel, stride, kernel // 2), norm(outputs))


def _two_sided_convolution(C: int, stride: int, norm: Norm) -> nn.Module:
    return ReluFirst(_conv(C, C, (1, 7), (1, stride), (0, 3)), _conv(C, C, (7, 1), (stride, 1), (3, 0)), norm(C))


def _separable_convolution(C: int, stride: int, norm: Norm, kernel: int) -> nn.Module:
    depthwise = partial(_conv, C, C, kernel, padding=kernel // 2, groups=C)
    return ReluFirst(
        *(depthwise(stride=stride), _conv(C, C, 1), norm(C)),
        *(nn.ReLU(), depthwise(), _conv(C, C, 1), norm(C)),
    )


def _dilated_convolution(C: int, stride: int, norm: Norm, kernel: int) -> nn.Module:
    return ReluFirst(
        _conv(C, C, kernel, stride, padding=kernel - 1, dilation=2, groups=C),
        _conv(C, C, 1),
        norm(C),
    )


def _skip(C: int, stride: int, norm: Norm) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(C, C, norm)


def shifted(x: Tensor) -> Tensor:
    """Move an image by one pixel, for a convolution with stride 2: (B, C, H, W) -> (B, C, H', W').

    Parameters
    ----------
    x
        (B, C, H, W).

    Returns
    -------
    Tensor
        x without its first row and column.  If H or W is odd, a row or column of zeros follows, so that stride 2
        selects as many pixels as from x.

    Examples
    --------
    >>> shifted(torch.zeros(1, 8, 32, 32)).shape, shifted(torch.zeros(1, 8, 7, 7)).shape
    (torch.Size([1, 8, 31, 31]), torch.Size([1, 8, 7, 7]))
    """
    rows, columns = x.shape[2] % 2, x.shape[3] % 2
    moved = x[:, :, 1:, 1:]
    return F.pad(moved, (0, columns, 0, rows)) if rows or columns else moved


class FactorizedReduce(nn.Module):
    """Halve the resolution with two strided 1x1 convolutions, of which the second is shifted by one pixel.

    Parameters
    ----------
    inputs, outputs
        Numbers of channels; `outputs` is even.
    norm
        Constructor of the norm.

    Examples
    --------
    >>> FactorizedReduce(8, 16, norm_layer("bnorm"))(torch.zeros(1, 8, 32, 32)).shape
    torch.Size([1, 16, 16, 16])
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.conv_1 = _conv(inputs, outputs // 2, 1, stride=2)
        self.conv_2 = _conv(inputs, outputs // 2, 1, stride=2)
        self.bn = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to x, (B, C, H, W)."""
        x = F.relu(x)
        halves = torch.cat([self.conv_1(x), self.conv_2(shifted(x))], dim=1)
        output: Tensor = self.bn(halves)
        return output


class ChannelAttention(nn.Module):
    """The primitive `cse`: squeeze-and-excitation with a Hardswish gate.

    Parameters
    ----------
    C
        Number of channels.
    stride
        Stride with which pixels of the result are selected.

    Examples
    --------
    >>> ChannelAttention(16, stride=2)(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 16, 4, 4])
    """

    def __init__(self, C: int, stride: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(C, C // 2)
        self.fc2 = nn.Linear(C // 2, C)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to x, (B, C, H, W)."""
        gate = F.hardswish(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3))))))  # (B, C)
        return (x * gate[:, :, None, None])[:, :, :: self.stride, :: self.stride]


class FeedForward(nn.Module):
    """The two linear layers of a transformer block: (B, T, C) -> (B, T, C).

    Parameters
    ----------
    C
        Number of channels.

    Examples
    --------
    >>> FeedForward(8)(torch.zeros(1, 4, 8)).shape
    torch.Size([1, 4, 8])
    """

    def __init__(self, C: int) -> None:
        super().__init__()
        dropout = nn.Identity()  # the original has dropout with probability 0 here; the next layer is `net.3`
        self.net = nn.Sequential(nn.Linear(C, C), nn.GELU(), dropout, nn.Linear(C, C))

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the layers to tokens, (B, T, C)."""
        output: Tensor = self.net(tokens)
        return output


class SelfAttention(nn.Module):
    """The primitive `msa`: a pre-norm transformer block with 8 heads, whose tokens are the pixels.

    Parameters
    ----------
    C
        Number of channels, a multiple of 8.

    Examples
    --------
    >>> SelfAttention(16)(torch.zeros(1, 16, 11, 11)).shape
    torch.Size([1, 16, 11, 11])
    """

    num_heads = ATTENTION_HEADS

    def __init__(self, C: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(C, 3 * C, bias=False)
        self.to_out = nn.Sequential(nn.Linear(C, C))
        self.ln1 = nn.LayerNorm(C)
        self.ln2 = nn.LayerNorm(C)
        self.ff = FeedForward(C)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to x, (B, C, H, W)."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, H * W, C)
        mixed: Tensor = tokens + self.to_out(_attend(self.to_qkv(self.ln1(tokens))))
        output: Tensor = mixed + self.ff(self.ln2(mixed))
        return output.transpose(1, 2).reshape(x.shape)


def _attend(qkv: Tensor) -> Tensor:
    q, k, v = (_split_heads(part) for part in qkv.chunk(3, dim=2))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, H * W, C)


def _split_heads(tokens: Tensor) -> Tensor:
    return tokens.reshape(*tokens.shape[:2], ATTENTION_HEADS, -1).transpose(1, 2)  # (B, 8, H * W, C / 8)


OPERATIONS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "none": lambda C, stride, norm: Absent(),
    "max_pool_3x3": lambda C, stride, norm: nn.MaxPool2d(3, stride, padding=1),
    "avg_pool_3x3": lambda C, stride, norm: nn.AvgPool2d(3, stride, padding=1, count_include_pad=False),
    "skip_connect": _skip,
    "sep_conv_3x3": partial(_separable_convolution, kernel=3),
    "sep_conv_5x5": partial(_separable_convolution, kernel=5),
    "dil_conv_3x3": partial(_dilated_convolution, kernel=3),
    "dil_conv_5x5": partial(_dilated_convolution, kernel=5),
    "conv_1x1": lambda C, stride, norm: convolution(C, C, 1, stride, norm),
    "conv_7x1_1x7": _two_sided_convolution,
    "conv_3x3": lambda C, stride, norm: convolution(C, C, 3, stride, norm),
    "conv_5x5": lambda C, stride, norm: convolution(C, C, 5, stride, norm),
    "conv_7x7": lambda C, stride, norm: convolution(C, C, 7, stride, norm),
    "msa": lambda C, stride, norm: SelfAttention(C),  # networks with attention have constant resolution
    "cse": lambda C, stride, norm: ChannelAttention(C, stride),
}
"""Constructors of the primitives by name: (channels, stride, norm) -> module."""


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Set random samples to zero and scale the others so that the expected value is unchanged.

    Parameters
    ----------
    x
        (B, C, H, W).
    probability
        Probability of a sample to be set to zero, at least 0 and below 1.

    Returns
    -------
    Tensor
        (B, C, H, W).

    Examples
    --------
    >>> drop_path(torch.ones(2, 1, 1, 1), probability=0.0).flatten()
    tensor([1., 1.])
    """
    keep = 1 - probability
    mask = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep)
    return x * (mask / keep)
