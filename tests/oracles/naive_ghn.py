"""The hypernetworks as functions of their state dict, written from the published formulas, node by node.

It has no modules, uses only the node types, 1-hop edges, parameters and windows of a graph, and shares no code with
the hypernetworks that it checks.  It is slow, works in the dtype of the state dict and is differentiable.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.oracles.naive_ghn_tables import (
    Shape,
    channel_grid,
    channel_value,
    four_axes,
    list_shapes,
    random_state_dict,
    spatial_grid,
    spatial_value,
)

__all__ = ["list_shapes", "naive_embeddings", "naive_predict", "random_state_dict"]

State = dict[str, Tensor]

TYPES = [
    *("max_pool", "avg_pool", "sep_conv", "dil_conv", "conv", "msa", "cse", "sum"),
    *("concat", "input", "bias", "bn", "ln", "pos_enc", "glob_avg"),
    *("scale", "token", "gn", "rms", "rel_pos", "embed", "rnn", "mul", "matmul", "const", "other", "rot"),
]
READ_AS = {
    **{name: name for name in TYPES[:15]},
    **dict.fromkeys(("token", "rel_pos", "embed", "rot"), "pos_enc"),
    **dict.fromkeys(("gn", "rms", "scale"), "ln"),
    **dict.fromkeys(("rnn", "other"), "conv"),
    "mul": "cse",
    "matmul": "msa",
    "const": "input",
}


def naive_predict(
    state_dict: State, *, graphs: Iterable[Any], predict_class_layers: bool = True, **options: Any
) -> list[State]:
    """Return the parameters of each graph: a dict from the name of every slot to a tensor of its shape.

    Parameters
    ----------
    state_dict
        Names and shapes as in the spec's tables 1.1 and 8.1 (`list_shapes`).
    graphs
        `deepnets.Graph`, or anything with `node_types`, `edges` and `parameters`, and perhaps `windows`.
    predict_class_layers
        If False, slots of the roles class_weight and class_bias are not predicted; they are still encoded.
    options
        hypernet (gatedgnn, mlp, graphormer), window (corner, centre), virtual_edges, layernorm, weight_norm,
        decoder (conv, mlp), heads, num_classes, max_shape.
    """
    ghn = _Naive(state_dict, **options)
    return [ghn.parameters(graph, predict_class_layers) for graph in graphs]


def naive_embeddings(
    state_dict: State, *, graphs: Iterable[Any], predict_class_layers: bool = True, **options: Any
) -> list[Tensor]:
    """`(N, h)` for each graph: the nodes after propagation and the layer norm.  Arguments as for `naive_predict`."""
    ghn = _Naive(state_dict, **options)
    return [ghn.embeddings(graph) for graph in graphs]


# ----- graphs -----


def read_type(index: int) -> int:
    """Return the row in the table of 15 types for an index into all types."""
    return TYPES.index(READ_AS[TYPES[index]])


def shape_of_node(graph: Any, v: int) -> Shape | None:
    """Return the shape of node v that is encoded; None for the dummy row."""
    slots = graph.parameters[v]
    if slots:
        return four_axes(tuple(slots[0].shape))
    windows = getattr(graph, "windows", None)
    if windows is None:
        return (1, 1, 3, 3) if graph.node_types[v] in (0, 1) else None
    height, width = (int(k) for k in windows[v])
    return (1, 1, height, width) if height > 0 and width > 0 else None


def shortest_paths(graph: Any, cutoff: int) -> list[list[int]]:
    """Return A[u][v], the length of the shortest path from u to v; 0 if u = v, or if no path is short enough."""
    N = len(graph.node_types)
    successors: list[set[int]] = [set() for _ in range(N)]
    for u, v in graph.edges.tolist():
        successors[u].add(v)
    A = [[0] * N for _ in range(N)]
    for start in range(N):
        seen = {start: 0}
        queue = deque([start])
        while queue:
            u = queue.popleft()
            for v in successors[u]:
                if v not in seen:
                    seen[v] = seen[u] + 1
                    queue.append(v)
        for v, distance in seen.items():
            A[start][v] = distance if distance <= cutoff else 0
    return A


# ----- small pieces -----


def gru(m: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """Return the new state of a GRU cell."""
    r_in, z_in, n_in = (w_ih @ m + b_ih).chunk(3)
    r_hid, z_hid, n_hid = (w_hh @ h + b_hh).chunk(3)
    r = torch.sigmoid(r_in + r_hid)
    z = torch.sigmoid(z_in + z_hid)
    n = torch.tanh(n_in + r * n_hid)
    return n + z * (h - n)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / torch.sqrt((centred * centred).mean() + 1e-5) * weight + bias


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def tiled(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x[i mod s_0, j mod s_1, ...] with s = min(shape, what x has), for all i, j, ... below `shape`."""
    for axis, size in enumerate(shape):
        s = min(size, x.shape[axis])
        x = x.index_select(axis, torch.tensor([i % s for i in range(size)], dtype=torch.long))
    return x


