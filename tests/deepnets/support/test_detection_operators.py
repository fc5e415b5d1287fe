"""Operators of detection models: against naive loops, and against torchvision's own implementation in Python."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from deepnets import ConfigError
from deepnets.support import import_detection, import_torchvision
from deepnets.support.detection_operators import nms, roi_align

try:
    import_torchvision()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)


def boxes_of(n: int, seed: int, size: float = 40.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * size * 0.7
    return torch.cat([corner, corner + 1 + torch.rand(n, 2, generator=generator) * size * 0.3], dim=1)


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("n", [0, 1, 60])
def test_nms(n: int, threshold: float) -> None:
    boxes, scores = boxes_of(n, 3), torch.rand(n, generator=torch.Generator().manual_seed(4))
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[i].tolist(), boxes[j].tolist()) <= threshold for j in kept):
            kept.append(i)
    assert nms(boxes, scores, threshold).tolist() == kept
    assert n < 60 or len(kept) < n


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("scale", "ratio", "size"), [(0.25, 2, (7, 7)), (1.0, 1, (3, 5)), (0.5, 3, (1, 2))])
def test_roi_align(scale: float, ratio: int, size: tuple[int, int], aligned: bool) -> None:
    module: Any = importlib.import_module("torchvision.ops.roi_align")
    reference = module._roi_align.__wrapped__  # not compiled
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 4, 9, 13, dtype=torch.float64, generator=generator)
    boxes = (boxes_of(20, 1, 13 / scale) - 0.4 / scale).clamp(max=8 / scale)  # some reach across the border
    rois = torch.cat([torch.randint(2, (20, 1), generator=generator).double(), boxes.double()], dim=1)
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    pooled = roi_align(ours, rois, size, scale, ratio, aligned)
    wanted = reference(theirs, rois, scale, *size, ratio, aligned)
    torch.testing.assert_close(pooled, wanted)
    weights = torch.randn(wanted.shape, dtype=torch.float64, generator=generator)
    for result in (pooled, wanted):
        (result * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_samples_far_outside_are_zero() -> None:
    """As in the compiled operator: outside of -1 to the size; torchvision's version in Python repeats the border."""
    features = torch.ones(1, 1, 4, 4)
    rois = torch.tensor([[0, -8.0, 0, 0, 4], [0, 4.0, 0, 12, 4], [0, 0.0, -8, 4, 0]])
    # Of 8 samples at -7.5, -6.5, ... -0.5, only the last one counts; at 4.5, 5.5, ... none.
    pooled = roi_align(features, rois, (1, 1), sampling_ratio=8).flatten()
    assert pooled.tolist() == pytest.approx([1 / 8, 0, 1 / 8])


def test_feature_maps_of_one_pixel_and_no_boxes() -> None:
    features = torch.full((1, 2, 1, 1), 3.0)
    assert (roi_align(features, torch.tensor([[0, 0.0, 0, 1, 1]]), (2, 2), sampling_ratio=1) == 3).all()
    assert roi_align(features, torch.zeros(0, 5), (2, 2), sampling_ratio=1).shape == (0, 2, 2, 2)
    with pytest.raises(ConfigError, match="sampling_ratio: expected 1 or more"):
        roi_align(features, torch.zeros(0, 5), (2, 2))


def test_detection_models_run() -> None:
    detection = import_detection()
    model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=2).eval()
    with torch.no_grad():
        (found,) = model([torch.rand(3, 64, 64)])
    assert found.keys() == {"boxes", "labels", "scores"}
