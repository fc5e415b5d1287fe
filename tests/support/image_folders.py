"""Small image sets as folders of files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["write_fashion_mnist", "write_folder", "write_image"]


def write_image(path: Path, size: tuple[int, int] = (20, 20), level: int = 100, mode: str = "L") -> Path:
    """Write an image of noise around a level of grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(str(path.name).encode())).integers(0, 50, size[::-1])
    image = Image.fromarray((noise + level).clip(0, 255).astype(np.uint8)).convert(mode)
    image.save(path)
    return path


def write_folder(root: Path, classes: int = 3, images: int = 12, side: int = 20, mode: str = "L") -> Path:
    """Write class folders with images whose level of grey tells the class."""
    for label in range(classes):
        for number in range(images):
            write_image(root / f"class{label}" / f"{number:02}.png", (side, side), 200 * label // classes, mode)
    return root


def write_fashion_mnist(root: Path, train: int = 60, test: int = 20) -> Path:
    """Write the files of FashionMNIST as torchvision reads them, with noise for images."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        pixels = generator.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return root
