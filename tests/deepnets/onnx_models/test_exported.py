"""Graphs of exported models: arguments that exporters invent, that are computed from data, or that are swapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import NODE_TYPES, read_onnx, trace
from tests.deepnets.onnx_models.test_reader import assert_as_traced, exported, model_of, random
from tests.support.zoo.case import Parts, parameter

IMAGE, TOKENS, VECTOR = (2, 3, 8, 8), (2, 5, 8), (2, 8)
NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer norm without parameters": lambda: nn.LayerNorm(8, elementwise_affine=False),
    "layer norm without a bias": lambda: nn.LayerNorm(8, bias=False),
    "batch norm without parameters": lambda: nn.BatchNorm2d(8, affine=False),
    "instance norm without parameters": lambda: nn.InstanceNorm2d(8),
    "instance norm": lambda: nn.InstanceNorm2d(8, affine=True),
    "group norm": lambda: nn.GroupNorm(2, 8),
    "group norm without parameters": lambda: nn.GroupNorm(2, 8, affine=False),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_have_the_parameters_of_the_module(name: str) -> None:
    first, last, shape = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3), IMAGE
    if "layer" in name:
        first, last, shape = nn.Linear(8, 8), nn.Linear(8, 3), TOKENS
    assert_as_traced(nn.Sequential(first, NORMS[name](), last).eval(), torch.randn(shape))


def test_graphs_do_not_depend_on_the_values_of_a_norm() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True)).eval()
    fresh = read_onnx(exported(model, torch.randn(IMAGE)))
    nn.init.normal_(model[1].weight)
    assert read_onnx(exported(model, torch.randn(IMAGE))) == fresh


def styled(self: Any, x: Tensor) -> Tensor:
    """Adaptive instance normalization."""
    style = self.make(x.mean((2, 3)))[0]
    return F.instance_norm(self.conv(x), weight=style[:4], bias=style[4:]).mean((2, 3))


def relative(self: Any, x: Tensor) -> Tensor:
    scores = x @ x.transpose(1, 2) + self.table[torch.arange(5)[:, None] - torch.arange(5) + 4]
    return self.head(scores.softmax(-1) @ x)


MODELS: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, Any], tuple[int, ...]]] = {
    "slopes": (
        lambda self, x: F.prelu(self.head(x), self.make(x).mean(0)),
        {"head": nn.Linear(8, 4), "make": nn.Linear(8, 4)},
        VECTOR,
    ),
    "styles": (styled, {"conv": nn.Conv2d(3, 4, 3), "make": nn.Linear(3, 8)}, IMAGE),
    "gains": (
        lambda self, x: F.layer_norm(self.head(x), (4,), self.make(x)[0], self.shift),
        {"head": nn.Linear(8, 4), "make": nn.Linear(8, 4), "shift": parameter(4)},
        VECTOR,
    ),
    "latents": (
        lambda self, x: self.head(x + self.make(self.latents)),
        {"make": nn.Linear(4, 8), "latents": parameter(5, 4), "head": nn.Linear(8, 3)},
        TOKENS,
    ),
    "relative positions": (relative, {"table": parameter(9), "head": nn.Linear(8, 3)}, TOKENS),
    "a sum after a softmax": (
        lambda self, x: self.head(self.a(x).softmax(-1) + self.b(x)),
        {"a": nn.Linear(8, 8), "b": nn.Linear(8, 8), "head": nn.Linear(8, 3)},
        TOKENS,
    ),
    "a residual connection of scores": (
        lambda self, x: self.head(x + x @ x.transpose(1, 2)),
        {"head": nn.Linear(5, 3)},
        (2, 5, 5),
    ),
    "a product after a softmax": (
        lambda self, x: torch.addmm(x, self.a(x).softmax(-1), self.b(x)),
        {"a": nn.Linear(8, 2), "b": nn.Linear(8, 8)},
        VECTOR,
    ),
    "a mean over outputs": (lambda self, x: self.head(x).mean(-1), {"head": nn.Linear(8, 4)}, TOKENS),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_are_read_as_they_are_traced(name: str) -> None:
    run, parts, shape = MODELS[name]
    assert assert_as_traced(Parts(run, **parts).eval(), torch.randn(shape)).live.all()


def test_a_recurrent_layer_whose_weight_is_computed_from_data() -> None:
    text = """net (float[5, 1, 4] x) => (float[5, 1, 1, 8] y) <int64[3] form = {1, 8, 4}> {
        m = MatMul (x, k)
        w = Reshape (m, form)
        y = RNN <hidden_size = 8> (x, w, r)
    }"""
    graph = read_onnx(model_of(text, k=random(4, 32), r=random(1, 8, 8)))
    assert [NODE_TYPES[kind] for kind in graph.node_types] == ["input", "conv", "rnn"]
    assert graph.edges.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_pixels_and_tables() -> None:
    gated = Parts(lambda self, x: (lambda z: z * self.gate(z).sigmoid())(x.float() / 255), gate=nn.Conv2d(3, 3, 1))
    assert_as_traced(gated.eval(), torch.randint(256, IMAGE, dtype=torch.uint8))
    looked_up = Parts(lambda self, x: self.head(self.table.gather(1, x)), table=parameter(2, 9), head=nn.Linear(5, 3))
    assert_as_traced(looked_up, torch.randint(9, (2, 5)))


def test_the_first_layer_that_reaches_the_output_has_the_parameter() -> None:
    def run(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.stem(x)
        return self.head(self.stem(x.flip(1))), first

    model = Parts(run, stem=nn.Linear(8, 8), head=nn.Linear(8, 3)).eval()
    found, traced = read_onnx(exported(model, torch.randn(TOKENS))), trace(model, torch.randn(TOKENS))
    assert found == traced
    kinds = [NODE_TYPES[kind] for kind in found.node_types]
    assert kinds.count("conv") == 3
    assert not found.pruned().unused
