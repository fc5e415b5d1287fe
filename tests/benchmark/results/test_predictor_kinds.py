"""Kinds of predictors and networks: saved states, training, checkpoints, and models of libraries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmark import evaluate
from benchmark.commands.run import _bundled
from benchmark.evaluation import describe_predictor
from benchmark.results import Machine, run
from deepnets import ConfigError, DeepNets1M
from deepnets.support import CheckpointError, import_torchvision
from ghn_model import GHN, GHNConfig, save_checkpoint
from tests.support.benchmark_runs import table_of


def test_saved_states(data: Path, here: Path) -> None:
    """Parameters only are evaluated with batch statistics, full states with their running statistics."""
    from benchmark.training import evaluate_trained, track_statistics
    from deepnets.data import load_images
    from ghn_model.checkpoints import write_tensors

    nets = DeepNets1M(data, "test")
    folder = here / "saved"
    folder.mkdir()
    torch.manual_seed(1)
    networks = [nets.network(index) for index in range(2)]
    write_tensors(folder / "test-0.safetensors", dict(networks[0].named_parameters()), {})
    trained = track_statistics(networks[1])
    with torch.no_grad():
        trained(torch.randn(20, 3, 32, 32))
    torch.save(trained.state_dict(), folder / "test-1.pt")
    table = evaluate(str(folder), "test", data=data, limit=3)
    assert table["status"].tolist() == ["ok", "ok", "failed"]
    assert table["batch_norm"].tolist()[:1] == ["batch"]
    assert "has no test-2.safetensors" in table["reason"][2]
    images = load_images("digits", "test")
    assert table["top5"][1] == evaluate_trained(networks[1], trained.state_dict(), images)["top5"]


@pytest.mark.slow
def test_training_as_a_predictor(data: Path) -> None:
    trained, random = (evaluate(name, "test", data=data, limit=1) for name in ("sgd:1", "random"))
    assert (trained["batch_norm"][0], random["batch_norm"][0]) == ("running", "batch")
    assert trained.attrs["predictor"] == "sgd-1"
    assert trained["top1"][0] > random["top1"][0]


@pytest.mark.slow
def test_baselines(data: Path, here: Path) -> None:
    from ghn_model.checkpoints import write_tensors

    nets = DeepNets1M(data, "test")
    (here / "states").mkdir()
    write_tensors(here / "states" / "val-0.safetensors", dict(nets.network(1).named_parameters()), {})
    specs = ["orthogonal:1.4", "mimetic", "lsuv", "select:states/val-0.safetensors", "copy:states"]
    run(specs, ["test"], data=data, out=here / "out", limit=1, machine=Machine(workers=1))
    rows = table_of(here / "out")
    assert sorted(rows["predictor"]) == ["copy-states", "lsuv", "mimetic", "orthogonal:1.4", "select-val-0"]
    assert (rows["status"] == "ok").all()
    assert (rows["batch_norm"] == "batch").all()


@pytest.mark.slow
def test_a_file_of_a_hypernetwork(data: Path, here: Path) -> None:
    torch.manual_seed(0)
    ghn = GHN("mlp")
    (here / "mine").mkdir()
    save_checkpoint(ghn, here / "mine" / "ghn.safetensors", {"about": "for tests"})
    run(["mine/ghn.safetensors"], ["test"], data=data, out=here / "out", limit=2, machine=Machine(workers=1))
    about = next(iter(json.loads((here / "out" / "runs.json").read_text()).values()))
    assert about["predictor"]["label"] == "mine"
    assert about["predictor"]["about"] == "for tests"
    assert (
        table_of(here / "out")["top1"].map(float).tolist() == evaluate(ghn, "test", data=data, limit=2)["top1"].tolist()
    )


@pytest.mark.slow
def test_an_official_checkpoint(data: Path, here: Path) -> None:
    torch.manual_seed(0)
    ghn = GHN("ghn2")
    torch.save({"state_dict": ghn.state_dict()}, here / "ghn2_cifar10.pt")
    table, expected = (evaluate(each, "test", data=data, limit=2) for each in (str(here / "ghn2_cifar10.pt"), ghn))
    assert table["top5"].tolist() == expected["top5"].tolist()
    assert table.attrs["predictor"] == "ghn2_cifar10"


@pytest.mark.parametrize(("images", "names"), [("digits", 3), ("imagenet", 0)])
def test_default_predictors(images: str, names: int) -> None:
    """By default, the bundled hypernetworks for these images are evaluated."""
    found = _bundled(images)
    assert len(found) == names
    assert all(name.endswith(images) for name in found)


def test_models_of_timm(here: Path) -> None:
    table = evaluate("random", "timm:resnet10t", data=here)
    assert (table["network"][0], table["status"][0]) == ("resnet10t", "ok")
    with pytest.raises(ConfigError, match="timm has no classifier 'resnet10'; did you mean"):
        evaluate("random", "timm:resnet10", data=here)


@pytest.mark.slow
def test_models_of_a_library(here: Path) -> None:
    import_torchvision()
    table = evaluate("random", "torchvision:squeezenet1_1,shufflenet_v2_x0_5", data=here)
    assert table["network"].tolist() == ["squeezenet1_1", "shufflenet_v2_x0_5"]
    assert table["status"].tolist() == ["ok", "ok"]
    swapped = evaluate("random", "torchvision:shufflenet_v2_x0_5", data=here)
    assert swapped["top5"][0] == table["top5"][1]  # its position in the list does not matter


def test_the_folder_of_a_training(here: Path) -> None:
    """It is no folder of saved states; the error names the file to use."""
    ghn = GHN(GHNConfig(hidden=8, max_shape=(16, 16, 11, 11)))
    (here / "run").mkdir()
    ghn.save(here / "run" / "ghn.safetensors")
    with pytest.raises(ConfigError, match=r"is the folder of a training; use run/ghn\.safetensors"):
        describe_predictor("run")
    with pytest.raises(CheckpointError, match=r"is the folder of a training; use run/ghn\.safetensors"):
        GHN.from_pretrained("run")
