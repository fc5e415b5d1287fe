"""Embeddings of parameter shapes, a part of the node embeddings (Knyazev et al., NeurIPS 2021, appendix B).

A shape is represented by four sizes: output channels, input channels, height and width.  Each size is looked up in a
table with a row for every size of a grid; other sizes use the row of the nearest one.  The last row of each table is
for nodes without a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from deepnets.graph import Graph, ParameterSlot

__all__ = [
    "ShapeEncoder",
    "axes_of",
    "channel_grid",
    "channel_rows",
    "four_axes",
    "is_positional",
    "shape_indices",
    "spatial_grid",
]


@cache
def channel_grid(num_classes: int, further: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The numbers of channels that have a row, including `num_classes` and the `further` ones (above 8192).

    The grid is coarser for larger numbers.
    """
    grid = {1, 3, num_classes, *range(8, 64, 8), *range(64, 4096, 16), *range(4096, 8193, 32), *further}
    return tuple(sorted(grid))


@cache
def spatial_grid(largest: int) -> tuple[int, ...]:
    """The heights and widths that have a row: odd numbers, and the sizes of positional encodings."""
    return tuple(sorted({*range(1, max(12, largest), 2), 14, 16}))


def _nearest(
    sizes: npt.NDArray[np.int64], grid: tuple[int, ...], channels: bool, largest: int
) -> npt.NDArray[np.int64]:
    """Rows of the nearest sizes of the grid; ties go to the smaller one.

    Sizes above `largest` that are not in the grid have its row, also if the number of classes is larger.
    """
    values = np.array(grid)
    above = np.searchsorted(values, sizes).clip(max=len(grid) - 1)
    below = (above - 1).clip(min=0)
    rows = np.where(sizes - values[below] <= values[above] - sizes, below, above)
    if channels:
        rows[(sizes >= 4) & (sizes < 8)] = grid.index(8)
    else:
        rows[sizes == 2] = grid.index(3)
    rows[sizes >= largest] = grid.index(largest)
    return np.where(values[above] == sizes, above, rows)


