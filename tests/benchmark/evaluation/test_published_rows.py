"""Golden rows of the published protocols on CIFAR-10 and ImageNet, in small files of their formats.

The expected values were computed before images of other sizes, corruptions and `predict_class_layers` were added.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from benchmark import evaluate
from benchmark.metrics import Metric
from benchmark.results import Machine, run
from deepnets.data.imagenet import load_imagenet
from deepnets.support import import_torchvision
from tests.support import cifar_files
from tests.support.small_corpus import write_small_corpus

COLUMNS = ["num_nodes", "num_params", "depth", "top1", "top5", "num_images", "batch_size"]


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


LOSS = Metric("golden_loss", "cross-entropy", "nats", _loss, higher_is_better=False)

CIFAR = {
    ("random", 0.0): [
        [78, 1118, 32, 5, 40, 20, 64, 3.362359],
        [60, 1006, 25, 10, 65, 20, 64, 2.323892],
        [78, 2858, 32, 10, 45, 20, 64, 4.076544],
        [122, 3206, 46, 5, 50, 20, 64, 2.314646],
    ],
    ("random", 0.08): [
        [78, 1118, 32, 10, 45, 20, 64, 3.372028],
        [60, 1006, 25, 10, 65, 20, 64, 2.320966],
        [78, 2858, 32, 10, 45, 20, 64, 4.075603],
        [122, 3206, 46, 15, 55, 20, 64, 2.317832],
    ],
    ("untrained:ghn2", 0.0): [
        [78, 1118, 32, 10, 35, 20, 64, 3.738149],
        [60, 1006, 25, 10, 40, 20, 64, 2.305951],
        [78, 2858, 32, 10, 40, 20, 64, 5.037703],
        [122, 3206, 46, 0, 50, 20, 64, 2.332336],
    ],
}
IMAGENET = {
    "random": [
        [78, 805, 32, 20, 100, 15, 64, 3.929881],
        [60, 701, 25, 20, 100, 15, 64, 1.631037],
        [78, 2173, 32, 20, 100, 15, 64, 2.274858],
    ],
    "untrained:ghn2": [
        [78, 805, 32, 20, 100, 15, 64, 2.618524],
        [60, 701, 25, 20, 100, 15, 64, 1.610082],
        [78, 2173, 32, 20, 100, 15, 64, 4.367309],
    ],
}
HEADER = (
    "run,predictor,split,images,part,noise,index,network,num_nodes,num_params,depth,top1,top5,num_images,"
    "batch_size,batch_norm,graph_seconds,build_seconds,predict_seconds,evaluate_seconds,memory_mb,status,reason,nonfinite_images"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_corpus(tmp_path_factory.mktemp("corpus"), "test")


def values(table: pd.DataFrame) -> list[list[float]]:
    return [[float(value) for value in row] for row in table[COLUMNS].to_numpy()]


def assert_rows(table: pd.DataFrame, expected: list[list[float]]) -> None:
    """The last value of an expected row is the loss, which may differ between machines in its last digits."""
    assert values(table) == [row[:-1] for row in expected]
    assert table["golden_loss"].tolist() == pytest.approx([row[-1] for row in expected], rel=1e-4)


@pytest.mark.parametrize(("predictor", "noise"), list(CIFAR))
def test_rows_on_cifar10(corpus: Path, tmp_path: Path, predictor: str, noise: float) -> None:
    cifar_files.write(tmp_path / "cifar-10-batches-py")
    found = evaluate(predictor, "test", "cifar10", data=corpus, image_root=tmp_path, noise=noise, metrics=[LOSS])
    assert_rows(found, CIFAR[predictor, noise])


@pytest.mark.parametrize("predictor", list(IMAGENET))
def test_rows_on_imagenet(corpus: Path, tmp_path: Path, predictor: str) -> None:
    try:
        import_torchvision()
    except ImportError:
        pytest.skip("needs torchvision")
    from PIL import Image

    for part in ("train", "val"):
        for label in range(5):
            (tmp_path / part / f"n{label}").mkdir(parents=True)
            for i in range(3):
                pixels = np.random.default_rng(10 * label + i).integers(0, 256, (30, 40, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / f"n{label}" / f"{i}.png")
    images = load_imagenet("test", root=tmp_path, num_classes=5, workers=0)
    found = evaluate(predictor, "test", images, data=corpus, limit=3, metrics=[LOSS])
    assert_rows(found, IMAGENET[predictor])


@pytest.mark.slow
def test_columns_of_a_run_on_cifar10(corpus: Path, tmp_path: Path) -> None:
    cifar_files.write(tmp_path / "cifar-10-batches-py")
    machine = Machine(workers=1)
    path = run(["random"], ["test"], "cifar10", out=tmp_path / "out", data=corpus, image_root=tmp_path, machine=machine)
    assert path.read_text().splitlines()[0] == HEADER
    assert values(pd.read_csv(path)) == [row[:-1] for row in CIFAR["random", 0.0]]
    assert sorted(file.name for file in (tmp_path / "out").iterdir() if not file.name.startswith(".")) == [
        "networks.csv",
        "runs.json",
    ]
