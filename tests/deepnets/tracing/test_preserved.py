"""`trace` leaves everything that a network holds as it was, also when it runs with values."""

from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import NODE_TYPES, trace
from deepnets.tracing.state import reachable
from tests.support.zoo.case import Parts, parameter


def types_of(graph: Any) -> str:
    return " ".join(NODE_TYPES[kind] for kind in graph.node_types)


class Holder:
    __slots__ = ("count", "items")

    def __init__(self) -> None:
        self.count, self.items = 0, [torch.zeros(2)]


NORMS = {"bn": nn.BatchNorm1d(8), "gn": nn.InstanceNorm1d(8, affine=True, track_running_stats=True)}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("values", [False, True])
def test_statistics_of_norms(norm: str, values: bool) -> None:
    """A head of training that runs in training mode, and a condition on data."""

    def run(self: Any, x: Tensor) -> Any:
        h = self.norm(self.a(x))
        if values and h.sum() > 1e9:
            h = -h
        return (self.b(h), self.auxiliary(h)) if self.training else self.b(h)

    layers = {"a": nn.Conv1d(4, 8, 1), "b": nn.Conv1d(8, 3, 1), "auxiliary": nn.Conv1d(8, 3, 1)}
    model = Parts(run, norm=NORMS[norm], spare=parameter(2), **layers)
    before = {key: (value.clone(), value._version) for key, value in model.state_dict().items()}
    trace(model, torch.randn(6, 4, 5))
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, (value, _) in before.items())
    assert {key: value._version for key, value in after.items()} == {
        key: version for key, (_, version) in before.items()
    }


@pytest.mark.parametrize("values", [False, True])
def test_tensors_and_objects_that_a_network_holds(values: bool) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        if values and y.sum() > 1e9:
            y = -y
        self.queue.append(y)
        self.queue[0].add_(1)
        self.nested["a"][0].history[-1].mul_(2)
        self.nested["a"][0].history.append(y)
        self.holder.count += 1
        self.holder.items[0] += y.mean()
        torch._foreach_add_([self.memory, self.holder.items[0]], 1.0)
        torch.max(y.detach(), 1, out=(self.best, self.where))
        self.memory.data = y.mean((0, 1))
        self.memory[0] = 7
        self.weights[0].fill_(0)
        noise = random.random() + float(np.random.rand())  # noqa: NPY002
        return y + noise + torch.rand(()) + torch.rand(3, generator=self.source)

    model = Parts(run, a=nn.Linear(4, 3), memory=torch.ones(3), best=torch.zeros(2, 3))
    model.where, model.queue = torch.zeros(2, 3, dtype=torch.long), deque([torch.zeros(3)], maxlen=2)
    model.nested = {"a": (SimpleNamespace(history=[torch.ones(3)]),)}
    model.holder, model.source, model.weights = Holder(), torch.Generator(), [model.a.weight]

    def state() -> Any:
        held = [model.memory, model.where, model.best, *model.queue, *model.nested["a"][0].history, *model.holder.items]
        seeds = np.random.get_state()  # noqa: NPY002
        states = (random.getstate(), seeds[1].tolist(), seeds[2], torch.get_rng_state().tolist())
        tensors = [(id(part), part.device.type, part._version, part.tolist()) for part in [*held, model.a.weight]]
        return tensors, model.holder.count, *states, model.source.get_state().tolist(), len(model.queue)

    inputs = torch.randn(2, 5, 4)
    before = state()
    graph = trace(model, inputs)
    assert [now == then for now, then in zip(state(), before)] == [True] * len(before)
    assert types_of(graph).startswith("input conv bias")


def test_tables_that_are_normalised_in_place() -> None:
    def run(self: Any, words: Tensor) -> Tensor:
        x = F.embedding(words, self.table, max_norm=0.1)
        return self.a(x if x.sum() < 1e9 else -x)

    model = Parts(run, table=parameter(5, 4), a=nn.Linear(4, 2))
    before = model.table.clone()
    trace(model, torch.tensor([[1, 2], [3, 4]]))
    assert torch.equal(model.table, before)


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.uint8])
def test_parameters_of_integers_are_constants(dtype: torch.dtype) -> None:
    from ghn_model import GHN

    def run(self: Any, x: Tensor) -> Tensor:
        return self.a(x)[:, self.order] if self.order.dtype != torch.uint8 else self.a(x) * self.order

    order = torch.tensor([1, 0, 1, 1, 0, 1]).to(dtype)
    model = Parts(run, a=nn.Linear(4, 6), order=nn.Parameter(order.clone(), requires_grad=False))
    graph = trace(model, torch.randn(2, 4))
    assert types_of(graph) == "input conv bias"
    assert [slot.name for slot in graph.unused] == ["order"]
    ghn = GHN("ghn2")
    assert "order" not in ghn.predict(model, torch.randn(2, 4))
    ghn.initialize(model, torch.randn(2, 4))
    assert torch.equal(model.order, order)


def test_parameters_without_elements() -> None:
    from ghn_model import GHN

    model = Parts(
        lambda self, x: F.linear(x, torch.cat([self.w, self.more])) + torch.cat([self.b, self.less]),
        w=parameter(5, 4),
        more=parameter(0, 4),
        b=parameter(5),
        less=parameter(0),
    )
    inputs = torch.randn(2, 4)
    graph = trace(model, inputs)
    assert graph.unused == ()
    predicted = GHN("ghn2").predict(model, inputs)
    assert {name: tuple(tensor.shape) for name, tensor in predicted.items()} == {
        name: tuple(p.shape) for name, p in model.named_parameters()
    }
    GHN("ghn2").initialize(model, inputs)
    assert torch.func.functional_call(model, predicted, (inputs,)).shape == (2, 5)


@pytest.mark.parametrize("name", ["modules", "parameters", "named_modules", "named_parameters", "children", "buffers"])
def test_attributes_that_hide_methods(name: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4))
            setattr(self, name, list(self.layers))

        def forward(self, x: Tensor) -> Tensor:
            for module in getattr(self, name):
                x = module(x)
            return x

    graph = trace(Net(), torch.randn(2, 4))
    assert types_of(graph) == "input conv bn"
    names = [slot.name for slots in graph.parameters for slot in slots]
    assert names == ["layers.0.weight", "layers.1.weight", "layers.1.bias"]


def test_reachable_visits_every_object_once() -> None:
    first = SimpleNamespace(parts=[1, "a", torch.zeros(1)])
    first.parts.append({"again": first, "more": (torch.zeros(2), Holder())})
    sizes = [part.numel() for part in reachable(first, set()) if isinstance(part, Tensor)]
    assert sizes == [1, 2, 2]
