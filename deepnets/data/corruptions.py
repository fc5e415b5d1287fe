"""The 15 common corruptions of images at 5 severities (Hendrycks and Dietterich, ICLR 2019), computed from any images.

    noise      gaussian_noise, shot_noise, impulse_noise
    blur       defocus_blur, glass_blur, motion_blur, zoom_blur
    weather    snow, frost, fog, brightness
    digital    contrast, elastic_transform, pixelate, jpeg_compression

Constants are those of CIFAR-10-C for images of up to 64 pixels, and those of ImageNet-C for larger ones.  The formulas
are those of the paper, written with NumPy, SciPy and Pillow; random numbers differ from those of the published files.
Two corruptions differ in kind: `frost` mixes images with a computed texture of ice, not with photographs, and
`glass_blur` exchanges pixels, as the paper says.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.architecture import has_cifar_stem
from deepnets.data.corruption_constants import CONSTANTS
from deepnets.support import ConfigError, MissingDependencyError, checked_integer, compiled

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]

SEVERITIES = (1, 2, 3, 4, 5)

Pixels = npt.NDArray[Any]  # of type float32
Constants = tuple[float, ...]


def corrupt(image: npt.NDArray[np.uint8], name: str, severity: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Corrupt an image.

    Parameters
    ----------
    image : numpy array
        `(side, side, 3) uint8`.
    name : str
        One of `CORRUPTIONS`.
    severity : int
        1 to 5.
    seed : int, default 0
        Seed of the random numbers of the corruption, below 2**64.

    Returns
    -------
    numpy array
        The corrupted image, of the same shape and type.

    Raises
    ------
    ConfigError
        If there is no such corruption, or an argument has another type or shape.
    MissingDependencyError
        If Pillow is needed and not installed.

    Examples
    --------
    >>> grey = np.full((32, 32, 3), 128, np.uint8)
    >>> corrupt(grey, "brightness", 5)[0, 0].tolist()
    [204, 204, 204]
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"corruption: unknown {name!r}; use one of {', '.join(CORRUPTIONS)}")
    severity = checked_integer("severity", severity, SEVERITIES)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3:
        raise ConfigError(f"image: expected uint8 of shape (side, side, 3), got {image.dtype} of shape {image.shape}")
    small = has_cifar_stem(image.shape[0])
    constants = CONSTANTS[name][0 if small else 1][severity - 1]
    code = list(CORRUPTIONS).index(name)
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, severity, code]))
    pixels = image.astype(np.float32) / 255
    found = CORRUPTIONS[name](pixels, constants, generator)
    return (np.clip(found, 0, 1) * 255).astype(np.uint8)


# --- noise ---


def _gaussian_noise(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    return x + generator.normal(scale=c[0], size=x.shape).astype(np.float32)


def _shot_noise(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    return (generator.poisson(x * c[0]) / c[0]).astype(np.float32)


def _impulse_noise(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    """Set each value to 0 or 1 with probability c / 2 each."""
    chance = generator.random(x.shape)
    return np.where(chance < c[0] / 2, np.float32(0), np.where(chance < c[0], np.float32(1), x))


# --- blur ---


def _defocus_blur(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    """Convolve with a disk whose border is blurred."""
    from scipy.ndimage import gaussian_filter
    from scipy.signal import fftconvolve

    radius, blur = c
    reach = 8 if radius <= 8 else int(radius)
    axis = np.arange(-reach, reach + 1)
    disk = (axis[:, None] ** 2 + axis**2 <= radius**2).astype(np.float32)
    kernel = gaussian_filter(disk / disk.sum(), blur, mode="mirror", radius=1 if radius <= 8 else 2)
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return np.asarray(fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1)), np.float32)


def _glass_blur(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    """Blur, exchange each pixel with one close to it, and blur again."""
    sigma, reach, times = c[0], int(c[1]), int(c[2])
    pixels = (_blurred(x, sigma) * 255).astype(np.uint8)
    side = x.shape[0] - 2 * reach
    for _ in range(times):
        _exchange(pixels, generator.integers(-reach, reach, (side, side, 2)), reach)
    return _blurred(pixels.astype(np.float32) / 255, sigma)


@compiled
def _exchange(pixels: Any, moves: Any, reach: int) -> None:
    """Exchange pixels, from the lower right corner on, with those that are `moves` away."""
    n = moves.shape[0]
    for i in range(n):
        row = pixels.shape[0] - reach - i
        for j in range(n):
            column = pixels.shape[1] - reach - j
            other_row, other_column = row + moves[i, j, 0], column + moves[i, j, 1]
            for channel in range(3):
                value = pixels[row, column, channel]
                pixels[row, column, channel] = pixels[other_row, other_column, channel]
                pixels[other_row, other_column, channel] = value


def _motion_blur(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    return _moved(x, int(c[0]), c[1], generator.uniform(-45, 45))


def _zoom_blur(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    """Average of the image enlarged by factors from 1 up to c[0], in steps of c[1]."""
    factors = np.arange(1, c[0], c[1])
    return (x + sum(_enlarged(x, factor) for factor in factors)) / (len(factors) + 1)


# --- weather ---


def _snow(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    mean, std, zoom, threshold, radius, sigma, share = c
    flakes = generator.normal(mean, std, x.shape[:2]).astype(np.float32)
    flakes = _enlarged(flakes[:, :, None], zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = _moved(flakes, int(radius), sigma, generator.uniform(-135, -45))
    grey = (x @ np.array([0.299, 0.587, 0.114], np.float32))[:, :, None]
    white = share * x + (1 - share) * np.maximum(x, grey * 1.5 + 0.5)
    return white + flakes + flakes[::-1, ::-1]


def _frost(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    """Mix with a texture of bluish ice crystals: ridges of a fractal, drawn out in two directions."""
    ridges = 1 - np.abs(2 * _fractal(x.shape[0], 1.8, generator) - 1)
    radius = max(3, x.shape[0] // 8)
    needles = sum(_moved(ridges[:, :, None], radius, radius / 2, generator.uniform(0, 180)) for _ in range(2)) / 2
    texture = np.clip(0.35 + 1.2 * (0.5 * ridges[:, :, None] + 0.5 * needles - 0.35), 0, 1)
    return np.asarray(c[0] * x + c[1] * texture * np.array([0.8, 0.9, 1.0], np.float32), np.float32)


def _fog(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    largest = x.max()
    foggy = x + c[0] * _fractal(x.shape[0], c[1], generator)[:, :, None]
    return np.asarray(foggy * largest / (largest + c[0]), np.float32)


def _brightness(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    """Add to the value of a color in HSV; hue and saturation stay."""
    value = x.max(axis=2, keepdims=True)
    brighter = np.clip(value + c[0], 0, 1)
    return np.asarray(np.where(value > 0, x * (brighter / np.maximum(value, 1e-6)), brighter), np.float32)


# --- digital ---


def _contrast(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    means = x.mean(axis=(0, 1), keepdims=True)
    return np.asarray((x - means) * c[0] + means, np.float32)


def _elastic_transform(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    """Move three points at random, and then every pixel by a smooth random field."""
    from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates

    side = x.shape[0]
    # The published constants for larger images are fractions of 244 pixels, for images of 224.
    strength, smooth, jitter = (part * side * (1 if has_cifar_stem(side) else 244 / 224) for part in c)
    center, reach = side // 2, side // 3
    points = np.array([[center + reach, center + reach], [center + reach, center - reach], [center - reach] * 2], float)
    moved = points + generator.uniform(-jitter, jitter, points.shape)
    # The matrix takes (row, column, 1) of the result to (row, column) of the image.
    matrix = np.linalg.solve(np.c_[moved, np.ones(3)], points).T
    bent = [affine_transform(x[:, :, k], matrix[:, :2], matrix[:, 2], order=1, mode="mirror") for k in range(3)]
    fields = (
        strength * gaussian_filter(generator.uniform(-1, 1, (side, side)), smooth, mode="reflect", truncate=3)
        for _ in range(2)
    )
    places = [grid + field for grid, field in zip(np.mgrid[:side, :side], fields)]
    return np.stack([map_coordinates(channel, places, order=1, mode="reflect") for channel in bent], axis=2)


def _pixelate(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    pillow, side = _pillow(), x.shape[0]
    box = pillow.Resampling.BOX
    small = _picture(x).resize((int(side * c[0]),) * 2, box)
    return np.asarray(small.resize((side, side), box), np.float32) / 255


def _jpeg_compression(x: Pixels, c: Constants, generator: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    _picture(x).save(buffer, "JPEG", quality=int(c[0]))
    buffer.seek(0)
    with _pillow().open(buffer, formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"), np.float32) / 255


CORRUPTIONS: dict[str, Callable[[Pixels, Constants, np.random.Generator], Pixels]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
"""The corruptions by name, in the order of the paper.  Each maps pixels `(side, side, 3) float32` from 0 to 1, its
constants and random numbers to pixels, which `corrupt` clips."""


# --- parts ---


def _blurred(x: Pixels, sigma: float) -> Pixels:
    from scipy.ndimage import gaussian_filter

    blurred: Pixels = gaussian_filter(x, (sigma, sigma, 0), mode="nearest")
    return blurred


def _moved(x: Pixels, radius: int, sigma: float, angle: float) -> Pixels:
    """Blur along a direction, given in degrees: a sum of moved images whose weights are one half of a Gaussian."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    direction = math.radians(angle)
    side = np.arange(x.shape[0])
    blurred = np.zeros_like(x)
    for step, weight in zip(steps.tolist(), weights.tolist()):
        rows = np.clip(side + round(step * math.sin(direction)), 0, len(side) - 1)
        columns = np.clip(side + round(step * math.cos(direction)), 0, len(side) - 1)
        blurred += np.float32(weight) * x[rows][:, columns]
    return blurred


