"""Baselines by the command line: complete rows, and nothing but training images for those that need images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.__main__ import main
from benchmark.evaluation import (
    ImageInfo,
    PredictorContext,
    baseline_kinds,
    close_workers,
    describe_predictor,
    open_networks,
    open_predictor,
)
from benchmark.predictors import LSUVInit
from benchmark.results import read_results
from benchmark.training import adapt_to_small_images
from deepnets import GENOTYPES, Network, NetworkConfig, build_graph, trace
from deepnets.data import ImageSet, load_images, open_images
from deepnets.support import import_torchvision
from ghn_model.checkpoints import write_tensors

DARTS = NetworkConfig(GENOTYPES["DARTS"], 3, C=8)


def states(folder: Path) -> Path:
    """Two saved states, as `python -m benchmark sgd` names them."""
    folder.mkdir()
    for index, C in enumerate((32, 64)):
        net = Network(DARTS.replace(C=C, n_cells=6))
        write_tensors(folder / f"val-{index}.safetensors", dict(net.state_dict()), {})
    return folder


@pytest.mark.slow
def test_all_baselines_run_end_to_end(corpus: Path, tmp_path: Path) -> None:
    folder = states(tmp_path / "trained")
    specs = ["orthogonal", "mimetic", "lsuv", f"select:{folder / 'val-1.safetensors'}", f"copy:{folder}"]
    try:
        out = ["--out", str(tmp_path / "results"), "--no-report", "--quiet", "--workers", "1"]
        main(["run", "--predictors", *specs, "--splits", "test", "--limit", "2", "--data", str(corpus), *out])
    finally:
        close_workers()
    rows = read_results(tmp_path / "results").rows
    assert rows.groupby("predictor").size().to_dict() == {
        **dict.fromkeys(["orthogonal", "mimetic", "lsuv", "select-val-1", "copy-trained"], 2)
    }
    assert set(rows["status"]) == {"ok"}, rows["reason"].tolist()
    assert rows["top1"].between(0, 100).all()


def test_baselines_open_training_images_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The context has a description of the images, but no images; nothing else is opened than training images."""
    opened: list[tuple[Any, ...]] = []

    def recorded(name: str, split: str, **options: Any) -> Any:
        opened.append((name, split))
        return open_images(name, split, **options)

    monkeypatch.setattr(baseline_kinds, "open_images", recorded)
    folder = states(tmp_path / "trained")
    networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    context = PredictorContext(networks, ImageInfo("digits", 10, 32))
    model, graph = Network(DARTS), build_graph(DARTS)
    for spec in ("orthogonal", "mimetic", f"select:{folder / 'val-0.safetensors'}", f"copy:{folder}"):
        open_predictor(describe_predictor(spec), context)(model, graph)
    assert opened == []
    lsuv = open_predictor(describe_predictor("lsuv"), context)
    assert opened == [("digits", "train")]
    train, test = load_images("digits", "train"), load_images("digits", "test")
    known = {image.numpy().tobytes() for image in train.normalized(train.images)}
    unknown = {image.numpy().tobytes() for image in test.normalized(test.images)}
    seen = [image.numpy().tobytes() for image in lsuv._images]
    assert len(seen) == 64
    assert all(image in known for image in seen)
    assert not any(image in unknown - known for image in seen)


def test_lsuv_sees_several_classes_of_sorted_images() -> None:
    labels = torch.arange(10).repeat_interleave(80)
    levels = (25 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    images = ImageSet("sorted", "train", levels, labels, 10, (0.0,) * 3, (1.0,) * 3, shift=0, flip=False)
    found = LSUVInit.from_images(images)._images
    assert len(found.flatten(1)[:, 0].unique()) >= 8
    assert torch.equal(found, LSUVInit.from_images(images)._images)


class Deep(nn.Module):
    """A residual block that stochastic depth skips at random in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.last = nn.BatchNorm1d(6), nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(self.norm(x))
        if self.training:
            inner = inner * (torch.rand(()) > 0.5)
        return self.last(x + inner)


def test_lsuv_has_no_stochastic_depth_but_batch_statistics() -> None:
    model = Deep()
    images = 3 + 2 * torch.randn(256, 6)
    values = [LSUVInit(images)(model, trace(model, images)) for _ in range(8)]
    for found in values:
        outputs = functional_call(nn.Sequential(model.norm, model.inner).train(), _inner(found), (images,))
        assert float(outputs.var()) == pytest.approx(1, abs=1e-3)
        mixed = images + outputs
        last = torch.nn.functional.linear(mixed, found["last.weight"], found["last.bias"])
        assert float(last.var()) == pytest.approx(1, abs=1e-3)


def _inner(found: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"norm.weight": "0.weight", "norm.bias": "0.bias", "inner.weight": "1.weight", "inner.bias": "1.bias"}
    return {new: found[old] for old, new in names.items()}


@pytest.mark.slow
def test_lsuv_initializes_a_resnet() -> None:
    try:
        models: Any = import_torchvision().models
    except ImportError as error:
        pytest.skip(str(error))
    model = adapt_to_small_images(models.resnet18(num_classes=10))
    images = load_images("digits", "train")
    found = LSUVInit.from_images(images)(model, trace(model))
    batch, _ = next(iter(images.batches(128)))
    with torch.no_grad():
        logits = functional_call(model.train(), found, (batch,))
    assert 0.5 < float(logits.var()) < 2
