"""`trace` on networks that change tensors in place: tensors made in `forward`, buffers, views, outputs of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import NODE_TYPES, Graph, TraceError, trace
from deepnets.tracing import rules
from tests.oracles.autograd_ancestry import ancestry_differences
from tests.support.zoo.case import Parts, parameter, tokens

INDEX = torch.tensor([0, 2, 1, 0, 1, 2])
PLACES = torch.tensor([4, 0, 2])


def net(run: Callable[[Any, Tensor], Tensor], **more: Any) -> nn.Module:
    torch.manual_seed(0)
    layers = {"a": nn.Linear(8, 8, bias=False), "b": nn.Linear(8, 8, bias=False), "head": nn.Linear(8, 3, bias=False)}
    return Parts(lambda self, x: self.head(run(self, x)), **layers, **more)


def types_of(graph: Graph) -> str:
    return " ".join(NODE_TYPES[kind] for kind in graph.node_types)


def scatter(self: Any, x: Tensor) -> Tensor:
    """Sums of the tokens of three groups, as a layer of a graph neural network."""
    y = self.a(x)
    return y.new_zeros(len(y), 3, 8).scatter_add_(1, INDEX[:, None].expand_as(y), y)


def copied(self: Any, x: Tensor) -> Tensor:
    made = torch.empty_like(x)
    assert made.copy_(self.a(x)) is made
    return made


def overwritten(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    x.copy_(self.b(x.detach() * 2))
    return x


def rows(self: Any, x: Tensor) -> Tensor:
    """Rows of a result are written through views of it."""
    result = torch.zeros_like(x)
    flat = result.view(-1, 8)
    for i in range(6):
        result[:, i].add_(self.a(x[:, i]) if i % 2 else self.b(x[:, i]))
    return flat.view(x.shape)


def indexed(self: Any, x: Tensor) -> Tensor:
    """Tokens of two branches are put in their places in a tensor of zeros."""
    result = torch.zeros_like(x)
    assert result.index_copy_(1, PLACES, self.a(x[:, :3])) is result
    result.index_copy_(dim=1, index=PLACES + 1, source=self.b(x[:, 3:]))
    return result


def cached(self: Any, x: Tensor) -> Tensor:
    """A cache of keys or values, of which a step writes some places."""
    self.memory.index_copy_(1, PLACES, self.a(x[:, :3]))
    return self.memory


def product(self: Any, x: Tensor) -> Tensor:
    result = torch.ones_like(x)
    before = result
    result *= self.a(x)
    result *= self.b(x)
    assert result is before
    return before


def given_out(self: Any, x: Tensor) -> Tensor:
    sums = torch.empty(x.shape)
    torch.add(self.a(x), self.b(x), out=sums)
    return sums


def several_out(self: Any, x: Tensor) -> Tensor:
    best, where = torch.empty(2, 8), torch.empty(2, 8, dtype=torch.long)
    torch.max(self.a(x), 1, out=(best, where))
    return best


def for_each(self: Any, x: Tensor) -> Tensor:
    sums = [torch.zeros_like(x), torch.zeros_like(x)]
    torch._foreach_add_(sums, [self.a(x), self.b(x)])
    return torch.cat(sums, 1)


def buffered(self: Any, x: Tensor) -> Tensor:
    self.memory += self.a(x)
    self.memory[:, 0].mul_(0.5)
    return self.memory


def replaced_data(self: Any, x: Tensor) -> Tensor:
    self.memory.data = self.a(x)
    return self.memory * 2


def cleared(self: Any, x: Tensor) -> Tensor:
    y = self.a(x)
    y.zero_()
    y += self.b(x)
    return y


def fused(self: Any, x: Tensor) -> Tensor:
    result = torch.zeros(6, 8)
    return result.addmm_(torch.eye(6), self.a(x)[0]).add_(self.b(x)[0])


def learned(self: Any, x: Tensor) -> Tensor:
    """A weight that is assembled in a tensor of zeros."""
    weight = torch.zeros(8, 8)
    weight.copy_(self.w)
    return nn.functional.linear(self.a(x), weight)


MEMORY = {"memory": torch.zeros(2, 6, 8)}
CASES: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, Any], str]] = {
    "scatter_add_": (scatter, {"b": nn.Identity()}, "input conv conv"),
    "copy_": (copied, {"b": nn.Identity()}, "input conv conv"),
    "views": (rows, {}, ""),
    "index_copy_": (indexed, {}, "input conv conv concat conv"),
    "index_copy_ buffer": (cached, {"b": nn.Identity(), **MEMORY}, "input conv conv"),
    "*=": (product, {}, "input conv conv mul conv"),
    "out": (given_out, {}, "input conv conv sum conv"),
    "several out": (several_out, {"b": nn.Identity()}, "input conv conv"),
    "_foreach_": (for_each, {}, "input conv conv concat conv"),
    "buffer": (buffered, {"b": nn.Identity(), **MEMORY}, "input conv conv"),
    "data": (replaced_data, {"b": nn.Identity(), **MEMORY}, "input conv conv"),
    "zero_": (cleared, {}, "input conv conv conv"),
    "addmm_": (fused, {}, "input conv conv sum conv"),
    "parameter": (learned, {"b": nn.Identity(), "w": parameter(8, 8)}, "input conv conv conv"),
}
BY_AUTOGRAD = [
    name for name in CASES if name not in ("out", "several out", "data", "zero_", "buffer", "index_copy_ buffer")
]


def made(name: str) -> nn.Module:
    run, more, _ = CASES[name]
    model = net(run)
    for key, part in more.items():
        if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
            model.register_buffer(key, part.clone())
        else:
            setattr(model, key, part)
    return model


@pytest.mark.parametrize("name", CASES)
def test_all_branches_reach_the_output(name: str) -> None:
    model, inputs = made(name), tokens()()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    graph = trace(model, inputs)
    if CASES[name][2]:
        assert types_of(graph) == CASES[name][2]
    assert graph.unused == ()
    if name != "zero_":  # what `a` returns is cleared
        assert graph.live.all()
    if name in BY_AUTOGRAD:
        assert ancestry_differences(graph, model, inputs) == []
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_tensor_that_is_overwritten_does_not_depend_on_its_past() -> None:
    graph = trace(net(overwritten), tokens()())
    assert types_of(graph) == "input conv conv conv"  # a, b and the head, one after the other
    assert graph.edges.tolist() == [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize("arguments", [{"dtype": torch.float32, "copy": True}, {"copy": True}])
def test_a_copy_does_not_change_the_original(arguments: dict[str, Any]) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        y.to(**{"device": y.device, **arguments}).add_(self.b(x))
        return y

    graph = trace(net(run), tokens()())
    assert graph.edges.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3], [1, 4]]  # the sum does not reach the head
    assert graph.live.tolist() == [True, True, False, False, True]


def test_values_that_are_not_computed_do_not_control_the_run() -> None:
    """The zeros are no zeros any more when the condition reads them."""

    def run(self: Any, x: Tensor) -> Tensor:
        result = torch.zeros_like(x)
        view = result[0]
        result += self.a(x) ** 2
        return result if bool((view == 0).all()) else self.b(result)

    graph = trace(net(run), tokens()())
    assert types_of(graph) == "input conv conv conv"


def test_a_counter_of_integers_still_has_values() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        count = torch.zeros(1, dtype=torch.long)
        count += 2
        for _ in range(int(count)):
            x = self.a(x)
        return self.b(x)

    assert types_of(trace(net(run), tokens()())) == "input conv conv conv conv"


@pytest.mark.parametrize("layer", ["GCNConv", "GATConv", "GATv2Conv", "SAGEConv", "GINConv", "TransformerConv"])
def test_layers_of_graph_neural_networks(layer: str) -> None:
    layers = pytest.importorskip("torch_geometric.nn")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            make = getattr(layers, layer)
            if layer == "GINConv":
                make = lambda i, o: layers.GINConv(nn.Sequential(nn.Linear(i, o), nn.ReLU(), nn.Linear(o, o)))  # noqa: E731
            self.convs = nn.ModuleList([make(4, 8), make(8, 8), make(8, 3)])

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            for conv in self.convs[:-1]:
                x = conv(x, edges).relu()
            return self.convs[-1](x, edges)

    torch.manual_seed(0)
    model, inputs = Net(), (torch.randn(6, 4), torch.tensor([[0, 1, 2, 3, 5], [1, 2, 3, 4, 0]]))
    graph = trace(model, inputs)
    assert graph.unused == ()
    assert graph.live.all()
    assert ancestry_differences(graph, model, inputs) == []


# --- integers and scores that are written to ---


def numbers(write: Callable[[Any, Tensor], object]) -> Callable[[Any, Tensor], Tensor]:
    def run(self: Any, x: Tensor) -> Tensor:
        codes = F.one_hot(x, 8).float()
        write(self, codes)
        return codes

    return run


def into_row(self: Any, codes: Tensor) -> None:
    codes[:, -1] = self.token


def into_masked(self: Any, codes: Tensor) -> None:
    codes.masked_scatter_(torch.eye(6, 8, dtype=torch.bool).expand(2, -1, -1), self.token.repeat(2))


WRITES: dict[str, Callable[[Any, Tensor], object]] = {
    "[]": into_row,
    "index_copy_": lambda self, codes: codes.index_copy_(1, torch.tensor([2]), self.token.expand(2, 1, 8)),
    "masked_scatter_": into_masked,
    "copy_": lambda self, codes: codes.diagonal(dim1=1, dim2=2).copy_(self.token[:6]),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_parameter_that_is_written_into_integers(name: str) -> None:
    model = Parts(
        lambda self, x: self.head(numbers(WRITES[name])(self, x)), token=parameter(8), head=nn.Linear(8, 3, bias=False)
    )
    inputs = torch.randint(8, (2, 6))
    graph = trace(model, inputs)
    assert types_of(graph) == "input token concat conv"
    assert ancestry_differences(graph, model, inputs) == []


@pytest.mark.parametrize("name", WRITES)
def test_autograd_follows_what_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the rule forgets the parameter, the check finds that the output depends on it."""
    monkeypatch.setattr(rules, "_written_value", lambda capture, call: capture.value(call.tensors[0]))
    model = Parts(lambda self, x: self.head(numbers(WRITES[name])(self, x)), token=parameter(8), head=nn.Linear(8, 3))
    with pytest.raises(TraceError, match="cannot be traced: token"):
        trace(model, torch.randint(8, (2, 6)))


