"""`NextToken`: texts to the next token at every position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepnets.data import open_texts
from deepnets.support import ConfigError
from ghn_model.tasks.metrics import cross_entropies
from ghn_model.tasks.task import LogitTask

__all__ = ["TASK", "NextToken"]


class NextToken(LogitTask):
    """Next-token prediction: a causal language model gets tokens ``(B, T)`` and returns logits ``(B, T, C)``.

    Targets ``(B, T)`` are the tokens one position further.  The loss is the mean cross-entropy over all positions, and
    its exponential the perplexity.

    Examples
    --------
    >>> task = NextToken()
    >>> targets = torch.zeros(2, 8, dtype=torch.int64)
    >>> round(float(task.loss(torch.zeros(2, 8, 256), targets)), 4)
    5.5452
    >>> losses = task.tallies(task.logits(torch.zeros(2, 8, 256), targets), task.labels(targets))
    >>> round(task.value(float(losses.sum()), targets.numel()))
    256
    """

    name = "text"
    title = "next-token prediction"
    examples = "sequences"
    metrics = ("perplexity", "top1", "top5")

    def tallies(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of every token in nats."""
        return cross_entropies(logits, labels)

    def value(self, total: Any, count: float) -> Any:
        """Return the perplexity."""
        return self.metric.value(float(total) / count)

    def open_data(
        self,
        name: str,
        split: str,
        *,
        root: Path | str | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Any:
        """Open a part of a text; options are those of `deepnets.data.open_texts`."""
        for option in ("noise", "corruption", "corruption_root", "download"):
            if options.pop(option, None):
                raise ConfigError(f"{option}: is for images, not for texts")
        if root is not None:
            raise ConfigError("root: is for images; a text names its folder itself, as in text:FOLDER")
        return open_texts(name, split, device=device, **options)


TASK = NextToken()
