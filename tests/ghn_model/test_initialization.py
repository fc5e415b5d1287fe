"""Initial weights of a hypernetwork: those of the publications, and small ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deepnets import GENOTYPES, NetworkConfig, build_graph
from ghn_model import GHN, PRESETS, GHNConfig
from ghn_model.initialization import initialize_weights

SMALL = {"hidden": 16, "max_shape": (16, 16, 5, 5)}
KINDS = {
    "ghn1": GHNConfig.preset("ghn1", **SMALL),
    "ghn2": GHNConfig.preset("ghn2", **SMALL),
    "mlp": GHNConfig.preset("mlp", **SMALL),
    "mlp decoder": GHNConfig.preset("ghn2", decoder="mlp", **SMALL),
    "ghn3": GHNConfig.preset("ghn3-t", heads=2, **SMALL),
}


def tables(ghn: GHN) -> list[nn.Embedding]:
    found = [module for module in ghn.modules() if isinstance(module, nn.Embedding)]
    assert len(found) >= 3
    return [table for table in found if table.weight.numel() > 1000]


def output_layers(ghn: GHN) -> list[str]:
    last = "decoder.conv.2" if ghn.config.decoder == "conv" else "decoder.mlp.fc.2"
    return [last, "decoder_1d.fc.2", "decoder.class_layer_predictor.1"]


def bound(ghn: GHN, name: str) -> float:
    """Limit of PyTorch's uniform distribution for the weights of a layer."""
    return float(ghn.get_parameter(f"{name}.weight")[0].numel() ** -0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_small_weights(kind: str) -> None:
    torch.manual_seed(0)
    ghn = GHN(KINDS[kind].replace(init="small"))
    for table in tables(ghn):
        assert table.weight.std().item() == pytest.approx(table.embedding_dim**-0.5, rel=0.1)
    for name in output_layers(ghn):
        assert not ghn.get_parameter(f"{name}.bias").any()
        assert ghn.get_parameter(f"{name}.weight").abs().max() <= bound(ghn, name) / 5 * 1.001


def test_output_layers_without_a_bias() -> None:
    layer = nn.Linear(4, 2, bias=False)
    before = layer.weight.detach().clone()
    initialize_weights(layer, [layer])
    assert torch.equal(layer.weight, before / 5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ghn3"])
def test_published_weights_are_those_of_pytorch(kind: str) -> None:
    torch.manual_seed(0)
    ghn = GHN(KINDS[kind])
    for table in tables(ghn):
        assert table.weight.std().item() == pytest.approx(1.0, rel=0.1)
    for name in output_layers(ghn):
        assert ghn.get_parameter(f"{name}.bias").any()
        assert 0.8 * bound(ghn, name) <= ghn.get_parameter(f"{name}.weight").abs().max() <= bound(ghn, name) * 1.001


def test_published_weights_of_ghn3_are_small() -> None:
    states = []
    for init in ("published", "small"):
        torch.manual_seed(3)
        states.append(GHN(KINDS["ghn3"].replace(init=init)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_presets_start_as_published() -> None:
    assert {GHNConfig.preset(name).init for name in PRESETS} == {"published"}


def test_predictions_of_small_weights_are_smaller() -> None:
    graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=8))
    norms = []
    for init in ("published", "small"):
        torch.manual_seed(0)
        with torch.no_grad():
            (parameters,) = GHN(KINDS["ghn2"].replace(init=init))(graph)
        norms.append(sum(float(tensor.norm()) for name, tensor in parameters.items() if tensor.dim() == 4))
    assert norms[1] < norms[0] / 2
