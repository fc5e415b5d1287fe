"""Learning rates, as functions of how much of a training is done.

Progress counts from 0 to 1, in steps or in time, whichever is ahead; so a training that is given ten minutes goes
through the same rates as one of a week.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["SCHEDULES", "Length", "Schedule"]

SCHEDULES = ("constant", "steps", "cosine", "wsd")


@dataclass(frozen=True)
class Schedule:
    """A learning rate for every moment of a training.

    Parameters
    ----------
    kind
        "constant"; "steps": a tenth after two thirds, and again after five sixths (Knyazev et al., NeurIPS 2021, of 300
        epochs: 200 and 250); "cosine": half a wave, from the rate down to 0 (ICML 2023); "wsd" (warmup, stable,
        decay): constant, then linearly down to 0 in the last share `decay`, so that a training can be extended from a
        state before that.
    warmup
        Share of the training in which the rate rises linearly, before anything else; 0 for none.
    epochs
        The rate changes so many times, as if at the beginnings of so many epochs; 0 for smoothly.
    start
        The rate at the very beginning of the warm-up.
    decay
        Share of the training, at its end, in which the rate of "wsd" falls.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """

    kind: str = "steps"
    warmup: float = 0.0
    epochs: int = 0
    start: float = 1e-5
    decay: float = 0.2

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ConfigError(f"schedule: expected one of {', '.join(SCHEDULES)}; got {self.kind!r}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup: expected a share of the training, from 0 to below 1, got {self.warmup!r}")
        if not 0 <= self.start < math.inf:
            raise ConfigError(f"start: expected a learning rate, got {self.start!r}")
        if not 0 < self.decay <= 1 - self.warmup:
            raise ConfigError(f"decay: expected a share of the training after the warm-up, got {self.decay!r}")
        checked_integer("epochs", self.epochs, at_least(0))

    def rate(self, highest: float, progress: float) -> float:
        """The learning rate when `progress` (0 to 1) of the training is done, if `highest` is the largest.

        With `epochs`, the warm-up reaches the largest rate at the beginning of its last epoch, where the cosine takes
        over, as in the published schedule.
        """
        progress = min(max(progress, 0.0), 1.0)
        risen = self.warmup
        if self.epochs:
            number = min(int(progress * self.epochs * (1 + 1e-12)), self.epochs - 1)
            progress = number / self.epochs
            risen = max(0.0, self.warmup - 1 / self.epochs)
        if progress < risen * (1 - 1e-12):
            return self.start + (highest - self.start) * progress / risen
        if self.kind == "cosine":
            return highest * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2
        if self.kind == "wsd":
            return highest * min(1.0, (1 - progress) / self.decay)
        if self.kind == "steps":
            return highest * 0.1 ** ((progress >= 2 / 3) + (progress >= 5 / 6))
        return highest


@dataclass(frozen=True)
class Length:
    """When a training ends: after so many steps or minutes, whatever comes first."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("minutes", self.minutes)):
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: expected more than 0, got {value!r}")

    def progress(self, step: int, seconds: float) -> float:
        """How much of the training is done, 0 to 1: of its steps or of its time, whichever is more."""
        steps = step / self.steps if self.steps else 0.0
        return min(1.0, max(steps, seconds / (60 * self.minutes) if self.minutes else 0.0))
