"""`trace` on small models, compared with autograd and with expected graphs; the models stay unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deepnets import NODE_TYPES, Graph, TraceError, trace
from deepnets.architecture import PUBLISHED_NODE_TYPES
from tests.oracles.autograd_ancestry import ancestry_differences
from tests.support.zoo.case import Parts, image, parameter
from tests.support.zoo.models import ZOO, Case
from tests.support.zoo.vision import conv

TRACEABLE = {name: case for name, case in ZOO.items() if case.error is None}


def traced(case: Case, **options: Any) -> Graph:
    return trace(case.model(), case.input(), **options)


def types_of(graph: Graph) -> str:
    return " ".join(NODE_TYPES[kind] for kind in graph.node_types)


def edges_of(graph: Graph) -> set[str]:
    return {f"{source}>{target}" for source, target in graph.edges.tolist()}


def plain_name(name: str) -> str:
    return name.removeprefix("_orig_mod.")  # of torch.compile


# --- the graph ---


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [name for name, case in TRACEABLE.items() if case.types])
def test_node_types_and_edges(name: str) -> None:
    case = ZOO[name]
    graph = traced(case)
    assert types_of(graph) == case.types
    if case.edges:
        assert edges_of(graph) == set(case.edges.split())


@pytest.mark.parametrize("name", [name for name, case in TRACEABLE.items() if case.by_autograd])
def test_ancestry(name: str) -> None:
    case = ZOO[name]
    assert ancestry_differences(traced(case), case.model(), case.input()) == []


@pytest.mark.parametrize("vocabulary", ["complete", "ghn3", "ppuda"])
@pytest.mark.parametrize("name", TRACEABLE)
def test_every_parameter_has_one_place(name: str, vocabulary: str) -> None:
    case = TRACEABLE[name]
    graph = traced(case, vocabulary=vocabulary)
    listed = [slot for slots in graph.parameters for slot in slots] + list(graph.unused)
    shapes = {plain_name(name): tuple(parameter.shape) for name, parameter in case.model().named_parameters()}
    assert {plain_name(slot.name): slot.shape for slot in listed} == shapes
    assert len(listed) == len(shapes)
    if vocabulary == "complete":
        assert sorted(slot.name for slot in graph.unused) == sorted(case.unused)
    else:
        assert max(graph.node_types) < len(PUBLISHED_NODE_TYPES)


@pytest.mark.parametrize("name", TRACEABLE)
def test_graphs_are_well_formed(name: str) -> None:
    graph = traced(TRACEABLE[name])
    assert NODE_TYPES[graph.node_types[0]] == "input"
    assert (graph.edges[:, 0] < graph.edges[:, 1]).all()
    assert len(edges_of(graph)) == graph.num_edges
    assert graph.live[-1]
    for kind, inputs, slots in zip(graph.node_types, graph.in_degrees, graph.parameters):
        kind = NODE_TYPES[kind]
        if kind in ("sum", "concat"):
            assert inputs >= 2
        elif kind in ("input", "const", "pos_enc", "token"):
            assert inputs == 0
        elif kind in ("conv", "sep_conv", "dil_conv", "bias", "bn", "ln", "gn", "rms", "scale"):
            assert inputs >= 1
        if kind in ("bn", "ln", "gn", "rms"):
            assert [slot.role for slot in slots] in ([], ["norm_weight"], ["norm_weight", "norm_bias"])


@pytest.mark.parametrize("name", ["plain", "vision transformer", "squeeze-excite, linear", "dropout"])
def test_graphs_do_not_depend_on_mode_and_batch(name: str) -> None:
    case = ZOO.get(name) or Case(lambda: nn.Sequential(conv(3, 8), nn.Dropout(), conv(8, 4)), image())
    graph, inputs = traced(case), case.input()
    assert trace(case.model().train(), inputs) == graph
    assert trace(case.model(), inputs[:1]) == graph
    assert trace(case.model(), torch.cat([inputs] * 3)) == graph
    assert trace(case.model(), (inputs,)) == graph
    assert trace(case.model().requires_grad_(False), inputs) == graph
    assert trace(case.model().to("meta"), inputs) == graph
    with torch.no_grad():
        assert trace(case.model(), inputs) == graph
    with torch.inference_mode():
        assert trace(case.model(), inputs) == graph
    with torch.device("meta"):
        assert trace(case.model(), case.input().to("meta")) == graph


def test_roles() -> None:
    graph = traced(ZOO["vision transformer"])
    roles = {slot.name: slot.role for slots in graph.parameters for slot in slots}
    assert roles["patches.weight"] == roles["attention.in_proj_weight"] == roles["mlp.0.weight"] == "weight"
    assert roles["patches.bias"] == roles["attention.out_proj.bias"] == "bias"
    assert (roles["norm1.weight"], roles["norm1.bias"]) == ("norm_weight", "norm_bias")
    assert (roles["cls_token"], roles["pos_embed"]) == ("token", "pos_enc")
    assert (roles["head.weight"], roles["head.bias"]) == ("class_weight", "class_bias")
    assert [graph.parameters[i][0].name for i in (-2, -1)] == ["head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("name", "slot", "role"),
    [
        ("layer scale", "gamma", "scale"),
        ("logit scale", "logit_scale", "scale"),
        ("text classifier", "embed.weight", "embed"),
        ("positions in the mask", "table", "rel_pos"),
        ("scalar", "s", "scale"),
        ("group norm", "1.bias", "norm_bias"),
        ("weight standardization", "0.weight", "weight"),
    ],
)
def test_roles_of_other_parameters(name: str, slot: str, role: str) -> None:
    assert {s.name: s.role for slots in traced(ZOO[name]).parameters for s in slots}[slot] == role


def test_windows_of_pools() -> None:
    layers = (conv(3, 8), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d((2, 4)), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))
    graph = trace(nn.Sequential(*layers), torch.randn(1, 3, 32, 32))
    assert types_of(graph) == "input conv max_pool avg_pool max_pool glob_avg"
    assert np.asarray(graph.windows).tolist() == [[0, 0], [0, 0], [3, 3], [2, 4], [2, 2], [0, 0]]


def test_a_shared_parameter_is_in_the_node_that_uses_it_first() -> None:
    graph = traced(ZOO["loop"])
    assert [[slot.name for slot in slots] for slots in graph.parameters] == [
        *([], ["shared.weight"], ["shared.bias"], [], [], [], []),
        ["head.weight"],
    ]
    tied = traced(ZOO["gpt-2"])
    assert [slot.name for slots in tied.parameters for slot in slots].count("wte.weight") == 1
    assert NODE_TYPES[tied.node_types[-1]] == "conv"
    assert tied.parameters[-1] == ()


def test_dead_branches_are_kept_and_marked() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        self.b(x)
        return self.c(x)

    graph = trace(Parts(run, a=conv(3, 8), b=conv(8, 8), c=conv(8, 4)), torch.randn(1, 3, 8, 8))
    assert types_of(graph) == "input conv conv conv"
    assert [i for i in range(4) if not graph.live[i]] == [2]
    assert types_of(graph.pruned()) == "input conv conv"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["auxiliary head", "auxiliary head, run last"])
def test_auxiliary_heads_are_dead(name: str, training: bool) -> None:
    model = ZOO[name].model().train(training)
    graph = trace(model, torch.randn(1, 3, 16, 16))
    dead = {slot.name for i in np.flatnonzero(~graph.live) for slot in graph.parameters[i]}
    assert dead == {key for key, _ in model.named_parameters() if key.startswith(("auxiliary", "b."))}
    assert [graph.parameters[i][0].role for i in (-2, -1)] == ["class_weight", "class_bias"]
    assert [graph.parameters[i][0].name for i in (-2, -1)] == ["head.weight", "head.bias"]


# --- what it leaves behind ---


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Return everything that tracing must not change: the identity and the values of all objects of a model."""
    seen: dict[str, Any] = {"rng": torch.get_rng_state().tolist(), "grad": torch.is_grad_enabled()}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            entry: Any = id(value)
            if isinstance(value, dict):
                entry = [(k, id(v)) for k, v in value.items()]
            elif isinstance(value, (bool, int, float, str)):
                entry = value
            seen[f"{name}:{key}"] = entry
            for i, leaf in enumerate(tree_leaves(value)):
                if isinstance(leaf, Tensor):
                    seen[f"{name}:{key}:{i}"] = described(leaf)
    return seen


