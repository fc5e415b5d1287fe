"""ViTs-1K and GPTs-1K against their published rules, numbers and networks, by code that shares nothing with ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepnets.families import FamilyNetworks

FIRST_VITS = [
    *((8, 224, 4, 2), (4, 352, 8, 4), (3, 384, 6, 2), (8, 256, 4, 4)),
    *((5, 384, 12, 4), (5, 384, 3, 2), (7, 192, 3, 4), (4, 288, 12, 2)),
]
FIRST_GPTS = [(8, 160), (7, 136), (4, 152), (8, 72), (3, 184), (7, 128), (8, 168), (9, 144)]


def vits(count: int = 1000) -> list[tuple[int, int, int, int]]:
    """Layers, width, heads and patch size, as the release draws them."""
    state = np.random.RandomState(1)
    found = []
    for _ in range(count):
        layers = state.choice(np.arange(3, 10))
        widths = {3: (384, 512), 4: (256, 384), 5: (256, 384)}.get(int(layers), (128, 256))
        width = state.choice(np.arange(widths[0], widths[1] + 1, 32))
        divisors = [heads for heads in (3, 6, 12) if width % heads == 0]
        if width % 12 and width % 6 and width % 3:
            divisors = [4, 8]
        heads = state.choice(divisors)
        found.append((int(layers), int(width), int(heads), int(state.choice([2, 4]))))
    return found


def gpts(count: int = 1000) -> list[tuple[int, int]]:
    state = np.random.RandomState(1)
    found = []
    for _ in range(count):
        layers = int(state.choice(np.arange(3, 10)))
        low, high = {3: (176, 256), 4: (128, 176), 5: (128, 176)}.get(layers, (72, 176))
        width = int(state.choice(np.arange(low, high + 1, 8)))
        state.choice([8])
        found.append((layers, width))
    return found


def vit_parameters(layers: int, width: int, patch: int, classes: int, side: int = 32) -> int:
    tokens = (side // patch) ** 2 + 1
    return (
        3 * patch**2 * width
        + width
        + width
        + tokens * width
        + layers * (12 * width**2 + 13 * width)
        + 2 * width
        + classes * width
        + classes
    )


def gpt_parameters(layers: int, width: int) -> int:
    return 2 * 50257 * width + 1024 * width + layers * (12 * width**2 + 13 * width) + 2 * width


def values(nets: FamilyNetworks) -> list[tuple[Any, ...]]:
    return [tuple(nets.config(i).values()) for i in range(len(nets))]


def test_release_of_vits() -> None:
    nets = FamilyNetworks("vits-1k", "original")
    configs = values(nets)
    assert configs == vits()
    assert configs[:8] == FIRST_VITS
    assert (len(set(configs)), len({config[:3] for config in configs})) == (160, 80)
    assert len({config[0] for config in configs}) == 7
    stored = np.array([vit_parameters(layers, width, patch, 10) for layers, width, _, patch in configs]) / 1e6
    assert [round(float(number), 3) for number in (stored.mean(), stored.min(), stored.max())] == [4.754, 1.206, 9.602]
    assert stored.std() == pytest.approx(2.223, abs=2e-3)
    hundred = np.array([vit_parameters(layers, width, 2, 100) for layers, width, *_ in configs]) / 1e6
    assert [round(float(number), 3) for number in (hundred.mean(), hundred.min(), hundred.max())] == [
        4.799,
        1.237,
        9.648,
    ]


def test_release_of_gpts() -> None:
    configs = [config[:2] for config in values(FamilyNetworks("gpts-1k", "original"))]
    assert configs == gpts()
    assert configs[:8] == FIRST_GPTS
    assert len(set(configs)) == 81
    counts = np.array([gpt_parameters(*config) for config in configs]) / 1e6
    assert [round(float(number), 2) for number in (counts.mean(), counts.min(), counts.max())] == [16.30, 7.69, 28.36]
    assert counts.std() == pytest.approx(4.76, abs=0.01)


def test_numbers_of_parameters() -> None:
    for split, options in (("original", {}), ("test", {}), ("val", {"patch_size": 2})):
        nets = FamilyNetworks("vits-1k", split, num_classes=100, num_nets=4, **options)
        for i in range(4):
            layers, width, _, patch = nets.config(i).values()
            assert nets.num_params(i) == vit_parameters(layers, width, patch, 100)


def test_published_vits() -> None:
    nets = FamilyNetworks("vits-1k", "published", num_classes=100)
    assert [nets.name_of(i) for i in range(len(nets))] == ["vit-s", "vit-b", "vit-l"]
    assert [nets.num_params(i) for i in range(3)] == [21_436_900, 85_341_028, 302_691_428]
    large = FamilyNetworks("vits-1k", "published", num_classes=1000, image_size=224)
    assert large.num_params(1) == 86_567_656  # ViT-B/16 of ImageNet, as in torchvision


def test_published_gpts() -> None:
    pytest.importorskip("transformers")
    nets = FamilyNetworks("gpts-1k", "published")
    found = [nets.num_params(i) for i in range(3)]
    assert [round(number / 1e6, 1) for number in found] == [163.0, 406.3, 838.4]
    assert found == [gpt_parameters(*size) for size in ((12, 768), (24, 1024), (36, 1280))]
    tied = FamilyNetworks("gpts-1k", "published", tied=True)
    assert tied.num_params(2) == 774_030_080


@pytest.mark.parametrize("seed", [0, pytest.param(7, marks=pytest.mark.slow)])
def test_candidates_follow_the_rule(seed: int) -> None:
    allowed = set(vits(20_000))
    drawn = values(FamilyNetworks("vits-1k", "train", seed=seed))
    assert set(drawn) <= allowed
    assert len(set(drawn)) > 150  # of 160
    layers = np.bincount([config[0] for config in drawn])[3:]
    assert len(layers) == 7
    assert layers.min() > 90  # 143 are expected
    allowed_gpts = set(gpts(20_000))
    drawn_gpts = [config[:2] for config in values(FamilyNetworks("gpts-1k", "train", seed=seed))]
    assert set(drawn_gpts) <= allowed_gpts


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["vits-1k", "gpts-1k", "llamas-1k", "resnet-widths", "gpt2-widths"])
def test_unseen_networks(name: str) -> None:
    """No configuration for validation and testing is in another split, nor twice in its own."""
    splits = {split: values(FamilyNetworks(name, split)) for split in ("train", "val", "test")}
    flat = {split: {repr(config) for config in configs} for split, configs in splits.items()}
    assert len(flat["val"]) == len(splits["val"])
    assert len(flat["test"]) == len(splits["test"])
    assert not flat["val"] & flat["test"]
    assert not (flat["val"] | flat["test"]) & flat["train"]
    if name in ("vits-1k", "gpts-1k"):
        widths = {split: {config[1] for config in configs} for split, configs in splits.items()}
        assert not (widths["val"] | widths["test"]) & widths["train"]


def test_llamas_follow_the_rule() -> None:
    nets = FamilyNetworks("llamas-1k", "train")
    for i in range(len(nets)):
        config = nets.config(i)
        layers, width, heads = config["layers"], config["width"], config["heads"]
        size = width // heads
        assert 3 <= layers <= 9
        assert width == size * heads
        assert heads in ((6, 8) if layers in (6, 7) else (4, 8, 10))
        assert size % 8 == 0
        assert 8 <= size <= 32 if layers > 7 else 16 <= size <= 64
        assert config["kv_heads"] in (1, 2, heads // 2, heads)
        assert config["mlp_ratio"] in (3.5, 4.0)
