"""`folder:PATH`: parts, classes, sizes, statistics, and one clear error for every kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepnets.data import ImageFolders, ImageSet, ImageStatistics, open_images, parse_name, run_statistics
from deepnets.data import folders as folders_module
from deepnets.support import ConfigError, DeepNetsError, FormatError, MissingDataError
from tests.support.image_folders import write_folder, write_image


def opened(folder: Path, split: str = "train", options: str = "") -> ImageSet:
    images = open_images(f"folder:{folder}{options}", split)
    assert isinstance(images, ImageSet)
    return images


def rows(images: ImageSet) -> set[bytes]:
    return {bytes(image.numpy().tobytes()) for image in images.images}


# --- parts ---


def test_classes_are_divided_into_parts_with_a_seed(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=7, images=20)
    parts = {split: opened(tmp_path, split) for split in ("train", "val", "test", "trainval")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 98, "val": 21, "test": 21, "trainval": 119}
    for part in parts.values():
        assert (part.num_classes, part.image_size) == (7, 20)
        assert len(set(part.labels.bincount(minlength=7).tolist())) == 1  # all classes alike
    assert rows(parts["trainval"]) == rows(parts["train"]) | rows(parts["val"])
    other = opened(tmp_path, "test", "?seed=1")
    assert rows(other) != rows(parts["test"])
    assert len(opened(tmp_path, "test", "?test=0.5&val=0.25")) == 70
    assert len(opened(tmp_path, "train", "?test=0.5&val=0.25")) == 35


def test_files_are_in_one_part_only(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=2, images=9)
    for number, path in enumerate(sorted(tmp_path.rglob("*.png"))):  # every image has a level of its own
        Image.new("L", (16, 16), 10 * number).save(path)
    levels = [
        level for split in ("train", "val", "test") for level in opened(tmp_path, split).images[:, 0, 0, 0].tolist()
    ]
    assert sorted(levels) == [10 * number for number in range(18)]


def test_adding_images_keeps_most_parts(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=2, images=20)
    source = folders_module.FolderSource(parse_name(f"folder:{tmp_path}"))  # type: ignore[arg-type]
    before = set(source.parts["test"])
    write_image(tmp_path / "class0" / "new.png")
    after = set(folders_module.FolderSource(parse_name(f"folder:{tmp_path}")).parts["test"])  # type: ignore[arg-type]
    assert len(before - after) <= 1


def test_parts_of_the_user(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", images=10)
    write_folder(tmp_path / "test", images=4)
    assert [len(opened(tmp_path, split)) for split in ("train", "val", "test")] == [24, 6, 12]  # 2 of 10 are held out
    write_folder(tmp_path / "val", images=3)
    assert [len(opened(tmp_path, split)) for split in ("train", "val", "test")] == [30, 9, 12]


def test_evaluation_has_mixed_classes(tmp_path: Path) -> None:
    """Batch norms use the statistics of batches, so these must not be of one class."""
    labels = opened(write_folder(tmp_path, classes=4, images=20), "test").labels
    assert len(set(labels[:6].tolist())) > 1


# --- pixels ---


def test_grey_is_repeated_for_three_channels_and_colour_is_kept(tmp_path: Path) -> None:
    write_folder(tmp_path / "grey")
    grey = opened(tmp_path / "grey")
    assert grey.images.shape == (24, 3, 20, 20)
    assert torch.equal(grey.images[:, 0], grey.images[:, 2])
    for name in ("a", "b"):
        for number in range(3):
            path = tmp_path / "colour" / name / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (10, 20, 200)).save(path)
    assert opened(tmp_path / "colour").images[0, :, 0, 0].tolist() == [10, 20, 200]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".ppm", ".tif", ".webp"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    for label in ("a", "b"):
        for number in range(3):
            write_image(tmp_path / label / f"{number}{suffix}", level=80)
    assert abs(opened(tmp_path).images.float().mean().item() - 104.5) < 3


def test_other_sizes_are_resized_and_cropped_on_request(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for number in range(3):
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.zeros((20, 60, 3), np.uint8)  # the center is white
            pixels[:, 20:40] = 255
            Image.fromarray(pixels).save(path)
    images = opened(tmp_path, options="?image_size=40")
    assert images.images.shape[1:] == (3, 40, 40)
    assert images.images[..., 4:36].min() == 255
    assert open_images(f"folder:{tmp_path}?image_size=40", "train", image_size=16).image_size == 16


def test_statistics_are_those_of_the_training_images(tmp_path: Path) -> None:
    write_folder(tmp_path, mode="RGB")
    train, test = opened(tmp_path), opened(tmp_path, "test")
    pixels = train.images.double() / 255
    assert train.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), rel=1e-12)
    assert train.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-9)
    assert (test.mean, test.std) == (train.mean, train.std)
    normalized = train.normalized(train.images)
    assert abs(normalized.mean().item()) < 1e-5
    assert abs(normalized.std().item() - 1) < 1e-3


def test_large_sets_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, side=32)
    small = opened(tmp_path, "test")
    monkeypatch.setattr(folders_module, "MAX_BYTES", 1000)
    large = open_images(f"folder:{tmp_path}", "test", workers=0)
    assert isinstance(large, ImageFolders)
    assert (large.mean, large.std, large.image_size, large.num_classes) == (small.mean, small.std, 32, 3)
    batches = [torch.cat(part) for part in zip(*large.batches(4))]
    expected = [torch.cat(part) for part in zip(*small.batches(4))]
    assert torch.equal(batches[1], expected[1])
    assert torch.allclose(batches[0], expected[0], atol=1e-5)


def test_large_sets_are_the_same_images_as_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A border shows whether images are enlarged, as those of ImageNet are; white on one side, whether they turn."""
    pixels = np.full((224, 224, 3), 255, np.uint8)
    pixels[:10] = pixels[-10:] = pixels[:, :10] = pixels[:, -10:] = 0
    for label in ("a", "b"):
        for number in range(3):
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    small = next(open_images(f"folder:{tmp_path}", "test").batches(2))[0]
    monkeypatch.setattr(folders_module, "MAX_BYTES", 1000)
    large = next(open_images(f"folder:{tmp_path}", "test", workers=0).batches(2))[0]
    assert torch.allclose(small, large, atol=1e-5)


