"""The transformer of GHN-3: all nodes of a graph attend to each other, with a bias computed from shortest paths.

(Knyazev, Hwang and Lacoste-Julien, ICML 2023, section 3.)  The graphs of a batch are padded to the largest one.  The
padding is masked, so that the result for a graph does not depend on the other graphs of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from deepnets.graph import MAX_DISTANCE, Graph, GraphBatch
from ghn_model.prepared_batch import PreparedBatch

__all__ = ["Graphormer", "PaddedPart"]

MASKED = -32768.0  # attention bias of the padding
LARGEST_DEGREE = 100
LARGEST_DEPTH = 1000
MOST_PAIRS = 1 << 19
"""Largest number of pairs of nodes that are processed at once, which bounds the memory of attention.  A graph that
exceeds it is processed alone."""


class PaddedPart(NamedTuple):
    """Some graphs of a batch, padded to the largest one.

    Attributes
    ----------
    positions
        `(N,) int64`, position of each node among the `B * P` positions of the graphs.
    distances
        `(B, P, P) uint8`, shortest-path distance from a node (row) to a node (column); 0 if there is no path.
    padding
        `(B, P) bool`, True for padding; None if the graphs have equal sizes.
    """

    positions: Tensor
    distances: Tensor
    padding: Tensor | None

    @classmethod
    def from_matrices(cls, matrices: Sequence[Tensor]) -> PaddedPart:
        """Pad graphs, given the distances `(n, n)` of each."""
        sizes = [len(matrix) for matrix in matrices]
        largest = max(sizes)
        distances = torch.zeros(len(matrices), largest, largest, dtype=torch.uint8)
        for padded, matrix, size in zip(distances, matrices, sizes):
            padded[:size, :size] = matrix
        positions = torch.cat([torch.arange(size) + i * largest for i, size in enumerate(sizes)])
        padding = None if min(sizes) == largest else torch.arange(largest) >= torch.tensor(sizes)[:, None]
        return cls(positions, distances, padding)


class Graphormer(nn.ModuleList):
    """Pre-norm transformer layers; the first one embeds degrees, depths and shortest paths.

    Parameters
    ----------
    hidden, layers, heads
        As in `GHNConfig`.
    virtual_edges
        Largest shortest-path distance that affects attention.

    Examples
    --------
    >>> import torch
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> batch = GHN("ghn3-t").prepare(graph)
    >>> encoder = Graphormer(hidden=64, layers=1, heads=8, virtual_edges=50)
    >>> encoder(torch.zeros(graph.num_nodes, 64), batch).shape == (graph.num_nodes, 64)
    True
    """

    def __init__(self, hidden: int, layers: int, heads: int, virtual_edges: int) -> None:
        super().__init__(Layer(hidden, heads, first=number == 0) for number in range(layers))
        self.virtual_edges = virtual_edges

    def prepare(self, graphs: GraphBatch | Sequence[Graph]) -> list[PaddedPart]:
        """The graphs, padded in parts of limited size."""
        parts: list[list[Tensor]] = [[]]
        for matrix in GraphBatch.of(graphs, self.virtual_edges).distance_matrices():
            if parts[-1] and (len(parts[-1]) + 1) * max(map(len, (*parts[-1], matrix))) ** 2 > MOST_PAIRS:
                parts.append([])
            parts[-1].append(matrix)
        return [PaddedPart.from_matrices(part) for part in parts]

    def forward(self, x: Tensor, batch: PreparedBatch) -> Tensor:
        """`(N, hidden)` -> `(N, hidden)` for the N nodes of all graphs of the batch, which do not affect each other."""
        parts: Sequence[PaddedPart] | None = batch.encoder_inputs
        if parts is None:  # the batch was made without this encoder
            parts = tree_map_only(Tensor, lambda tensor: tensor.to(x.device), self.prepare(batch.graphs))
        sizes = [len(part.positions) for part in parts]
        return torch.cat([self._apply_layers(nodes, part) for nodes, part in zip(torch.split(x, sizes), parts)])

    def _apply_layers(self, x: Tensor, part: PaddedPart) -> Tensor:
        """Apply all layers to the nodes of some of the graphs."""
        size = part.distances.shape[:2]
        first: Layer = self[0]  # type: ignore[assignment]
        dense = x.new_zeros(size[0] * size[1], x.shape[1]).index_copy(0, part.positions, x)
        dense = dense.view(*size, -1) + first.centrality(part.distances)  # (B, P, hidden)
        bias = first.attn.path_bias(part.distances, self.virtual_edges)  # (B, heads, P, P)
        if part.padding is not None:
            bias = bias.masked_fill(part.padding[:, None, None], MASKED)
        for layer in self:
            dense = layer(dense, bias)
        return dense.flatten(0, 1).index_select(0, part.positions)


class Layer(nn.Module):
    """Attention and a feed-forward network, each with layer normalization before it and a residual connection."""

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

    def centrality(self, distances: Tensor) -> Tensor:
        """Embeddings `(B, N, hidden)` of the degrees and of the distance from the input, from distances `(B, N, N)`."""
        edges = distances == 1
        into, out_of = edges.sum(1).clamp(max=LARGEST_DEGREE), edges.sum(2).clamp(max=LARGEST_DEGREE)
        depth = distances[:, 0].long()
        embedding: Tensor = (
            self.centrality_embed_in(into) + self.centrality_embed_out(out_of) + self.input_dist_embed(depth)
        )
        return embedding


class Attention(nn.Module):
    """Multi-head attention.  The first layer also computes the bias from shortest paths that all layers share."""

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
        """Attention bias `(B, heads, N, N)` computed from the distances `(B, N, N)` in both directions.

        There is a path in at most one direction, so there are few different pairs of distances; the network that
        computes the bias is applied once to each of them.
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
    """A table of embeddings of path lengths: row 2 for no path, row 3 for one edge, and so on; two rows are unused."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(MAX_DISTANCE + 3, hidden)

    def forward(self, lengths: Tensor) -> Tensor:
        """Embeddings `(..., hidden)` of lengths `(...)`, where 0 means that there is no path."""
        rows: Tensor = self.embed(lengths + 2)
        return rows


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        dropout = nn.Identity()  # keeps the names of the official checkpoints; the dropout probability is 0
        self.net = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), dropout, nn.Linear(4 * hidden, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, hidden)` -> `(B, N, hidden)`."""
        output: Tensor = self.net(x)
        return output
