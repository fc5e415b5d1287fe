"""The common corruptions against their formulas, and corrupted image sets, computed or read from files."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepnets.data import (
    CORRUPTIONS,
    SEVERITIES,
    CorruptedImages,
    Corruption,
    ImageFolders,
    corrupt,
    load_images,
    open_images,
)
from deepnets.data.corruption_constants import CONSTANTS
from deepnets.support import ConfigError, DeepNetsError, FormatError, MissingDataError
from tests.support import cifar_files
from tests.support.image_folders import write_image

GREY = np.full((32, 32, 3), 128, np.uint8)


def picture(side: int = 32, seed: int = 0) -> np.ndarray:
    """A smooth image of several colours with an edge."""
    rows, columns = np.mgrid[:side, :side] / side
    pixels = np.stack([rows, columns, (rows > 0.5) * 0.8 + 0.1], axis=2)
    return (255 * (0.8 * pixels + 0.1)).astype(np.uint8)


def change(name: str, severity: int, image: np.ndarray, seed: int = 0) -> float:
    return float(np.abs(corrupt(image, name, severity, seed).astype(float) - image).mean())


# --- all of them ---


def test_the_fifteen_of_the_paper() -> None:
    assert len(CORRUPTIONS) == 15
    assert list(CORRUPTIONS) == list(CONSTANTS)
    assert all(len(severities) == 5 for pair in CONSTANTS.values() for severities in pair)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", list(CORRUPTIONS))
@pytest.mark.parametrize("side", [16, 31, 32, 65, 224])
def test_shape_type_and_repeatability(name: str, side: int) -> None:
    image = picture(side)
    before = image.copy()
    for severity in (1, 5):
        found = corrupt(image, name, severity, seed=3)
        assert (found.shape, found.dtype) == (image.shape, np.uint8)
        assert np.array_equal(found, corrupt(image, name, severity, seed=3))
        assert not np.array_equal(found, image)
    assert np.array_equal(image, before)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "name", ["gaussian_noise", "shot_noise", "impulse_noise", "brightness", "zoom_blur", "contrast"]
)
@pytest.mark.parametrize("side", [32, 224])
def test_severities_grow(name: str, side: int) -> None:
    changes = [np.mean([change(name, severity, picture(side), seed) for seed in range(3)]) for severity in SEVERITIES]
    assert changes == sorted(changes)


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "snow", "frost", "fog", "elastic_transform"])
def test_seeds_and_severities_have_their_own_random_numbers(name: str) -> None:
    assert not np.array_equal(corrupt(picture(), name, 3, 0), corrupt(picture(), name, 3, 1))


# --- one by one ---


@pytest.mark.parametrize(("severity", "std"), list(enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1)))
def test_gaussian_noise_has_its_standard_deviation(severity: int, std: float) -> None:
    values = np.stack([corrupt(GREY, "gaussian_noise", severity, seed) for seed in range(20)]) / 255
    assert values.std() == pytest.approx(std, rel=0.03)
    assert values.mean() == pytest.approx(128 / 255 - 0.5 / 255, abs=0.002)  # pixels are rounded down


@pytest.mark.parametrize(("severity", "photons"), list(enumerate((60, 25, 12, 5, 3), 1)))
def test_shot_noise_has_the_variance_of_photons(severity: int, photons: int) -> None:
    """Levels that are so dark that few values are clipped."""
    dark = np.full((96, 96, 3), 64, np.uint8)
    values = np.stack([corrupt(dark, "shot_noise", severity, seed) for seed in range(4)]) / 255
    assert values.var() == pytest.approx(64 / 255 / photons, rel=0.08)


@pytest.mark.parametrize(("severity", "share"), list(enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1)))
def test_impulse_noise_sets_values_to_black_and_white(severity: int, share: float) -> None:
    values = np.stack([corrupt(GREY, "impulse_noise", severity, seed) for seed in range(30)])
    assert set(np.unique(values)) == {0, 128, 255}
    assert (values == 0).mean() == pytest.approx(share / 2, rel=0.15)
    assert (values == 255).mean() == pytest.approx(share / 2, rel=0.15)


def test_defocus_blur_spreads_a_point_over_a_disk() -> None:
    image = np.zeros((224, 224, 3), np.uint8)
    image[112, 112] = 255
    for severity, radius in enumerate((3, 4, 6), 1):  # larger disks are darker than a step of a byte
        found = corrupt(image, "defocus_blur", severity)[:, :, 0].astype(float)
        rows, columns = np.nonzero(found)
        distance = np.hypot(rows - 112, columns - 112).max()
        assert radius <= distance + 1e-9 <= radius + 2
        assert np.array_equal(found, found.T)
        area = np.sum(np.hypot(*np.mgrid[-20:21, -20:21]) <= radius)
        assert found[112, 112] == pytest.approx(255 / area, abs=1.5)


def test_glass_blur_exchanges_pixels() -> None:
    """With a blur of 0.05 pixels, all values stay in the image."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    found = corrupt(image, "glass_blur", 1)
    assert np.abs(np.sort(found.reshape(-1, 3), axis=0).astype(int) - np.sort(image.reshape(-1, 3), axis=0)).max() <= 2
    assert (found != image).any(axis=2).mean() > 0.3


