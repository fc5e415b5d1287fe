"""Hypernetworks other than `GHN`: training, state, resuming, files, the command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepnets import DeepNets1M, Graph
from deepnets.support import CheckpointError, ConfigError
from ghn_model import GHN
from ghn_model.__main__ import main
from ghn_model.training import Hypernetwork, Schedule, load_weights
from ghn_model.training.hypernetwork import build_hypernetwork, read_metadata
from tests.support.training_runs import command, small_config, tensors, train_here

MODULE = '''
"""A hypernetwork and a predictor as a user would write them."""

import torch
from torch import nn

from ghn_model.training import load_weights


class Noise(nn.Module):
    """Predicts fixed random tensors with a learned scale for each role of parameters."""

    def __init__(self):
        super().__init__()
        self.scales = nn.ParameterDict({"weight": torch.tensor(0.1), "bias": torch.tensor(0.0)})

    def forward(self, graphs):
        return [{slot.name: self.tensor(slot) for slots in graph.parameters for slot in slots} for graph in graphs]

    def tensor(self, slot):
        kind = "weight" if slot.name.endswith("weight") else "bias"
        noise = torch.randn(slot.shape, generator=torch.Generator().manual_seed(len(slot.name)))
        return (self.scales[kind] * noise).to(self.scales[kind].device)


def predict(model, graph):
    with torch.no_grad():
        return load_weights(Noise(), "run/hypernetwork.safetensors")([graph])[0]
'''


class Scales(nn.Module):
    """Predicts constants: one for tensors with one axis, one for others."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(2) / 10)

    def forward(self, graphs: Sequence[Graph]) -> list[dict[str, Tensor]]:
        return [
            {
                slot.name: self.scale[int(len(slot.shape) > 1)].expand(slot.shape)
                for slots in graph.parameters
                for slot in slots
            }
            for graph in graphs
        ]


class Prepared(Scales):
    """Reads the result of its method `prepare`."""

    def prepare(self, graphs: Sequence[Graph]) -> tuple[Graph, ...]:
        assert self.scale.device.type in ("meta", "cpu")
        return tuple(graphs)

    def forward(self, graphs: Sequence[Graph]) -> list[dict[str, Tensor]]:
        assert isinstance(graphs, tuple)
        return super().forward(graphs)


class Plain:
    """A hypernetwork that is not a module."""

    def __init__(self) -> None:
        self.inner = Scales()

    def forward(self, graphs: Sequence[Graph]) -> list[dict[str, Tensor]]:
        return self.inner(graphs)

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.inner.parameters()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", [Scales, Prepared, Plain])
def test_custom_hypernetworks_train_and_resume(corpus: Path, tmp_path: Path, kind: Any) -> None:
    """Weights and state are equal bit for bit, whether a training has one call or several."""
    assert isinstance(kind(), Hypernetwork)
    options = {"hypernetwork": kind, "ema_decay": 0.5, "schedule": Schedule("constant")}
    path = train_here(corpus, tmp_path / "whole", steps=4, **options)
    for steps in (1, 3, 4):
        train_here(corpus, tmp_path / "parts", steps=steps, **options)
    for name in ("state.safetensors", "hypernetwork.safetensors"):
        one, parts = tensors(path.parent / name), tensors(tmp_path / "parts" / name)
        assert one.keys() == parts.keys()
        assert all(torch.equal(one[key], parts[key]) for key in one)
    assert path == tmp_path / "whole" / "hypernetwork.safetensors"
    assert (read_metadata(path)["steps"], read_metadata(path)["images"]) == (4, "plain")


def test_trained_weights_load(corpus: Path, tmp_path: Path) -> None:
    """Also those of objects that keep their own initial weights and are trained in place."""
    for hypernetwork in (Scales(), Plain()):
        out = tmp_path / type(hypernetwork).__name__
        path = train_here(corpus, out, steps=2, hypernetwork=hypernetwork, ema_decay=0.0)
        loaded = load_weights(type(hypernetwork)(), path)
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), hypernetwork.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="is of another hypernetwork"):
        load_weights(nn.Linear(2, 2), path)  # type: ignore[type-var]
    with pytest.raises(CheckpointError, match=r"weights of .*Plain.*, which is no GHN; .*trained:MODULE"):
        GHN.from_pretrained(path)
    ghn = train_here(corpus, tmp_path / "ghn", steps=1)
    with pytest.raises(CheckpointError, match=r"load a GHN with GHN\.from_pretrained"):
        load_weights(Scales(), ghn)


def test_resuming_with_another_hypernetwork_is_an_error(corpus: Path, tmp_path: Path) -> None:
    train_here(corpus, tmp_path, steps=1, hypernetwork=Scales)
    with pytest.raises(ConfigError, match=r"another hypernetwork .*Scales.*Prepared"):
        train_here(corpus, tmp_path, steps=2, hypernetwork=Prepared)
    with pytest.raises(ConfigError, match="another"):
        train_here(corpus, tmp_path, steps=2)


def test_invalid_hypernetworks() -> None:
    for wrong in (lambda: 3, object(), "ghn2"):
        with pytest.raises(ConfigError, match="hypernetwork: expected a GHNConfig, or an object with the methods"):
            build_hypernetwork(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Identity has no parameters to train"):
        build_hypernetwork(nn.Identity())  # type: ignore[arg-type]
    ghn = GHN(small_config())
    assert build_hypernetwork(ghn) is ghn


@pytest.mark.slow
def test_the_command_line_trains_a_class_of_a_module(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train with validation, and predict with the saved file, as documented."""
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    words = command(corpus, tmp_path / "run", images="digits", steps=2, hypernetwork="mine:Noise", validate_every=2)
    main([*words[2:], "--validate-networks", "2", "--validate-images", "20"])
    assert len((tmp_path / "run" / "curve.csv").read_text().splitlines()) == 2
    predict = importlib.import_module("mine").predict
    nets = DeepNets1M(corpus, "test")
    assert len(predict(nets.network(0), nets[0])) == sum(len(slots) for slots in nets[0].parameters)
    words[words.index("mine:Noise")] = "mine:Nothing"
    with pytest.raises(ConfigError, match="Nothing"):
        main(words[2:])
