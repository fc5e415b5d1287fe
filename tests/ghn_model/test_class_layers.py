"""Layers of the classes: a warning if they are predicted for another number of classes than was trained."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from deepnets import GENOTYPES, Network, NetworkConfig
from ghn_model import GHN, GHNConfig

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
    ghn.predict(nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50)), torch.zeros(1, 4, dtype=torch.int64))
    assert warnings_of(caplog) == []