def four_axes(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Output channels, input channels, height and width of a tensor of any rank.

    Examples
    --------
    >>> four_axes((64, 3, 7, 7)), four_axes((10, 64)), four_axes((64,))
    ((64, 3, 7, 7), (10, 64, 1, 1), (64, 1, 1, 1))
    >>> four_axes((1, 196, 384))  # the encoding of 14 x 14 positions
    (1, 384, 14, 14)
    """
    rank = len(shape)
    if rank == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if rank <= 2:
        out, into = (*shape, 1, 1)[:2]
        return out, into, 1, 1
    if rank == 3:
        if shape[0] == 1 and shape[1] > 1 and shape[2] > 1:  # a positional encoding
            side = math.isqrt(shape[1])
            return 1, shape[2], side, side
        return shape[0], shape[1], shape[2], 1
    return shape[0], shape[1], shape[-2], shape[-1]


def is_positional(slot: ParameterSlot) -> bool:
    """Whether a parameter is a positional encoding `(1, positions, channels)`, and not a kernel of this shape.

    Examples
    --------
    >>> is_positional(ParameterSlot("pos", (1, 196, 384), "pos_enc"))
    True
    >>> is_positional(ParameterSlot("conv.weight", (1, 16, 3), "weight"))  # of a torch.nn.Conv1d(16, 1, 3)
    False
    """
    shape = slot.shape
    return len(shape) == 3 and shape[0] == 1 and min(shape[1:]) > 1 and slot.role not in ("weight", "class_weight")


def axes_of(slot: ParameterSlot) -> tuple[int, int, int, int]:
    """Output channels, input channels, height and width of a parameter.

    Examples
    --------
    >>> axes_of(ParameterSlot("conv.weight", (1, 16, 3), "weight"))
    (1, 16, 3, 1)
    """
    if len(slot.shape) == 3 and not is_positional(slot):
        return slot.shape[0], slot.shape[1], slot.shape[2], 1
    return four_axes(slot.shape)


def channel_rows(
    sizes: Sequence[int] | npt.NDArray[np.int64], num_classes: int, channel_sizes: tuple[int, ...] = ()
) -> npt.NDArray[np.int64]:
    """Table rows of numbers of channels, for a number of classes and `GHNConfig.channel_sizes`.

    Examples
    --------
    >>> channel_rows([1, 10, 16], num_classes=10).tolist(), channel_rows([1, 10, 16], num_classes=100).tolist()
    ([0, 3, 4], [0, 2, 3])
    """
    grid = channel_grid(num_classes, channel_sizes)
    return _nearest(np.asarray(sizes), grid, True, max((8192, *channel_sizes)))


def shape_indices(
    graph: Graph,
    num_classes: int,
    largest: int,
    channel_sizes: tuple[int, ...] = (),
    most_channels: tuple[int, int] | None = None,
) -> npt.NDArray[np.int64]:
    """Table rows of the parameter shapes of all nodes of a graph, as `ShapeEncoder` reads them.

    Parameters
    ----------
    graph
        The graph, N nodes.
    num_classes
        Number of classes of the hypernetwork.
    largest
        Height and width of the largest kernel that the hypernetwork decodes.
    channel_sizes
        As in `GHNConfig`.
    most_channels
        Numbers of output and input channels that stand for all larger ones, except for those of classes.  None, the
        default, for no limit.

    Returns
    -------
    `(N, 4) int64`: rows of output channels, input channels, height and width.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> shape_indices(graph, num_classes=10, largest=11).shape == (graph.num_nodes, 4)
    True
    """
    channels, spatial = channel_grid(num_classes, channel_sizes), spatial_grid(largest)
    shapes = np.zeros((graph.num_nodes, 4), np.int64)
    known = np.zeros(graph.num_nodes, bool)
    for node, slots in enumerate(graph.parameters):
        if slots:
            out, into, height, width = axes_of(slots[0])
            if most_channels is not None:
                out = out if slots[0].role.startswith("class_") else min(out, most_channels[0])
                into = min(into, most_channels[1])
            shapes[node] = out, into, height, width
            known[node] = True
    pools = np.flatnonzero(graph.windows.any(axis=1) & ~known)
    shapes[pools, :2] = 1
    shapes[pools, 2:] = graph.windows[pools]
    known[pools] = True
    rows = np.empty_like(shapes)
    rows[:, :2] = channel_rows(shapes[:, :2], num_classes, channel_sizes)
    rows[:, 2:] = _nearest(shapes[:, 2:], spatial, False, 16)
    rows[~known] = (len(channels), len(channels), len(spatial), len(spatial))
    return rows


class ShapeEncoder(nn.Module):
    """Embeds the four sizes of a shape, each in `hidden / 4` dimensions.

    Parameters
    ----------
    hidden
        Width of the result; a multiple of 4.
    num_classes, largest, channel_sizes
        As in `shape_indices`.

    Examples
    --------
    >>> import torch
    >>> ShapeEncoder(hidden=32, num_classes=10, largest=11)(torch.zeros(5, 4, dtype=torch.int64)).shape
    torch.Size([5, 32])
    """

    def __init__(self, hidden: int, num_classes: int, largest: int, channel_sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.embed_spatial = nn.Embedding(len(spatial_grid(largest)) + 1, hidden // 4)
        self.embed_channel = nn.Embedding(len(channel_grid(num_classes, channel_sizes)) + 1, hidden // 4)

    def forward(self, rows: Tensor) -> Tensor:
        """Embed the rows `(N, 4) int64` of `shape_indices` -> `(N, hidden)`."""
        channels, spatial = self.embed_channel(rows[:, :2]), self.embed_spatial(rows[:, 2:])  # (N, 2, hidden / 4) each
        return torch.cat([channels, spatial], dim=1).flatten(1)