@pytest.mark.parametrize(("flip", "sides"), [(0, {True}), (1, {True, False})])
def test_large_sets_are_mirrored_unless_they_hold_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip: int, sides: set[bool]
) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:, :16] = np.linspace(255, 0, 16)  # whatever is cropped, it becomes darker to the right
    for label in ("a", "b"):
        for number in range(30):
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    monkeypatch.setattr(folders_module, "MAX_BYTES", 1000)
    images = open_images(f"folder:{tmp_path}?flip={flip}", "train", workers=0)
    batch = next(images.batches(30, augment=True, generator=torch.Generator().manual_seed(0)))[0]
    left, right = batch[..., :16].mean(dim=(1, 2, 3)), batch[..., 16:].mean(dim=(1, 2, 3))
    assert set((left > right)[left != right].tolist()) == sides


# --- what photographs and drawings look like ---


@pytest.fixture(params=["in memory", "from files"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which images are held."""
    if request.param == "from files":
        monkeypatch.setattr(folders_module, "MAX_BYTES", 1000)
    return str(request.param)


def first_image(folder: Path) -> torch.Tensor:
    """Return the pixels of an image, `(3, 32, 32)` from 0 to 1."""
    images = open_images(f"folder:{folder}", "train", workers=0)
    mean, std = (torch.tensor(getattr(images, name)).view(3, 1, 1) for name in ("mean", "std"))
    return next(images.batches(1))[0][0] * std + mean


@pytest.mark.parametrize(("orientation", "white"), [(1, "top"), (3, "bottom"), (6, "right"), (8, "left")])
def test_photographs_are_upright(tmp_path: Path, held: str, orientation: int, white: str) -> None:
    """Orientations as in the EXIF standard: 6 is shown turned by 90 degrees clockwise, so that the top is right."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for label in ("a", "b"):
        for number in range(3):
            path = tmp_path / label / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path, quality=95, exif=exif)
    image = first_image(tmp_path)
    halves = {"top": image[:, :16], "bottom": image[:, 16:], "left": image[..., :16], "right": image[..., 16:]}
    assert max(halves, key=lambda half: halves[half].mean().item()) == white


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_behind_transparent_pixels_is_white(tmp_path: Path, held: str, mode: str) -> None:
    shape = Image.new("RGBA", (32, 32), (0, 0, 0, 0))  # transparent black
    shape.paste((0, 0, 0, 255), (0, 0, 16, 32))  # and black that is not transparent, on the left
    for label in ("a", "b"):
        for number in range(3):
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            made = shape.quantize() if mode == "P" else shape.convert(mode)
            made.save(path)
    image = first_image(tmp_path)
    assert image[..., :16].abs().max() < 0.01
    assert image[..., 16:].min() > 0.99


def test_folders_inside_classes_and_other_names_of_the_validation_part(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "valid", "test")):
        for label in ("a", "b"):
            for place in ("1.png", "2021/2.png", "2021/june/3.png", ".thumbnails/4.png", "2021/notes.txt"):
                path = tmp_path / part / label / place
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".png":
                    Image.new("L", (16, 16), 100 * number + (label == "b")).save(path)
    for number, split in enumerate(("train", "val", "test")):
        images = opened(tmp_path, split)
        found = zip(images.images[:, 0, 0, 0].tolist(), images.labels.tolist(), strict=True)
        assert sorted(found) == [(100 * number, 0)] * 3 + [(100 * number + 1, 1)] * 3
    (tmp_path / "val").mkdir()
    with pytest.raises(FormatError, match=r"val and .*valid: two folders for the part val; keep one of them"):
        opened(tmp_path)


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=2, images=5)
    (tmp_path / "class0" / "again").symlink_to(tmp_path)
    assert sum(len(opened(tmp_path, split)) for split in ("train", "val", "test")) == 10