def window_start(k: int, S: int, window: str) -> int:
    return 0 if window == "corner" else S // 2 - k // 2


def interpolation_row(y: int, size: int, S: int) -> list[tuple[int, float]]:
    """Return the indices of the S values, and their weights, for value y of `size`: linear, corners not aligned."""
    position = max((y + 0.5) * S / size - 0.5, 0.0)
    lower = min(math.floor(position), S - 1)
    upper = min(lower + 1, S - 1)
    return [(lower, 1 - (position - lower)), (upper, position - lower)]


def sources_of(y: int, size: int, S: int, window: str) -> list[tuple[int, float]]:
    """Return the rows of the map of S rows, and their weights, for row y of a kernel of `size` rows."""
    if size <= S:
        return [(window_start(size, S, window) + y, 1.0)]
    return [(y % S, 1.0)] if window == "corner" else interpolation_row(y, size, S)


# ----- the hypernetwork -----


@dataclass
class _Naive:
    state: State
    hypernet: str
    window: str
    virtual_edges: int
    layernorm: bool
    weight_norm: bool
    decoder: str
    heads: int
    num_classes: int
    max_shape: tuple[int, int, int, int]

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Apply a linear layer, or a 1x1 convolution to one pixel."""
        y = self.state[name + ".weight"].flatten(1) @ x
        return y + self.state[name + ".bias"] if name + ".bias" in self.state else y

    def norm(self, name: str, x: Tensor) -> Tensor:
        return layer_norm(x, self.state[name + ".weight"], self.state[name + ".bias"])

    # ----- sections 3 and 4: embeddings -----

    def embeddings(self, graph: Any) -> Tensor:
        x = [self.initial(graph, v) for v in range(len(graph.node_types))]
        x = {"gatedgnn": self.gated, "mlp": self.independent, "graphormer": self.graphormer}[self.hypernet](graph, x)
        return torch.stack([self.norm("ln", row) for row in x] if self.layernorm else x)

    def initial(self, graph: Any, v: int) -> Tensor:
        channel, spatial = (self.state[f"shape_enc.embed_{kind}.weight"] for kind in ("channel", "spatial"))
        K, S = self.num_classes, self.max_shape[3]
        shape = shape_of_node(graph, v)
        if shape is None:
            parts = [channel[-1], channel[-1], spatial[-1], spatial[-1]]
        else:
            parts = [channel[channel_grid(K).index(channel_value(c, K))] for c in shape[:2]]
            parts += [spatial[spatial_grid(S).index(spatial_value(k, S))] for k in shape[2:]]
        return self.state["embed.weight"][read_type(int(graph.node_types[v]))] + torch.cat(parts)

    def mlp_with_last_relu(self, name: str, x: Tensor) -> Tensor:
        return self.linear(f"{name}.fc.2", self.linear(f"{name}.fc.0", x).relu()).relu()

    def independent(self, graph: Any, x: list[Tensor]) -> list[Tensor]:
        # Section 1 only says "2-layer MLP"; assumed to be that of the messages in section 4, with its last ReLU.
        return [self.mlp_with_last_relu("gnn", row) for row in x]

    def gated(self, graph: Any, x: list[Tensor]) -> list[Tensor]:
        N, A = len(x), shortest_paths(graph, self.virtual_edges)
        x = list(x)
        cell = [self.state[f"gnn.gru.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        for v in range(N):
            x[v] = gru(self.message(x, [A[u][v] for u in range(N)]), x[v], *cell)
        for v in reversed(range(N)):
            x[v] = gru(self.message(x, [A[v][u] for u in range(N)]), x[v], *cell)
        return x

    def message(self, x: list[Tensor], distances: list[int]) -> Tensor:
        """Return the message to a node from the others, at these distances (0: no message)."""
        m = torch.zeros_like(x[0])
        for h, distance in zip(x, distances):
            if distance == 1:
                m = m + self.mlp_with_last_relu("gnn.mlp", h)
            if distance >= 1 and self.virtual_edges > 1:
                m = m + self.mlp_with_last_relu("gnn.mlp_ve", h) / distance
        return m

    # ----- section 8.3 -----

    def graphormer(self, graph: Any, x: list[Tensor]) -> list[Tensor]:
        N, A = len(x), shortest_paths(graph, self.virtual_edges)
        table_in, table_out = (self.state[f"gnn.0.centrality_embed_{way}.weight"] for way in ("in", "out"))
        table_distance = self.state["gnn.0.input_dist_embed.weight"]
        x = list(x)
        for v in range(N):
            incoming = sum(A[u][v] == 1 for u in range(N))
            outgoing = sum(A[v][u] == 1 for u in range(N))
            x[v] = x[v] + table_in[min(incoming, 100)] + table_out[min(outgoing, 100)]
            x[v] = x[v] + table_distance[min(A[0][v], 1000)]
        pairs = {(A[i][j], A[j][i]) for i in range(N) for j in range(N)}
        bias_of = {pair: self.edge_bias(*pair) for pair in pairs}
        bias = [torch.stack([bias_of[A[i][j], A[j][i]] for j in range(N)]) for i in range(N)]
        layer = 0
        while f"gnn.{layer}.ln1.weight" in self.state:
            update = self.attention(f"gnn.{layer}.attn", [self.norm(f"gnn.{layer}.ln1", row) for row in x], bias)
            x = [row + change for row, change in zip(x, update)]
            x = [row + self.feed_forward(f"gnn.{layer}.ff.net", self.norm(f"gnn.{layer}.ln2", row)) for row in x]
            layer += 1
        return x

    def edge_bias(self, there: int, back: int) -> Tensor:
        table = self.state["gnn.0.attn.edge_embed.embed.weight"]
        pair = torch.cat([table[there + 2], table[back + 2]])
        return self.linear("gnn.0.attn.proj_e.2", self.linear("gnn.0.attn.proj_e.0", pair).relu())

    def attention(self, name: str, x: list[Tensor], bias: list[Tensor]) -> list[Tensor]:
        """Multi-head attention; `bias[i][j, head]` is added to the logit of query i and key j."""
        q, k, v = torch.stack([self.linear(f"{name}.to_qkv", row) for row in x]).chunk(3, dim=1)
        width = q.shape[1] // self.heads
        outputs = []
        for i in range(len(x)):
            parts = []
            for head in range(self.heads):
                own = slice(head * width, (head + 1) * width)
                logits = k[:, own] @ q[i, own] * width**-0.5 + bias[i][:, head]
                parts.append(logits.softmax(0) @ v[:, own])
            outputs.append(self.linear(f"{name}.to_out.0", torch.cat(parts)))
        return outputs

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        return self.linear(f"{name}.3", gelu(self.linear(f"{name}.0", x)))

    # ----- sections 5, 6 and 8.5: decoders -----

    def parameters(self, graph: Any, predict_class_layers: bool) -> State:
        embeddings = self.embeddings(graph)
        return {
            slot.name: self.slot(embedding, tuple(slot.shape), slot.role)
            for embedding, slots in zip(embeddings, graph.parameters)
            for slot in slots
            if predict_class_layers or slot.role not in ("class_weight", "class_bias")
        }

    def slot(self, e: Tensor, shape: Shape, role: str) -> Tensor:
        vector_like = len(shape) <= 1 or (
            role in ("scale", "bias", "token", "norm_weight", "norm_bias") and sum(size > 1 for size in shape) <= 1
        )
        if vector_like or role == "class_bias":
            scales = role in ("norm_weight", "scale") or (role == "weight" and len(shape) <= 1)
            p = self.vector(e, math.prod(shape), row=0 if scales else 1, classifies=role == "class_bias").reshape(shape)
            if not self.weight_norm or (role == "token" and len(shape) > 1):
                return p
            return 2 * torch.sigmoid(0.5 * p) if scales else torch.tanh(0.2 * p)
        if role == "class_weight":
            p = self.class_weight(e)[(...,) + (None,) * (len(shape) - 2)]
            p = tiled(p, shape[:2]).expand(shape)
        elif len(shape) == 3 and shape[0] == 1 and shape[1] > 1 and shape[2] > 1:
            p = self.sequence(e, *shape[1:])
        else:
            o, i, height, width = four_axes(shape)
            p = self.kernel(e, o, i, height, width)
            middle = shape[2:-2]
            p = p.reshape(o, i, *(1 for _ in middle), height, width).expand(o, i, *middle, height, width).reshape(shape)
        return p * self.gain(shape) if self.weight_norm else p

    @staticmethod
    def gain(shape: Shape) -> float:
        """Return the gain of section 6.6, for rank 2 and higher."""
        if len(shape) > 2 and shape[0] == 1 and shape[2] >= 11:
            return 1.0
        fan_in = math.prod(shape[1:])
        if len(shape) > 2 and (shape[1] == 1 or (len(shape) > 3 and shape[2] < shape[3])):
            return math.sqrt(1 / fan_in)
        return math.sqrt(2 / fan_in)

    def vector(self, e: Tensor, size: int, row: int, classifies: bool) -> Tensor:
        q = self.linear("decoder_1d.fc.2", self.linear("decoder_1d.fc.0", e).relu()).reshape(2, -1)[row]
        if classifies:
            q = self.linear("bias_class.1", q.relu())
        return tiled(q, (size,))

    def pixel(self, e: Tensor, y: int, x: int) -> Tensor:
        """P[:, :, y, x], of shape (C_o, C_i)."""
        C_o, C_i, S, _ = self.max_shape
        if self.decoder == "mlp":
            P = self.linear("decoder.mlp.fc.2", self.linear("decoder.mlp.fc.0", e).relu())
            return P.reshape(C_o, C_i, S, S)[:, :, y, x]
        u = self.linear("decoder.fc.0", e).relu().reshape(-1, S, S)[:, y, x]
        return self.linear("decoder.conv.2", self.linear("decoder.conv.0", u).relu()).reshape(C_o, C_i)

    def kernel(self, e: Tensor, o: int, i: int, height: int, width: int) -> Tensor:
        """(o, i, height, width) before normalisation."""
        S = self.max_shape[3]
        pixels: dict[tuple[int, int], Tensor] = {}
        rows = []
        for y in range(height):
            for x in range(width):
                total = 0
                for row, share in sources_of(y, height, S, self.window):
                    for column, portion in sources_of(x, width, S, self.window):
                        if share * portion:
                            if (row, column) not in pixels:
                                pixels[row, column] = tiled(self.pixel(e, row, column), (o, i))
                            total = total + share * portion * pixels[row, column]
                rows.append(total)
        return torch.stack(rows, dim=-1).reshape(o, i, height, width)

    def sequence(self, e: Tensor, n: int, c: int) -> Tensor:
        """(1, n, c): a grid of positions, after rows of noise if n is no square."""
        g, decoded = math.isqrt(n), min(c, self.max_shape[1])
        grid = self.kernel(e, 1, decoded, g, g)[0]
        rows = [grid[:, y, x] for y in range(g) for x in range(g)]
        noise = torch.randn(n - g * g, decoded, generator=torch.Generator().manual_seed(0)) * 0.02
        return tiled(torch.stack([*noise.to(e.dtype), *rows]), (n, c))[None]

    def class_weight(self, e: Tensor) -> Tensor:
        """(K, C_i)."""
        if self.decoder == "mlp":
            hidden = self.linear("decoder.mlp.fc.0", e)
            return self.linear("decoder.class_layer_predictor.1", hidden.relu()).reshape(self.num_classes, -1)
        centre = window_start(1, self.max_shape[3], self.window)
        P = self.pixel(e, centre, centre)
        head = "decoder.class_layer_predictor.1"
        return self.state[head + ".weight"].flatten(1) @ P.relu() + self.state[head + ".bias"][:, None]
