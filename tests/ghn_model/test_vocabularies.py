"""The graphs that a hypernetwork traces, the parameters that keep their values, and the origin of each tensor."""

from __future__ import annotations

import copy
import io
import logging
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import GENOTYPES, Network, NetworkConfig, trace
from deepnets.support import CheckpointError, ConfigError
from ghn_model import GHN, GHNConfig, describe, graph_of
from tests.ghn_model.checkpoints.test_files import SMALL, hypernetwork
from tests.oracles.naive_ghn import random_state_dict

IMAGE = torch.zeros(1, 3, 16, 16)


class Scaled(nn.Module):
    """A network that differs between the vocabularies: a layer scale, squeeze-excite, and a mean before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 40, 5, bias=False), nn.BatchNorm2d(40)
        self.scale = nn.Parameter(torch.full((40, 1, 1), 1e-6))
        self.down, self.up = nn.Conv2d(40, 6, 1), nn.Conv2d(6, 40, 1)
        self.fc = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)) * self.scale
        x = x * self.up(self.down(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()
        return self.fc(x.mean((2, 3)))


def official(path: Path, kind: str, config: dict[str, Any] | None = None, **change: Any) -> Path:
    """Write a file in the layout of the originals."""
    options = {name: value for name, value in SMALL[kind].items() if name not in ("window", "weight_norm")}
    torch.save({"state_dict": random_state_dict(**options), **({"config": config} if config else {}), **change}, path)
    return path


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- which vocabulary -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "vocabulary"),
    [
        ("gatedgnn", "ppuda"),
        ("plain gatedgnn", "ppuda"),
        ("mlp", "ppuda"),
        ("mlp decoder", "ppuda"),
        ("graphormer", "ghn3"),
    ],
)
def test_official_files(tmp_path: Path, kind: str, vocabulary: str) -> None:
    path = official(tmp_path / "ghn.pt", kind)
    ghn = GHN.from_pretrained(path)
    assert ghn.config.vocabulary == describe(path).config.vocabulary == vocabulary
    model = Scaled()
    expected = ghn.predict(model, graph=trace(model, IMAGE, vocabulary=vocabulary))
    assert equal(ghn.predict(model, IMAGE), expected)
    assert torch.equal(ghn.embed(model, IMAGE), ghn.embed(model, graph=trace(model, IMAGE, vocabulary=vocabulary)))
    assert "scale" not in expected


def test_ghn2_in_the_code_of_ghn3(tmp_path: Path) -> None:
    """It has linear layers in its decoder, or arguments that PPUDA does not know."""
    state = random_state_dict(**SMALL["gatedgnn"])
    flat = {name: tensor.flatten(1) if tensor.ndim == 4 else tensor for name, tensor in state.items()}
    torch.save({"state_dict": flat}, tmp_path / "flat.pt")
    config = {"max_shape": (16, 16, 3, 3), "num_classes": 10, "ve": True, "layernorm": True, "weight_norm": True}
    official(tmp_path / "ghn.pt", "gatedgnn", {**config, "hid": 8, "layers": 3, "heads": 8, "is_ghn2": True})
    for name in ("flat.pt", "ghn.pt"):
        found = GHN.from_pretrained(tmp_path / name).config
        assert (found.hypernet, found.vocabulary, found.window) == ("gatedgnn", "ghn3", "corner")


def test_a_stated_vocabulary_decides(tmp_path: Path) -> None:
    path = official(tmp_path / "ghn.pt", "gatedgnn", vocabulary="complete")
    assert GHN.from_pretrained(path).config.vocabulary == "complete"
    with pytest.raises(CheckpointError, match="vocabulary: expected complete, ghn3, ppuda or logah, got 'ghn9'"):
        GHN.from_pretrained(official(path, "gatedgnn", vocabulary="ghn9"))


def test_our_files_keep_their_vocabulary(tmp_path: Path) -> None:
    for vocabulary in ("complete", "ghn3", "ppuda"):
        ghn = GHN(GHNConfig(**SMALL["gatedgnn"], vocabulary=vocabulary))
        assert GHN.from_pretrained(ghn.save(tmp_path / "ghn.safetensors")).config == ghn.config
    assert GHN.from_pretrained("ghn2-digits").config.vocabulary == "complete"
    assert GHNConfig(vocabulary="published").vocabulary == "ghn3"


def test_the_vocabulary_can_be_chosen() -> None:
    ghn, model = hypernetwork(), Scaled()
    predictions = {name: ghn.predict(model, IMAGE, vocabulary=name) for name in ("complete", "ghn3", "ppuda")}
    assert equal(ghn.predict(model, IMAGE), predictions["complete"])
    assert equal(ghn.predict(model, IMAGE, vocabulary="published"), predictions["ghn3"])
    for a, b in (("complete", "ghn3"), ("ghn3", "ppuda")):
        assert not torch.equal(predictions[a]["conv.weight"], predictions[b]["conv.weight"])
    assert not torch.equal(ghn.embed(model, IMAGE), ghn.embed(model, IMAGE, vocabulary="ppuda"))
    with pytest.raises(ConfigError, match="vocabulary: is for networks that are traced"):
        ghn.predict(model, graph=trace(model, IMAGE), vocabulary="ghn3")
    for wrong in (lambda: ghn.predict(model, IMAGE, vocabulary="x"), lambda: graph_of(model, IMAGE, "x")):
        with pytest.raises(ConfigError, match="vocabulary: expected complete"):
            wrong()


def test_networks_of_deepnets_are_the_same_in_all() -> None:
    ghn, model = hypernetwork(), Network(NetworkConfig(GENOTYPES["ViT"], n_cells=3, C=16, C_mult=1, preproc=False))
    predicted = ghn.predict(model)
    assert all(equal(ghn.predict(model, vocabulary=name), predicted) for name in ("ghn3", "ppuda"))


# --- parameters that keep their values --------------------------------------------------------------------------------


def test_kept_parameters() -> None:
    ghn, model = hypernetwork(), Scaled()
    assert list(ghn.predict(model, IMAGE).kept) == []
    predicted = ghn.predict(model, IMAGE, vocabulary="ghn3", predict_class_layers=False)
    assert list(predicted.kept) == ["scale", "fc.weight", "fc.bias"]
    assert torch.equal(predicted.kept["scale"], model.scale)
    assert predicted.keys() | predicted.kept.keys() == dict(model.named_parameters()).keys()
    torch.save(predicted, buffer := io.BytesIO())
    buffer.seek(0)
    for copied in (copy.deepcopy(predicted), pickle.loads(pickle.dumps(predicted)), torch.load(buffer)):
        assert type(copied) is OrderedDict
        assert equal(copied, predicted)
    both = ghn.predict([model, model], IMAGE, vocabulary="ghn3")
    assert [list(each.kept) for each in both] == [["scale"], ["scale"]]


def test_initialize_keeps_them_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    ghn = hypernetwork()
    for options in ({}, {"noise": 1e-5}):
        model = Scaled()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            ghn.initialize(model, IMAGE, vocabulary="ghn3", **options)
        assert (
            "Scaled: not in the graph of the vocabulary 'ghn3', so parameters keep their values: scale (1)"
            in caplog.text
        )
        assert (model.scale == 1e-6).all()
    predicted = ghn.predict(model, IMAGE, vocabulary="ghn3")
    assert torch.equal(ghn.initialize(model, IMAGE, vocabulary="ghn3").conv.weight, predicted["conv.weight"])
    caplog.clear()
    ghn.initialize(model, IMAGE)
    assert not caplog.records
    assert (model.scale != 1e-6).any()


# --- the report -------------------------------------------------------------------------------------------------------


def test_report() -> None:
    ghn, model = hypernetwork(), Scaled()
    predicted = ghn.predict(model, IMAGE, vocabulary="ghn3")
    table = predicted.report().set_index("parameter")
    assert list(table.index) == [name for name, _ in model.named_parameters()]
    expected = {  # the decoder has 16 channels and kernels of 3 x 3; larger kernels repeat the decoded one
        "scale": ("kept", (), ""),
        "conv.weight": ("tiled map", (16, 3, 5, 5), "conv"),
        "norm.weight": ("tiled vector", (16,), "bn"),
        "norm.bias": ("tiled vector", (16,), "bn"),
        "down.weight": ("tiled map", (6, 16, 1, 1), "conv"),
        "down.bias": ("vector", (6,), "bias"),
        "up.weight": ("tiled map", (16, 6, 1, 1), "conv"),
        "up.bias": ("tiled vector", (16,), "bias"),
        "fc.weight": ("tiled class layer", (10, 16), "conv"),
        "fc.bias": ("class layer", (10,), "bias"),
    }
    rows = table[["source", "block", "node_type"]].apply(tuple, axis=1).to_dict()
    assert rows == expected
    for name, row in table.iterrows():
        tensor = predicted.get(name, model.scale)
        assert row["shape"] == tuple(tensor.shape)
        assert row["norm"] == pytest.approx(float(tensor.detach().double().norm()), rel=1e-5)
        if row["block"]:  # the tensor repeats a block of this size
            for axis, (length, size) in enumerate(zip(row["block"], row["shape"])):
                if length < size:
                    first = tensor.narrow(axis, 0, size - length)
                    assert torch.equal(first, tensor.narrow(axis, length, size - length))
    assert table["node"]["scale"] == -1
    assert table["reason"]["scale"] == "no node in the graph"
    assert predicted.graph.parameters[table["node"]["conv.weight"]][0].name == "conv.weight"


def test_report_of_enlarged_kernels_and_of_networks_without_values() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Flatten(), nn.Linear(8 * 144, 10), nn.LayerNorm(10))
        model[0].never = nn.Parameter(torch.zeros(2))
        model[0].empty = nn.Parameter(torch.zeros(8, 0))
        model[0].register_forward_pre_hook(lambda module, given: (given[0] + module.empty.sum(),))
    table = hypernetwork().predict(model, IMAGE, predict_class_layers=False).report().set_index("parameter")
    assert table["source"]["0.weight"] == "enlarged map"
    assert table["source"]["0.never"] == "kept"
    assert table["norm"].isna().to_dict() == {name: name == "0.never" for name in table.index}
