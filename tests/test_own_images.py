"""A tutorial as a test: images of your own, from the command line and from Python, in a folder outside the package.

Seven classes of grey PNG files of 24 x 24 pixels.  A hypernetwork is trained on them for a few steps and compared with
random values, on the original and on corrupted images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.support.image_folders import write_folder, write_image
from tests.support.small_corpus import write_small_corpus

ROOT = Path(__file__).resolve().parents[1]

MODULE = '''
"""An image set of the user, in grey."""
import torch
from deepnets.data import ImageSet


def stripes(split, *, root=None, download=False, device="cpu", image_size=None, noise=0.0):
    n = {"train": 24, "val": 8, "test": 12}[split]
    labels = torch.arange(n) % 4
    images = torch.zeros(n, 1, 20, 20, dtype=torch.uint8)
    for image, label in zip(images, labels):
        image[:, :, :: int(label) + 1] = 200
    found = ImageSet("mine:stripes", split, images, labels, 4, mean=(0.4,) * 3, std=(0.3,) * 3)
    return found.with_options(device=device, image_size=image_size, noise=noise)


def one_class(split, **options):
    found = stripes(split)
    return ImageSet("mine:one_class", split, found.images, 0 * found.labels, 1, mean=(0.4,) * 3, std=(0.3,) * 3)


def floats(split, **options):
    found = stripes(split)
    return ImageSet("mine:floats", split, found.images / 255, found.labels, 4, mean=(0.4,) * 3, std=(0.3,) * 3)


def wrong_labels(split, **options):
    found = stripes(split)
    return ImageSet("mine:wrong_labels", split, found.images, found.labels + 1, 4, mean=(0.4,) * 3, std=(0.3,) * 3)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "data").mkdir()
    write_small_corpus(folder / "data", "train", "val", "test")
    write_folder(folder / "shapes", classes=7, images=12, side=24)
    (folder / "mine.py").write_text(MODULE)
    return folder


def python(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=place, env=environment, capture_output=True, text=True, timeout=400
    )


TRAINING = ("--preset", "ghn2", "--hidden", "8", "--max-shape", "16", "16", "11", "11", "--meta-batch-size", "2")
TRAINING += ("--batch-size", "8", "--device", "cpu", "--threads", "1", "--quiet")


@pytest.mark.slow
def test_images_in_folders_from_the_command_line(place: Path) -> None:
    images = ("--images", "folder:shapes")
    trained = python(
        *(place, "ghn_model", "train", *images, *TRAINING, "--steps", "3", "--out", "runs/first"),
        *("--validate-every", "3", "--validate-networks", "2"),
    )
    assert trained.returncode == 0, trained.stderr
    statistics = json.loads((place / "runs/first/image_statistics.json").read_text())["folder:shapes"]
    assert statistics["num_images"] == 7 * 8
    assert len(pd.read_csv(place / "runs/first/curve.csv")) == 1

    checkpoint = "first=runs/first/ghn.safetensors"
    evaluated = python(
        *(place, "benchmark", "run", *images, "--predictors", checkpoint, "random", "--splits", "test"),
        *("--corruptions", "contrast", "fog:1", "--limit", "2", "--workers", "1", "--out", "results"),
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert "folder:shapes, mean over 2 corruptions" in evaluated.stdout
    rows = pd.read_csv(place / "results/networks.csv", keep_default_na=False)
    assert (rows["status"] == "ok").all()
    assert rows.groupby("corruption")["num_images"].first().to_dict() == {"": 14, "contrast": 70, "fog:1": 14}
    assert "folder:shapes" in (place / "results/report.html").read_text()

    other = python(
        *(place, "benchmark", "run", *images, "--predictors", "ghn2-digits", "--splits", "test", "--limit", "1"),
        *("--no-class-layers", "--workers", "1", "--out", "results/other", "--no-report"),
    )
    assert other.returncode == 0, other.stderr


@pytest.mark.slow
def test_a_loader_of_your_own_from_the_command_line(place: Path) -> None:
    trained = python(
        place, "ghn_model", "train", "--images", "mine:stripes", *TRAINING, "--steps", "2", "--out", "runs/m"
    )
    assert trained.returncode == 0, trained.stderr
    evaluated = python(
        *(place, "benchmark", "run", "--images", "mine:stripes", "--predictors", "m=runs/m/ghn.safetensors"),
        *("--splits", "test", "--limit", "1", "--workers", "1", "--out", "results/m", "--no-report"),
    )
    assert evaluated.returncode == 0, evaluated.stderr


def test_images_in_folders_from_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    import torch

    from benchmark import evaluate, summarize
    from deepnets import DeepNets1M
    from deepnets.data import open_images
    from ghn_model import GHN, GHNConfig
    from ghn_model.training import Budget, Distributed, Recipe, image_stream, train

    test = open_images("folder:shapes", "test")
    assert (test.num_classes, test.image_size) == (7, 24)
    images = image_stream("folder:shapes", 8, device=torch.device("cpu"), run="runs/second")
    config = GHNConfig.preset("ghn2", num_classes=7, image_size=24, hidden=8, max_shape=(16, 16, 11, 11))
    recipe = Recipe.preset("ghn2", batch_size=8, meta_batch_size=2)
    nets = DeepNets1M("data", num_classes=7, image_size=24)
    budget, cpu = Budget(steps=1), Distributed("cpu")
    path = train("runs/second", config, recipe, images, nets, budget=budget, distributed=cpu, quiet=True)
    table = evaluate(GHN.from_pretrained(path), "test", "folder:shapes", data="data", limit=1, corruption="snow:2")
    assert summarize(table).networks == 1
    assert table["num_images"].tolist() == [14]
    assert (place / "runs/second/image_statistics.json").is_file()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("folder:nothing", "images: nothing: no such folder"),
        ("folder:broken", "broken/class1/03.png: cannot be read as an image"),
        ("folder:mixed", "mixed/class2/00.png: is 30 x 30 pixels, but"),
        ("folder:hollow", "hollow/class9: the class has no images"),
        ("folder:single", "single: holds only the class 'class0'"),
        ("folder:parts", "parts/test: no such folder"),
        ("mine:one_class", "mine:one_class (train): has 1 classes; two or more are needed"),
        ("mine:floats", "mine:floats (train): expected images of type uint8 and shape (n, 1 or 3, side, side), got"),
        ("mine:wrong_labels", "mine:wrong_labels (train): has labels from 1 to 4; expected 0 to 3"),
        ("mine:nothing", "mine has no attribute 'nothing'"),
    ],
)
def test_bad_input_is_one_error_before_the_training(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], images: str, message: str
) -> None:
    from deepnets.support import DeepNetsError
    from ghn_model.commands import train as command

    if not (place / "broken").exists():
        write_folder(place / "broken")
        (place / "broken/class1/03.png").write_bytes(b"\x89PNG")
        write_folder(place / "mixed")
        write_image(place / "mixed/class2/00.png", (30, 30))
        (write_folder(place / "hollow") / "class9").mkdir()
        write_folder(place / "single", classes=1)
        write_folder(place / "parts/train")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # other tests have modules of this name
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser.add_subparsers())
    options = parser.parse_args(["train", "--images", images, *TRAINING, "--steps", "1", "--out", "runs/bad"])
    with pytest.raises(DeepNetsError) as caught:
        options.do(options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (place / "runs/bad/log.csv").exists()