def described(tensor: Tensor) -> tuple[Any, ...]:
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        return (type(tensor), tensor.device, tensor.requires_grad)
    values = None if tensor.is_meta else tensor.detach().contiguous().flatten().view(torch.uint8).tolist()
    flags = (tensor.requires_grad, tensor.is_leaf, tensor.grad is None, tensor._version)
    return (type(tensor), tensor.shape, tensor.dtype, tensor.device, tensor.layout, *flags, values)


@pytest.mark.parametrize("name", ZOO)
def test_models_are_not_changed(name: str) -> None:
    case = ZOO[name]
    model, inputs = case.model(), case.input()
    before = snapshot(model)
    values = [described(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    for vocabulary in ("complete", "ghn3", "ppuda"):
        try:
            trace(model, inputs, vocabulary=vocabulary)
            assert case.error is None
        except TraceError:
            assert case.error is not None
    after = snapshot(model)
    assert before.keys() == after.keys()
    assert [key for key in before if before[key] != after[key]] == []
    assert [described(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)] == values


def test_hooks_and_attributes_are_restored_after_an_interrupt() -> None:
    class Interruption(BaseException):
        pass

    def run(self: Any, x: Tensor) -> Tensor:
        self.norm(self.a(x))
        raise Interruption

    model = Parts(run, a=conv(3, 8), norm=nn.BatchNorm2d(8), stray=None)
    model.stray = [torch.ones(2)]
    model.a.register_forward_hook(lambda module, args, output: output)
    images = torch.randn(2, 3, 8, 8)
    before = snapshot(model)
    with pytest.raises(Interruption):
        trace(model, images)
    assert snapshot(model) == before


def test_a_traced_model_still_works() -> None:
    for name in ("plain", "weight norm, old style", "spectral norm", "lstm", "encoder layer", "gpt-2", "llama"):
        case = ZOO[name]
        model, inputs = case.model(), case.input()
        expected = model(inputs)
        trace(model, inputs)
        assert torch.equal(model(inputs), expected)
        model(inputs).sum().backward()
        assert all(p.grad is not None and not p.grad.is_meta for p in model.parameters())


# --- errors and inputs ---


@pytest.mark.parametrize("name", [name for name, case in ZOO.items() if case.error is not None])
def test_errors(name: str) -> None:
    with pytest.raises(TraceError, match=ZOO[name].error) as caught:
        traced(ZOO[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lazy", [lambda: nn.LazyConv2d(8, 3), lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5))])
def test_lazy_modules_must_be_run_first(lazy: Callable[[], nn.Module]) -> None:
    model = lazy()
    with pytest.raises(TraceError, match="lazy"):
        trace(model, torch.randn(2, 3, 8, 8))
    model(torch.randn(2, 3, 8, 8))
    assert types_of(trace(model, torch.randn(2, 3, 8, 8))) == "input conv bias"


def test_the_default_image() -> None:
    def sized(size: int, channels: int, **attributes: Any) -> nn.Module:
        def run(self: Any, x: Tensor) -> Tensor:
            assert x.shape[1:] == (channels, size, size)
            return self.head(self.a(x).mean((2, 3)))

        model = Parts(run, a=conv(channels, 4), head=nn.Linear(4, 2))
        for name, value in attributes.items():
            setattr(model, name, value)
        return model

    expected = "input conv glob_avg conv bias"
    assert types_of(trace(sized(224, 3))) == expected
    assert types_of(trace(sized(224, 1))) == expected
    assert types_of(trace(sized(48, 3, image_size=48))) == expected
    assert types_of(trace(sized(64, 3, default_cfg={"input_size": (3, 64, 64)}))) == expected

    def named(self: Any, *, words: Tensor) -> Tensor:
        return self.head(self.embed(words).mean(1))

    text = Parts(named, embed=nn.Embedding(7, 4), head=nn.Linear(4, 2))
    text.dummy_inputs = {"words": torch.zeros(1, 5, dtype=torch.long)}
    assert types_of(trace(text)) == "input embed glob_avg conv bias"


def test_large_models_need_no_memory() -> None:
    """A model with 20 GB of weights on `meta`, and inputs too large to compute with."""
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(50_000, 50_000) for _ in range(2)))
        inputs = torch.empty(10_000, 50_000)
    assert types_of(trace(model, inputs)) == "input conv bias conv bias"


def test_hooks_run_and_parameters_may_be_many() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(600)))
    graph = trace(model, torch.randn(1, 2))
    assert (graph.num_nodes, graph.num_edges) == (1201, 1200)
    extra = parameter(2)
    model[-1].register_forward_hook(lambda module, args, output: output * extra)
    assert trace(model, torch.randn(1, 2)).num_nodes == 1201  # not a parameter of the model


