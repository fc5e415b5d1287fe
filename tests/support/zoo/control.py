"""Small models with control flow, wrappers, modes, devices and errors that are difficult to trace."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.support.zoo.case import Case, Parts, image, parameter, tokens
from tests.support.zoo.vision import conv

__all__ = ["CONTROL"]


class Swish(torch.autograd.Function):
    """x * sigmoid(x) with a custom backward pass, as in older EfficientNets."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


class Affine(torch.autograd.Function):
    """A custom autograd function that takes a parameter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x * weight.view(1, -1, 1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient * weight.view(1, -1, 1, 1), (gradient * x).sum((0, 2, 3))


class Auxiliary(nn.Module):
    """An auxiliary classifier, as in GoogLeNet: in training mode, the output is a tuple of two logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = conv(3, 8), conv(8, 8)
        self.auxiliary = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.relu(self.stem(x))
        auxiliary = self.auxiliary(x) if self.training else None
        x = self.head(self.body(x).mean((2, 3)))
        return x if auxiliary is None else (x, auxiliary)


def auxiliary_last(self: Any, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """A model whose output is not computed last."""
    x = self.a(x)
    output = self.head(x.mean((2, 3)))
    return (output, self.auxiliary(self.b(x).mean((2, 3)))) if self.training else output


def stochastic(self: Any, x: Tensor) -> Tensor:
    """Stochastic depth: in training mode, a residual branch is dropped for some samples."""
    x = self.a(x)
    y = F.dropout(self.b(x), 0.1, self.training)
    if self.training:
        y = y / 0.5 * torch.bernoulli(torch.full((len(x), 1, 1, 1), 0.5, dtype=x.dtype, device=x.device))
    return self.c(x + y)


def on_shape(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    while x.shape[-1] > 4:
        x = F.max_pool2d(x, 2)
    if x.numel() // len(x) == 128:
        return self.c(x)
    return self.b(x)


def on_data(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    if x.abs().sum() > 0:
        x = self.b(x)
    return self.c(x)


def on_item(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    scale = x.abs().max().item()
    return self.c(self.b(x / scale if scale > 1 else x))


def nonzero(self: Any, x: Tensor) -> Tensor:
    kept = (x[..., 0] > -1e9).flatten().nonzero().squeeze(1)
    y = self.first(x).flatten(0, 1)
    return self.second(y[kept])


def experts(self: Any, x: Tensor) -> Tensor:
    """A mixture of experts: every token is processed by the two experts with the highest routing scores."""
    x = self.stem(x).flatten(0, 1)
    weights, chosen = self.router(x).softmax(-1).topk(2)
    result = torch.zeros_like(x)
    for i, expert in enumerate(self.experts):
        token, rank = torch.where(chosen == i)
        result.index_add_(0, token, weights[token, rank, None] * expert(x[token]))
    return self.head(result)


def remembering(self: Any, x: Tensor) -> Tensor:
    """Caches a computed tensor, as the attention biases of LeViT, and counts its calls."""
    self.calls += 1
    self.last = self.a(x)
    self.kept.append(self.last)
    if str(x.device) not in self.cache:
        self.cache[str(x.device)] = self.scale.exp()
    return self.c(self.last * self.cache[str(x.device)])


def rememberer() -> nn.Module:
    model = Parts(remembering, scale=parameter(8, 1, 1), **abc(b=None))
    model.calls, model.last, model.kept, model.cache = 0, None, [], {}
    return model


def structured(self: Any, batch: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> dict[str, Any]:
    x = self.a(batch["image"])
    return {"main": self.c(self.b(x)), "others": [x, (pair[0] + pair[1],)]}


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 256, 5))


def checkpointed(reentrant: bool) -> Any:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(x + checkpoint(self.b, x, use_reentrant=reentrant))

    return run


def compiled() -> nn.Module:
    return torch.compile(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4)))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        return torch.jit.script(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4)))


def failing(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    self.norm(x)
    raise ValueError("the moon is in the wrong phase")


def abc(**more: Any) -> dict[str, Any]:
    return {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 4), **more}


def four_linears() -> dict[str, nn.Module]:
    return {"first": nn.Linear(8, 8), "second": nn.Linear(8, 8, bias=False)}


