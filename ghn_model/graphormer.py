"""The transformer of GHN-3: all nodes of a graph attend to each other, biased by the paths between them.

(Knyazev, Hwang and Lacoste-Julien, ICML 2023, section 3.)  Graphs of a batch are padded to the largest, and every node
is read from its own graph, so that the result does not depend on what else is in the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets.batch import GraphBatch, PaddedGraphs
from deepnets.graph import MAX_DISTANCE

__all__ = ["Graphormer"]

MASKED = -32768.0  # the logit of pairs with a node of the padding
LARGEST_DEGREE = 100
LARGEST_DEPTH = 1000


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

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """`(N, hidden)` -> `(N, hidden)` for the nodes of all graphs of a batch."""
        padded = batch.padded()
        distances = padded.distances * (padded.distances <= self.virtual_edges)
        first: Layer = self[0]  # type: ignore[assignment]
        dense = x.new_zeros(*padded.mask.shape, x.shape[1])  # (B, N, hidden)
        dense[padded.mask] = x + first.place(distances)[padded.mask]
        bias = first.attn.path_bias(distances, self.virtual_edges) + _padding_bias(padded, x)  # (B, heads, N, N)
        for layer in self:
            dense = layer(dense, bias)
        result: Tensor = dense[padded.mask]
        return result


def _padding_bias(padded: PaddedGraphs, x: Tensor) -> Tensor:
    pairs = padded.mask[:, :, None] & padded.mask[:, None, :]
    return torch.where(pairs, 0.0, MASKED).to(x.dtype)[:, None]


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
