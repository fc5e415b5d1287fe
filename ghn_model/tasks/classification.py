"""`Classification`: images to classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepnets.data import open_images
from ghn_model.tasks.task import LogitTask

__all__ = ["TASK", "Classification"]


class Classification(LogitTask):
    """Classification of images: cross-entropy of the classes; accuracies.

    Examples
    --------
    >>> task = Classification()
    >>> logits, labels = torch.eye(3), torch.tensor([0, 1, 1])
    >>> task.value(float(task.tallies(logits, labels).sum()), len(labels))
    66.66666666666667
    """

    name = "classification"
    title = "classification"
    examples = "images"
    metrics = ("top1", "top5")

    def arranged(self, examples: Tensor, memory_format: torch.memory_format) -> Tensor:
        """Return images ``(B, 3, H, W)`` in a memory format."""
        return examples.contiguous(memory_format=memory_format)

    def tallies(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return whether the label of every image has the largest logit."""
        return logits.argmax(1) == labels

    def value(self, total: Any, count: float) -> Any:
        """Return the accuracy in percent."""
        return 100 * total / count

    def open_data(
        self,
        name: str,
        split: str,
        *,
        root: Path | str | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Any:
        """Open a part of an image set; options are those of `deepnets.data.open_images`."""
        return open_images(name, split, root=root, device=device, **options)


TASK = Classification()
