"""Small models with the common implementations of attention, tokens and position encodings."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.case import Case, Parts, image, parameter, tokens
from tests.support.zoo.vision import conv

__all__ = ["ATTENTION"]

HEADS, WIDTH, LENGTH = 2, 8, 6


def heads(x: Tensor) -> Tensor:
    """(B, N, C) -> (B, heads, N, C / heads)."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def split(self: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = self.qkv(x).chunk(3, -1)
    return heads(q), heads(k), heads(v)


def merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def by_matmul(self: Any, x: Tensor) -> Tensor:
    q, k, v = split(self, x)
    attention = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
    return self.out(merge(attention @ v))


def by_einsum(self: Any, x: Tensor) -> Tensor:
    q, k, v = split(self, x)
    attention = torch.einsum("bhid,bhjd->bhij", q, k).softmax(dim=-1)
    return self.out(merge(torch.einsum("bhij,bhjd->bhid", attention, v)))


def by_bmm(self: Any, x: Tensor) -> Tensor:
    q, k, v = self.qkv(x).chunk(3, -1)
    return self.out(torch.bmm(F.softmax(torch.bmm(q, k.mT), -1), v))


def by_function(self: Any, x: Tensor) -> Tensor:
    return self.out(merge(F.scaled_dot_product_attention(*split(self, x))))


def over_channels(self: Any, x: Tensor) -> Tensor:
    """Attention between channels with a learned temperature, as in XCiT."""
    q, k, v = (part.transpose(-2, -1) for part in split(self, x))
    attention = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature).softmax(-1)
    return self.out(merge((attention @ v).transpose(-2, -1)))


def linear_attention(self: Any, x: Tensor) -> Tensor:
    """Two products of data without a softmax between them."""
    q, k, v = split(self, x)
    return self.out(merge(q.relu() @ (k.relu().transpose(-2, -1) @ v)))


def with_table(self: Any, x: Tensor) -> Tensor:
    """Relative positions from a table, added before the softmax."""
    q, k, v = split(self, x)
    bias = self.table[self.index].permute(2, 0, 1)
    return self.out(merge((q @ k.transpose(-2, -1) + bias).softmax(-1) @ v))


def with_mask(self: Any, x: Tensor) -> Tensor:
    """Relative positions from a table, as the mask of the fused function."""
    bias = self.table[self.index.flatten()].view(LENGTH, LENGTH, HEADS).permute(2, 0, 1).unsqueeze(0)
    return self.out(merge(F.scaled_dot_product_attention(*split(self, x), attn_mask=bias.contiguous())))


def three_layers(self: Any, x: Tensor) -> Tensor:
    q, k, v = self.q(x), self.k(x), self.v(x)
    return self.out(merge(F.scaled_dot_product_attention(heads(q), heads(k), heads(v))))


def linears(**more: Any) -> dict[str, Any]:
    return {"qkv": nn.Linear(WIDTH, 3 * WIDTH), "out": nn.Linear(WIDTH, WIDTH), **more}


def with_positions() -> dict[str, Any]:
    places = torch.arange(LENGTH)
    return linears(table=parameter(2 * LENGTH - 1, HEADS), index=places[:, None] - places[None] + LENGTH - 1)


def self_attention(self: Any, x: Tensor) -> Tensor:
    return self.attention(x, x, x, need_weights=False)[0]


def with_weights(self: Any, x: Tensor) -> Tensor:
    return self.attention(self.first(x), self.first(x), self.first(x))[0]


def cross_attention(self: Any, x: Tensor, memory: Tensor) -> Tensor:
    memory = self.second(memory)
    return self.attention(self.first(x), memory, memory)[0]


def attention(**options: Any) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True, **options})


def first_and_second(**options: Any) -> dict[str, nn.Module]:
    k = options.get("kdim", WIDTH)
    return {"first": nn.Linear(WIDTH, WIDTH), "second": nn.Linear(WIDTH, k), "attention": attention(**options)}


