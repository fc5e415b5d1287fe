"""Detectors: their protocol, training that learns and continues, and networks that cannot be a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.training import SGDRecipe
from benchmark.training.detection import (
    PennFudan,
    build_detector,
    check_detection_recipe,
    open_penn_fudan,
    train_detector,
)
from benchmark.training.detection.trainer import _mirrored
from deepnets import GENOTYPES, ConfigError, Network, NetworkConfig
from deepnets.support import import_timm, import_torchvision
from tests.benchmark.training.detection.scenes import Small, write_pedestrians
from tests.benchmark.training.test_progress import InterruptionError
from tests.benchmark.training.test_trainer import same

try:
    import_torchvision()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=8)
VIT = NetworkConfig(GENOTYPES["ViT"], n_cells=2, C=8, C_mult=1, preproc=False)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[PennFudan, PennFudan]:
    return open_penn_fudan(write_pedestrians(tmp_path / "images", 10), test_images=4)


def small() -> Small:
    torch.manual_seed(0)
    return Small()


# --- the detector ---


def test_the_detector_has_the_published_settings() -> None:
    detector: Any = build_detector(small())
    assert detector.rpn.anchor_generator.sizes == ((32, 64, 128, 256, 512),)
    assert detector.rpn.anchor_generator.aspect_ratios == ((0.5, 1.0, 2.0),)
    pooling = detector.roi_heads.box_roi_pool
    assert (pooling.featmap_names, pooling.output_size, pooling.sampling_ratio) == (["0"], (7, 7), 2)
    assert (detector.transform.min_size, detector.transform.max_size) == ((800,), 1333)
    assert detector.transform.image_mean == [0.485, 0.456, 0.406]
    assert detector.roi_heads.box_predictor.cls_score.out_features == 2
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_networks_with_attention_see_smaller_images() -> None:
    detector: Any = build_detector(Network(VIT, 1000, 224))
    assert (detector.transform.min_size, detector.transform.max_size) == ((320,), 533)


@pytest.mark.parametrize(("config", "channels"), [(DARTS, 8 * 4 * 4), (VIT, 8)])
def test_the_backbone_is_the_network_without_its_classifier(config: NetworkConfig, channels: int) -> None:
    torch.manual_seed(1)
    net = Network(config.replace(norm="bn-track" if config.norm else None), 1000, 224)
    backbone: Any = build_detector(net).backbone
    assert backbone.out_channels == channels
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        features = backbone.eval()(images)
        logits = net.eval().classifier(features.mean(dim=(2, 3)))
        torch.testing.assert_close(logits, net(images), rtol=1e-4, atol=1e-5)
    assert not any("classifier" in name for name, _ in backbone.named_parameters())
    assert backbone(torch.rand(1, 3, 96, 160)).shape[2:] != features.shape[2:]  # other sizes are possible


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("squeezenet1_1", 512), ("mobilenet_v3_small", 576)])
def test_models_of_torchvision(name: str, channels: int) -> None:
    from torchvision import models

    backbone: Any = build_detector(models.get_model(name, weights=None)).backbone
    assert backbone.out_channels == channels
    assert backbone(torch.zeros(2, 3, 64, 64)).shape[:2] == (2, channels)


def test_models_of_timm() -> None:
    timm: Any = import_timm()
    backbone: Any = build_detector(timm.create_model("resnet18")).backbone
    assert backbone.out_channels == 512
    assert not any(name.startswith("net.fc") for name, _ in backbone.named_parameters())


class Flat(Small):
    def forward_features(self, images: Tensor) -> Tensor:
        return self.features(images).flatten(2).transpose(1, 2)


class ChannelsLast(Small):
    def forward_features(self, images: Tensor) -> Tensor:
        return self.features(images).permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "model: Sequential has no `features`, which detection needs"),
        (Flat(), r"model: Flat: expected a feature map \(B, C, H, W\), got shape \(1, 784, 16\)"),
        (ChannelsLast(), r"model: ChannelsLast: expected a feature map .*, got shape \(1, 28, 28, 16\)"),
    ],
)
def test_networks_without_a_feature_map(model: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_detector(model)


@pytest.mark.parametrize(
    "changes", [{"mixup": 0.1}, {"loss": "bce"}, {"cutout": 8}, {"label_smoothing": 0.1}, {"warmup_steps": 5}]
)
def test_settings_of_classification_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(changes))}: is for classification, not for detection"):
        check_detection_recipe(SGDRecipe.preset("penn-fudan", **changes))


def test_mirrored_boxes_are_those_of_a_continuous_image() -> None:
    image = torch.zeros(3, 10, 20)
    image[:, 2:5, 3:9] = 1
    mirrored, boxes = _mirrored(image, torch.tensor([[3.0, 2, 9, 5]]))
    x1, y1, x2, y2 = boxes[0].int().tolist()
    assert mirrored[0, y1:y2, x1:x2].min() == 1
    assert mirrored.sum() == image.sum()


# --- training ---


def test_the_learning_rate_warms_up_in_the_first_epoch(
    parts: tuple[PennFudan, PennFudan], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def noted(self: torch.optim.SGD, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    recipe = SGDRecipe.preset("penn-fudan", epochs=2)
    train_detector(small(), parts[0], recipe, image_size=64)
    wanted = [0.005 * (1e-3 + (1 - 1e-3) * i / 2) for i in range(3)]  # 6 images in batches of 2
    assert rates == pytest.approx([*wanted, 0.005, 0.005, 0.005])


@pytest.mark.slow
def test_pedestrians_are_found(tmp_path: Path) -> None:
    train, test = open_penn_fudan(write_pedestrians(tmp_path / "images", 28), test_images=8)
    recipe = SGDRecipe.preset("penn-fudan", epochs=12, lr=0.02, milestones=())
    trained = train_detector(small(), train, recipe, eval_images=test, image_size=64)
    assert trained.curve["ap50"].iloc[-1] > 50
    assert trained.curve["loss"].iloc[-1] < 0.7 * trained.curve["loss"].iloc[0]
    assert list(trained.curve) == ["epoch", "loss", "ap", "ap50", "ap75", "seconds", "learning_rate"]


@pytest.mark.slow
def test_the_result_is_that_without_interruption(parts: tuple[PennFudan, PennFudan], tmp_path: Path) -> None:
    recipe = SGDRecipe.preset("penn-fudan", epochs=3)
    options: dict[str, Any] = {"eval_images": parts[1], "image_size": 64, "seed": 2}
    whole = train_detector(small(), parts[0], recipe, **options)

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise InterruptionError

    options |= {"state_file": tmp_path / "state", "save_seconds": 0}
    with pytest.raises(InterruptionError):
        train_detector(small(), parts[0], recipe, each_epoch=stop, **options)
    epochs: list[float] = []
    resumed = train_detector(small(), parts[0], recipe, each_epoch=lambda row: epochs.append(row["epoch"]), **options)
    assert epochs == [2, 3]
    assert same(whole.state, resumed.state)
    assert whole.curve.drop(columns="seconds").equals(resumed.curve.drop(columns="seconds"))
    assert not same(whole.state, train_detector(small(), parts[0], recipe, image_size=64, seed=3).state)


def test_the_backbone_starts_from_the_network(parts: tuple[PennFudan, PennFudan]) -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = SGDRecipe.preset("penn-fudan", epochs=1, lr=0.0)
    state = train_detector(model, parts[0], recipe, image_size=64).state
    for name, _ in model.features.named_parameters():
        assert torch.equal(state[f"backbone.net.features.{name}"], before[f"features.{name}"])
    assert same(before, model.state_dict())
    assert state["backbone.net.features.1.running_mean"].abs().sum() > 0
