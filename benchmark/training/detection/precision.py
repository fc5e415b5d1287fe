"""Average precision of detections of one class, as COCO defines it (Lin et al., 2014).

This module is an implementation of its own, because pycocotools has to be compiled for every platform, and torchmetrics
needs it, too.  The tests compare it with values of pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from benchmark.choices import DETECTION_METRICS
from benchmark.metrics import METRICS, Metric, register_metric

__all__ = ["DETECTION_METRICS", "Detections", "average_precision"]

for _name, _label in (
    ("ap", "average precision"),
    ("ap50", "average precision at overlap 0.5"),
    ("ap75", "average precision at overlap 0.75"),
):
    if _name not in METRICS:
        register_metric(Metric(_name, _label, "%", None, minimum=0.0, maximum=100.0))

MAX_DETECTIONS = 100
"""Detections of an image that are counted, those with the highest scores."""

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)

Array = npt.NDArray[np.float64]


class Detections(NamedTuple):
    """The detections in an image.

    Attributes
    ----------
    boxes
        ``(k, 4)``: x1, y1, x2, y2.
    scores
        ``(k,)``.
    """

    boxes: Tensor
    scores: Tensor


def average_precision(detections: Sequence[Detections], targets: Sequence[Tensor]) -> dict[str, float]:
    """Compute the average precision over images.

    For every threshold, a detection is correct if its intersection over union with a box of the image reaches the
    threshold, and no detection with a higher score has been assigned to this box.  Precision at a recall is the highest
    precision at this or a higher recall.  Its mean over the recalls 0, 0.01, ... 1 is the average precision.

    Parameters
    ----------
    detections
        Detections of every image.
    targets
        Boxes of every image, ``(n, 4)``.

    Returns
    -------
    The values of `DETECTION_METRICS` in percent; NaN if there are no boxes.

    Examples
    --------
    >>> import torch
    >>> box = torch.tensor([[0.0, 0, 10, 10]])
    >>> average_precision([Detections(box, torch.tensor([0.9]))], [box])["ap"]
    100.0
    """
    scores: list[Array] = []
    correct: list[npt.NDArray[np.bool_]] = []
    total = 0
    for found, boxes in zip(detections, targets, strict=True):
        order = np.argsort(-found.scores.double().cpu().numpy(), kind="stable")[:MAX_DETECTIONS]
        scores.append(found.scores.double().cpu().numpy()[order])
        overlaps = _overlaps(found.boxes.double().cpu().numpy()[order], boxes.double().cpu().numpy())
        correct.append(_assigned(overlaps))
        total += len(boxes)
    if not total:
        return dict.fromkeys(DETECTION_METRICS, float("nan"))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.concatenate(correct, axis=1)[:, order]
    values = [100 * _area(row, total) for row in hits]
    return {"ap": float(np.mean(values)), "ap50": values[0], "ap75": values[5]}


def _overlaps(boxes: Array, others: Array) -> Array:
    """Intersection over union of all pairs, ``(k, n)``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.prod(np.clip(high - low, 0, None), axis=2)
    areas, other_areas = (np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (boxes, others))
    union = areas[:, None] + other_areas[None, :] - intersection
    return np.asarray(intersection / np.where(union > 0, union, 1))


def _assigned(overlaps: Array) -> npt.NDArray[np.bool_]:
    """Whether each detection, by decreasing score, is correct at each threshold, ``(thresholds, k)``."""
    correct = np.zeros((len(_THRESHOLDS), len(overlaps)), bool)
    for t, threshold in enumerate(_THRESHOLDS):
        free = np.ones(overlaps.shape[1], bool)
        for k, row in enumerate(overlaps):
            usable = np.flatnonzero(free & (row >= threshold))
            if len(usable):
                best = usable[row[usable] == row[usable].max()][-1]  # the last of equal ones, as in pycocotools
                free[best] = False
                correct[t, k] = True
    return correct


def _area(hits: npt.NDArray[np.bool_], total: int) -> float:
    """Average precision of detections, by decreasing score, of `total` boxes."""
    true = np.cumsum(hits)
    recall = true / total
    precision = true / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(best, 0.0)[places].mean())