class VisionTransformer(nn.Module):
    """Vision transformer: patches, a class token, positions, one pre-norm encoder layer, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.cls_token = parameter(1, 1, WIDTH)
        self.pos_embed = parameter(1, 17, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), 1)
        x = x + self.pos_embed
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x)[:, 0])


def shifted_window(self: Any, x: Tensor) -> Tensor:
    """Shifted-window attention as in Swin, with a table of relative positions and a mask that is filled by slices."""
    x = self.stem(x).permute(0, 2, 3, 1)
    B, H, W, C = x.shape
    shortcut = x
    x = torch.roll(self.norm(x), (-2, -2), (1, 2))
    x = x.view(B, H // 4, 4, W // 4, 4, C).transpose(2, 3).reshape(-1, 16, C)
    regions = x.new_zeros((H, W))
    for i, rows in enumerate((slice(0, -4), slice(-4, -2), slice(-2, None))):
        for j, columns in enumerate((slice(0, -4), slice(-4, -2), slice(-2, None))):
            regions[rows, columns] = 3 * i + j
    regions = regions.view(H // 4, 4, W // 4, 4).transpose(1, 2).reshape(-1, 16)
    mask = (regions[:, None] - regions[:, :, None] != 0) * -100.0
    q, k, v = split(self, x)
    logits = q @ k.transpose(-2, -1) + self.table[self.index].view(16, 16, HEADS).permute(2, 0, 1)
    logits = logits.view(B, -1, HEADS, 16, 16) + mask[None, :, None].to(logits.dtype)
    x = self.out(merge(logits.view(-1, HEADS, 16, 16).softmax(-1) @ v))
    x = x.view(B, H // 4, W // 4, 4, 4, C).transpose(2, 3).reshape(B, H, W, C)
    x = shortcut + torch.roll(x, (2, 2), (1, 2))
    return self.head(x.mean((1, 2)))


def shifted_window_parts() -> dict[str, Any]:
    y, x = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    y, x = y.flatten(), x.flatten()
    index = (y[:, None] - y + 3) * 7 + x[:, None] - x + 3
    norms = {"stem": conv(3, WIDTH), "norm": nn.LayerNorm(WIDTH), "head": nn.Linear(WIDTH, 5)}
    return linears(table=parameter(49, HEADS), index=index.flatten(), **norms)


def continuous_positions(self: Any, x: Tensor) -> Tensor:
    """Cosine attention as in Swin-V2, with relative positions computed by a small network from constants."""
    q, k, v = split(self, x)
    logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    logits = logits * torch.clamp(self.logit_scale, max=math.log(100.0)).exp()
    bias = 16 * torch.sigmoid(self.positions(self.coordinates)[self.index].permute(2, 0, 1))
    return self.out(merge((logits + bias).softmax(-1) @ v))


def continuous_parts() -> dict[str, Any]:
    positions = nn.Sequential(nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, HEADS, bias=False))
    coordinates = torch.linspace(-1, 1, 2 * LENGTH - 1)[:, None]
    parts = with_positions()
    del parts["table"]
    return {**parts, "logit_scale": parameter(HEADS, 1, 1), "positions": positions, "coordinates": coordinates}


def latents(self: Any, x: Tensor) -> Tensor:
    """Learned queries that attend to the data, as in Perceiver and attention pooling."""
    q = self.q(self.latent).expand(len(x), -1, -1)
    return self.out(F.scaled_dot_product_attention(q, self.k(x), self.v(x)))


def normed_latents(self: Any, x: Tensor) -> Tensor:
    """A norm and a linear layer on learned latents, before they meet any data."""
    latent = self.q(self.norm(self.latent)).expand(len(x), -1, -1)
    return self.out(F.scaled_dot_product_attention(latent, self.k(x), self.v(x)))


def encoder_layer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True, **options)


PLAIN = "input conv bias msa conv bias"
POST_NORM = "input conv bias msa conv bias sum ln conv bias conv bias sum ln"
PRE_NORM = "ln conv bias msa conv bias sum ln conv bias conv bias sum"

ATTENTION = {
    "matmul": Case(lambda: Parts(by_matmul, **linears()), tokens(), types=PLAIN, edges="0>1 1>2 2>3 3>4 4>5"),
    "einsum": Case(lambda: Parts(by_einsum, **linears()), tokens(), types=PLAIN),
    "bmm": Case(lambda: Parts(by_bmm, **linears()), tokens(), types=PLAIN),
    "fused": Case(lambda: Parts(by_function, **linears()), tokens(), types=PLAIN, edges="0>1 1>2 2>3 3>4 4>5"),
    "three layers": Case(
        lambda: Parts(three_layers, **{name: nn.Linear(WIDTH, WIDTH) for name in ("q", "k", "v", "out")}),
        tokens(),
        types="input conv bias conv bias conv bias msa conv bias",
        edges="0>1 1>2 0>3 3>4 0>5 5>6 2>7 4>7 6>7 7>8 8>9",
    ),
    "over channels": Case(
        lambda: Parts(over_channels, **linears(temperature=parameter(HEADS, 1, 1))),
        tokens(),
        types="input conv bias scale msa conv bias",
        edges="0>1 1>2 2>3 2>4 3>4 4>5 5>6",
    ),
    "without softmax": Case(lambda: Parts(linear_attention, **linears()), tokens()),
    "table of positions": Case(
        lambda: Parts(with_table, **with_positions()),
        tokens(),
        types="input conv bias rel_pos msa conv bias",
        edges="0>1 1>2 2>4 3>4 4>5 5>6",
    ),
    "positions in the mask": Case(
        lambda: Parts(with_mask, **with_positions()), tokens(), types="input conv bias rel_pos msa conv bias"
    ),
    "multi-head": Case(
        lambda: Parts(self_attention, attention=attention()), tokens(), types=PLAIN, edges="0>1 1>2 2>3 3>4 4>5"
    ),
    "multi-head, training": Case(
        lambda: Parts(self_attention, attention=attention(dropout=0.1)), tokens(), types=PLAIN, training=True
    ),
    "multi-head, with weights": Case(
        lambda: Parts(with_weights, first=nn.Linear(WIDTH, WIDTH), attention=attention()), tokens()
    ),
    "multi-head, no bias, sequence first": Case(
        lambda: Parts(self_attention, attention=attention(bias=False, batch_first=False)),
        tokens(),
        types="input conv msa conv",
    ),
    "multi-head, bias_k and bias_v": Case(
        lambda: Parts(self_attention, attention=attention(add_bias_kv=True, add_zero_attn=True)), tokens()
    ),
    "multi-head, cross": Case(
        lambda: Parts(cross_attention, **first_and_second()), lambda: (torch.randn(2, 6, 8), torch.randn(2, 5, 8))
    ),
    "multi-head, cross, other widths": Case(
        lambda: Parts(cross_attention, **first_and_second(kdim=5, vdim=5)),
        lambda: (torch.randn(2, 6, 8), torch.randn(2, 5, 8)),
    ),
    "encoder layer": Case(
        encoder_layer,
        tokens(),
        types=POST_NORM,
        edges="0>1 1>2 2>3 3>4 4>5 0>6 5>6 6>7 7>8 8>9 9>10 10>11 7>12 11>12 12>13",
    ),
    "encoder layer, training": Case(encoder_layer, tokens(), types=POST_NORM, training=True),
    "encoder layer, norm first": Case(
        lambda: encoder_layer(norm_first=True, activation="gelu"), tokens(), types=f"input {PRE_NORM}"
    ),
    "encoder": Case(lambda: nn.TransformerEncoder(encoder_layer(), 2), tokens(), types=f"{POST_NORM} {POST_NORM[6:]}"),
    "encoder and decoder": Case(
        lambda: nn.Transformer(WIDTH, HEADS, 2, 2, 16, batch_first=True),
        lambda: (torch.randn(2, 6, WIDTH), torch.randn(2, 5, WIDTH)),
    ),
    "vision transformer": Case(
        VisionTransformer,
        image(),
        types=f"input conv bias token concat pos_enc sum {PRE_NORM} ln conv bias",
        edges="0>1 1>2 2>4 3>4 4>6 5>6 6>7 7>8 8>9 9>10 10>11 11>12 6>13 12>13 13>14 14>15 15>16 16>17 17>18 13>19"
        " 18>19 19>20 20>21 21>22",
    ),
    "shifted windows": Case(
        lambda: Parts(shifted_window, **shifted_window_parts()),
        image(),
        types="input conv ln conv bias rel_pos msa conv bias sum glob_avg conv bias",
        edges="0>1 1>2 2>3 3>4 4>6 5>6 6>7 7>8 1>9 8>9 9>10 10>11 11>12",
    ),
    "continuous positions": Case(
        lambda: Parts(continuous_positions, **continuous_parts()),
        tokens(),
        types="input conv bias scale const conv bias conv msa conv bias",
        edges="0>1 1>2 2>3 4>5 5>6 6>7 2>8 3>8 7>8 8>9 9>10",
    ),
    "latents": Case(
        lambda: Parts(
            latents, latent=parameter(1, 3, WIDTH), **{name: nn.Linear(WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
        ),
        tokens(),
        types="input token conv bias conv bias conv bias msa conv bias",
        edges="1>2 2>3 0>4 4>5 0>6 6>7 3>8 5>8 7>8 8>9 9>10",
    ),
    "latents, normalised": Case(
        lambda: Parts(
            normed_latents,
            latent=parameter(1, 3, WIDTH),
            norm=nn.LayerNorm(WIDTH),
            **{name: nn.Linear(WIDTH, WIDTH) for name in ("q", "k", "v", "out")},
        ),
        tokens(),
        types="input token ln conv bias conv bias conv bias msa conv bias",
        edges="1>2 2>3 3>4 0>5 5>6 0>7 7>8 4>9 6>9 8>9 9>10 10>11",
    ),
    "softmax of features in a residual": Case(
        lambda: Parts(
            lambda self, x: self.head(x + F.softmax(self.gate(x), -1)),
            gate=nn.Linear(WIDTH, WIDTH, bias=False),
            head=nn.Linear(WIDTH, 4, bias=False),
        ),
        tokens(),
        types="input conv sum conv",
        edges="0>1 0>2 1>2 2>3",
    ),
    "convolution on a dense graph": Case(
        lambda: Parts(
            lambda self, x, adjacency: self.head(
                (lambda h: (h + F.relu(adjacency @ self.inner(h))).mean(1))(self.first(x))
            ),
            first=nn.Linear(WIDTH, WIDTH, bias=False),
            inner=nn.Linear(WIDTH, WIDTH, bias=False),
            head=nn.Linear(WIDTH, 4, bias=False),
        ),
        lambda: (torch.randn(2, 6, WIDTH), torch.rand(2, 6, 6)),
        types="input conv conv matmul sum glob_avg conv",
        edges="0>1 1>2 0>3 2>3 1>4 3>4 4>5 5>6",
    ),
    "scores with a bias that is computed from data": Case(
        lambda: Parts(
            lambda self, x: (self.q(x) @ self.k(x).transpose(1, 2) + self.shift(x)).softmax(-1) @ self.v(x),
            **{name: nn.Linear(WIDTH, WIDTH, bias=False) for name in ("q", "k", "v")},
            shift=nn.Linear(WIDTH, 6, bias=False),
        ),
        tokens(),
        types="input conv conv conv conv msa",
        edges="0>1 0>2 0>3 0>4 1>5 2>5 3>5 4>5",
    ),
}
