"""`Detection`: images to boxes, with the losses of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.training.detection.precision import DETECTION_METRICS, Detections, average_precision
from ghn_model.tasks import TASKS, Task

__all__ = ["TASK", "Detection"]


class Detection(Task):
    """Detection: a detector gets images and boxes, and returns its losses; average precision.

    The network whose parameters are predicted is the backbone of the detector.  Hypernetworks are not trained for this
    task; networks are fine-tuned for it.

    Examples
    --------
    >>> float(TASK.loss({"loss_classifier": torch.tensor(0.5), "loss_box_reg": torch.tensor(0.25)}, None))
    0.75
    """

    name = "detection"
    title = "detection"
    examples = "images"
    metrics = DETECTION_METRICS

    def inputs(self, examples: Any, targets: Any) -> tuple[Any, ...]:
        """Return the images, and in training their boxes.

        Parameters
        ----------
        examples : list of Tensor
            Images, each `(3, H, W)`.
        targets : list of dict of str to Tensor, or None
            For every image `boxes` `(n, 4)` and `labels` `(n,)`; None for evaluation.
        """
        return (examples,) if targets is None else (examples, targets)

    def loss(self, output: Mapping[str, Tensor], targets: Any, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the sum of the losses that a detector returns in training mode."""
        return torch.stack(list(output.values())).sum()

    def scores(self, detections: Sequence[Detections], boxes: Sequence[Tensor]) -> dict[str, float]:
        """Return the metrics over all images: `benchmark.training.detection.average_precision`."""
        return average_precision(detections, boxes)


TASK = Detection()
if TASK.name not in TASKS:
    TASKS.register(TASK.name, TASK)
