"""Predictors `trained:MODULE:ATTRIBUTE:FILE`: labels, digests, checks before the evaluation, prepared graphs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmark.evaluation import (
    ImageInfo,
    Machine,
    PredictorContext,
    close_workers,
    describe_all,
    describe_predictor,
    open_networks,
    open_predictor,
)
from benchmark.evaluation.predictor_objects import HypernetworkPredictor
from deepnets import ConfigError, build_graph
from ghn_model import save_checkpoint
from ghn_model.training.hypernetwork import build_hypernetwork, save_hypernetwork
from tests.support.sgd_trainings import CONFIG, small_ghn

MODULE = '''
import torch
from torch import nn


class Scaled(nn.Module):
    """Constants with a learned value."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.5))

    def prepare(self, graphs):
        return tuple(graphs)

    def forward(self, graphs):
        assert isinstance(graphs, tuple)
        return [{s.name: self.value * torch.ones(s.shape) for node in g.parameters for s in node} for g in graphs]


class Plain:
    """Not a module."""

    def __init__(self):
        self.inner = Scaled()

    def forward(self, graphs):
        return self.inner(tuple(graphs))

    def parameters(self):
        return self.inner.parameters()


class Incomplete(Scaled):
    def forward(self, graphs):
        found = super().forward(graphs)
        for graph, parameters in zip(graphs, found):
            if "pos_enc.weight" in parameters:
                del parameters["pos_enc.weight"]
        return found


class Broken(Scaled):
    def forward(self, graphs):
        return [{name: tensor / 0 for name, tensor in parameters.items()} for parameters in super().forward(graphs)]
'''


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a run, with the weights of each class of the module `trained_nets`."""
    (tmp_path / "trained_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "trained_nets", raising=False)
    import trained_nets

    for name in ("Scaled", "Plain", "Incomplete", "Broken"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        net = build_hypernetwork(getattr(trained_nets, name))
        with torch.no_grad():
            next(net.parameters()).fill_(0.25)
        save_hypernetwork(net, folder, {"images": "digits", "num_classes": 10})
    yield tmp_path
    close_workers()
    sys.modules.pop("trained_nets", None)


def spec(name: str, label: str = "") -> str:
    return f"{label}trained:trained_nets:{name}:{name.lower()}/hypernetwork.safetensors"


@pytest.mark.parametrize("name", ["Scaled", "Plain"])
def test_the_weights_of_the_file_are_used(run: Path, name: str) -> None:
    info = describe_predictor(spec(name))
    assert (info.label, info.kind, info.num_classes, info.data) == (name.lower(), "trained", 10, "digits")
    networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    predictor = open_predictor(info, PredictorContext(networks, ImageInfo("digits", 10, 32)))
    parameters = predictor(torch.nn.Identity(), build_graph(CONFIG))
    assert all(tensor.eq(0.25).all() and not tensor.requires_grad for tensor in parameters.values())
    with pytest.raises(ConfigError, match="predicts networks for 10 classes, imagenet has 1000"):
        open_predictor(info, PredictorContext(networks, ImageInfo("imagenet", 1000, 224)))


@pytest.mark.slow
def test_the_process_describes_with_a_label_from_the_text(run: Path) -> None:
    one, two = describe_all([spec("Scaled"), spec("Scaled", "mine=")], Machine())
    assert (one.label, two.label) == ("scaled", "mine")
    assert one.digest == two.digest == describe_predictor(spec("Scaled")).digest


def test_other_weights_and_other_code_have_other_digests(run: Path) -> None:
    digests = {describe_predictor(spec("Scaled")).digest}
    import trained_nets

    save_hypernetwork(trained_nets.Scaled(), run / "scaled", {})
    digests.add(describe_predictor(spec("Scaled")).digest)
    with (run / "trained_nets.py").open("a") as file:
        file.write("\n# a comment\n")
    digests.add(describe_predictor(spec("Scaled")).digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Incomplete",
            r"^Incomplete: a network of the genotype ViT: parameters: 1 of \d+ are missing: pos_enc\.weight$",
        ),
        ("Broken", r"^Broken: a network of the genotype \w+: parameters: \d+ are not finite: "),
    ],
)
def test_wrong_predictions_are_found_before_the_evaluation(run: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        describe_predictor(spec(name))


def test_mistakes(run: Path) -> None:
    save_checkpoint(small_ghn(), run / "ghn.safetensors")
    for text, message in {
        "trained:": "expected trained:MODULE:ATTRIBUTE:FILE, as in",
        "trained:trained_nets:Scaled": "expected trained:MODULE:ATTRIBUTE:FILE, as in",
        "trained:trained_nets:Scaled:absent.safetensors": "absent.safetensors",
        "trained:trained_nets:Scaled:ghn.safetensors": "is not a custom hypernetwork",
        "trained:trained_nets:Scaled:plain/hypernetwork.safetensors": "is of another hypernetwork",
        "trained:absent_nets:Scaled:x.safetensors": "absent_nets cannot be imported",
        "trained:trained_nets:Scalde:x.safetensors": "has no attribute 'Scalde'; did you mean Scaled",
    }.items():
        with pytest.raises(Exception, match=message) as caught:
            describe_predictor(text)
        assert "\n" not in str(caught.value)


def test_objects_of_modules_are_given_prepared_graphs(run: Path) -> None:
    import trained_nets

    graph = build_graph(CONFIG)
    assert HypernetworkPredictor(trained_nets.Scaled())(torch.nn.Identity(), graph)
