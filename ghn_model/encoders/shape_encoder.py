"""The shapes of a network's tensors as part of its nodes' embeddings (Knyazev et al., NeurIPS 2021, appendix B).

A shape counts as four numbers: channels out and in, height, width.  Each is looked up in a table with a row for every
size on a grid; sizes between go to the nearest.  Nodes without a tensor have a row of their own, each table's last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from deepnets.graph import Graph

__all__ = ["ShapeEncoder", "channel_grid", "four_axes", "shape_indices", "spatial_grid"]


@cache
def channel_grid(num_classes: int) -> tuple[int, ...]:
    """The numbers of channels with a row: coarser the larger, and with the classes, which move those behind them."""
    grid = {1, 3, num_classes, *range(8, 64, 8), *range(64, 4096, 16), *range(4096, 8193, 32)}
    return tuple(sorted(grid))


@cache
def spatial_grid(largest: int) -> tuple[int, ...]:
    """The heights and widths with a row: odd numbers, and the sides of positional encodings."""
    return tuple(sorted({*range(1, max(12, largest), 2), 14, 16}))


@cache
def _lookup(grid: tuple[int, ...], channels: bool) -> npt.NDArray[np.int64]:
    """For every size up to one beyond the largest on the grid, the row of the nearest, of two the smaller."""
    values, sizes = np.array(grid), np.arange(grid[-1] + 2)
    above = np.searchsorted(values, sizes).clip(max=len(grid) - 1)
    below = (above - 1).clip(min=0)
    rows = np.where(sizes - values[below] <= values[above] - sizes, below, above)
    if channels:
        rows[4:8] = grid.index(8)
    else:
        rows[2] = grid.index(3)
    largest = 8192 if channels else 16  # whatever else is on the grid
    rows[largest:] = grid.index(largest)
    rows[values] = np.arange(len(grid))
    return rows


def four_axes(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Channels out and in, height and width of a tensor of any rank."""
    rank = len(shape)
    if rank == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if rank <= 2:
        out, into = (*shape, 1, 1)[:2]
        return out, into, 1, 1
    if rank == 3:
        if shape[0] == 1 and shape[1] > 1 and shape[2] > 1:  # an encoding of n positions
            side = math.isqrt(shape[1])
            return 1, shape[2], side, side
        return shape[0], shape[1], shape[2], 1
    return shape[0], shape[1], shape[-2], shape[-1]


def shape_indices(graph: Graph, num_classes: int, largest: int) -> npt.NDArray[np.int64]:
    """Rows of the tables for the nodes of a graph.

    Parameters
    ----------
    graph
        The graph.
    num_classes, largest
        Classes of the hypernetwork, and side of the largest kernel it predicts.

    Returns
    -------
    `(N, 4) int64`: rows for channels out and in, height and width.
    """
    channels, spatial = channel_grid(num_classes), spatial_grid(largest)
    shapes = np.zeros((graph.num_nodes, 4), np.int64)
    known = np.zeros(graph.num_nodes, bool)
    for node, slots in enumerate(graph.parameters):
        if slots:
            shapes[node] = four_axes(slots[0].shape)
            known[node] = True
    pools = np.flatnonzero(graph.windows.any(axis=1) & ~known)
    shapes[pools, :2] = 1
    shapes[pools, 2:] = graph.windows[pools]
    known[pools] = True
    rows = np.empty_like(shapes)
    rows[:, :2] = _lookup(channels, True)[np.minimum(shapes[:, :2], channels[-1] + 1)]
    rows[:, 2:] = _lookup(spatial, False)[np.minimum(shapes[:, 2:], spatial[-1] + 1)]
    rows[~known] = (len(channels), len(channels), len(spatial), len(spatial))
    return rows


class ShapeEncoder(nn.Module):
    """Looks up the four numbers of a shape, each in `hidden / 4` dimensions.

    Parameters
    ----------
    hidden
        Width of the result.
    num_classes, largest
        As in `shape_indices`.
    """

    def __init__(self, hidden: int, num_classes: int, largest: int) -> None:
        super().__init__()
        self.embed_spatial = nn.Embedding(len(spatial_grid(largest)) + 1, hidden // 4)
        self.embed_channel = nn.Embedding(len(channel_grid(num_classes)) + 1, hidden // 4)

    def forward(self, rows: Tensor) -> Tensor:
        """`(N, hidden)` from the rows `(N, 4)` of `shape_indices`."""
        channels, spatial = self.embed_channel(rows[:, :2]), self.embed_spatial(rows[:, 2:])  # (N, 2, hidden / 4) each
        return torch.cat([channels, spatial], dim=1).flatten(1)