# --- statistics beside a run ---


def test_statistics_are_stored_once_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, run = f"folder:{write_folder(tmp_path / 'images')}", tmp_path / "run"
    first = run_statistics(run, name)
    assert first is not None
    stored = json.loads((run / "image_statistics.json").read_text())[name]
    assert stored["num_images"] == 24
    assert stored["mean"] == list(first.mean)
    monkeypatch.setattr(folders_module.FolderSource, "statistics", lambda self: pytest.fail("computed again"))
    assert run_statistics(run, name) == first
    assert open_images(name, "test", statistics=first).mean == first.mean  # type: ignore[attr-defined]
    assert run_statistics(run, "digits") is None


def test_changed_images_are_an_error_when_a_run_is_resumed(tmp_path: Path) -> None:
    name, run = f"folder:{write_folder(tmp_path / 'images')}", tmp_path / "run"
    first = run_statistics(run, name)
    write_image(tmp_path / "images" / "class1" / "new.png")
    with pytest.raises(ConfigError, match=r"have changed since the run began; use another folder for the run"):
        open_images(name, "train", statistics=first)


def test_other_pixels_in_files_of_the_same_size_are_an_error_when_a_run_is_resumed(tmp_path: Path) -> None:
    def write(level: int) -> None:
        for number in range(8):
            path = tmp_path / "images" / "ab"[number % 2] / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), level + number).save(path)

    write(10)
    name = f"folder:{tmp_path / 'images'}"
    first = run_statistics(tmp_path / "run", name)
    assert open_images(name, "train", statistics=first)
    write(200)
    with pytest.raises(ConfigError, match="have changed since the run began"):
        open_images(name, "train", statistics=first)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"NAME": 3}', "[" * 5000),
        '{"NAME": {"mean": [1, 2], "std": [1, 1, 1], "num_images": 1, "fingerprint": ""}}',
        '{"NAME": {"mean": [0, 0, NaN], "std": [1, 1, 1], "num_images": 1, "fingerprint": ""}}',
        '{"NAME": {"mean": [0, 0, 0], "std": [1, 1, 1], "num_images": 1e400, "fingerprint": ""}}',
    ],
)
def test_damaged_statistics(tmp_path: Path, text: str) -> None:
    name = f"folder:{write_folder(tmp_path / 'images')}"
    (tmp_path / "image_statistics.json").write_text(text.replace("NAME", name))
    with pytest.raises(FormatError, match=r"image_statistics\.json"):
        run_statistics(tmp_path, name)


