"""ImageNet from small folders of the standard layout: splits, orders, transforms and error messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deepnets.data import ImageFolders, open_images
from deepnets.data.image_files import evaluation_order
from deepnets.data.imagenet import load_imagenet
from deepnets.support import ConfigError, FormatError, MissingDataError, import_torchvision

try:
    torchvision: Any = import_torchvision()
except ImportError:
    pytest.skip("needs torchvision", allow_module_level=True)
from PIL import Image

CLASSES = ("n01", "n02", "n03")
TRAIN = {"n01": 52, "n02": 55, "n03": 51}


def save(path: Path, seed: int, size: tuple[int, int] = (24, 20)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, each with 51 to 55 training images and four test images."""
    root = tmp_path_factory.mktemp("imagenet")
    for part, counts in (("train", TRAIN), ("val", dict.fromkeys(CLASSES, 4))):
        for label, (name, count) in enumerate(counts.items()):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                save(root / part / name / f"{name}_{i:03}.{'JPEG' if i % 2 else 'png'}", 1000 * label + i)
    (root / "train" / "n01" / "notes.txt").write_text("no image")
    (root / "train" / "synsets.txt").write_text("no folder")
    return root


def load(root: Path | str | None, split: str = "test", **options: Any) -> ImageFolders:
    return load_imagenet(split, root=root, **{"num_classes": 3, "workers": 0, "image_size": 8, **options})


def joined(batches: Any) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- splits and orders ---


