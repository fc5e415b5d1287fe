"""`predict_class_layers=False`: hypernetworks for numbers of classes that they were not trained for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark import evaluate
from benchmark.evaluation import open_networks
from benchmark.evaluation.prediction import _predicted, predict_one
from benchmark.evaluation.predictor_objects import HypernetworkPredictor
from benchmark.results import Machine, run
from deepnets import trace
from deepnets.support import ConfigError
from ghn_model import GHN
from tests.support.image_folders import write_folder
from tests.support.small_corpus import write_small_corpus


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    (folder / "data").mkdir()
    write_small_corpus(folder / "data", "test")
    write_folder(folder / "images", classes=3, images=12, side=24)
    return folder


@pytest.mark.slow
def test_the_error_says_what_to_do(place: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"10 classes, folder:.* has 3; leave out the class layers \(--no-class-layers"
    ):
        evaluate("ghn2-digits", "test", f"folder:{place / 'images'}", data=place / "data", limit=1)
    with pytest.raises(ConfigError, match=r"predict_class_layers=False"):
        run(["ghn2-digits"], ["test"], f"folder:{place / 'images'}", data=place / "data", out=place / "no")


@pytest.mark.slow
def test_rows(place: Path) -> None:
    images = f"folder:{place / 'images'}"
    table = evaluate("ghn2-digits", "test", images, data=place / "data", limit=2, predict_class_layers=False)
    assert (table["status"] == "ok").all()
    assert table.attrs["predict_class_layers"] is False
    path = run(
        ["ghn2-digits", "random"],
        ["test"],
        images,
        data=place / "data",
        out=place / "out",
        limit=2,
        predict_class_layers=False,
        machine=Machine(workers=1),
    )
    rows = [line.split(",") for line in path.read_text().splitlines()]
    top1 = rows[0].index("top1")
    assert [float(row[top1]) for row in rows[1:3]] == table["top1"].tolist()


@pytest.mark.slow
def test_class_layers_have_initial_values_and_others_are_predicted(place: Path) -> None:
    networks = open_networks("test", data=place / "data", num_classes=3, image_size=32)
    ghn = GHN.from_pretrained("ghn2-digits")
    found = predict_one(networks, 0, ghn, predict_class_layers=False)
    assert not found.failure
    initial = predict_one(networks, 0, lambda model, graph: dict(model.named_parameters())).parameters
    layers = {name for name in initial if name.startswith("classifier")}
    assert layers
    for name, tensor in initial.items():
        assert torch.equal(found.parameters[name], tensor.detach()) == (name in layers), name


@pytest.mark.slow
def test_hypernetworks_of_users(place: Path) -> None:
    """What they return for class layers, of whatever shape, is not used."""

    class Ones:
        def forward(self, graphs: list) -> list[dict[str, torch.Tensor]]:
            slots = [slot for node in graphs[0].parameters for slot in node]
            shapes = {slot.name: (7,) if slot.role.startswith("class_") else slot.shape for slot in slots}
            return [{name: torch.ones(shape) for name, shape in shapes.items()}]

    networks = open_networks("test", data=place / "data", num_classes=3, image_size=32)
    predictor = HypernetworkPredictor(Ones())
    assert "expected floating-point numbers of shape" in predict_one(networks, 0, predictor).failure
    assert not predict_one(networks, 0, predictor, predict_class_layers=False).failure


class Headless(torch.nn.Module):
    """A classifier without a bias."""

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, num_classes, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_classifiers_without_a_bias_keep_their_values() -> None:
    model = Headless()
    found = _predicted(
        GHN.from_pretrained("mlp-digits"), model, trace(model, torch.zeros(1, 3, 32, 32)), predict_class_layers=False
    )
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert torch.equal(found["head.weight"], model.head.weight)
