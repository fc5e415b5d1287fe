"""`trace` on networks with code that a `TorchFunctionMode` does not see, and the check of parameters by autograd."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import functional as autograd
from torch.utils._python_dispatch import _disable_current_modes

from deepnets import NODE_TYPES, Graph, TraceError, trace
from deepnets.tracing import rules
from tests.oracles.autograd_ancestry import ancestry_differences
from tests.support.zoo.case import Parts, ids, image, parameter, tokens
from tests.support.zoo.vision import conv

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def types_of(graph: Graph) -> str:
    return " ".join(NODE_TYPES[kind] for kind in graph.node_types)


def scripted(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


def recorded(module: nn.Module, *inputs: Tensor) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, inputs)


def block() -> nn.Module:
    layers = (nn.Conv2d(8, 8, 3, groups=2), nn.GroupNorm(2, 8), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(8, 8)).eval()


@pytest.mark.parametrize("compile_part", [scripted, lambda part: recorded(part, torch.randn(2, 8, 14, 14))])
def test_compiled_parts_have_the_graph_of_the_original(compile_part: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    stem, part, head = conv(3, 8), block(), nn.Linear(8, 3)
    inputs = torch.randn(2, 3, 14, 14)
    plain = trace(nn.Sequential(stem, part, head), inputs)
    graph = trace(nn.Sequential(stem, compile_part(copy.deepcopy(part)), head), inputs)
    assert types_of(graph) == types_of(plain) == "input conv sep_conv bias gn glob_avg conv bias conv bias"
    assert graph.edges.tolist() == plain.edges.tolist()
    assert graph.parameters == plain.parameters


@torch.jit.script
def gate(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


@torch.jit.script
def residual(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    return torch.relu(x + y * scale)


def compiled_functions(self: Any, x: Tensor) -> Tensor:
    x = gate(self.a(x))
    return self.c(residual(x, self.b(x), self.gamma))


def compiled_embedding(self: Any, words: Tensor) -> Tensor:
    """Without a floating-point input, the compiled part gets only tensors with values."""
    return self.c(self.embed(words).mean(1))


def kept_for_later(self: Any, x: Tensor) -> Tensor:
    """The result of compiled code is stored in the module before a function reads it."""
    self.last = gate(self.a(x))
    return self.c(self.last)


def on_data(self: Any, x: Tensor) -> Tensor:
    y = gate(self.a(x))
    return self.c(y if y.abs().sum() > 0 else -y)


def mapped_over_weights(self: Any, x: Tensor) -> Tensor:
    """An ensemble of two layers, with `torch.vmap` over their weights."""
    return self.c(torch.vmap(lambda weight: torch.tanh(x @ weight))(self.stack).mean(0))


def mapped_over_data(self: Any, x: Tensor) -> Tensor:
    return self.c(torch.vmap(lambda each: self.a(each) * self.gamma)(x))


def linear(width: int = 8) -> nn.Linear:
    return nn.Linear(8, width, bias=False)


HIDDEN: dict[str, tuple[Callable[..., Tensor], dict[str, Any], Callable[[], Tensor], str]] = {
    "functions": (
        compiled_functions,
        {"a": linear(), "b": linear(), "c": linear(), "gamma": parameter(8)},
        tokens(),
        "input conv conv scale sum conv",
    ),
    "embedding": (
        compiled_embedding,
        {"embed": scripted(nn.Embedding(11, 8)), "c": linear()},
        ids(),
        "input embed glob_avg conv",
    ),
    "kept": (kept_for_later, {"a": linear(), "c": linear()}, tokens(), "input conv conv"),
    "control flow": (on_data, {"a": linear(), "c": linear()}, tokens(), "input conv conv"),
    "vmap over weights": (
        mapped_over_weights,
        {"stack": parameter(2, 8, 8), "c": linear()},
        tokens(),
        "input conv conv",
    ),
    "vmap over data": (
        mapped_over_data,
        {"a": linear(), "c": linear(), "gamma": parameter(8)},
        tokens(),
        "input conv scale conv",
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_code(name: str) -> None:
    run, parts, make, types = HIDDEN[name]
    model, inputs = Parts(run, **parts), make()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    graph = trace(model, inputs)
    assert types_of(graph) == types
    assert graph.unused == ()
    assert graph.live.all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if "vmap" not in name:
        assert ancestry_differences(graph, model, inputs) == []


def test_modules_of_torch_export() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4)
    )
    inputs = torch.randn(2, 3, 8, 8)
    plain = trace(model.eval(), inputs)
    program = torch.export.export(model, (inputs,))
    for exported in (program.module(), program.run_decompositions().module()):
        graph = trace(exported, inputs)
        assert types_of(graph) == types_of(plain)
        assert graph.edges.tolist() == plain.edges.tolist()
        assert graph.parameters == plain.parameters


def test_flex_attention() -> None:
    attention = pytest.importorskip("torch.nn.attention.flex_attention")

    def run(self: Any, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)

        def change(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score + self.table[query - key + 16]

        mask = attention.create_block_mask(lambda b, h, q, k: q >= k, None, None, 16, 16, device=x.device)
        return self.head(attention.flex_attention(q, k, v, score_mod=change, block_mask=mask)[:, 0])

    model = Parts(run, qkv=nn.Linear(16, 48), table=parameter(32, 1), head=nn.Linear(16, 3))
    graph = trace(model, torch.randn(2, 16, 16))
    assert types_of(graph) == "input conv bias rel_pos msa conv bias"
    assert graph.unused == ()


def test_tensors_of_programs_that_are_no_part_of_the_network() -> None:
    """A constant of the code around the network is no hidden code."""
    shift = torch.randn(8)

    def run(self: Any, x: Tensor) -> Tensor:
        return self.a(x + shift) + torch.FloatTensor([1.0] * 8)

    assert types_of(trace(Parts(run, a=linear()), tokens()())) == "input conv"


def test_a_view_of_a_parameter_stands_for_it() -> None:
    model = Parts(lambda self, x: x @ self.halves[0], w=parameter(16, 8))
    model.halves = [model.w.detach()[:8], model.w.detach()[8:]]
    graph = trace(model, tokens()())
    assert [slot.name for slots in graph.parameters for slot in slots] == ["w"]


# --- custom operators ---


@torch.library.custom_op("deepnets_tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() * 2)


@doubled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("deepnets_tests::halved", mutates_args=())
def halved(x: Tensor) -> Tensor:
    """It has no implementation without values."""
    return torch.from_numpy(x.numpy() / 2)


def unseen(x: Tensor) -> Tensor:
    """An operator that no mode sees, such as one that calls a kernel itself."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        return doubled(x)