RESIDUAL = "input conv conv sum conv"
CHAIN = "input conv conv conv"

CONTROL = {
    "custom function": Case(
        lambda: Parts(lambda self, x: self.c(Swish.apply(self.b(Swish.apply(self.a(x))))), **abc()),
        image(),
        types=CHAIN,
    ),
    "custom function of a parameter": Case(
        lambda: Parts(lambda self, x: self.c(Affine.apply(self.a(x), self.w)), w=parameter(8), **abc(b=None)), image()
    ),
    "checkpoint": Case(lambda: Parts(checkpointed(False), **abc()), image(), types=RESIDUAL),
    "checkpoint, reentrant": Case(lambda: Parts(checkpointed(True), **abc()), image(), types=RESIDUAL, training=True),
    "auxiliary head": Case(Auxiliary, image()),
    "auxiliary head, training": Case(Auxiliary, image(), training=True),
    "auxiliary head, run last": Case(
        lambda: Parts(auxiliary_last, head=nn.Linear(8, 5), auxiliary=nn.Linear(8, 5), **abc(c=None)), image()
    ),
    "stochastic depth": Case(lambda: Parts(stochastic, **abc()), image(), types=RESIDUAL),
    "stochastic depth, training": Case(lambda: Parts(stochastic, **abc()), image(), types=RESIDUAL, training=True),
    "control flow on shapes": Case(
        lambda: Parts(on_shape, **abc()),
        image(),
        types="input conv max_pool max_pool conv",
        unused=("b.weight",),
    ),
    "control flow on data": Case(lambda: Parts(on_data, **abc()), image(), types=CHAIN),
    "a number from data": Case(lambda: Parts(on_item, **abc()), image(), types=CHAIN),
    "nonzero": Case(lambda: Parts(nonzero, **four_linears()), tokens(), types="input conv bias conv"),
    "mixture of experts": Case(
        lambda: Parts(
            experts,
            stem=nn.Linear(8, 8),
            router=nn.Linear(8, 3, bias=False),
            head=nn.Linear(8, 4),
            experts=nn.ModuleList(nn.Linear(8, 8) for _ in range(3)),
        ),
        tokens(length=32),
    ),
    "remembering": Case(rememberer, image(), types="input conv scale conv"),
    "dictionaries and tuples": Case(
        lambda: Parts(structured, **abc()),
        lambda: {"batch": {"image": torch.randn(2, 3, 16, 16)}, "pair": (torch.ones(2), torch.ones(2))},
    ),
    "keywords": Case(
        lambda: Parts(lambda self, *, image, scale=None: self.c(self.b(self.a(image)) * scale), **abc()),
        lambda: {"image": torch.randn(2, 3, 16, 16), "scale": 2.0},
        types=CHAIN,
    ),
    "data parallel": Case(
        lambda: nn.DataParallel(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4))), image(), types="input conv conv"
    ),
    "compiled": Case(compiled, image(), types="input conv conv"),
    "half precision": Case(
        lambda: nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 256, 5)).half(),
        lambda: image()().half(),
        types="input conv bn conv bias",
    ),
    "bfloat16": Case(
        lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4)).bfloat16(),
        lambda: tokens()().bfloat16(),
        types="input conv bias ln conv bias",
    ),
    "double": Case(
        lambda: nn.Sequential(conv(3, 8), conv(8, 4)).double(), lambda: image()().double(), types="input conv conv"
    ),
    "on the meta device": Case(on_meta, image(), types="input conv bn conv bias", by_autograd=False),
    "no parameters": Case(lambda: nn.Sequential(nn.ReLU(), nn.Flatten()), image()),
    "scripted": Case(scripted, image(), error="(?i)script", by_autograd=False),
    "failing": Case(
        lambda: Parts(failing, norm=nn.BatchNorm2d(8), **abc()),
        image(),
        error="moon is in the wrong phase",
        by_autograd=False,
    ),
    "wrong channels": Case(
        lambda: Parts(lambda self, x: self.a(x), a=conv(3, 8)), image(4), error="channels", by_autograd=False
    ),
    "wrong rank": Case(
        lambda: nn.Sequential(conv(3, 8), nn.Flatten(), nn.Linear(7, 5)), image(), error="shape|size", by_autograd=False
    ),
}
