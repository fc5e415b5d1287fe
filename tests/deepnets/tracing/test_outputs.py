"""`trace` on networks that return objects, losses and statistics; roles of parameters that are added to products."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import NODE_TYPES, Graph, trace
from tests.oracles.autograd_ancestry import ancestry_differences
from tests.support.zoo.case import Parts, parameter, tokens


def types_of(graph: Graph) -> str:
    return " ".join(NODE_TYPES[kind] for kind in graph.node_types)


def roles(graph: Graph) -> dict[str, str]:
    return {slot.name: slot.role for slots in graph.parameters for slot in slots}


@dataclass
class Result:
    inner: Any


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: Result(SimpleNamespace(parts=[{"logits": y}])),
        lambda y: UserDict(logits=Result(y)),
        lambda y: [None, (Result({"a": (y,)}),)],
    ],
)
def test_outputs_in_objects(wrap: Any) -> None:
    graph = trace(Parts(lambda self, x: wrap(self.a(x)), a=nn.Linear(8, 3)), tokens()())
    assert types_of(graph) == "input conv bias"
    assert roles(graph) == {"a.weight": "class_weight", "a.bias": "class_bias"}


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda y, target: F.mse_loss(y[:, 0], target.float())])
@pytest.mark.parametrize("first", [True, False])
def test_a_loss_is_not_the_output(loss: Any, first: bool) -> None:
    def run(self: Any, x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        logits = self.head(self.a(x))
        return (loss(logits, target), logits) if first else (logits, loss(logits, target))

    model = Parts(run, a=nn.Linear(8, 8), head=nn.Linear(8, 3))
    graph = trace(model, (torch.randn(2, 8), torch.tensor([0, 2])))
    assert types_of(graph) == "input conv bias conv bias"
    assert roles(graph)["head.weight"] == "class_weight"


def test_a_loss_with_parameters_keeps_them() -> None:
    def run(self: Any, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.head(x)
        return F.cross_entropy(logits * self.temperature.exp(), target), logits

    model = Parts(run, head=nn.Linear(8, 3), temperature=nn.Parameter(torch.zeros(())))
    graph = trace(model, (torch.randn(2, 8), torch.tensor([0, 2])))
    assert graph.unused == ()
    assert types_of(graph) == "input conv bias scale"


def test_only_a_loss() -> None:
    model = Parts(lambda self, x: self.a(x).square().mean(), a=nn.Linear(8, 3))
    assert types_of(trace(model, tokens()())) == "input conv bias"


# --- what is added to a product of data ---


def dynamic(self: Any, x: Tensor) -> Tensor:
    """A layer whose weight is computed from data, with a bias that is learned."""
    weight = self.make(x.mean(1)).view(-1, 8, 8)
    return self.head(x @ weight + self.bias)


def dynamic_fused(self: Any, x: Tensor) -> Tensor:
    weight = self.make(x.mean(1)).view(-1, 8, 8)
    return self.head(torch.baddbmm(self.bias.view(1, 1, -1), x, weight))


@pytest.mark.parametrize("run", [dynamic, dynamic_fused])
def test_vectors_are_biases(run: Any) -> None:
    model = Parts(run, make=nn.Linear(8, 64, bias=False), bias=parameter(8), head=nn.Linear(8, 3, bias=False))
    graph = trace(model, tokens()())
    assert types_of(graph) == "input glob_avg conv matmul bias conv"
    assert roles(graph)["bias"] == "bias"
    assert ancestry_differences(graph, model, tokens()()) == []


def test_tables_of_relative_positions_are_none() -> None:
    index = torch.arange(6)[:, None] - torch.arange(6) + 5

    def run(self: Any, x: Tensor) -> Tensor:
        return self.head((x @ x.mT + self.table[index]).softmax(-1) @ x)

    model = Parts(run, table=parameter(11), head=nn.Linear(8, 3))
    assert types_of(trace(model, tokens()())) == "input rel_pos msa conv bias"


def two_heads(self: Any, x: Tensor) -> Tensor:
    heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
    return ((heads @ heads.mT + self.shift).softmax(-1) @ heads).transpose(1, 2).flatten(2)


def test_a_bias_of_the_scores() -> None:
    inputs = torch.randn(2, 3, 8)
    model = Parts(lambda self, x: self.head(two_heads(self, x)), shift=parameter(2, 1, 1), head=nn.Linear(8, 3))
    assert types_of(trace(model, inputs)) == "input bias msa conv bias"


def shifted_weights(self: Any, x: Tensor) -> Tensor:
    """After the softmax, what is added is a sum like others."""
    return self.head(self.a(x).softmax(-1) + self.b(x))


def fused_residual(self: Any, x: Tensor) -> Tensor:
    return self.head(torch.baddbmm(x, self.a(x).softmax(-1)[..., :6], self.b(x)))


@pytest.mark.parametrize(
    ("run", "types"),
    [(shifted_weights, "input conv conv sum conv bias"), (fused_residual, "input conv conv msa sum conv bias")],
)
def test_sums_after_a_softmax(run: Any, types: str) -> None:
    layers = {"a": nn.Linear(8, 8, bias=False), "b": nn.Linear(8, 8, bias=False), "head": nn.Linear(8, 3)}
    graph = trace(Parts(run, **layers), tokens()())
    assert types_of(graph) == types
    assert ancestry_differences(graph, Parts(run, **layers), tokens()()) == []


def test_keywords_in_any_order() -> None:
    model = Parts(lambda self, x: torch.addmm(mat2=self.w, mat1=x, input=self.b), w=parameter(8, 3), b=parameter(3))
    graph = trace(model, torch.randn(2, 8))
    assert types_of(graph) == "input conv bias"
    assert [slots[0].name for slots in graph.parameters[1:]] == ["w", "b"]


@pytest.mark.parametrize("act", [nn.Identity(), nn.ReLU()])
def test_a_mean_over_the_outputs_of_a_layer_is_no_pooling(act: nn.Module) -> None:
    model = Parts(lambda self, x: self.act(self.head(x)).mean(-1), head=nn.Linear(8, 4), act=act)
    assert types_of(trace(model, tokens()())) == "input conv bias"
    pooled = Parts(lambda self, x: self.act(self.head(x).mT).mean(-1), head=nn.Linear(8, 4), act=act)
    assert types_of(trace(pooled, tokens()())) == "input glob_avg conv bias"


# --- weights that are computed from data ---


def attention(self: Any, x: Tensor) -> Tensor:
    weight, inner = self.make(x.mean((0, 1))).view(24, 8), self.inner
    out = inner.out_proj
    given = (weight, inner.in_proj_bias, None, None, False, 0.0, out.weight, out.bias)
    return self.head(F.multi_head_attention_forward(x, x, x, 8, 2, *given, training=False)[0])


def made(self: Any, x: Tensor) -> Tensor:
    return self.make(x).mean((0, 1))


COMPUTED: dict[str, tuple[Any, int, str]] = {
    "prelu": (lambda self, x: self.head(F.prelu(x.mT, made(self, x)).mT), 8, "other conv"),
    "bilinear": (lambda self, x: self.head(F.bilinear(x, x, made(self, x).view(8, 8, 8))), 512, "conv conv"),
    "bilinear bias": (lambda self, x: self.head(F.bilinear(x, x, self.w, made(self, x))), 8, "conv sum conv"),
    "attention": (attention, 192, "conv bias msa conv bias conv"),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_weights_that_are_computed_from_data(name: str) -> None:
    run, size, types = COMPUTED[name]
    parts = {"make": nn.Linear(8, size, bias=False), "head": nn.Linear(8, 3, bias=False)}
    parts |= {"inner": nn.MultiheadAttention(8, 2)} if name == "attention" else {}
    model = Parts(run, **parts, **({"w": parameter(8, 8, 8)} if name == "bilinear bias" else {}))
    graph = trace(model, tokens()())
    assert types_of(graph) == "input conv " + types
    assert graph.live.all()
    assert ancestry_differences(graph, model, tokens()()) == []


# --- parameters that are used again ---


def probe(self: Any, x: Tensor) -> Tensor:
    """How long are the features?  Only their shape is used."""
    length = self.stem(x).shape[-1]
    return self.head(self.stem(x.flip(1))[..., :length])


def routed(self: Any, x: Tensor) -> Tensor:
    return self.head(self.table(self.stem(x).argmax(-1)) + self.stem(x))


@pytest.mark.parametrize(("run", "kept"), [(probe, "input conv bias conv bias"), (routed, "")])
def test_the_first_use_that_reaches_the_output_has_the_parameter(run: Any, kept: str) -> None:
    layers = {"stem": nn.Linear(8, 8), "table": nn.Embedding(8, 8), "head": nn.Linear(8, 3)}
    if run is probe:
        del layers["table"]
    graph = trace(Parts(run, **layers), tokens()())
    assert types_of(graph).startswith("input conv bias")
    assert graph.live.tolist()[:4] == [True, False, False, True]
    pruned = graph.pruned()
    assert pruned.unused == ()
    if kept:
        assert types_of(pruned) == kept
    assert ancestry_differences(pruned, Parts(run, **layers), tokens()()) == []
