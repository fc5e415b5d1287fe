"""Predictors by name: the registry, and user-defined predictors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark import PREDICTORS, evaluate, register_predictor
from benchmark.evaluation import describe_predictor
from benchmark.results import Machine, run
from deepnets import ConfigError
from ghn_model import GHN, GHNConfig
from tests.support.small_corpus import write_small_corpus

MODULE = """
import torch
from torch import nn

class Hypernetwork(nn.Module):
    '''Predicts one value for all parameters.'''

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.5))

    def forward(self, graphs):
        return [
            {slot.name: self.value.expand(slot.shape).clone() for node in graph.parameters for slot in node}
            for graph in graphs
        ]

ready = Hypernetwork()

class Wrong:
    def forward(self, graphs):
        return {}
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a small corpus, a module and a registry that the test can change."""
    (tmp_path / "my_ghn.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(PREDICTORS, "_entries", dict(PREDICTORS._entries))
    return write_small_corpus(tmp_path, "test")


def half(model: nn.Module, graph: Any) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, 0.5) for name, tensor in model.named_parameters()}


@pytest.mark.slow
def test_a_user_defined_hypernetwork(data: Path) -> None:
    """A class and an object by name, and an object."""
    expected = evaluate(half, "test", data=data, limit=2)
    assert (expected["status"] == "ok").all()
    from my_ghn import Hypernetwork  # type: ignore[import-not-found]

    for predictor in ("my_ghn:Hypernetwork", "my_ghn:ready", Hypernetwork()):
        table = evaluate(predictor, "test", data=data, limit=2)
        assert table["top5"].tolist() == expected["top5"].tolist()
    assert describe_predictor("my_ghn:Hypernetwork").about == "Predicts one value for all parameters."


def test_a_hypernetwork_that_returns_no_list(data: Path) -> None:
    table = evaluate("my_ghn:Wrong", "test", data=data, limit=1)
    assert table["reason"][0] == "forward: expected a list of one dict for one graph, got dict"


@pytest.mark.slow
def test_a_registered_kind(data: Path) -> None:
    """Workers open it, although it is registered in this process only."""

    def open_constant(argument: str, context: Any) -> Any:
        value = float(argument)
        return lambda model, graph: {n: torch.full_like(p, value) for n, p in model.named_parameters()}

    register_predictor("constant", open_constant, usage="constant:VALUE")
    expected = evaluate(half, "test", data=data, limit=1)["top5"].tolist()
    assert evaluate("constant:0.5", "test", data=data, limit=1)["top5"].tolist() == expected
    assert evaluate("constant:0.5", "test", data=data, limit=1, timeout=300)["top5"].tolist() == expected
    with pytest.raises(ConfigError, match="'constant' is already registered"):
        register_predictor("constant", open_constant)
    known = r"expected a bundled hypernetwork .*sgd:EPOCHS.*module:attribute.*constant:VALUE"
    with pytest.raises(ConfigError, match=known):
        describe_predictor("constants")


@pytest.mark.parametrize(
    ("spec", "data"),
    [
        ("random", "none"),
        ("untrained:ghn2", "none"),
        ("sgd:5", "training images"),
        ("ghn2-digits", "digits (scikit-learn), 1,199 for training, shifted by up to two pixels"),
        ("tests.benchmark.evaluation.test_predictors:declares", "digits, training images"),
        ("tests.benchmark.evaluation.test_predictors:half", ""),
    ],
)
def test_declared_data(spec: str, data: str) -> None:
    """Runs store it, and reports show it."""
    info = describe_predictor(spec)
    assert info.data == info.to_dict()["data"] == data


def declares(model: nn.Module, graph: Any) -> dict[str, torch.Tensor]:
    return half(model, graph)


declares.training_data = "digits,\n training images"  # type: ignore[attr-defined]


def test_a_hypernetwork_for_other_classes_is_refused_before_the_run(data: Path) -> None:
    GHN(GHNConfig.preset("mlp", 100)).save(data / "hundred.safetensors")
    with pytest.raises(ConfigError, match="predicts networks for 100 classes, digits has 10"):
        run(["random", "hundred.safetensors"], ["test"], data=data, out=data / "out")
    assert not (data / "out" / "networks.csv").exists()


@pytest.mark.slow
def test_a_file_is_described_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.evaluation import predictor_kinds

    described: list[str] = []
    describe = predictor_kinds.describe
    monkeypatch.setattr(predictor_kinds, "describe", lambda spec: described.append(spec) or describe(spec))
    GHN("mlp").save(data / "mine.safetensors")
    run(
        ["mine.safetensors"],
        ["test"],
        data=data,
        out=data / "out",
        limit=1,
        noise=[0.0, 0.1],
        machine=Machine(workers=1),
    )
    assert described == ["mine.safetensors"]
