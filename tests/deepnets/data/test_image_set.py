"""`ImageSet` and the digits: content, splits, reproducible batches, and standard augmentation."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets.data import ImageSet, load_images, open_images
from deepnets.support import IMAGE_SPLITS, ConfigError, import_torchvision

CONTENT = {
    "train": "411f6afd7bebe8a6a68a68a668488509a9e92e790484747a80867dd009dab291",
    "val": "2cb79e7ae99d8e170be2f131ea25d9443bb96df92764ba3c4dc85b8002620b3a",
    "test": "142790edc5aa8d0fecea9d8b2934237cabba72f6e0cde322d767a72243c93c0d",
    "trainval": "43014f3da6a18ec15e9744d24cb299c1988b99e17c5e3892dfebd5726d6c5813",
}
SIZES = {"train": 1199, "val": 299, "test": 299, "trainval": 1498}


def made(n: int = 10, side: int = 6, **options: Any) -> ImageSet:
    """Return a set of random images without black pixels."""
    rng = np.random.default_rng(n)
    values: dict[str, Any] = {
        "name": "made",
        "split": "train",
        "num_classes": 10,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.1),
        "shift": 2,
        "flip": True,
        "images": torch.from_numpy(rng.integers(1, 256, (n, 3, side, side), np.uint8)),
        "labels": torch.arange(n) % 10,
    }
    return ImageSet(**{**values, **options})


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def joined(batches: Any) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


# --- digits ---


@pytest.mark.parametrize("split", IMAGE_SPLITS)
def test_digits_never_change(split: str) -> None:
    digits = load_images("digits", split)
    assert (len(digits), digits.num_classes, digits.image_size) == (SIZES[split], 10, 32)
    assert (digits.name, digits.split) == ("digits", split)
    assert (digits.images.dtype, digits.labels.dtype) == (torch.uint8, torch.int64)
    content = digits.images.numpy().tobytes() + digits.labels.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest() == CONTENT[split]


def test_digits_are_those_of_scikit_learn_enlarged() -> None:
    """Enlarged pixels are bilinear interpolations; corners equal the originals."""
    from sklearn.datasets import load_digits

    originals = load_digits()
    digits = load_images("digits", "trainval")
    test = load_images("digits", "test")
    corners = np.round(originals.images[:, [0, 0, -1, -1], [0, -1, 0, -1]] / 16 * 255)
    weights = np.array([[5, 3], [3, 5]]) / 8  # of the two nearest pixels, at 1/8 pixel right and left of the middle
    found: list[tuple[Any, ...]] = []
    for images, labels in ((digits.images, digits.labels), (test.images, test.labels)):
        assert (images[:, 0] == images[:, 1]).all()
        assert (images[:, 0] == images[:, 2]).all()
        pixels = images[:, 0].numpy()
        ends = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        middles = pixels[:, 15:17, 15:17]
        found += [
            (int(label), *end, *middle) for label, end, middle in zip(labels, ends, middles.reshape(-1, 4), strict=True)
        ]
    expected = []
    for image, label, corner in zip(originals.images, originals.target, corners, strict=True):
        inner = np.einsum("ar,bc,rc->ab", weights[::1], weights, image[3:5, 3:5])
        # Rows and columns 15 and 16 lie between the original ones 3 and 4, nearer to 3 and to 4.
        expected.append((label, *corner, *np.rint(inner / 16 * 255).ravel()))
    assert sorted(found) == sorted(expected)


def test_digits_without_the_file_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """If scikit-learn stores its file elsewhere, its own function reads it."""
    import sklearn.datasets  # noqa: F401  # its import needs what is replaced below

    expected = load_images("digits", "val")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = load_images("digits", "val")
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)


def test_digits_are_split_by_class() -> None:
    parts = {split: load_images("digits", split) for split in IMAGE_SPLITS}
    counts = {split: part.labels.bincount() for split, part in parts.items()}
    assert torch.equal(counts["val"], counts["test"])
    assert torch.equal(counts["train"] + counts["val"], counts["trainval"])
    assert (counts["val"].float() / (counts["trainval"] + counts["test"]) - 1 / 6).abs().max() < 0.004
    for split in ("train", "val", "test"):  # batches must mix classes
        assert len(parts[split].labels[:64].unique()) == 10


def test_digits_are_normalised() -> None:
    (images, labels) = joined(load_images("digits", "train").batches(100))
    assert images.dtype == torch.float32
    assert images.mean().abs() < 1e-3
    assert abs(images.std() - 1) < 1e-3
    assert torch.equal(labels, load_images("digits", "train").labels)


# --- batches ---


@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_in_order(drop_last: bool) -> None:
    images = made(10)
    batches = list(images.batches(4, drop_last=drop_last))
    assert [len(labels) for _, labels in batches] == [4, 4] + [2] * (not drop_last)
    pixels, labels = joined(batches)
    assert torch.equal(labels, images.labels[: len(labels)])
    expected = (images.images / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.1]).view(
        3, 1, 1
    )
    assert torch.equal(pixels, expected[: len(labels)])


def test_normalisation_is_that_of_torchvision() -> None:
    try:
        transforms = import_torchvision().transforms
    except ImportError:
        pytest.skip("needs torchvision")
    images = made(3)
    standard = transforms.Compose([transforms.ToTensor(), transforms.Normalize(images.mean, images.std)])
    expected = [standard(image.permute(1, 2, 0).numpy()) for image in images.images]
    assert torch.equal(joined(images.batches(2))[0], torch.stack(expected))


def test_a_pass_can_be_repeated_from_the_state_of_its_generator() -> None:
    images = made(50, noise=0.1)
    generator = seeded(3)
    options: dict[str, Any] = {"shuffle": True, "augment": True, "generator": generator}
    first = joined(images.batches(8, **options))
    state = generator.get_state()
    second = joined(images.batches(8, **options))
    assert not torch.equal(first[1], second[1])
    assert sorted(first[1].tolist()) == sorted(second[1].tolist()) == sorted(images.labels.tolist())
    generator.set_state(state)
    again = joined(images.batches(8, **options))
    assert torch.equal(again[0], second[0])
    assert torch.equal(again[1], second[1])
    generator.manual_seed(3)
    again = joined(images.batches(8, **options))
    assert torch.equal(again[0], first[0])


def test_a_generator_does_not_affect_the_global_state() -> None:
    before = torch.get_rng_state()
    list(made(20, noise=0.1).batches(8, shuffle=True, augment=True, generator=seeded(0)))
    assert torch.equal(torch.get_rng_state(), before)
    list(made(20).batches(8))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_is_a_crop_of_the_padded_image(flip: bool, dtype: torch.dtype) -> None:
    """Every augmented image is one of the 25 (or 50) possible ones, and all occur equally often."""
    images = made(1, flip=flip)
    source = images.images
    black = torch.zeros(3, 1, 1)
    if dtype == torch.float32:
        source, black = images.normalized(source), images.normalized(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))[0]
    padded = black.expand(3, 10, 10).to(dtype).clone()
    padded[:, 2:8, 2:8] = source[0]
    crops = [padded[:, y : y + 6, x : x + 6] for y, x in itertools.product(range(5), range(5))]
    crops += [crop.flip(-1) for crop in crops] if flip else []
    found = images.augmented(source.expand(5000, -1, -1, -1), seeded(1))
    assert found.dtype == dtype
    same = torch.stack([(found == crop).all(dim=(1, 2, 3)) for crop in crops])
    assert (same.sum(0) == 1).all()
    expected = 5000 / len(crops)
    assert ((same.sum(1) - expected).abs() < 5 * expected**0.5).all()


def test_batches_are_augmented_before_they_are_normalised() -> None:
    images = made(200, flip=False)
    pixels, _ = joined(images.batches(64, augment=True, generator=seeded(2)))
    black = images.normalized(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))[0]
    outside = (pixels == black).all(dim=1)  # (n, h, w); no pixel of the images is black
    assert 0.1 < outside.float().mean() < 0.5
    assert not outside[:, 2:4, 2:4].any()  # moved by two pixels at most


def test_digits_are_moved_but_not_mirrored() -> None:
    digits = load_images("digits", "test")
    assert (digits.shift, digits.flip) == (2, False)


def test_noise() -> None:
    """The published robustness test: noise on a scale from 0 to 1, clipping, then normalisation."""
    images = made(40, side=32)
    images = replace(images, images=torch.full_like(images.images, 128))
    pixels, _ = joined(replace(images, noise=0.08).batches(8, generator=seeded(0)))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (images.mean, images.std))
    values = pixels * std + mean
    assert abs(values.mean() - 128 / 255) < 1e-3
    assert abs(values.std() - 0.08) < 1e-3
    dark = replace(images, images=torch.zeros_like(images.images), noise=0.08)
    values = joined(dark.batches(8, generator=seeded(0)))[0] * std + mean
    assert values.min() > -1e-6
    assert abs((values < 1e-6).float().mean() - 0.5) < 0.01


def test_another_size() -> None:
    digits = load_images("digits", "test", image_size=48)
    assert digits.image_size == 48
    pixels, _ = next(iter(digits.batches(7)))
    assert pixels.shape == (7, 3, 48, 48)
    even = replace(made(3), images=torch.full((3, 3, 6, 6), 77, dtype=torch.uint8), resize=9)
    pixels, _ = next(iter(even.batches(3)))
    torch.testing.assert_close(
        pixels, next(iter(replace(even, resize=None).batches(3)))[0][..., :1, :1].expand_as(pixels)
    )
    assert load_images("digits", "test", image_size=32).resize is None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.booleans(), st.booleans())
def test_every_image_once(n: int, size: int, shuffle: bool, augment: bool) -> None:
    images = made(n, labels=torch.arange(n))
    batches = list(images.batches(size, shuffle=shuffle, augment=augment, generator=seeded(n)))
    assert [len(labels) for _, labels in batches[:-1]] == [size] * (len(batches) - 1)
    assert sorted(joined(batches)[1].tolist()) == list(range(n))


def test_a_device() -> None:
    images = made(4).to("meta")
    assert images.device.type == "meta"
    assert images.labels.device.type == "meta"
    for pixels, labels in images.batches(3, shuffle=False, augment=False):
        assert (pixels.device.type, labels.device.type) == ("meta", "meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_synchronization_with_the_gpu() -> None:
    digits = load_images("digits", "train", device="cuda", noise=0.1)
    generator = torch.Generator("cuda").manual_seed(0)
    options: dict[str, Any] = {"shuffle": True, "augment": True, "generator": generator}
    next(iter(digits.batches(64, **options)))
    state = generator.get_state()
    batches = digits.batches(64, **options)
    found = [next(batches)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        found += batches
    finally:
        torch.cuda.set_sync_debug_mode("default")
    generator.set_state(state)
    assert torch.equal(joined(found)[0], joined(digits.batches(64, **options))[0])
    plain = joined(load_images("digits", "train", device="cuda").batches(64))[0].cpu()
    torch.testing.assert_close(plain, joined(load_images("digits", "train").batches(64))[0])


# --- what is refused ---


@pytest.mark.parametrize("load", [load_images, open_images])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mnist"}, "images: unknown 'mnist'; use one of digits, cifar10, imagenet"),
        (
            {"name": "digits", "split": "dev"},
            "split of the images: unknown 'dev'; use one of train, val, test, trainval",
        ),
        ({"name": "digits", "noise": -0.1}, "noise: expected a standard deviation, 0 or more; got -0.1"),
        ({"name": "digits", "noise": float("nan")}, "noise: expected a standard deviation, 0 or more; got nan"),
        ({"name": "digits", "image_size": 0}, "image_size: expected an integer, 1 or more; got 0"),
        ({"name": "cifar10"}, "root: cifar10 needs the folder that holds cifar-10-batches-py"),
    ],
)
def test_wrong_options(load: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        load(**options)


@pytest.mark.parametrize("size", [0, -1, 1.5, None])
def test_wrong_batch_sizes(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"^batch_size: expected an integer, 1 or more; got"):
        made().batches(size)
