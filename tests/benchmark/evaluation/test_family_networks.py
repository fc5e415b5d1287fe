"""Families in the benchmark: `evaluate`, the command, images for model selection, errors."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.baselines.jobs import jobs_of
from benchmark.evaluation import default_image_split, evaluate, open_networks, select_networks
from benchmark.results.boards import Column
from deepnets.data import ImageSet
from deepnets.families import FamilyNetworks
from deepnets.support import ConfigError

ROOT = Path(__file__).resolve().parents[3]
NARROW = {
    "name": "narrow",
    "model": "resnet",
    "rule": {"depths": {"repeat": 2, "of": [1, 2]}, "widths": {"repeat": 2, "of": {"from": 4, "to": 8}}},
    "sizes": ["widths"],
    "splits": {
        "train": {"size": 20, "part": [0.4, 1]},
        "val": {"size": 3, "part": [0, 0.2], "distinct": True},
        "test": {"size": 3, "part": [0.2, 0.4], "distinct": True},
    },
}


@pytest.fixture
def family(tmp_path: Path) -> str:
    path = tmp_path / "narrow.json"
    path.write_text(json.dumps(NARROW))
    return f"family:{path}"


def images() -> ImageSet:
    pixels = torch.arange(12 * 3 * 32 * 32).remainder(251).to(torch.uint8).view(12, 3, 32, 32)
    return ImageSet("plain", "test", pixels, torch.arange(12) % 10, 10, (0.45,) * 3, (0.28,) * 3)


def initial(model: nn.Module, graph: Any) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def test_evaluate(family: str, tmp_path: Path) -> None:
    table = evaluate(initial, family, images(), data=tmp_path)
    nets = FamilyNetworks(family, "test")
    assert table["status"].tolist() == ["ok"] * 3
    assert table["num_params"].tolist() == [nets.num_params(i) for i in range(3)]
    assert table["num_nodes"].tolist() == nets.num_nodes.tolist()
    assert table.attrs["split"] == family
    assert (tmp_path / "families").is_dir()
    again = evaluate(initial, family, images(), data=tmp_path, index=[2])
    assert again["top1"].tolist() == table["top1"].tolist()[2:]


def test_accuracy_is_that_of_the_module(family: str, tmp_path: Path) -> None:
    """With fixed parameters, the accuracy is that of the network in plain PyTorch."""

    def fixed(model: nn.Module, graph: Any) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(graph.index)
        return {name: 0.3 * torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}

    table = evaluate(fixed, family, images(), data=tmp_path)
    nets = FamilyNetworks(family, "test")
    for index in range(3):
        model = nets.build(index)
        model.load_state_dict(fixed(model, nets[index]), strict=False)
        (pictures, labels), *_ = images().batches(64)
        correct = (model.train()(pictures).argmax(1) == labels).float().mean()
        assert table["top1"][index] == pytest.approx(100 * float(correct), abs=1e-3)


def test_images_for_model_selection() -> None:
    for name, part in (
        ("family:resnet-widths", "test"),
        ("family:resnet-widths/wide", "test"),
        ("family:resnet-widths/val", "val"),
        ("family:resnet-widths/train", "val"),
        ("family:a/b.json", "test"),
        ("family:a/b.json/val", "val"),
    ):
        assert default_image_split(name) == part
        assert str(Column(name, part)) == name


def test_networks_by_name() -> None:
    networks = open_networks("family:vits-1k/published", data="data", num_classes=10, image_size=32)
    assert select_networks(networks, "vit-b") == [1]
    assert networks.total == 3
    assert jobs_of(networks, [0])[0].name == "family-vits-1k-published-vit-s"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("family:", "family: expected a name"),
        ("family:resnet-width", "family: unknown 'resnet-width'"),
        ("family:resnet-widths/tset", "has no split 'tset'"),
        ("family:gpts-1k", "its networks process text, and cannot be evaluated on images"),
    ],
)
def test_errors(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_networks(name, data="data", num_classes=10, image_size=32)


@pytest.mark.slow
def test_command(family: str, tmp_path: Path) -> None:
    """Worker processes, limits, resuming and the report."""
    words = [sys.executable, "-m", "benchmark", "run", "--predictors", "random", "untrained:ghn2", "--images", "digits"]
    words += ["--splits", family, f"{family}/val", "--limit", "1,family=2", "--out", "results", "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    with (tmp_path / "results" / "networks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["status"] for row in rows} == {"ok"}
    assert {(row["split"], row["part"]) for row in rows} == {(f"{family}/test", "test"), (f"{family}/val", "val")}
    assert f"{family}/val" in (tmp_path / "results" / "report.html").read_text()  # the terminal shortens long names
