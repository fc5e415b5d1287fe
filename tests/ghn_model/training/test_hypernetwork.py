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
from ghn_model.training.state import Progress, load_state, save_state
from tests.support.own_hypernetworks import Scales
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


class Frozen(Scales):
    """Has a frozen parameter before the trained one, and names only the latter as trainable."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.scale = nn.Parameter(torch.randn(2) / 10)


class Listed(Frozen):
    """Says so itself, although the tensor would require a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen.requires_grad_()

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        yield self.scale


@pytest.mark.parametrize("kind", [Frozen, Listed])
def test_frozen_parameters_do_not_change(corpus: Path, tmp_path: Path, kind: Any) -> None:
    """Weight decay does not reach them, and a resumed training gives each moment to its own parameter."""
    options = {"hypernetwork": kind, "weight_decay": 0.1, "ema_decay": 0.5, "schedule": Schedule("constant")}
    path = train_here(corpus, tmp_path / "whole", steps=4, **options)
    for steps in (2, 4):
        train_here(corpus, tmp_path / "parts", steps=steps, **options)
    for name in ("state.safetensors", "hypernetwork.safetensors"):
        one, parts = tensors(path.parent / name), tensors(tmp_path / "parts" / name)
        assert one.keys() == parts.keys()
        assert all(torch.equal(one[key], parts[key]) for key in one)
    state = tensors(path.parent / "state.safetensors")
    assert torch.equal(state["weights.frozen"], torch.ones(3))
    assert {name for name in state if name.endswith("frozen")} == {"weights.frozen"}


def test_states_of_earlier_versions_with_frozen_parameters(tmp_path: Path) -> None:
    """They have moments and averages of frozen parameters, which are not read."""
    model = Frozen()
    model.frozen.requires_grad_()
    optimizer = torch.optim.Adam(model.parameters())
    (model.scale.sum() + model.frozen.sum()).backward()
    optimizer.step()
    save_state(tmp_path / "state", model, optimizer, [p.detach() for p in model.parameters()], {}, Progress(step=1), {})
    other = Frozen()
    moments = torch.optim.Adam([other.scale])
    averages = [torch.zeros(2)]
    assert load_state(tmp_path / "state", other, moments, averages, {}).step == 1
    assert torch.equal(moments.state[other.scale]["exp_avg"], optimizer.state[model.scale]["exp_avg"])
    assert torch.equal(averages[0], model.scale)


def test_tensors_that_are_not_registered(corpus: Path, tmp_path: Path) -> None:
    hypernetwork = Listed()
    elsewhere = nn.Parameter(torch.zeros(2))
    hypernetwork.parameters = lambda recurse=True: iter([elsewhere])  # type: ignore[method-assign,assignment]
    with pytest.raises(ConfigError, match=r"parameters\(\) has a tensor of shape \(2,\) that is not registered in it"):
        train_here(corpus, tmp_path, steps=1, hypernetwork=hypernetwork)


class Counting(GHN):
    """A class derived from `GHN` with methods of its own."""

    prepared = predicted = 0

    def __init__(self) -> None:
        super().__init__(small_config())

    def prepare(self, *args: Any, **options: Any) -> Any:
        Counting.prepared += 1
        return super().prepare(*args, **options)

    def forward(self, graphs: Any, *args: Any, **options: Any) -> Any:
        Counting.predicted += 1
        return super().forward(graphs, *args, **options)


def test_a_class_derived_from_ghn_is_trained_by_its_own_methods(corpus: Path, tmp_path: Path) -> None:
    train_here(corpus, tmp_path, steps=1, hypernetwork=Counting)
    before = Counting.prepared, Counting.predicted
    path = train_here(corpus, tmp_path, steps=3, hypernetwork=Counting)
    assert Counting.prepared - before[0] >= 2
    assert Counting.predicted - before[1] >= 2
    assert path.name == "hypernetwork.safetensors"
    assert type(load_weights(Counting(), path)) is Counting


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
