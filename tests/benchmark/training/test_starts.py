"""Initial parameters of trainings: saved parameters, predictions, and files that are not valid."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.training import SGDRecipe, Start, initialized, open_start, read_state
from deepnets import ConfigError, DeepNetsError, Network
from ghn_model import save_checkpoint, vary
from ghn_model.checkpoints import model_card, write_tensors
from tests.support.sgd_trainings import CONFIG, small_ghn


def saved(tmp_path: Path, write: Callable[[dict[str, Tensor], Path], None], classes: int = 10) -> Path:
    torch.manual_seed(7)
    write(Network(CONFIG, classes).state_dict(), tmp_path / "saved")
    return tmp_path / "saved"


WRITERS: list[Callable[[Any, Path], None]] = [
    lambda state, path: write_tensors(path, state, {}),
    torch.save,
    lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
]


def test_bundled_hypernetworks_are_identified_by_their_files() -> None:
    about = open_start("mlp-digits").about
    assert about == {"kind": "hypernetwork", "name": "mlp-digits", "sha256": model_card("mlp-digits")["sha256"]}


@pytest.mark.parametrize("write", WRITERS)
def test_saved_parameters(tmp_path: Path, write: Callable[[Any, Path], None]) -> None:
    start = open_start(str(saved(tmp_path, write)))
    torch.manual_seed(7)
    wanted = Network(CONFIG).state_dict()
    model = Network(CONFIG)
    net = initialized(model, start, num_classes=10)
    assert start.label == "saved"
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in wanted.items())
    assert not torch.equal(model.classifier[0].weight, net.classifier[0].weight)


def test_layers_of_other_classes_stay_random(tmp_path: Path) -> None:
    start = open_start(str(saved(tmp_path, torch.save, classes=7)))
    model = Network(CONFIG)
    net = initialized(model, start, num_classes=10)
    assert torch.equal(net.classifier[0].weight, model.classifier[0].weight)
    assert torch.equal(net.classifier[0].bias, model.classifier[0].bias)
    assert not torch.equal(net.stem[0].weight, model.stem[0].weight)
    for ghn, taken in ((small_ghn(), True), (small_ghn(7), False)):
        net = initialized(model, Start("x", ghn=ghn), num_classes=10)
        predicted = ghn.predict(model, predict_class_layers=taken)
        assert ("classifier.0.weight" in predicted) == taken
        for name, parameter in net.named_parameters():
            assert torch.equal(parameter, predicted.get(name, dict(model.named_parameters())[name]))


def test_noise_and_orthogonal_matrices_are_for_predictions() -> None:
    recipe = SGDRecipe(noise=1e-3, orthogonal_from=2)
    model, ghn = Network(CONFIG), small_ghn()
    net = initialized(model, Start("x", ghn=ghn), num_classes=10, recipe=recipe, seed=5)
    wanted = vary(model, ghn.predict(model), 1e-3, 2, seed=5)
    assert all(torch.equal(parameter, wanted[name]) for name, parameter in net.named_parameters())
    net = initialized(model, Start(), num_classes=10, recipe=recipe)
    assert all(
        torch.equal(parameter, dict(model.named_parameters())[name]) for name, parameter in net.named_parameters()
    )


def test_larger_kernels_are_cut_to_their_middle() -> None:
    large, small = nn.Sequential(nn.Conv2d(3, 4, 7)), nn.Sequential(nn.Conv2d(3, 4, 3))
    net = initialized(small, Start("x", tensors=large.state_dict()), num_classes=10)
    assert torch.equal(net[0].weight, large[0].weight[:, :, 2:5, 2:5])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"0.bias": torch.zeros(4)}, "lacks 1 parameters of the network: 0.weight"),
        (
            {"0.weight": torch.zeros(4, 2), "0.bias": torch.zeros(4), "x": torch.zeros(1)},
            "has x, which the network does not have",
        ),
        (
            {"0.weight": torch.zeros(4, 3), "0.bias": torch.zeros(4)},
            r"0.weight has shape \(4, 3\) in the file, \(4, 2\)",
        ),
        ({"0.weight": torch.zeros(4, 2), "0.bias": torch.full((4,), torch.nan)}, "init mine: 0.bias is not finite"),
    ],
)
def test_parameters_that_do_not_fit(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        initialized(nn.Sequential(nn.Linear(2, 4)), Start("mine", tensors=tensors), num_classes=10)


def test_files_that_are_no_start(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": print}, tmp_path / "code.pt")
    for name in ("text.pt", "list.pt", "code.pt"):
        with pytest.raises(DeepNetsError, match=name):
            open_start(str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"test-4.safetensors: no such file"):
        initialized(nn.Linear(2, 2), open_start(str(tmp_path)), num_classes=2, name="test-4")
    save_checkpoint(small_ghn(), tmp_path / "ghn.safetensors")
    assert open_start(str(tmp_path / "ghn.safetensors")).label == tmp_path.name
    assert read_state(tmp_path / "ghn.safetensors").keys() == small_ghn().state_dict().keys()


class Hostile:
    """Creates a file when it is unpickled as usual."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_file_is_executed(tmp_path: Path, protocol: int, zipped: bool) -> None:
    trap, folder = tmp_path / "trap", tmp_path / "states"
    folder.mkdir()
    content = {"state_dict": {"weight": torch.zeros(2, 2), "bias": Hostile(trap)}}
    for path in (tmp_path / "file.pt", folder / "test-0.safetensors"):
        torch.save(content, path, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=zipped)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(content["state_dict"]["bias"], protocol))
    for path in (tmp_path / "file.pt", tmp_path / "plain.pkl"):
        with pytest.raises(DeepNetsError, match=path.name):
            open_start(str(path))
    with pytest.raises(ConfigError, match="test-0"):
        initialized(nn.Linear(2, 2), open_start(str(folder)), num_classes=2, name="test-0")
    assert not trap.exists()
    torch.load(tmp_path / "file.pt", weights_only=False)
    assert trap.exists()  # the file does have code


def test_small_files_with_huge_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6), "bias": torch.zeros(2)}, tmp_path / "huge.pt")
    with pytest.raises(DeepNetsError, match=r"huge.pt|weight has shape \(1000000, 1000000\) in the file"):
        initialized(nn.Linear(2, 2), open_start(str(tmp_path / "huge.pt")), num_classes=2)
