"""Layers of the classes: a warning if they are predicted for another number of classes than was trained."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from deepnets import GENOTYPES, Network, NetworkConfig, build_graph, trace
from ghn_model import GHN, GHNConfig
from ghn_model.class_layers import class_layers
from tests.support.strategies import configs

CONFIG = NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8)


@pytest.fixture(scope="module")
def ghn() -> GHN:
    return GHN(GHNConfig(num_classes=10, hidden=8, max_shape=(8, 8, 3, 3), virtual_edges=1)).eval()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return found


@pytest.mark.parametrize("num_classes", [1000, 5])
def test_other_numbers_of_classes(ghn: GHN, num_classes: int, caplog: pytest.LogCaptureFixture) -> None:
    model = Network(CONFIG, num_classes=num_classes)
    for call in (
        lambda: ghn.predict(model),
        lambda: ghn.predict([model, Network(CONFIG)]),
        lambda: ghn.initialize(model),
        lambda: ghn.initialize(model, noise=1e-5),
    ):
        call()
        (message,) = warnings_of(caplog)
        assert f"predicted for {num_classes:,} classes, by a hypernetwork that was trained for 10" in message
        assert "predict_class_layers=False (--no-class-layers)" in message


def test_what_is_not_worth_a_warning(ghn: GHN, caplog: pytest.LogCaptureFixture) -> None:
    other, same = Network(CONFIG, num_classes=1000), Network(CONFIG)
    ghn.predict(other, predict_class_layers=False)
    ghn.initialize(other, predict_class_layers=False)
    ghn.predict(same)
    ghn.initialize(same)
    ghn.embed(other)
    ghn.predict(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 10)), torch.zeros(1, 3))
    assert warnings_of(caplog) == []


def test_tokens_are_no_classes(caplog: pytest.LogCaptureFixture) -> None:
    ghn = GHN(GHNConfig.preset("logah-t", task="text", hidden=8, heads=2, layers=1, factor_rows=4096, rank=2))
    published = ghn.config.replace(node_types="published", channel_sizes=(50257,), normalization="fan_in_residual")
    for each in (ghn, GHN(published)):  # that of the paper has no more node types than others
        each.predict(nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50)), torch.zeros(1, 4, dtype=torch.int64))
        assert warnings_of(caplog) == []


# --- which layers are those of the classes ---


class Heads(nn.Module):
    """A network with one or two classifiers, of several kinds."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 37, bias=kind != "without bias")
        self.kind = kind
        if kind == "scaled":
            self.scale = nn.Parameter(torch.ones(37))
        if kind == "two":
            self.other = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> Any:
        features = self.norm(self.conv(x)).relu().mean((2, 3))
        found = self.head(features)
        if self.kind == "scaled":
            return found * self.scale
        return (found, self.other(features)) if self.kind == "two" else found


@pytest.mark.parametrize("kind", ["usual", "without bias", "scaled", "two"])
def test_all_kinds_of_classifiers_are_left_out(ghn: GHN, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    model, image = Heads(kind), torch.zeros(2, 3, 8, 8)
    heads = {name: p.detach().clone() for name, p in model.named_parameters() if not name.startswith(("conv", "norm"))}
    found = ghn.predict(model, image, predict_class_layers=False)
    assert set(found.kept) == set(heads)
    assert set(found) == {name for name, _ in model.named_parameters()} - set(heads)
    ghn.initialize(model, image, predict_class_layers=False)
    for name, value in heads.items():
        assert torch.equal(dict(model.named_parameters())[name], value)
    assert warnings_of(caplog) == []
    assert set(ghn.predict(model, image)) == {name for name, _ in model.named_parameters()}
    (message,) = warnings_of(caplog)
    assert f"predicted for {'5 and 37' if kind == 'two' else '37'} classes" in message


@settings(max_examples=20, deadline=None)
@given(configs(max_cells=4, with_output=True))
def test_classifiers_of_the_architecture_space_are_known_by_their_roles(config: NetworkConfig) -> None:
    graph = build_graph(config)
    by_role = {slot.name for node in graph.parameters for slot in node if slot.role.startswith("class_")}
    assert class_layers(graph) == by_role


def test_layers_before_a_norm_or_a_tied_table_are_no_classifiers() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner, self.norm = nn.Embedding(50, 8), nn.Linear(8, 8), nn.LayerNorm(8)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.norm(self.inner(self.table(tokens))) @ self.table.weight.T

    assert class_layers(trace(Tied(), torch.zeros(1, 4, dtype=torch.int64))) == frozenset()


@pytest.mark.parametrize("outputs", [10, 21])
def test_classes_in_the_columns_of_a_weight(ghn: GHN, outputs: int, caplog: pytest.LogCaptureFixture) -> None:
    """A transposed convolution stores (inputs, outputs): its weights are not those of a linear classifier."""
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.ConvTranspose2d(16, outputs, 2, stride=2))
    graph = trace(model, torch.zeros(1, 3, 8, 8))
    assert not [slot for node in graph.parameters for slot in node if slot.role.startswith("class_")]
    weight = ghn.predict(model, torch.zeros(1, 3, 8, 8))["2.weight"]
    assert weight.shape == (16, outputs, 2, 2)
    expected = [] if outputs == 10 else ["21"]
    assert [re.search(r"predicted for (.*) classes", message)[1] for message in warnings_of(caplog)] == expected  # type: ignore[index]
    kept = ghn.predict(model, torch.zeros(1, 3, 8, 8), predict_class_layers=False).kept
    assert list(kept) == ["2.weight", "2.bias"]


@pytest.mark.parametrize("outputs", [10, 21])
def test_a_weight_without_a_bias_can_have_its_classes_in_the_columns(
    ghn: GHN, outputs: int, caplog: pytest.LogCaptureFixture
) -> None:
    head = nn.ConvTranspose2d(16, outputs, 2, stride=2, bias=False)
    ghn.predict(nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), head), torch.zeros(1, 3, 8, 8))
    assert len(warnings_of(caplog)) == (outputs != 10)


def test_a_decoder_that_shares_its_weight_has_a_bias_of_its_own() -> None:
    """As in RoBERTa: the weight of the last layer is the table, whose node is the first one."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner, self.head = nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 50)
            self.head.weight = self.table.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.inner(self.table(tokens)).relu())

    graph = trace(Tied(), torch.zeros(1, 4, dtype=torch.int64))
    roles = {slot.name: slot.role for node in graph.parameters for slot in node}
    assert roles["head.bias"] == "class_bias"
    assert class_layers(graph) == {"head.bias"}
