"""Made-up pedestrians: folders in the layout of Penn-Fudan, and boxes for the average precision."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.training.detection import Detections


class Small(nn.Module):
    """A network whose feature map has an eighth of the resolution."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def write_pedestrians(root: Path, n: int, side: int = 64, seed: int = 0) -> Path:
    """Write images with a bright rectangle each on a dark ground; every third has two."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name in ("PNGImages", "PedMasks"):
        (root / name).mkdir(parents=True)
    for i in range(n):
        image = rng.integers(0, 60, (side, side, 3)).astype(np.uint8)
        masks = np.zeros((side, side), np.uint8)
        for number in range(1 + (i % 3 == 0)):
            x = rng.integers(0, 8) + 32 * number
            y = rng.integers(0, 20)
            image[y : y + 40, x : x + 20] = rng.integers(180, 255, (40, 20, 3))
            masks[y : y + 40, x : x + 20] = number + 1
        Image.fromarray(image).save(root / "PNGImages" / f"Ped{i:03}.png")
        Image.fromarray(masks).save(root / "PedMasks" / f"Ped{i:03}_mask.png")
    return root


def scene(seed: int, images: int, noise: float, extra: int) -> tuple[list[Detections], list[Tensor]]:
    """Boxes in images, and detections: some near the boxes, up to two per box, and some anywhere; scores have ties."""
    draw = random.Random(seed)

    def box() -> list[float]:
        x, y = draw.uniform(0, 200), draw.uniform(0, 150)
        return [x, y, x + draw.uniform(10, 80), y + draw.uniform(20, 120)]

    found, wanted = [], []
    for _ in range(images):
        boxes = [box() for _ in range(draw.randrange(5))]
        near = [[edge + draw.gauss(0, noise) for edge in each] for each in boxes for _ in range(draw.randrange(3))]
        near += [box() for _ in range(draw.randrange(extra))]
        scores = torch.tensor([round(draw.random(), 2) for _ in near], dtype=torch.float64)
        found.append(Detections(torch.tensor(near, dtype=torch.float64).reshape(-1, 4), scores))
        wanted.append(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4))
    return found, wanted