def test_motion_blur_moves_along_a_line() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[32, 32] = 255
    found = corrupt(image, "motion_blur", 5, seed=2)[:, :, 0].astype(float)
    rows, columns = np.nonzero(found)
    assert len(rows) >= 4
    centered = np.stack([rows - rows.mean(), columns - columns.mean()])
    small, large = np.linalg.eigvalsh(centered @ centered.T)
    assert small < 0.1 * large
    assert found.sum() == pytest.approx(255, abs=len(rows) + 1)


@pytest.mark.parametrize(
    "name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform", "contrast"]
)
@pytest.mark.parametrize("side", [32, 224])
def test_blur_keeps_an_image_of_one_colour(name: str, side: int) -> None:
    image = np.full((side, side, 3), (10, 100, 240), np.uint8)
    assert np.abs(corrupt(image, name, 5).astype(int) - image).max() <= 2


def test_zoom_blur_keeps_the_center() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[14:18, 14:18] = 255
    found = corrupt(image, "zoom_blur", 5)
    assert found[15:17, 15:17].min() > 240
    assert found[[0, -1]].max() == 0


@pytest.mark.parametrize(("severity", "more"), list(enumerate((0.05, 0.1, 0.15, 0.2, 0.3), 1)))
def test_brightness_raises_the_value_of_hsv(severity: int, more: float) -> None:
    import colorsys

    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    found = corrupt(image, "brightness", severity)
    for before, after in zip(image.reshape(-1, 3)[:100] / 255, found.reshape(-1, 3)[:100]):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + more, 1))) * 255
        assert np.abs(after - np.floor(expected + 1e-3)).max() <= 1


def test_contrast_shrinks_towards_the_mean() -> None:
    image = picture()
    means = image.mean(axis=(0, 1))
    for severity, factor in enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1):
        expected = (image - means) * factor + means
        assert np.abs(corrupt(image, "contrast", severity) - expected).max() <= 1.01


def test_fog_follows_its_formula() -> None:
    """The fog is between 0 and its thickness, and the sum is scaled so that the lightest pixel cannot exceed itself."""
    for severity, thickness in enumerate((0.2, 0.5, 0.75, 1, 1.5), 1):
        found = corrupt(GREY, "fog", severity) / 255
        x = 128 / 255
        assert found.min() == pytest.approx(x * x / (x + thickness), abs=0.006)
        assert found.max() == pytest.approx(x, abs=0.006)


def test_weather_lightens_dark_images() -> None:
    black = np.full((32, 32, 3), 20, np.uint8)
    for name in ("snow", "frost"):
        assert corrupt(black, name, 3).mean() > 40
    frost = corrupt(np.zeros((64, 64, 3), np.uint8), "frost", 5)
    assert frost[..., 2].mean() > frost[..., 0].mean()  # ice is bluish
    assert frost.max() <= 0.45 * 255 + 1