def test_nothing_is_computed() -> None:
    """All tensors in the network are on `meta`, from the input on."""
    seen = []

    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        seen.extend([x.is_meta, y.is_meta])
        return y

    trace(Parts(forward, a=nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 8, 8))
    assert seen == [True, True]


def test_layers_of_constants_are_not_computed_either() -> None:
    """A constant that is changed by parameters must not control the run with values that were not computed."""

    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.a(torch.zeros(1, 3))
        seen.append(y.is_meta)
        return self.b(x) + y

    seen: list[bool] = []
    graph = trace(Parts(forward, a=nn.Linear(3, 4), b=nn.Linear(3, 4)), torch.randn(1, 3))
    assert seen == [True]
    assert types_of(graph) == "input const conv bias conv bias sum"


def test_a_layer_that_is_used_twice_before_a_pooling() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), shared, nn.ReLU(), shared, nn.AdaptiveAvgPool2d(1))
    for vocabulary in ("complete", "ghn3"):
        graph = trace(model, torch.zeros(1, 3, 16, 16), vocabulary=vocabulary)
        assert types_of(graph) == "input conv bias conv bias conv bias glob_avg"


def test_layers_that_are_made_in_the_forward_pass() -> None:
    """Functions of torch.nn.init pass their tensor by name."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noise = torch.empty_like(x)
            nn.init.normal_(noise)
            scale = nn.init.constant_(torch.empty(6), 2.0)
            out: torch.Tensor = self.last(self.first(x + noise) * scale)
            return out

    assert types_of(trace(Late(), torch.zeros(1, 4))) == "input conv bias conv bias"


def test_small_tensors_of_large_numbers_have_values() -> None:
    class Sizes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, device="meta")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert torch.tensor([800, 1333, 5]).tolist() == [800, 1333, 5]
            assert torch.arange(3_000_000, 3_000_010)[1].item() == 3_000_001
            assert torch.arange(0, 10_000_000, 1_000_000)[1].item() == 1_000_000
            assert torch.arange(start=5, end=7_000_000, step=5_000_000)[0].item() == 5
            assert len(torch.arange(end=torch.tensor(5))) == len(torch.arange(2, 7, step=torch.tensor(1))) == 5
            assert torch.linspace(0, 4000, 2001)[1].item() == 2
            assert torch.full_like(torch.zeros(2), 9_000_000)[1].item() == 9_000_000
            assert torch.full((2,), 9_000_000)[1].item() == 9_000_000
            assert torch.randint(5_000_000, 5_000_001, size=(2,))[0].item() == 5_000_000
            out: torch.Tensor = self.layer(x)
            return out

    assert trace(Sizes(), torch.zeros(1, 4, device="meta")).num_nodes == 3
