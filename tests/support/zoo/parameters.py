"""Small models with unusual parameters: scales, norms, parametrizations, shared, sliced and unused parameters."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from tests.support.zoo.case import Case, Parts, image, parameter, tokens
from tests.support.zoo.vision import conv

__all__ = ["PARAMETERS"]


class StandardizedConv(nn.Conv2d):
    """A convolution with a standardised weight (Qiao et al., 2019), optionally with a gain (NFNet)."""

    def __init__(self, *args: Any, gain: bool = False) -> None:
        super().__init__(*args)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1)) if gain else None

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        if self.gain is not None:
            weight = weight * self.gain
        return self._conv_forward(x, weight, self.bias)


class RootMeanSquare(nn.Module):
    """The RMS norm of T5 and Llama, without a fused function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        variance = x.float().pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-6)).to(x.dtype)


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but in many models
        return nn.Sequential(weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), weight_norm(nn.Conv2d(8, 4, 3)))


def wrapped(wrap: Any) -> nn.Module:
    return nn.Sequential(
        wrap(nn.Conv2d(3, 8, 3)), nn.ReLU(), wrap(nn.Conv2d(8, 4, 3)), nn.Flatten(), wrap(nn.Linear(576, 5))
    )


def layer_scaled(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    return self.head(x + self.gamma * self.block(x))


def cosine_classifier(self: Any, x: Tensor) -> Tensor:
    x = F.normalize(self.stem(x).mean((2, 3)), dim=-1)
    return self.logit_scale.exp() * F.linear(x, F.normalize(self.weight, dim=-1))


def looped(self: Any, x: Tensor) -> Tensor:
    for _ in range(3):
        x = F.relu(self.shared(x))
    return self.head(x)


def chunked(self: Any, x: Tensor) -> Tensor:
    q, k, v = (F.linear(x, weight, bias) for weight, bias in zip(self.qkv.chunk(3), self.bias.chunk(3)))
    return self.head(F.scaled_dot_product_attention(q, k, v))


def fused_bias(self: Any, x: Tensor) -> Tensor:
    """Attention without a bias of the keys, as in BEiT."""
    bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
    q, k, v = F.linear(x, self.qkv, bias).chunk(3, -1)
    return self.head(F.scaled_dot_product_attention(q, k, v))


def low_rank(self: Any, x: Tensor) -> Tensor:
    """A weight with a low-rank update, as in merged LoRA."""
    return self.head(F.relu(F.linear(x, self.base + self.up @ self.down)))


def affine(self: Any, x: Tensor) -> Tensor:
    """Scale and shift as explicit parameters, in the broadcast form of vision models."""
    x = self.stem(x)
    return self.head(x * self.alpha.view(1, -1, 1, 1) + self.beta.view(1, -1, 1, 1))


def frozen() -> nn.Module:
    model = nn.Sequential(conv(3, 8, bias=True), nn.BatchNorm2d(8), conv(8, 4))
    return model.requires_grad_(False)


def partly_frozen() -> nn.Module:
    model = nn.Sequential(conv(3, 8, bias=True), nn.BatchNorm2d(8), conv(8, 4))
    model[0].requires_grad_(False)
    return model


def shared_twice() -> nn.Module:
    """One convolution under two names, and two modules with one weight."""
    first, second = conv(8, 8), conv(8, 8)
    second.weight = first.weight
    model = nn.Sequential(conv(3, 8), first, nn.ReLU(), second)
    model.add_module("again", first)
    return model


def normed(norm: nn.Module) -> Any:
    return lambda: nn.Sequential(conv(3, 8), norm, nn.ReLU(), conv(8, 4))


PARAMETERS = {
    "layer scale": Case(
        lambda: Parts(layer_scaled, stem=conv(3, 8), block=conv(8, 8), gamma=parameter(8, 1, 1), head=conv(8, 4)),
        image(),
        types="input conv conv scale sum conv",
        edges="0>1 1>2 2>3 1>4 3>4 4>5",
    ),
    "logit scale": Case(
        lambda: Parts(
            cosine_classifier, stem=conv(3, 8), weight=parameter(5, 8), logit_scale=nn.Parameter(torch.tensor(2.6))
        ),
        image(),
        types="input conv glob_avg conv scale",
    ),
    "affine": Case(
        lambda: Parts(affine, stem=conv(3, 8), alpha=parameter(8), beta=parameter(8), head=conv(8, 4)),
        image(),
        types="input conv scale bias conv",
    ),
    "group norm": Case(normed(nn.GroupNorm(2, 8)), image(), types="input conv gn conv"),
    "instance norm": Case(normed(nn.InstanceNorm2d(8, affine=True)), image()),
    "instance norm without parameters": Case(normed(nn.InstanceNorm2d(8)), image(), types="input conv conv"),
    "batch norm in training": Case(normed(nn.BatchNorm2d(8)), image(), types="input conv bn conv", training=True),
    "batch norm without parameters": Case(normed(nn.BatchNorm2d(8, affine=False)), image(), types="input conv conv"),
    "layer norm without bias": Case(
        lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8, bias=False), nn.Linear(8, 4)),
        tokens(),
        types="input conv bias ln conv bias",
    ),
    "rms norm": Case(
        lambda: nn.Sequential(nn.Linear(8, 8, bias=False), nn.RMSNorm(8), nn.Linear(8, 4)),
        tokens(),
        types="input conv rms conv bias",
    ),
    "rms norm by hand": Case(
        lambda: nn.Sequential(nn.Linear(8, 8, bias=False), RootMeanSquare(8), nn.Linear(8, 4)), tokens()
    ),
    "weight norm": Case(lambda: wrapped(parametrizations.weight_norm), lambda: torch.randn(2, 3, 16, 16)),
    "weight norm, old style": Case(old_weight_norm, image()),
    "spectral norm": Case(lambda: wrapped(parametrizations.spectral_norm), image()),
    "spectral norm in training": Case(lambda: wrapped(parametrizations.spectral_norm), image(), training=True),
    "spectral norm, old style": Case(lambda: wrapped(spectral_norm), image()),
    "orthogonal": Case(lambda: wrapped(parametrizations.orthogonal), image()),
    "weight standardization": Case(
        lambda: nn.Sequential(StandardizedConv(3, 8, 3), nn.ReLU(), StandardizedConv(8, 4, 3)),
        image(),
        types="input conv bias conv bias",
    ),
    "weight standardization with gain": Case(
        lambda: nn.Sequential(StandardizedConv(3, 8, 3, gain=True), nn.ReLU(), StandardizedConv(8, 4, 3, gain=True)),
        image(),
    ),
    "loop": Case(
        lambda: Parts(looped, shared=conv(3, 3, bias=True), head=conv(3, 4)),
        image(),
        types="input conv bias conv bias conv bias conv",
        edges="0>1 1>2 2>3 3>4 4>5 5>6 6>7",
    ),
    "two names": Case(shared_twice, image(), types="input conv conv conv conv"),
    "chunked": Case(lambda: Parts(chunked, qkv=parameter(24, 8), bias=parameter(24), head=nn.Linear(8, 4)), tokens()),
    "fused bias": Case(
        lambda: Parts(fused_bias, qkv=parameter(24, 8), q_bias=parameter(8), v_bias=parameter(8), head=nn.Linear(8, 4)),
        tokens(),
    ),
    "low rank": Case(
        lambda: Parts(low_rank, base=parameter(8, 8), up=parameter(8, 2), down=parameter(2, 8), head=nn.Linear(8, 4)),
        tokens(),
    ),
    "buffers": Case(
        lambda: Parts(
            lambda self, x: self.a((x - self.mean) / self.std)[:, self.order],
            mean=torch.randn(3, 1, 1),
            std=torch.ones(3, 1, 1),
            order=torch.randperm(8),
            a=conv(3, 8),
        ),
        image(),
        types="input conv",
    ),
    "unused": Case(
        lambda: Parts(lambda self, x: self.a(x), a=conv(3, 8), b=conv(8, 8, bias=True), c=parameter(3)),
        image(),
        types="input conv",
        unused=("b.bias", "b.weight", "c"),
    ),
    "frozen": Case(frozen, image(), types="input conv bias bn conv"),
    "partly frozen": Case(partly_frozen, image(), types="input conv bias bn conv"),
    "scalar": Case(
        lambda: Parts(
            lambda self, x: self.a(x) * self.s + self.t,
            a=conv(3, 8),
            s=nn.Parameter(torch.tensor(0.5)),
            t=nn.Parameter(torch.tensor(0.1)),
        ),
        image(),
        types="input conv scale bias",
    ),
}