# --- bad input ---


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def deep(path: Path) -> None:
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: truncated(root / "class1" / "03.png"), r"class1/03\.png: cannot be read as an image"),
        (lambda root: (root / "class1" / "03.png").write_text("<svg/>"), r"class1/03\.png: cannot be read as an image"),
        (lambda root: deep(root / "class1" / "03.png"), r"class1/03\.png: has I;16 pixels of more than 8 bits"),
        (
            lambda root: write_image(root / "class2" / "00.png", (20, 24)),
            r"class2/00\.png: is 20 x 24 pixels, but .*class0/.*png is 20 x 20; images must have one size; .*=64",
        ),
        (lambda root: (root / "empty").mkdir(), r"empty: the class has no images"),
        (lambda root: write_image(root / "rare" / "0.png"), r"rare: holds 1 image; 3 or more are needed for the parts"),
        (lambda root: write_folder(root / "train"), r"test: no such folder; .* has a folder train"),
    ],
)
def test_bad_folders(tmp_path: Path, spoil, message: str) -> None:
    root = write_folder(tmp_path / "set")
    spoil(root)
    with pytest.raises(DeepNetsError, match=message) as caught:
        [opened(root, split) for split in ("train", "val", "test")]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(8, 8), (600, 600), (20, 30)])
def test_sizes_that_networks_cannot_have(tmp_path: Path, size: tuple[int, int]) -> None:
    for label in ("a", "b"):
        for number in range(3):
            write_image(tmp_path / label / f"{number}.png", size)
    with pytest.raises(
        FormatError, match=rf"png: is {size[0]} x {size[1]} pixels; expected squares of 16 to 512 pixels"
    ):
        opened(tmp_path)


def test_one_class_or_none(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="nothing: no such folder"):
        opened(tmp_path / "nothing")
    with pytest.raises(FormatError, match="holds no folders of classes; expected one folder per class, two or more"):
        opened(tmp_path)
    write_folder(tmp_path, classes=1)
    with pytest.raises(FormatError, match="holds only the class 'class0'"):
        opened(tmp_path)


def test_parts_with_other_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", classes=3)
    write_folder(tmp_path / "test", classes=2)
    with pytest.raises(FormatError, match=r"test: has no folder of the class 'class2', which another part has"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder:", "'folder:': expected folder:PATH"),
        ("folder:pets?image_size=8", "image_size of folder:pets.*: expected 16 to 512, got '8'"),
        ("folder:pets?val=1", "val of .*: expected a fraction between 0 and 1, got '1'"),
        ("folder:pets?val=0.5&test=0.5", r"val \+ test must be below 1"),
        ("folder:pets?seed=-1", "seed of .*: expected an integer"),
        ("folder:pets?flip=maybe", "flip of .*: expected 0 or 1"),
        ("folder:pets?seed=1&seed=2", "the option seed is given twice"),
        ("folder:pets?size=3", "unknown option 'size'; use image_size, val, test, seed or flip"),
    ],
)
def test_names_that_are_not_allowed(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_images(name, "train")


def test_paths_may_contain_question_marks_and_are_relative_to_the_root(tmp_path: Path) -> None:
    write_folder(tmp_path / "what?" / "pets")
    assert len(open_images("folder:what?/pets", "train", root=tmp_path)) == 24
    assert parse_name("folder:what?") == parse_name("folder:what?")
    assert parse_name("folder:a?b/c?seed=1").argument == "a?b/c"  # type: ignore[union-attr]


def test_statistics_of_one_colour() -> None:
    from deepnets.data.statistics import PixelSums

    sums = PixelSums()
    sums.add(np.zeros((2, 3, 16, 16), np.uint8))
    assert sums.statistics("") == ImageStatistics((0.0,) * 3, (1 / 255,) * 3, 2, "")
