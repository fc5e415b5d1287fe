"""The transformer of GHN-3: all nodes of a graph attend to each other, biased by the paths between them.

(Knyazev, Hwang and Lacoste-Julien, ICML 2023, section 3.)  Graphs of a batch are padded to the largest, and every node
is read from its own graph, so that the result does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets.graph import MAX_DISTANCE, Graph

__all__ = ["Graphormer", "Padded"]

MASKED = -32768.0  # what a node of the padding adds to attention
LARGEST_DEGREE = 100
LARGEST_DEPTH = 1000
MOST_PAIRS = 1 << 19
"""Pairs of nodes that are looked at together, which bounds the memory that attention takes; a larger graph is alone."""


class Padded(NamedTuple):
    """Some graphs side by side, padded to the largest.

    Attributes
    ----------
    places
        `(N,) int64`, place of each node among the `B * P` of all graphs.
    distances
        `(B, P, P) uint8`, row = source, 0 where there is no path.
    padding
        `(B, P) bool`; None, if there is none.
    """

    places: Tensor
    distances: Tensor
    padding: Tensor | None

    @classmethod
    def of(cls, graphs: Sequence[Graph], virtual_edges: int) -> Padded:
        """Some graphs; paths longer than `virtual_edges` are left out."""
        sizes = [graph.num_nodes for graph in graphs]
        largest = max(sizes)
        distances = np.zeros((len(graphs), largest, largest), np.uint8)
        for padded, graph, size in zip(distances, graphs, sizes):
            padded[:size, :size] = graph.distances(virtual_edges)
        places = np.concatenate([np.arange(size) + i * largest for i, size in enumerate(sizes)])
        padding = None if min(sizes) == largest else torch.arange(largest) >= torch.tensor(sizes)[:, None]
        return cls(torch.from_numpy(places), torch.from_numpy(distances), padding)

    def to(self, device: torch.device, non_blocking: bool = False) -> Padded:
        """The same on a device."""
        padding = None if self.padding is None else self.padding.to(device, non_blocking=non_blocking)
        places, distances = (tensor.to(device, non_blocking=non_blocking) for tensor in self[:2])
        return Padded(places, distances, padding)


class Graphormer(nn.ModuleList):
    """Transformer layers, pre-norm; the first one embeds degrees, depths and paths.

    Parameters
    ----------
    hidden, layers, heads
        As in `GHNConfig`.
    virtual_edges
        Longest path that attention knows of.
    """

    def __init__(self, hidden: int, layers: int, heads: int, virtual_edges: int) -> None:
        super().__init__(Layer(hidden, heads, first=number == 0) for number in range(layers))
        self.virtual_edges = virtual_edges

    def schedule(self, graphs: Sequence[Graph]) -> list[Padded]:
        """What `forward` needs to know about the graphs; made before, it can be made elsewhere."""
        parts: list[list[Graph]] = [[]]
        for graph in graphs:
            if parts[-1] and (len(parts[-1]) + 1) * max(g.num_nodes for g in (*parts[-1], graph)) ** 2 > MOST_PAIRS:
                parts.append([])
            parts[-1].append(graph)
        return [Padded.of(part, self.virtual_edges) for part in parts]

    def forward(self, x: Tensor, graphs: Sequence[Graph], schedule: Sequence[Padded] | None = None) -> Tensor:
        """`(N, hidden)` -> `(N, hidden)` for the nodes of several graphs.

        `schedule` is that of the graphs, with its tensors on the device of `x`.
        """
        if schedule is None:
            schedule = [part.to(x.device) for part in self.schedule(graphs)]
        sizes = [len(part.places) for part in schedule]
        return torch.cat([self._attended(nodes, part) for nodes, part in zip(torch.split(x, sizes), schedule)])

    def _attended(self, x: Tensor, part: Padded) -> Tensor:
        """All layers, for the nodes of some of the graphs."""
        size = part.distances.shape[:2]
        first: Layer = self[0]  # type: ignore[assignment]
        dense = (
            x.new_zeros(size[0] * size[1], x.shape[1]).index_copy(0, part.places, x).view(*size, -1)
        )  # (B, P, hidden)
        dense = dense + first.place(part.distances)
        bias = first.attn.path_bias(part.distances, self.virtual_edges)  # (B, heads, P, P)
        if part.padding is not None:
            bias = bias.masked_fill(part.padding[:, None, None], MASKED)
        for layer in self:
            dense = layer(dense, bias)
        return dense.flatten(0, 1).index_select(0, part.places)


class Layer(nn.Module):
    """Attention and a feed-forward network, each behind a layer norm and beside a residual connection."""

    def __init__(self, hidden: int, heads: int, first: bool) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(hidden)
        self.attn = Attention(hidden, heads, first)
        self.ln2 = nn.LayerNorm(hidden)
        self.ff = FeedForward(hidden)
        if first:
            self.centrality_embed_in = nn.Embedding(LARGEST_DEGREE + 1, hidden)
            self.centrality_embed_out = nn.Embedding(LARGEST_DEGREE + 1, hidden)
            self.input_dist_embed = nn.Embedding(LARGEST_DEPTH + 1, hidden)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """`(B, N, hidden)` -> `(B, N, hidden)`; `bias` is `(B, heads, N, N)`."""
        x = x + self.attn(self.ln1(x), bias)
        output: Tensor = x + self.ff(self.ln2(x))
        return output

    def place(self, distances: Tensor) -> Tensor:
        """`(B, N, hidden)` from the paths `(B, N, N)`: numbers of neighbours, and distance from the input."""
        edges = distances == 1
        into, out_of = edges.sum(1).clamp(max=LARGEST_DEGREE), edges.sum(2).clamp(max=LARGEST_DEGREE)
        depth = distances[:, 0].long()
        placed: Tensor = (
            self.centrality_embed_in(into) + self.centrality_embed_out(out_of) + self.input_dist_embed(depth)
        )
        return placed


class Attention(nn.Module):
    """Multi-head attention; in the first layer with the embedding of paths, whose bias all layers share."""

    def __init__(self, hidden: int, heads: int, first: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.to_out = nn.Sequential(nn.Linear(hidden, hidden))
        if first:
            self.edge_embed = EdgeEmbedding(hidden)
            self.proj_e = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, heads))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """`(B, N, hidden)` -> `(B, N, hidden)`."""
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(x).chunk(3, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # (B, heads, N, hidden / heads)
        output: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return output

    def path_bias(self, distances: Tensor, largest: int) -> Tensor:
        """`(B, heads, N, N)`, what the paths from and to a node add to attention.

        There is a path in one direction at most, so there are few different pairs (there, back) of lengths; the network
        that makes the bias is run once for each of them.
        """
        lengths = torch.arange(largest + 1, device=distances.device)
        there = torch.cat([lengths, torch.zeros_like(lengths[1:])])
        back = torch.cat([torch.zeros_like(lengths), lengths[1:]])
        pairs = torch.cat([self.edge_embed(there), self.edge_embed(back)], dim=1)  # (2 * largest + 1, 2 * hidden)
        table = self.proj_e(pairs)  # (2 * largest + 1, heads)
        reverse = distances.transpose(1, 2).long()
        index = distances.long() + reverse + largest * (reverse > 0)
        bias: Tensor = table.t()[:, index].transpose(0, 1)
        return bias


class EdgeEmbedding(nn.Module):
    """A row for every length of a path: 2 for none, then one edge, two, and so on; the first two are unused."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(MAX_DISTANCE + 3, hidden)

    def forward(self, lengths: Tensor) -> Tensor:
        """`(..., hidden)` for lengths `(...)`, 0 for no path."""
        rows: Tensor = self.embed(lengths + 2)
        return rows


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        dropout = nn.Identity()  # its probability is 0; the place is kept for the name `net.3`
        self.net = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), dropout, nn.Linear(4 * hidden, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, hidden)` -> `(B, N, hidden)`."""
        output: Tensor = self.net(x)
        return output
