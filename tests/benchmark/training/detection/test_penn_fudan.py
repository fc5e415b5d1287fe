"""The images of Penn-Fudan: boxes from masks, parts, and files that are not valid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.training.detection import open_penn_fudan
from deepnets import ConfigError, DeepNetsError, FormatError, MissingDataError
from tests.benchmark.training.detection.scenes import write_pedestrians


def test_boxes_are_the_extreme_coordinates_of_the_masks(tmp_path: Path) -> None:
    root = write_pedestrians(tmp_path, 3)
    masks = np.zeros((64, 64), np.uint8)
    masks[5:9, 10:30] = 7  # numbers need not be consecutive
    masks[40:60, 3:5] = 2
    masks[30, 30] = 9  # a single pixel has no area
    for i in range(3):
        Image.fromarray(masks).save(root / "PedMasks" / f"Ped{i:03}_mask.png")
    train, _ = open_penn_fudan(root, test_images=1)
    image, boxes = train[0]
    assert boxes.tolist() == [[3, 40, 4, 59], [10, 5, 29, 8]]
    assert image.shape == (3, 64, 64)
    assert image.dtype == torch.float32
    assert 0.9 < image.max() <= 1


def test_an_image_without_pedestrians_has_no_boxes(tmp_path: Path) -> None:
    root = write_pedestrians(tmp_path, 3)
    for i in range(3):
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(root / "PedMasks" / f"Ped{i:03}_mask.png")
    assert open_penn_fudan(root, test_images=1)[0][0][1].shape == (0, 4)


def test_parts(tmp_path: Path) -> None:
    write_pedestrians(tmp_path / "PennFudanPed", 20)
    train, test = open_penn_fudan(tmp_path, test_images=5)
    assert (train.split, len(train), test.split, len(test)) == ("train", 15, "test", 5)
    files = {*train.files, *test.files}
    assert len(files) == 20
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1111)).tolist()
    assert [int(path.stem[-3:]) for path, _ in [*train.files, *test.files]] == order
    assert open_penn_fudan(tmp_path / "PennFudanPed", test_images=5)[1].files == test.files


def test_folders_that_are_not_valid(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="has no folders PNGImages and PedMasks; unpack https"):
        open_penn_fudan(tmp_path)
    root = write_pedestrians(tmp_path, 4)
    with pytest.raises(ConfigError, match=r"test_images: .* has 4 images, of which 50 are for evaluation"):
        open_penn_fudan(root)
    with pytest.raises(ConfigError, match="test_images"):
        open_penn_fudan(root, test_images=0)
    (root / "PedMasks" / "Ped002_mask.png").unlink()
    with pytest.raises(MissingDataError, match=r"Ped002_mask.png: no such file; every image needs masks"):
        open_penn_fudan(root, test_images=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "cannot be read as an image: cannot identify"),
        (None, r"expected masks of shape \(64, 64\), got \(10, 64\)"),
        (b"huge", "has 6000 x 6000 pixels, more than 25,000,000"),
    ],
)
def test_files_that_are_not_valid(content: bytes | None, message: str, tmp_path: Path) -> None:
    root = write_pedestrians(tmp_path, 3)
    for path in (root / "PedMasks").iterdir():
        if content is None:
            Image.fromarray(np.zeros((10, 64), np.uint8)).save(path)
        elif content == b"huge":
            Image.new("1", (6000, 6000)).save(path)
        else:
            path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        open_penn_fudan(root, test_images=1)[0][0]
    assert isinstance(caught.value, DeepNetsError)
    assert "_mask.png: " in str(caught.value)


def test_fingerprints_tell_images_apart(tmp_path: Path) -> None:
    root = write_pedestrians(tmp_path, 6)
    found = [part.fingerprint for part in open_penn_fudan(root, test_images=2)]
    assert found == [part.fingerprint for part in open_penn_fudan(root, test_images=2)]
    for path in (root / "PNGImages").iterdir():
        Image.new("RGB", (64, 64)).save(path)
    changed = [part.fingerprint for part in open_penn_fudan(root, test_images=2)]
    assert len({*found, *changed}) == 4