def test_data_that_is_written_into_pixels() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        pixels = x.float() / 255
        pixels[:, 0] = self.a(pixels.mean(1))
        return pixels

    graph = trace(net(run), torch.randint(256, (2, 6, 8), dtype=torch.uint8))
    assert types_of(graph) == "input glob_avg conv concat conv"
    assert [0, 3] in graph.edges.tolist()


def test_a_parameter_that_is_written_into_scores() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        scores = self.a(x) @ self.b(x).mT
        scores[:, :, 0] = self.sink
        return scores.softmax(-1) @ x

    graph = trace(net(run, sink=parameter(6)), tokens()())
    assert types_of(graph) == "input conv conv token concat msa conv"
    assert graph.live.all()


def test_active_dropout_returns_another_tensor() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        dropped = F.dropout(x, 0.5, True)
        dropped += self.b(x)
        return x

    graph = trace(net(run), tokens()())
    assert graph.edges.tolist() == [[0, 1], [1, 2], [1, 3], [2, 3], [1, 4]]
    in_place = trace(net(lambda self, x: F.dropout(self.a(x), 0.5, True, True).add_(self.b(x))), tokens()())
    assert types_of(in_place) == "input conv conv sum conv"


def test_what_is_overwritten_has_no_influence() -> None:
    """Constants keep their values when autograd confirms that the output does not depend on `a`."""

    def run(self: Any, x: Tensor) -> Tensor:
        limits = torch.linspace(0, 1, 3)
        y = self.a(x)
        y.copy_(self.b(x)) if limits[2].item() > 0.5 else y.zero_()
        return y

    graph = trace(net(run), tokens()())
    assert graph.live.tolist() == [True, False, True, True]
