"""LoGAH as a function of its state dict, written from the published formulas, request by request.

It computes both factors as a whole and picks their elements by index.  Nodes are encoded by the oracle of GHN-3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.oracles.naive_ghn import TYPES, State, _Naive, read_type, shape_of_node, tiled
from tests.oracles.naive_ghn_tables import Shape, channel_grid, list_shapes, nearest, spatial_grid, spatial_value

__all__ = ["list_logah_shapes", "naive_logah_predict", "naive_request", "original_state", "random_logah_state"]


def naive_logah_predict(state_dict: State, graphs: Iterable[Any], **options: Any) -> list[State]:
    """Return the parameters of each graph: a dict from the name of every slot to a tensor of its shape.

    Parameters
    ----------
    state_dict
        Names and shapes as in `list_logah_shapes`.
    graphs
        `deepnets.Graph`, or anything with `node_types`, `edges` and `parameters`, and perhaps `windows`.
    options
        Fields of `GHNConfig` by name; those that do not matter here are left out.
    """
    fixed = {"hypernet": "graphormer", "window": "centre", "decoder": "lowrank"}
    ghn = _NaiveLogah(state_dict, **{**fixed, **options})  # type: ignore[arg-type]
    return [ghn.predict(graph) for graph in graphs]


def extended(n: int, most: int) -> int:
    """f(n) of the publication."""
    n = min(n, most)
    if n % 3 == 0:
        n = n * 4 // 3
    return most if n >= most / 2 else n


def naive_request(w: Tensor, last: Tensor, bias: Tensor, request: tuple[int, int, int, int]) -> Tensor:
    """Decode `(c_o, c_i, kh, kw)` from `w` `(2r, r)`, the last layer `(K, r)` and its bias `(K)`."""
    r, K = last.shape[1], last.shape[0]
    U = w.relu() @ last.T + bias  # (2r, K)
    c_o, c_i, kh, kw = request
    assert c_o * kh <= K
    assert c_i * kw <= K
    j = torch.arange(r)

    def factor(rows: int, start: int) -> Tensor:
        place = torch.arange(rows)[:, None] * r + j  # the place in the numbers of U, row after row
        return U[start + place // K, place % K]

    A, B = factor(c_o * kh, 0), factor(c_i * kw, r)
    o, i, y, x = torch.meshgrid(*(torch.arange(size) for size in request), indexing="ij")
    return (A @ B.T)[o * kh + y, i * kw + x]


@dataclass
class _NaiveLogah(_Naive):
    rank: int = 32
    factor_rows: int = 32768
    vector_decoder: bool = False
    normalization: str = "fan_in"
    initializer_range: float = 0.02
    node_types: str = "published"
    channel_sizes: tuple[int, ...] = ()

    # ----- nodes -----

    def initial(self, graph: Any, v: int) -> Tensor:
        channel, spatial = (self.state[f"shape_enc.embed_{kind}.weight"] for kind in ("channel", "spatial"))
        S, shape = self.max_shape[3], shape_of_node(graph, v)
        grid = sorted({*channel_grid(self.num_classes), *self.channel_sizes})
        if shape is None:
            parts = [channel[-1], channel[-1], spatial[-1], spatial[-1]]
        else:
            parts = [channel[grid.index(self.channel(c, grid))] for c in shape[:2]]
            parts += [spatial[spatial_grid(S).index(spatial_value(k, S))] for k in shape[2:]]
        return self.state["embed.weight"][self.type(int(graph.node_types[v]))] + torch.cat(parts)

    def channel(self, c: int, grid: list[int]) -> int:
        if 4 <= c <= 7 and c not in grid:
            return 8
        if not self.channel_sizes and c > 8192:
            return c if c in grid else 8192
        return nearest(c, grid)

    def type(self, index: int) -> int:
        further = {"rms": 15, "rot": 16, "mul": 17}
        return further.get(TYPES[index], read_type(index)) if self.node_types == "language" else read_type(index)

    # ----- parameters -----

    def predict(self, graph: Any) -> State:
        blocks = {
            slot.name.split("c_proj")[0].split("o_proj")[0].rsplit(".", 2)[0]
            for slots in graph.parameters
            for slot in slots
            if slot.name.endswith(("c_proj.weight", "o_proj.weight"))
        }
        return {
            slot.name: self.one(e, slot, len(blocks))
            for e, slots in zip(self.embeddings(graph), graph.parameters)
            for slot in slots
        }

    def request(self, e: Tensor, *request: int) -> Tensor:
        for layer in (0, 2, 4):
            e = self.linear(f"decoder.mlp.fc.{layer}", e)
            e = e.relu() if layer < 4 else e
        w = e.reshape(2 * self.rank, self.rank)
        c_o, c_i, kh, kw = request
        return naive_request(w, self.state["decoder.l2.weight"], self.state["decoder.l2.bias"], (c_o, c_i, kh, kw))

    def one(self, e: Tensor, slot: Any, blocks: int) -> Tensor:
        shape, role, M = tuple(slot.shape), slot.role, self.max_shape[0]
        vector_like = len(shape) <= 1 or (
            role in ("scale", "bias", "token", "norm_weight", "norm_bias") and sum(size > 1 for size in shape) <= 1
        )
        if vector_like:
            scales = role in ("norm_weight", "scale") or (role == "weight" and len(shape) <= 1)
            p = self.row(e, math.prod(shape), 0 if scales else 1, role == "class_bias").reshape(shape)
            if not self.weight_norm or (role == "token" and len(shape) > 1):
                return p
            return 2 * torch.sigmoid(p / 2) if scales else torch.tanh(p / 5)
        if len(shape) == 2:
            p = tiled(self.request(e, *(extended(n, M) for n in shape), 1, 1)[:, :, 0, 0], shape)
        elif len(shape) == 4:
            p = tiled(self.request(e, extended(shape[0], M), extended(shape[1], M), *shape[2:]), shape)
        elif len(shape) == 3 and shape[0] == 1 and shape[1] > 1 and shape[2] > 1:
            p = self.positions(e, *shape[1:])
        elif len(shape) > 4:  # not published: kernels of more axes repeat one of two axes
            o, i, *middle, kh, kw = shape
            p = tiled(self.request(e, extended(o, M), extended(i, M), kh, kw), (o, i, kh, kw))
            p = p.reshape(o, i, *(1 for _ in middle), kh, kw).expand(shape)
        else:
            sizes = [extended(n, M) for n in shape]
            p = tiled(self.request(e, math.prod(sizes), 1, 1, 1).reshape(sizes), shape)
        return self.normalized(p, slot, blocks) if self.weight_norm else p

    def row(self, e: Tensor, size: int, row: int, classifies: bool) -> Tensor:
        if self.vector_decoder:
            return self.vector(e, size, row, classifies)
        length = extended(size, self.max_shape[0])
        return tiled(self.request(e, 2 * length, 1, 1, 1).reshape(2, length)[row], (size,))

    def positions(self, e: Tensor, n: int, c: int) -> Tensor:
        s = math.isqrt(n)
        grid = self.request(e, 1, c, s, s)[0].flatten(1).T  # (s * s, c)
        noise = torch.randn(n - s * s, c, generator=torch.Generator().manual_seed(0)) * 0.02
        return torch.cat([noise.to(e.dtype), grid])[None]

    def normalized(self, p: Tensor, slot: Any, blocks: int) -> Tensor:
        t: Shape = tuple(p.shape)
        if slot.role in ("embed", "pos_enc") and (len(t) == 2 or self.normalization == "std"):
            return p
        if self.normalization == "std":
            return p / (p.std() + 1e-7) * self.initializer_range
        if len(t) > 2 and t[0] == 1 and t[2] >= 11:
            return p
        beta = 1 if len(t) > 2 and (t[1] == 1 or (len(t) > 3 and t[2] < t[3])) else 2
        fan = math.prod(t[1:]) if self.normalization != "fan_out" else t[0] * math.prod(t[2:])
        p = p * math.sqrt(beta / fan)
        if self.normalization == "fan_in_residual" and slot.name.endswith(("c_proj.weight", "o_proj.weight")):
            p = p / math.sqrt(2 * blocks)
        return p


# ----- state dicts -----


def list_logah_shapes(
    *,
    hidden: int,
    layers: int,
    heads: int,
    rank: int,
    factor_rows: int,
    num_classes: int = 10,
    vector_decoder: bool = False,
    types: int = 15,
    further_sizes: int = 0,
    side: int = 16,
) -> dict[str, Shape]:
    """Return the name and shape of every tensor of a state dict, in the published order, without second names."""
    h, r = hidden, rank
    ghn3 = list_shapes(
        hypernet="graphormer",
        hidden=h,
        max_shape=(8, 8, side, side),
        num_classes=num_classes,
        layers=layers,
        heads=heads,
    )
    parts = ["ln.", "embed.", "shape_enc.embed_spatial", "shape_enc.embed_channel"]
    for layer in range(layers):
        names = ["ln1", "attn.to_qkv", "attn.to_out.0"]
        names += ["attn.edge_embed", "attn.proj_e.0", "attn.proj_e.2"] if layer == 0 else []
        parts += [f"gnn.{layer}.{name}." for name in (*names, "ln2", "ff.net.0", "ff.net.3")]
    parts += ["gnn.0.centrality_embed_in", "gnn.0.centrality_embed_out", "gnn.0.input_dist_embed"]
    if layers > 1:  # these tables belong to the first layer
        first = parts.index("gnn.1.ln1.")
        parts = [*parts[:first], *parts[-3:], *parts[first:-3]]
    shapes = {name: shape for part in parts for name, shape in ghn3.items() if name.startswith(part)}
    shapes["embed.weight"] = (types, h)
    rows, width = shapes["shape_enc.embed_channel.weight"]
    shapes["shape_enc.embed_channel.weight"] = (rows + further_sizes, width)
    layers_of_decoder = {
        "decoder.mlp.fc.0": (4 * h, h),
        "decoder.mlp.fc.2": (8 * h, 4 * h),
        "decoder.mlp.fc.4": (2 * r * r, 8 * h),
        "decoder.l1": (r, r),
        "decoder.l2": (factor_rows, r),
    }
    if vector_decoder:
        layers_of_decoder |= {"decoder_1d.fc.0": (2 * h, h), "decoder_1d.fc.2": (h, 2 * h)}
        layers_of_decoder["bias_class.1"] = (num_classes, h // 2)
    else:
        layers_of_decoder |= {"decoder_1d.0": (1, 1), "bias_class.1": (1, 1)}
    for name, shape in layers_of_decoder.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return shapes


def original_state(shapes: dict[str, Shape], seed: int) -> State:
    """Return the weights with which the stored predictions of the original were made."""
    import numpy as np

    generator = np.random.default_rng(seed)
    state = {}
    for name, shape in shapes.items():
        x = generator.standard_normal(shape)
        if "embed" not in name and len(shape) == 1:
            x = 0.1 * x if name.endswith("bias") else 1 + 0.01 * x
        elif "embed" not in name:
            x = x / math.sqrt(math.prod(shape[1:]))
        state[name] = torch.from_numpy(x).float()
    return state


def random_logah_state(seed: int = 0, **options: Any) -> State:
    """Return random values of the order of 1 for every tensor of `list_logah_shapes(**options)`."""
    return original_state(list_logah_shapes(**options), seed)
