"""torchvision's detection models, also where its compiled operators are missing.

The detection models need two operators of torchvision's compiled part, which only loads with the version of PyTorch
that it was compiled for (see `deepnets.support.optional_models`).  Without it, `import_detection` replaces them in
torchvision by the implementations of this module, which are slower.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.support.errors import ConfigError
from deepnets.support.optional_models import import_torchvision

__all__ = ["import_detection", "nms", "roi_align"]


def import_detection() -> Any:
    """Import the detection models of torchvision.

    Returns
    -------
    module
        `torchvision.models.detection`.

    Raises
    ------
    MissingDependencyError
        If torchvision is not installed, or cannot be imported with this version of PyTorch.

    Examples
    --------
    >>> from deepnets import MissingDependencyError
    >>> try:
    ...     faster_rcnn = import_detection().FasterRCNN
    ... except MissingDependencyError:
    ...     pass
    """
    import_torchvision()
    extension: Any = importlib.import_module("torchvision.extension")
    if not extension._has_ops():  # calling these operators would raise an error
        boxes: Any = importlib.import_module("torchvision.ops.boxes")
        poolers: Any = importlib.import_module("torchvision.ops.poolers")
        boxes.nms, poolers.roi_align = nms, roi_align
    return importlib.import_module("torchvision.models.detection")


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: remove boxes that overlap with a box of a higher score.

    Parameters
    ----------
    boxes
        ``(n, 4)``: x1, y1, x2, y2.
    scores
        ``(n,)``.
    iou_threshold
        Boxes with a larger intersection over union with a remaining box are removed.

    Returns
    -------
    Tensor
        ``int64``, the remaining boxes by decreasing score.

    Examples
    --------
    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [5, 5, 9, 9]])
    >>> nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
    tensor([1, 2])
    """
    order = scores.argsort(descending=True, stable=True)
    x1, y1, x2, y2 = boxes[order].detach().float().cpu().numpy().T
    areas = (x2 - x1) * (y2 - y1)
    remaining = np.ones(len(areas), bool)
    kept = []
    for i in range(len(areas)):
        if not remaining[i]:
            continue
        kept.append(i)
        width = np.maximum(np.minimum(x2, x2[i]) - np.maximum(x1, x1[i]), 0)
        height = np.maximum(np.minimum(y2, y2[i]) - np.maximum(y1, y1[i]), 0)
        intersection = width * height
        # A product, because the union of empty boxes is 0.
        remaining &= intersection <= iou_threshold * (areas + areas[i] - intersection)
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Pool the features of boxes by bilinear interpolation (RoIAlign of He et al., Mask R-CNN, 2017).

    Parameters
    ----------
    input
        Feature maps, ``(B, C, H, W)``.
    boxes
        ``(n, 5)``: number of the feature map, x1, y1, x2, y2.
    output_size
        Height and width of the result.
    spatial_scale
        Factor from the coordinates of the boxes to those of the feature map.
    sampling_ratio
        Number of sampling points of an element of the result along each axis, 1 or more.
    aligned
        Whether coordinates are shifted by half a pixel.

    Returns
    -------
    Tensor
        ``(n, C, *output_size)``, differentiable with respect to `input`.

    Raises
    ------
    ConfigError
        If `sampling_ratio` is less than 1, which chooses a number for every box in torchvision.

    Examples
    --------
    >>> features = torch.arange(16.0).view(1, 1, 4, 4)
    >>> roi_align(features, torch.tensor([[0, 0.0, 0, 2, 2]]), (1, 1), sampling_ratio=2)
    tensor([[[[5.]]]])
    """
    if sampling_ratio < 1:
        raise ConfigError(f"sampling_ratio: expected 1 or more without torchvision's operators, got {sampling_ratio}")
    height, width = input.shape[-2:]
    rows, inside_rows = _samples(boxes[:, [2, 4]], height, output_size[0], spatial_scale, sampling_ratio, aligned)
    columns, inside_columns = _samples(boxes[:, [1, 3]], width, output_size[1], spatial_scale, sampling_ratio, aligned)
    grid = torch.stack(
        [columns[:, None, :].expand(-1, rows.shape[1], -1), rows[:, :, None].expand(-1, -1, columns.shape[1])], dim=-1
    ).to(input.dtype)
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :]).to(input.dtype)
    pooled = input.new_zeros(len(boxes), input.shape[1], *output_size)
    for image in range(len(input)):
        chosen = torch.nonzero(boxes[:, 0] == image).flatten()
        if not len(chosen):
            continue
        points = grid[chosen].flatten(0, 1)[None]  # (1, boxes * rows, columns, 2)
        values = F.grid_sample(input[image : image + 1], points, padding_mode="border", align_corners=True)
        values = values * inside[chosen].flatten(0, 1)
        means = F.avg_pool2d(values, sampling_ratio).view(-1, len(chosen), *output_size)
        pooled = pooled.index_copy(0, chosen, means.transpose(0, 1))
    return pooled


def _samples(
    ends: Tensor, size: int, bins: int, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Sampling points along one axis for `grid_sample`, from -1 to 1, and whether they count; both (n, points)."""
    start, end = (ends * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
    length = end - start if aligned else (end - start).clamp(min=1)
    steps = torch.arange(bins * sampling_ratio, device=ends.device) + 0.5
    points = start[:, None] + steps * (length / (bins * sampling_ratio))[:, None]
    inside = (points >= -1) & (points <= size)
    return points.clamp(0, size - 1) * (2 / max(size - 1, 1)) - 1, inside
