"""The state dict of a hypernetwork and the values in its tables of shapes, as published."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "channel_grid",
    "channel_value",
    "four_axes",
    "list_shapes",
    "random_state_dict",
    "spatial_grid",
    "spatial_value",
]

Shape = tuple[int, ...]


# ----- section 3: shapes as indices -----


def channel_grid(K: int) -> list[int]:
    return sorted({1, 3, K, *range(8, 57, 8), *range(64, 4081, 16), *range(4096, 8193, 32)})


def spatial_grid(S: int) -> list[int]:
    return sorted({*range(1, max(12, S), 2), 14, 16})


def nearest(value: int, grid: list[int]) -> int:
    """Return the nearest number of the grid; of two, the smaller one."""
    return min(grid, key=lambda number: (abs(number - value), number))


def channel_value(c: int, K: int) -> int:
    grid = channel_grid(K)
    if c in grid:
        return c
    if 4 <= c <= 7:
        return 8
    return 8192 if c > 8192 else nearest(c, grid)


def spatial_value(k: int, S: int) -> int:
    grid = spatial_grid(S)
    if k in grid:
        return k
    if k == 2:
        return 3
    return 16 if k > 16 else nearest(k, grid)


def four_axes(shape: Shape) -> Shape:
    """Return (out, in, height, width) for a shape of any rank."""
    match shape:
        case ():
            return 1, 1, 1, 1
        case (c,):
            return c, 1, 1, 1
        case (o, i):
            return o, i, 1, 1
        case (1, n, c) if n > 1 and c > 1:
            return 1, c, math.isqrt(n), math.isqrt(n)
        case (a, b, c):
            return a, b, c, 1
        case _:
            return *shape[:2], *shape[-2:]


# ----- tables 1.1 and 8.1 -----


def list_shapes(
    *,
    hypernet: str = "gatedgnn",
    decoder: str = "conv",
    hidden: int = 32,
    max_shape: tuple[int, int, int, int] = (64, 64, 11, 11),
    num_classes: int = 10,
    virtual_edges: int = 50,
    layernorm: bool = True,
    layers: int = 3,
    heads: int = 8,
) -> dict[str, Shape]:
    """Return the name and shape of every tensor of a state dict; `layers` and `heads` are those of a graphormer."""
    h, K, (C_o, C_i, S, _) = hidden, num_classes, max_shape
    shapes: dict[str, Shape] = {}

    def linear(name: str, outputs: int, inputs: int, *kernel: int) -> None:
        shapes[name + ".weight"] = (outputs, inputs, *kernel)
        shapes[name + ".bias"] = (outputs,)

    def norm(name: str) -> None:
        shapes[name + ".weight"] = shapes[name + ".bias"] = (h,)

    if layernorm:
        norm("ln")
    shapes["embed.weight"] = (15, h)
    shapes["shape_enc.embed_spatial.weight"] = (len(spatial_grid(S)) + 1, h // 4)
    shapes["shape_enc.embed_channel.weight"] = (len(channel_grid(K)) + 1, h // 4)
    if hypernet == "mlp":
        linear("gnn.fc.0", h, h)
        linear("gnn.fc.2", h, h)
    elif hypernet == "gatedgnn":
        between = h // 2 if virtual_edges > 1 else h
        for name in ("gnn.mlp", "gnn.mlp_ve")[: 1 + (virtual_edges > 1)]:
            linear(f"{name}.fc.0", between, h)
            linear(f"{name}.fc.2", h, between)
        shapes["gnn.gru.weight_ih"] = shapes["gnn.gru.weight_hh"] = (3 * h, h)
        shapes["gnn.gru.bias_ih"] = shapes["gnn.gru.bias_hh"] = (3 * h,)
    else:
        for layer in range(layers):
            norm(f"gnn.{layer}.ln1")
            norm(f"gnn.{layer}.ln2")
            shapes[f"gnn.{layer}.attn.to_qkv.weight"] = (3 * h, h)
            linear(f"gnn.{layer}.attn.to_out.0", h, h)
            linear(f"gnn.{layer}.ff.net.0", 4 * h, h)
            linear(f"gnn.{layer}.ff.net.3", h, 4 * h)
        shapes["gnn.0.attn.edge_embed.embed.weight"] = (257, h)
        linear("gnn.0.attn.proj_e.0", h, 2 * h)
        linear("gnn.0.attn.proj_e.2", heads, h)
        shapes["gnn.0.centrality_embed_in.weight"] = shapes["gnn.0.centrality_embed_out.weight"] = (101, h)
        shapes["gnn.0.input_dist_embed.weight"] = (1001, h)
    kernel = () if hypernet == "graphormer" else (1, 1)
    if decoder == "mlp":
        linear("decoder.mlp.fc.0", 2 * h, h)
        linear("decoder.mlp.fc.2", C_o * C_i * S * S, 2 * h)
        linear("decoder.class_layer_predictor.1", K * C_i, 2 * h)
    else:
        linear("decoder.fc.0", 4 * h * S * S, h)
        linear("decoder.conv.0", 8 * h, 4 * h, *kernel)
        linear("decoder.conv.2", C_o * C_i, 8 * h, *kernel)
        linear("decoder.class_layer_predictor.1", K, C_o, *kernel)
    C = max(C_o, C_i)
    linear("decoder_1d.fc.0", 2 * h, h)
    linear("decoder_1d.fc.2", 2 * C, 2 * h)
    linear("bias_class.1", K, C)
    return shapes


def random_state_dict(*, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any) -> dict[str, Tensor]:
    """Return random values of the order of 1 for every tensor of `list_shapes(**options)`; no tensor is constant."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in list_shapes(**options).items():
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("bias") or "bias_" in name.split(".")[-1]:
            x = 0.3 * x
        elif "ln" in name:
            x = 1 + 0.2 * x
        elif "embed" in name:
            x = 0.6 * x
        else:
            x = x * math.sqrt(1.5 / math.prod(shape[1:]))
        state[name] = x.to(dtype)
    return state