def test_pixelate_and_jpeg_are_those_of_pillow() -> None:
    image = picture(64)
    for severity, quality in enumerate((80, 65, 58, 50, 40), 1):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        assert (
            np.abs(corrupt(image, "jpeg_compression", severity).astype(int) - np.asarray(Image.open(buffer))).max() <= 1
        )
    box = Image.Resampling.BOX
    expected = Image.fromarray(image).resize((41, 41), box).resize((64, 64), box)
    assert np.abs(corrupt(image, "pixelate", 5).astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GREY, "haze", 1), "corruption: unknown 'haze'; use one of gaussian_noise, shot_noise"),
        ((GREY, "fog", 0), "severity: expected an integer, 1 or 2 or 3 or 4 or 5; got 0"),
        ((GREY, "fog", True), "severity"),
        ((GREY.astype(float), "fog", 1), r"image: expected uint8 of shape \(side, side, 3\), got float64"),
        ((GREY[:, :20], "fog", 1), r"image: expected uint8 .* of shape \(32, 20, 3\)"),
        ((GREY[:, :, 0], "fog", 1), r"image: expected uint8"),
    ],
)
def test_wrong_arguments(arguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        corrupt(*arguments)


# --- image sets ---


def test_a_set_with_all_severities_or_one() -> None:
    digits = load_images("digits", "test")
    few = replace(digits, images=digits.images[:6], labels=digits.labels[:6])
    from deepnets.data import corrupted_images

    whole, single = corrupted_images(few, "contrast"), corrupted_images(few, "contrast:4")
    assert isinstance(whole, CorruptedImages)
    assert (len(whole), len(single), whole.num_classes, whole.image_size, whole.split) == (30, 6, 10, 32, "test")
    assert torch.equal(whole.parts[3].images, single.parts[0].images)
    assert [len(labels) for _, labels in whole.batches(4)] == [4, 2] * 5  # batches do not mix severities
    for row in range(6):
        expected = corrupt(few.images[row].permute(1, 2, 0).numpy(), "contrast", 4, row)
        assert np.array_equal(single.parts[0].images[row].permute(1, 2, 0).numpy(), expected)


def test_images_in_files_are_corrupted_when_they_are_read(tmp_path: Path) -> None:
    paths = [str(write_image(tmp_path / f"{i}.png", (96, 96), 100, "RGB")) for i in range(3)]
    from deepnets.data import corrupted_images

    files = ImageFolders("pets", "test", paths, np.array([0, 1, 0]), 2, image_size=96, mean=(0.0,) * 3, std=(1.0,) * 3)
    found = corrupted_images(files, "gaussian_noise:5")
    first, again = (torch.cat([images for images, _ in found.batches(2)]) for _ in range(2))
    clean = torch.cat([images for images, _ in files.batches(2)])
    assert torch.equal(first, again)
    assert (first - clean).std().item() == pytest.approx(0.38, rel=0.25)  # constants of ImageNet-C; some are clipped
    assert not torch.equal(first[0] - clean[0], first[1] - clean[1])


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    cifar_files.write(tmp_path / "cifar-10-batches-py")
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3)).astype(np.uint8)
    np.save(folder / "fog.npy", pixels)
    np.save(folder / "labels.npy", np.tile(np.array(cifar_files.EXPECTED["test"][1], np.uint8), 5))
    return tmp_path


def test_cifar_10_c_is_read_as_it_is(cifar: Path) -> None:
    folder = cifar / "CIFAR-10-C"
    found = open_images("cifar10", "test", root=cifar, corruption="fog", corruption_root=folder)
    assert isinstance(found, CorruptedImages)
    pixels = np.load(folder / "fog.npy")
    for severity, part in enumerate(found.parts):
        expected = pixels[20 * severity : 20 * (severity + 1)].transpose(0, 3, 1, 2)
        assert np.array_equal(part.images.numpy(), expected)  # type: ignore[union-attr]
        assert part.mean == load_images("cifar10", "test", root=cifar).mean
    single = open_images("cifar10", "test", root=cifar, corruption="fog:2", corruption_root=folder)
    assert torch.equal(single.parts[0].images, found.parts[1].images)  # type: ignore[attr-defined,union-attr]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "fog.npy").unlink(), "fog.npy: no such file; the folder is expected to be like"),
        (lambda folder: (folder / "labels.npy").unlink(), "labels.npy: no such file"),
        (lambda folder: (folder / "fog.npy").write_bytes(b"nothing"), "fog.npy: cannot be read as an array"),
        (
            lambda folder: np.save(folder / "fog.npy", np.array([{}]), allow_pickle=True),
            "fog.npy: cannot be read as an array",
        ),
        (
            lambda folder: np.save(folder / "fog.npy", np.zeros((90, 32, 32, 3), np.uint8)),
            r"fog.npy: expected uint8 of shape \(100, 32, 32, 3\), for the 20 images of cifar10 \(test\)",
        ),
        (
            lambda folder: np.save(folder / "labels.npy", np.zeros(100, np.uint8)),
            r"labels.npy: the labels are not those of the images of cifar10 \(test\)",
        ),
    ],
)
def test_damaged_folders_of_corrupted_images(cifar: Path, spoil, message: str) -> None:
    spoil(cifar / "CIFAR-10-C")
    with pytest.raises((FormatError, MissingDataError), match=message) as caught:
        open_images("cifar10", "test", root=cifar, corruption="fog", corruption_root=cifar / "CIFAR-10-C")
    assert isinstance(caught.value, DeepNetsError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruption": "haze"}, "corruption: unknown 'haze'"),
        ({"corruption": "fog:6"}, "corruption: fog:6: expected a severity from 1 to 5, got '6'"),
        ({"corruption": "fog:"}, "expected a severity from 1 to 5"),
        ({"corruption": "fog", "noise": 0.1}, "noise: cannot be combined with a corruption"),
        ({"corruption_root": "folder"}, "corruption_root: needs a corruption"),
    ],
)
def test_options_that_are_not_allowed(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_images("digits", "test", **options)


def test_parsing() -> None:
    assert Corruption.parse("snow") == ("snow", (1, 2, 3, 4, 5))
    assert Corruption.parse("snow:2") == ("snow", (2,))
