"""`torchvision:NAME`, with files that torchvision reads without checksums."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from deepnets.data import ImageSet, load_images, open_images
from deepnets.data.torchvision_sets import TORCHVISION_SETS
from deepnets.support import ConfigError, FormatError, MissingDataError, import_torchvision
from tests.support.image_folders import write_fashion_mnist, write_image

try:
    DATASETS = import_torchvision().datasets
except ImportError:
    pytest.skip("needs torchvision", allow_module_level=True)


def test_a_set_with_its_own_test_part(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path)
    name = "torchvision:FashionMNIST"
    train, val, test = (load_images(name, split, root=tmp_path) for split in ("train", "val", "test"))
    assert [len(part) for part in (train, val, test)] == [50, 10, 20]
    assert train.images.shape == (50, 3, 28, 28)
    assert (train.num_classes, train.image_size, train.name) == (10, 28, name)
    assert torch.equal(train.images[:, 0], train.images[:, 1])  # grey is repeated
    assert test.labels.bincount().tolist() == [2] * 10
    original = DATASETS.FashionMNIST(str(tmp_path), train=False)
    expected = {original.data[i].numpy().tobytes(): int(original.targets[i]) for i in range(20)}
    found = {image[0].numpy().tobytes(): int(label) for image, label in zip(test.images, test.labels)}
    assert found == expected
    assert train.mean == pytest.approx((train.images / 255).mean(dim=(0, 2, 3)).tolist(), rel=1e-5)


def test_resizing(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path)
    images = open_images("torchvision:FashionMNIST?image_size=32&flip=0", "test", root=tmp_path)
    assert isinstance(images, ImageSet)
    assert images.images.shape == (20, 3, 32, 32)
    assert not images.flip


def test_a_set_without_parts_is_divided(tmp_path: Path) -> None:
    for label in range(3):
        for number in range(10):
            write_image(tmp_path / "eurosat" / "2750" / f"class{label}" / f"{number}.png", (64, 64), mode="RGB")
    parts = [load_images("torchvision:EuroSAT", split, root=tmp_path) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [18, 6, 6]
    assert parts[0].num_classes == 3


def test_nothing_is_downloaded_unless_asked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"torchvision:CIFAR100 \(train\): cannot be opened in .*--download"):
        open_images("torchvision:CIFAR100", "train", root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_downloading_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def fake(root: str, train: bool, download: bool) -> object:
        asked.append(download)
        raise RuntimeError("no network")

    monkeypatch.setattr(DATASETS, "CIFAR100", fake)
    with pytest.raises(MissingDataError, match="no network"):
        open_images("torchvision:CIFAR100", "train", root=tmp_path, download=True)
    assert asked == [True]


def test_processes_download_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision writes files in place, so that a second download would spoil those of the first."""
    working: list[int] = []
    most: list[int] = []

    def fake(root: str, train: bool, download: bool) -> object:
        working.append(1)
        most.append(len(working))
        time.sleep(0.1)
        working.pop()
        raise RuntimeError("no network")

    def ask(_: int) -> None:
        with pytest.raises(MissingDataError, match="no network"):
            open_images("torchvision:CIFAR100", "train", root=tmp_path / "new", download=True)

    monkeypatch.setattr(DATASETS, "CIFAR100", fake)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert most == [1] * 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:CIFAR1000", "unknown data set 'CIFAR1000'; use one of CIFAR10, CIFAR100, Caltech101"),
        ("torchvision:FakeData", "unknown data set"),
        ("torchvision:", "expected torchvision:NAME"),
        ("torchvision:MNIST?split=letters", "unknown option 'split'; use image_size, val, test, seed, flip"),
        ("torchvision:EMNIST?split=capitals", "split: expected one of balanced, byclass, .*, got 'capitals'"),
    ],
)
def test_wrong_names(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_images(name, "train", root=tmp_path)


def test_a_root_is_needed() -> None:
    with pytest.raises(ConfigError, match="torchvision:SVHN needs a folder of files"):
        open_images("torchvision:SVHN", "test")


def test_every_set_exists_and_takes_its_arguments() -> None:
    import inspect

    for name, (parts, arguments) in TORCHVISION_SETS.items():
        known = inspect.signature(getattr(DATASETS, name).__init__).parameters
        for own in parts.values():
            taken = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values())
            assert taken or {"root", "download", *arguments(own)} <= set(known), name


@pytest.mark.slow
def test_damaged_files(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path)
    path = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises((MissingDataError, FormatError), match="FashionMNIST"):
        open_images("torchvision:FashionMNIST", "train", root=tmp_path)