@pytest.mark.parametrize("operator", [doubled, halved])
def test_custom_operators(operator: Callable[[Tensor], Tensor]) -> None:
    model = Parts(lambda self, x: self.c(operator(self.a(x)) + self.b(x)), a=linear(), b=linear(), c=linear())
    graph = trace(model, tokens()())
    assert types_of(graph) == "input conv conv sum conv"
    assert graph.edges.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3], [3, 4]]


MAKERS: dict[str, Callable[[Any, Tensor], Any]] = {
    "read by a later module": lambda self, x: unseen(x),
    "in a container": lambda self, x: {"first": [x, unseen(x)]},
    "read by itself": lambda self, x: unseen(x) + 1,
}


@pytest.mark.parametrize("head", [linear(), nn.Identity()], ids=["layer", "output"])
@pytest.mark.parametrize("name", MAKERS)
def test_the_module_of_a_custom_operator_that_cannot_be_followed(name: str, head: nn.Module) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        y = self.inner(self.a(x))
        return self.head(y if isinstance(y, Tensor) else y["first"][1])

    model = Parts(run, a=linear(), inner=Parts(MAKERS[name]), head=head)
    with pytest.raises(TraceError, match=r"^Parts, module 'inner': a tensor is created by code .*custom operator"):
        trace(model, tokens()())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_module_that_reads_a_tensor_that_no_module_returns() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.head(unseen(self.a(x)))

    with pytest.raises(TraceError, match=r"^Parts, module 'head': a tensor is created by code"):
        trace(Parts(run, a=linear(), head=linear()), tokens()())


# --- the check ---


def test_lost_parameters_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a rule forgets a parameter that the output depends on, there is no graph."""
    monkeypatch.setitem(rules.RULES, "prelu", rules.dropout)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU())
    with pytest.raises(TraceError, match=r"depends on these parameters, but how cannot be traced: 1\.weight"):
        trace(model, image()())


def test_parameters_without_influence_are_unused() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        if self.spare.sum() > 0:
            x = x + 1
        self.other(x)
        return self.a(x * torch.ones_like(self.spare))

    model = Parts(run, a=linear(), spare=parameter(8), other=linear(), last=parameter(2))
    graph = trace(model, tokens()())
    assert {slot.name for slot in graph.unused} == {"spare", "last"}


def test_returned_parameters_have_a_node() -> None:
    model = Parts(lambda self, x: (self.a(x), self.scale.exp()), a=linear(), scale=parameter(1))
    graph = trace(model, tokens()())
    assert graph.unused == ()
    dead = [slot.name for slots, live in zip(graph.parameters, graph.live) if not live for slot in slots]
    assert dead == ["scale"]


class Tanh(torch.autograd.Function):
    """Leaves PyTorch for NumPy, and so the run."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


CUT_OFF: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "NumPy": lambda self, x: self.b(Tanh.apply(self.a(x))),
    "jacobian": lambda self, x: self.b(x) + autograd.jacobian(self.a, x, create_graph=True).sum((0, 1, 2, 3)),
    "vjp": lambda self, x: self.b(x) + autograd.vjp(self.a, x, torch.ones(2, 6, 8), create_graph=True)[1],
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_parameters_whose_nodes_are_cut_off_are_errors(name: str) -> None:
    with pytest.raises(TraceError, match=r"depends on these parameters, but how cannot be traced: a\.weight"):
        trace(Parts(CUT_OFF[name], a=linear(), b=linear()), tokens()())
