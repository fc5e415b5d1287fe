"""The constants of the corruptions are those of the scripts that made ImageNet-C and CIFAR-10-C, severities 1 to 5."""

from __future__ import annotations

import numpy as np
import pytest

from deepnets.data import corruptions
from deepnets.data.corruption_constants import CONSTANTS

# One string per corruption: the severities are separated by semicolons.
IMAGENET = {
    "gaussian_noise": ".08; .12; .18; .26; .38",
    "shot_noise": "60; 25; 12; 5; 3",
    "impulse_noise": ".03; .06; .09; .17; .27",
    "defocus_blur": "3 .1; 4 .5; 6 .5; 8 .5; 10 .5",
    "glass_blur": ".7 1 2; .9 2 1; 1 2 3; 1.1 3 2; 1.5 4 2",
    "motion_blur": "10 3; 15 5; 15 8; 15 12; 20 15",
    "zoom_blur": "1.11 .01; 1.16 .01; 1.21 .02; 1.26 .02; 1.31 .03",
    "snow": "0.1 0.3 3 0.5 10 4 0.8; 0.2 0.3 2 0.5 12 4 0.7; 0.55 0.3 4 0.9 12 8 0.7; "
    "0.55 0.3 4.5 0.85 12 8 0.65; 0.55 0.3 2.5 0.85 12 12 0.55",
    "frost": "1 .4; .8 .6; .7 .7; .65 .7; .6 .75",
    "fog": "1.5 2; 2 2; 2.5 1.7; 2.5 1.5; 3 1.4",
    "brightness": ".1; .2; .3; .4; .5",
    "contrast": ".4; .3; .2; .1; .05",
    "elastic_transform": "2 .7 .1; 2 .08 .2; .05 .01 .02; .07 .01 .02; .12 .01 .02",
    "pixelate": ".6; .5; .4; .3; .25",
    "jpeg_compression": "25; 18; 15; 10; 7",
}
CIFAR = {
    "gaussian_noise": ".04; .06; .08; .09; .10",
    "shot_noise": "500; 250; 100; 75; 50",
    "impulse_noise": ".01; .02; .03; .05; .07",
    "defocus_blur": ".3 .4; .4 .5; .5 .6; 1 .2; 1.5 .1",
    "glass_blur": ".05 1 1; .25 1 1; .4 1 1; .25 1 2; .4 1 2",
    "motion_blur": "6 1; 6 1.5; 6 2; 8 2; 9 2.5",
    "zoom_blur": "1.06 .01; 1.11 .01; 1.16 .01; 1.21 .01; 1.26 .01",
    "snow": "0.1 0.2 1 0.6 8 3 0.95; 0.1 0.2 1 0.5 10 4 0.9; 0.15 0.3 1.75 0.55 10 4 0.9; "
    "0.25 0.3 2.25 0.6 12 6 0.85; 0.3 0.3 1.25 0.65 14 12 0.8",
    "frost": "1 .2; 1 .3; .9 .4; .85 .4; .75 .45",
    "fog": ".2 3; .5 3; .75 2.5; 1 2; 1.5 1.75",
    "brightness": ".05; .1; .15; .2; .3",
    "contrast": ".75; .5; .4; .3; .15",
    "elastic_transform": "0 0 .08; .05 .2 .07; .08 .06 .06; .1 .04 .05; .1 .03 .03",
    "pixelate": ".95; .9; .85; .75; .65",
    "jpeg_compression": "80; 65; 58; 50; 40",
}


def parsed(text: str) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(word) for word in severity.split()) for severity in text.split(";"))


@pytest.mark.parametrize("name", IMAGENET)
def test_constants_are_the_published_ones(name: str) -> None:
    small, large = CONSTANTS[name]
    assert small == parsed(CIFAR[name])
    assert large == parsed(IMAGENET[name])


def test_all_fifteen_corruptions_are_compared() -> None:
    assert len(IMAGENET) == 15
    assert list(CONSTANTS) == list(IMAGENET) == list(CIFAR)


@pytest.mark.parametrize(("side", "published"), [(32, CIFAR), (64, CIFAR), (65, IMAGENET), (224, IMAGENET)])
def test_the_side_of_the_images_selects_the_constants(
    side: int, published: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, ...]] = []

    def fake(pixels: object, constants: tuple[float, ...], generator: object) -> object:
        seen.append(tuple(constants))
        return pixels

    monkeypatch.setitem(corruptions.CORRUPTIONS, "snow", fake)
    for severity in range(1, 6):
        corruptions.corrupt(np.zeros((side, side, 3), np.uint8), "snow", severity)
    assert tuple(seen) == parsed(published["snow"])