def test_splits(tree: Path) -> None:
    """The last 50 images of every class, by name, are held out."""
    parts = {split: load(tree, split) for split in ("train", "val", "trainval", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 8, "val": 150, "trainval": 158, "test": 12}
    for part in parts.values():
        assert [Path(path).parent.name for path in part.paths] == [CLASSES[label] for label in part.labels]
        assert part.labels.tolist() == sorted(part.labels)
        assert (part.name, part.num_classes, part.image_size) == ("imagenet", 3, 8)
    assert [Path(path).stem for path in parts["train"].paths] == [
        *("n01_000", "n01_001", "n02_000", "n02_001", "n02_002", "n02_003", "n02_004", "n03_000"),
    ]
    assert sorted(parts["train"].paths + parts["val"].paths) == parts["trainval"].paths
    assert {Path(path).parts[-3] for path in parts["test"].paths} == {"val"}


def test_the_order_of_evaluation_is_that_of_a_loader() -> None:
    """The published evaluation uses a loader whose generator is seeded again for every network."""
    loader: Any = DataLoader(range(1000), batch_size=64, shuffle=True, generator=seeded(1111))  # type: ignore[arg-type]
    assert torch.equal(torch.cat(list(loader)), evaluation_order(1000))


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_mixes_classes_always_the_same_way(tree: Path, split: str) -> None:
    images = load(tree, split)
    pixels, labels = joined(images.batches(5))
    assert labels.tolist() == images.labels[evaluation_order(len(images))].tolist()
    assert labels.tolist() != sorted(labels.tolist())
    torch.randn(1)
    again = joined(images.batches(7))
    assert torch.equal(again[0], pixels)
    assert torch.equal(again[1], labels)


def test_batches(tree: Path) -> None:
    images = load(tree, "test")
    batches = list(images.batches(5))
    assert [tuple(pixels.shape) for pixels, _ in batches] == [(5, 3, 8, 8), (5, 3, 8, 8), (2, 3, 8, 8)]
    assert {pixels.dtype for pixels, _ in batches} == {torch.float32}
    assert {labels.dtype for _, labels in batches} == {torch.int64}
    assert [len(labels) for _, labels in images.batches(5, drop_last=True)] == [5, 5]


# --- transforms ---


@pytest.mark.parametrize(("size", "resize", "crop"), [(224, 256, 224), (299, 299, 299), (256, 256, 256), (64, 64, 64)])
def test_evaluation_transforms(tree: Path, size: int, resize: int, crop: int) -> None:
    images = load(tree, "test", image_size=size)
    pixels, _ = next(images.batches(3))
    transforms = torchvision.transforms
    standard = transforms.Compose(
        [
            transforms.Resize(resize),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    paths = [images.paths[i] for i in evaluation_order(len(images))[:3]]
    expected = torch.stack([standard(Image.open(path).convert("RGB")) for path in paths])
    assert torch.equal(pixels, expected)


@pytest.mark.slow
def test_augmentation(tree: Path) -> None:
    images = load(tree, "trainval", image_size=16)
    options: dict[str, Any] = {"shuffle": True, "augment": True}
    first = joined(images.batches(16, generator=seeded(1), **options))
    again = joined(images.batches(10, generator=seeded(1), **options))
    assert torch.equal(first[0], again[0])
    other = joined(images.batches(16, generator=seeded(2), **options))
    assert not torch.equal(first[0], other[0])
    assert sorted(first[1].tolist()) == images.labels.tolist()
    generator = seeded(1)
    list(images.batches(16, generator=generator, **options))
    assert not torch.equal(joined(images.batches(16, generator=generator, **options))[0], first[0])
    plain, _ = joined(images.batches(16, shuffle=True, generator=seeded(1)))
    assert not torch.equal(plain, first[0])


def test_images_are_augmented_independently(tree: Path) -> None:
    images = load(tree, "test", noise=0.18)
    pixels, _ = joined(images.batches(4, generator=seeded(1)))
    quiet, _ = joined(load(tree, "test").batches(4))
    noise = (pixels - quiet).flatten(1)
    assert not torch.equal(noise[0], noise[1])
    assert torch.corrcoef(noise).triu(1).abs().max() < 0.5


def test_noise(tree: Path) -> None:
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    pixels, _ = joined(load(tree, "test", noise=0.18, image_size=64).batches(4, generator=seeded(1)))
    quiet, _ = joined(load(tree, "test", image_size=64).batches(4))
    values = pixels * std + mean
    assert values.min() > -1e-6
    assert values.max() < 1 + 1e-6
    assert 0.12 < ((pixels - quiet) * std).std() < 0.18


def test_results_do_not_depend_on_workers(tree: Path) -> None:
    options: dict[str, Any] = {"shuffle": True, "augment": True}
    alone = joined(load(tree, "trainval", noise=0.1).batches(9, generator=seeded(3), **options))
    shared = joined(load(tree, "trainval", noise=0.1, workers=2).batches(9, generator=seeded(3), **options))
    assert torch.equal(alone[0], shared[0])
    assert torch.equal(alone[1], shared[1])


def test_a_generator_does_not_affect_the_global_state(tree: Path) -> None:
    before = torch.get_rng_state()
    list(load(tree, "trainval").batches(64, shuffle=True, augment=True, generator=seeded(0)))
    list(load(tree, "test").batches(64))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_of_other_kinds(tree: Path, tmp_path: Path) -> None:
    """ILSVRC holds grey, CMYK and mislabelled files."""
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
    folder = tmp_path / "val" / "a"
    Image.new("L", (30, 20), 128).save(folder / "grey.JPEG")
    Image.new("CMYK", (30, 20)).save(folder / "cmyk.JPEG")
    Image.new("RGBA", (30, 20)).save(folder / "transparent.png")
    Image.new("RGB", (30, 20)).save(folder / "other.JPEG", "png")
    pixels, _ = joined(load(tmp_path, num_classes=1).batches(2))
    assert pixels.shape == (4, 3, 8, 8)


# --- what is refused ---


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^root: imagenet needs the folder that holds the folders train and val"):
        load(None)
    (tmp_path / "train").mkdir()
    for root, missing in ((tmp_path / "nowhere", "train"), (tmp_path, "train|val")):
        with pytest.raises((MissingDataError, FormatError), match=f"{root}/({missing}): ") as caught:
            load(root)
        assert "\n" not in str(caught.value)
    with pytest.raises(
        MissingDataError, match=f"^root: {tmp_path}/nowhere/train: no such folder; unpack .* one folder"
    ):
        open_images("imagenet", root=tmp_path / "nowhere")


def test_another_number_of_classes(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"^{tree}/train: expected 1,000 folders, one per class, found 3$"):
        open_images("imagenet", "test", root=tree)
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "val").mkdir()
    with pytest.raises(FormatError, match=r"val: expected 1 folders, .* found 0; move its images into folders named"):
        load(tmp_path, num_classes=1)
    (tmp_path / "val" / "b").mkdir()
    with pytest.raises(FormatError, match=f"^{tmp_path}: train and val hold folders of different names, such as a$"):
        load(tmp_path, num_classes=1)


def test_too_few_images(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
    with pytest.raises(FormatError, match=r"val/a: holds no images \(\.jpeg, \.jpg, \.png\)"):
        load(tmp_path, num_classes=1)
    for i in range(50):
        (tmp_path / "train" / "a" / f"{i}.jpeg").touch()
    for split in ("train", "val"):
        with pytest.raises(FormatError, match="train/a: holds 50 images; 50 of every class are held out"):
            load(tmp_path, split, num_classes=1)
    assert len(load(tmp_path, "trainval", num_classes=1)) == 50


@pytest.mark.sampled(5)
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_a_damaged_image(tmp_path: Path, content: bytes, workers: int) -> None:
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
    for i in range(3):
        save(tmp_path / "val" / "a" / f"{i}.png", i)
    broken = tmp_path / "val" / "a" / "1.png"
    broken.write_bytes(content)
    with pytest.raises(FormatError, match=f"^{broken}: cannot be read as an image: ") as caught:
        list(load(tmp_path, num_classes=1, workers=workers).batches(2))
    assert "\n" not in str(caught.value)


def test_a_truncated_image(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
    path = tmp_path / "val" / "a" / "0.JPEG"
    save(path, 0, (200, 200))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(FormatError, match=f"^{path}: cannot be read as an image: "):
        list(load(tmp_path, num_classes=1).batches(2))


def test_wrong_options(tree: Path) -> None:
    for options, message in (
        ({"workers": -1}, "workers: expected an integer, 0 or more; got -1"),
        ({"image_size": 0}, "image_size: expected an integer, 1 or more; got 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(tree, **options)
    with pytest.raises(ConfigError, match="batch_size: expected an integer"):
        load(tree).batches(0)
