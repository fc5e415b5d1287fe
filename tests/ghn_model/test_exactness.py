"""Every predicted tensor against an independent, naive implementation of the published formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepnets import GENOTYPES, DeepNets1M, Genotype, Graph, NetworkConfig, build_graph, trace
from ghn_model import GHN, GHNConfig
from tests.oracles.naive_ghn import naive_embeddings, naive_predict, random_state_dict

TOLERANCE = 1e-5  # of the largest value of a tensor


def models() -> Any:
    return pytest.importorskip("deepnets.support.optional_models").import_torchvision().models


def on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = models().get_model(name, weights=None, **options)
    return model


VIT = NetworkConfig(GENOTYPES["ViT"], n_cells=3, C=32, C_mult=1, preproc=False)
DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=20)
SMALL = NetworkConfig(
    Genotype(
        normal=[("cse", 0), ("conv_7x1_1x7", 1), ("sep_conv_5x5", 2), ("dil_conv_3x3", 0)],
        normal_concat=[2, 3],
        reduce=[("max_pool_3x3", 0), ("skip_connect", 1), ("none", 0), ("avg_pool_3x3", 2)],
        reduce_concat=[3],
    ),
    n_cells=5,
    C=24,
    fc_layers=2,
    fc_dim=80,
)

GRAPHS: dict[str, Callable[[int, int], Graph]] = {
    "ViT-style": lambda classes, side: build_graph(VIT, classes, side),
    "DARTS": lambda classes, side: build_graph(DARTS, classes, side),
    "DeepNets-1M": lambda classes, side: build_graph(SMALL, classes, side),
    **{
        name: lambda classes, side, name=name: trace(  # type: ignore[misc]
            on_meta(name, num_classes=classes), torch.empty(1, 3, side, side, device="meta")
        )
        for name in ("resnet18", "resnet50", "mobilenet_v2", "vgg11_bn", "shufflenet_v2_x1_0", "densenet121")
    },
}

PRESETS = ("ghn2", "ghn1", "mlp", "ghn3-t")
VARIANTS: list[dict[str, Any]] = [{"decoder": "mlp"}]
"""Encoders and decoders that no preset has, as changes of the preset ghn2."""
CASES = [
    *((preset, name, 10, 32) for preset in PRESETS for name in ("ViT-style", "DARTS", "DeepNets-1M")),
    *((preset, "DeepNets-1M", 1000, 224) for preset in ("ghn2", "ghn3-t")),
    *(
        pytest.param(preset, name, 1000, 224, marks=pytest.mark.slow)
        for preset in ("ghn2", "ghn3-t")
        for name in ("ViT-style", "resnet18")
    ),
    ("ghn2", "shufflenet_v2_x1_0", 1000, 224),
    *(
        pytest.param("ghn2", name, 1000, 224, marks=pytest.mark.slow)
        for name in ("mobilenet_v2", "resnet50", "vgg11_bn", "densenet121")
    ),
    ("ghn1", "resnet18", 10, 32),
    ("ghn3-t", "shufflenet_v2_x1_0", 1000, 224),
    ("ghn3-t", "mobilenet_v2", 10, 32),
    pytest.param("mlp", "vgg11_bn", 10, 32, marks=pytest.mark.slow),
]


@cache
def loaded(preset: str, classes: int, side: int, **changes: Any) -> GHN:
    """Return a hypernetwork with random weights, none of which is zero, unlike those of its constructor."""
    config = GHNConfig.preset(preset, classes, side, **changes)
    ghn = GHN(config)
    ghn.load_state_dict(random_state_dict(seed=3, **layout(config)))
    return ghn.eval()


def layout(config: GHNConfig) -> dict[str, Any]:
    names = (
        "hypernet",
        "decoder",
        "hidden",
        "max_shape",
        "num_classes",
        "virtual_edges",
        "layernorm",
        "layers",
        "heads",
    )
    return {name: getattr(config, name) for name in names}


def expected(ghn: GHN, graphs: list[Graph], function: Callable[..., Any] = naive_predict, **options: Any) -> Any:
    config = ghn.config
    known = {name: value for name, value in layout(config).items() if name not in ("hidden", "layers")}
    return function(
        {name: tensor.double() for name, tensor in ghn.state_dict(keep_vars=True).items()},
        window=config.window,
        weight_norm=config.weight_norm,
        graphs=graphs,
        **known,
        **options,
    )


def assert_close(result: dict[str, Tensor], reference: dict[str, Tensor]) -> None:
    assert result.keys() == reference.keys()
    for name, tensor in reference.items():
        assert result[name].shape == tensor.shape, name
        error = (result[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-30)
        assert error <= TOLERANCE, f"{name}: {error}"


@pytest.mark.sampled(18)
@pytest.mark.parametrize(("preset", "name", "classes", "side"), CASES)
def test_every_tensor(preset: str, name: str, classes: int, side: int) -> None:
    ghn, graph = loaded(preset, classes, side), GRAPHS[name](classes, side)
    with torch.no_grad():
        (reference,) = expected(ghn, [graph])
    assert_close(ghn.predict(nn.Identity(), graph=graph), reference)
    (with_gradients,) = ghn(graph)
    assert_close({key: tensor.detach() for key, tensor in with_gradients.items()}, reference)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "split",
    [
        *("train", "deep", "bnfree"),
        *(pytest.param(split, marks=pytest.mark.slow) for split in ("val", "test", "search", "wide", "dense")),
    ],
)
@pytest.mark.parametrize(
    ("preset", "classes", "side"),
    [
        ("ghn2", 10, 32),
        pytest.param("ghn3-t", 10, 32, marks=pytest.mark.slow),
        pytest.param("ghn2", 1000, 224, marks=pytest.mark.slow),
    ],
)
def test_networks_of_every_split(corpus: Path, split: str, preset: str, classes: int, side: int) -> None:
    nets = DeepNets1M(corpus, split, num_classes=classes, image_size=side)
    graph = nets[int(np.argsort(nets.num_nodes)[len(nets) // 10])]
    ghn = loaded(preset, classes, side)
    with torch.no_grad():
        (reference,) = expected(ghn, [graph])
    assert_close(ghn.predict(nn.Identity(), graph=graph), reference)


@pytest.mark.parametrize("preset", PRESETS)
def test_embeddings(preset: str) -> None:
    ghn, graph = loaded(preset, 10, 32), GRAPHS["DeepNets-1M"](10, 32)
    with torch.no_grad():
        (reference,) = expected(ghn, [graph], naive_embeddings)
        assert torch.allclose(ghn.encode(graph).double(), reference, rtol=1e-4, atol=1e-5)
    assert torch.allclose(ghn.encode(graph).detach().double(), reference, rtol=1e-4, atol=1e-5)  # level by level
    mean = ghn.embed(nn.Identity(), graph=graph)
    assert torch.allclose(mean.double(), reference.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("preset", PRESETS)
def test_batches_of_graphs(preset: str) -> None:
    """The predictions for eight graphs at once equal those of the oracle, and those for each graph alone."""
    ghn = loaded(preset, 10, 32)
    graphs = [build_graph(DARTS.replace(n_cells=cells)) for cells in (1, 3)] + [
        build_graph(SMALL.replace(n_cells=cells, norm=norm)) for cells in (1, 2, 4) for norm in ("bnorm", None)
    ]
    assert len({graph.num_nodes for graph in graphs}) > 5
    with torch.no_grad():
        references = expected(ghn, graphs)
    together = ghn.predict([nn.Identity()] * len(graphs), graph=graphs)
    with_gradients = ghn(graphs)
    for graph, reference, result, differentiable in zip(graphs, references, together, with_gradients):
        assert_close(result, reference)
        assert_close({name: tensor.detach() for name, tensor in differentiable.items()}, reference)
        alone = ghn.predict(nn.Identity(), graph=graph)
        assert all(torch.allclose(alone[name], tensor, atol=1e-6) for name, tensor in result.items())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("preset", PRESETS)
def test_gradients(preset: str) -> None:
    """Gradients of the sum of squares of all predicted tensors, for every weight, in double precision."""
    ghn = GHN(GHNConfig.preset(preset, max_shape=(16, 16, 5, 5), hidden=8, **({"heads": 2} if "3" in preset else {})))
    ghn.load_state_dict(random_state_dict(seed=5, **layout(ghn.config)))
    ghn.double()
    graphs = [build_graph(VIT.replace(n_cells=2, C=8)), build_graph(SMALL.replace(n_cells=2, C=8, fc_dim=12))]

    def gradients(results: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        ghn.zero_grad()
        sum(tensor.square().sum() for result in results for tensor in result.values()).backward()  # type: ignore[union-attr]
        return {name: parameter.grad for name, parameter in ghn.named_parameters()}  # type: ignore[misc]

    reference = gradients(expected(ghn, graphs))
    result = gradients(ghn(graphs))
    assert result.keys() == reference.keys()
    for name, gradient in reference.items():
        assert torch.allclose(result[name], gradient, rtol=1e-6, atol=1e-9), name


@pytest.mark.parametrize(
    ("classes", "sizes"),
    [
        (10, {"max_shape": (16, 16, 5, 5)}),
        pytest.param(10, {}, marks=pytest.mark.slow),
        pytest.param(100, {}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_other_encoders_and_decoders(changes: dict[str, Any], classes: int, sizes: dict[str, Any]) -> None:
    ghn = loaded("ghn2", classes, 32, **changes, **sizes)
    graph = GRAPHS["DeepNets-1M"](classes, 32)
    with torch.no_grad():
        (reference,) = expected(ghn, [graph])
    assert_close(ghn.predict(nn.Identity(), graph=graph), reference)


class Odd(nn.Module):
    """A network with parameters of 0 to 5 dimensions, large kernels, and positions with and without tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.video = nn.Conv3d(3, 4, (3, 5, 5), padding=(1, 2, 2))
        self.stripe = nn.Conv2d(4, 100, (1, 13), padding=(0, 6))
        self.large = nn.Conv2d(100, 70, 19, padding=9)
        self.sequence = nn.Conv1d(70, 90, 3, padding=1)
        self.temperature = nn.Parameter(torch.ones(()))
        self.token = nn.Parameter(torch.zeros(1, 1, 90))
        self.positions = nn.Parameter(torch.zeros(1, 65, 90))
        self.scale = nn.Parameter(torch.ones(90))
        self.norm = nn.GroupNorm(5, 90)
        self.classifier = nn.Linear(90, 37)

    def forward(self, x: Tensor) -> Tensor:
        x = self.large(self.stripe(self.video(x).mean(2)))
        x = self.norm(self.sequence(x.flatten(2))).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.classifier((x * self.scale * self.temperature).mean(1))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_of_every_rank(preset: str) -> None:
    ghn, graph = loaded(preset, 10, 32), trace(Odd(), torch.empty(1, 3, 2, 8, 8))
    assert graph.unused == ()
    with torch.no_grad():
        (reference,) = expected(ghn, [graph])
    assert len(reference) == len(list(Odd().parameters()))
    assert_close(ghn.predict(Odd(), graph=graph), reference)
