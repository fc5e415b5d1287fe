"""Trained weights of library models: nothing is downloaded, and messages say which file to get."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from deepnets import load_model
from deepnets.support import ConfigError, MissingDataError, import_timm, import_torchvision


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder of downloads, and no network."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network is used")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.DEFAULT", "a member"])
def test_weights_of_torchvision(tmp_path: Path, weights: Any) -> None:
    models = import_torchvision().models
    if weights == "a member":
        weights = models.SqueezeNet1_1_Weights.DEFAULT
    url = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    path = tmp_path / "checkpoints" / url.rpartition("/")[2]
    with pytest.raises(MissingDataError) as raised:
        load_model("torchvision:squeezenet1_1", weights=weights)
    assert str(raised.value) == (
        f"model torchvision:squeezenet1_1: weights: the file {path} is missing; download {url} and save it there"
    )
    path.parent.mkdir(exist_ok=True)
    state = load_model("torchvision:squeezenet1_1").state_dict()
    torch.save(state, path)
    if not isinstance(weights, str):  # torchvision checks the digest of the file only when it downloads
        loaded = load_model("torchvision:squeezenet1_1", weights=weights).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("spec", "arguments"),
    [
        ("torchvision:squeezenet1_1", {"pretrained": True}),
        ("torchvision.models.squeezenet:squeezenet1_1", {"weights": "DEFAULT"}),
        ("torchvision:get_model", {"name": "squeezenet1_1", "weights": "DEFAULT"}),
        ("torchvision:segmentation.fcn_resnet50", {}),  # its backbone has weights by default
    ],
)
def test_other_ways_to_ask_for_weights(spec: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(MissingDataError, match=f"^model {spec}: weights: the file .* is missing; download https://"):
        load_model(spec, **arguments)


def test_downloads_of_others_are_not_affected() -> None:
    before = torch.hub.download_url_to_file
    with pytest.raises(MissingDataError):
        load_model("torchvision:squeezenet1_1", weights="DEFAULT")
    assert torch.hub.download_url_to_file is before


def test_weights_that_torchvision_does_not_have() -> None:
    with pytest.raises(ConfigError, match="cannot be built"):
        load_model("torchvision:squeezenet1_1", weights="NO_SUCH")


def test_weights_of_timm(tmp_path: Path) -> None:
    timm = import_timm()
    with pytest.raises(MissingDataError, match=r"model\.safetensors of timm/resnet10t\..* is not on"):
        load_model("timm:resnet10t", pretrained=True)
    state = timm.create_model("resnet10t").state_dict()
    torch.save(state, tmp_path / "mine.pth")
    loaded = load_model("timm:resnet10t", checkpoint_path=str(tmp_path / "mine.pth")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
