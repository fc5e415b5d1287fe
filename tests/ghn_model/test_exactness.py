"""Every predicted tensor against the naive oracle, which was written from the published formulas alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepnets import GENOTYPES, Genotype, Graph, NetworkConfig, build_graph, trace
from ghn_model import GHN, GHNConfig
from tests.oracles.naive_ghn import naive_embeddings, naive_predict, random_state_dict

TOLERANCE = 1e-5  # of the largest value of a tensor


def models() -> Any:
    return pytest.importorskip("deepnets.vision").import_torchvision().models


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
CASES = [
    *((preset, name, 10, 32) for preset in PRESETS for name in ("ViT-style", "DARTS", "DeepNets-1M")),
    *((preset, name, 1000, 224) for preset in ("ghn2", "ghn3-t") for name in ("ViT-style", "DeepNets-1M", "resnet18")),
    *(("ghn2", name, 1000, 224) for name in GRAPHS if name not in ("resnet18", "ViT-style", "DARTS", "DeepNets-1M")),
    ("ghn1", "resnet18", 10, 32),
    ("ghn3-t", "shufflenet_v2_x1_0", 1000, 224),
    ("ghn3-t", "mobilenet_v2", 10, 32),
    ("mlp", "vgg11_bn", 10, 32),
]


@cache
def loaded(preset: str, classes: int, side: int, **changes: Any) -> GHN:
    """A hypernetwork with random weights, not those of its constructor: none of them is zero."""
    config = GHNConfig.preset(preset, classes, side, **changes)
    ghn = GHN(config)
    ghn.load_state_dict(random_state_dict(seed=3, **layout(config)))
    return ghn.eval()


def layout(config: GHNConfig) -> dict[str, Any]:
    names = ("hypernet", "decoder", "hidden", "max_shape", "num_classes", "virtual_edges", "layernorm", "layers", "heads")
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


@pytest.mark.parametrize(("preset", "name", "classes", "side"), CASES)
def test_every_tensor(preset: str, name: str, classes: int, side: int) -> None:
    ghn, graph = loaded(preset, classes, side), GRAPHS[name](classes, side)
    with torch.no_grad():
        (reference,) = expected(ghn, [graph])
    assert_close(ghn.predict(nn.Identity(), graph=graph), reference)
    (with_gradients,) = ghn(graph)
    assert_close({key: tensor.detach() for key, tensor in with_gradients.items()}, reference)
