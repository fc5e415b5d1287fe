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
    assert f"needs the file {path}; download {url} and save it there" in str(raised.value)
    path.parent.mkdir()
    state = load_model("torchvision:squeezenet1_1").state_dict()
    torch.save(state, path)
    if not isinstance(weights, str):  # torchvision checks the digest of the file only when it downloads
        loaded = load_model("torchvision:squeezenet1_1", weights=weights).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_weights_that_torchvision_does_not_have() -> None:
    with pytest.raises(ConfigError, match="cannot be built"):
        load_model("torchvision:squeezenet1_1", weights="NO_SUCH")


def test_weights_of_timm(tmp_path: Path) -> None:
    timm = import_timm()
    with pytest.raises(MissingDataError, match=r"get model\.safetensors of timm/resnet10t\..* on the Hugging Face hub"):
        load_model("timm:resnet10t", pretrained=True)
    state = timm.create_model("resnet10t").state_dict()
    torch.save(state, tmp_path / "mine.pth")
    loaded = load_model("timm:resnet10t", checkpoint_path=str(tmp_path / "mine.pth")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