def _enlarged(x: Pixels, factor: float) -> Pixels:
    """Enlarge the center of an image to its whole size, with linear interpolation."""
    from scipy.ndimage import zoom

    side = x.shape[0]
    part = math.ceil(side / factor)
    begin = (side - part) // 2
    large: Pixels = zoom(x[begin : begin + part, begin : begin + part], (factor, factor, 1), order=1)
    trim = (large.shape[0] - side) // 2
    return large[trim : trim + side, trim : trim + side]


def _fractal(side: int, decay: float, generator: np.random.Generator) -> Pixels:
    """A fractal of values from 0 to 1, by the diamond-square algorithm on a torus: `(side, side)`."""
    size = 1 << (side - 1).bit_length()
    heights = np.zeros((size, size))
    step, amplitude = size, 100.0
    while step >= 2:
        half, shape = step // 2, (size // step,) * 2
        corners = heights[::step, ::step]

        def noise(shape: tuple[int, ...] = shape, amplitude: float = amplitude) -> npt.NDArray[np.float64]:
            return amplitude * generator.uniform(-amplitude, amplitude, shape)

        below = corners + np.roll(corners, -1, axis=0)
        heights[half::step, half::step] = (below + np.roll(below, -1, axis=1)) / 4 + noise()
        middles = heights[half::step, half::step]
        across = corners + np.roll(corners, -1, axis=1) + middles + np.roll(middles, 1, axis=0)
        heights[::step, half::step] = across / 4 + noise()
        along = corners + np.roll(corners, -1, axis=0) + middles + np.roll(middles, 1, axis=1)
        heights[half::step, ::step] = along / 4 + noise()
        step, amplitude = half, amplitude / decay
    heights -= heights.min()
    return np.asarray((heights / heights.max())[:side, :side], np.float32)


def _picture(x: Pixels) -> Any:
    return _pillow().fromarray((np.clip(x, 0, 1) * 255).round().astype(np.uint8))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "corruption: pixelate and jpeg_compression need Pillow: pip install pillow"
        ) from error
    return Image
