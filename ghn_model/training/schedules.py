"""Learning rate schedules as functions of training progress, and the budget that defines this progress."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deepnets.support import ConfigError, at_least, checked_integer
from ghn_model.choices import SCHEDULES

__all__ = ["Budget", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """Learning rate as a function of progress, the fraction of the training that is done.

    Progress runs from 0 to 1 in steps or in minutes (see `Budget`), so a training of ten minutes uses the same learning
    rates as one of a week.

    Parameters
    ----------
    kind : {"constant", "steps", "cosine", "wsd"}, default "steps"
        "steps" multiplies the rate by 0.1 after 2/3 and again after 5/6 of the training (epochs 200 and 250 of 300;
        Knyazev et al., NeurIPS 2021).  "cosine" decays it to 0 along half a cosine (Knyazev et al., ICML 2023).
        "wsd" (warmup, stable, decay) keeps it constant and then decays it linearly to 0 in the last part of the
        training.  A training can be extended from any state before the decay.
    warmup : float, default 0.0
        Fraction of the training, at its start, in which the rate increases linearly; less than 1.
    epochs : int, default 0
        If not 0, the rate changes only at the start of each of this many epochs of equal length.
    start : float, default 1e-5
        Learning rate at the start of the warmup.
    decay : float, default 0.2
        Fraction of the training, at its end, in which "wsd" decays the rate.

    Raises
    ------
    ConfigError
        If a value is not allowed.

    Examples
    --------
    >>> schedule = Schedule("wsd", decay=0.5)
    >>> [schedule.rate(1.0, progress) for progress in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
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
            raise ConfigError(f"warmup: expected a fraction of at least 0 and less than 1, got {self.warmup!r}")
        if not 0 <= self.start < math.inf:
            raise ConfigError(f"start: expected a learning rate of at least 0, got {self.start!r}")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay: expected a fraction of more than 0 and at most 1, got {self.decay!r}")
        if self.kind == "wsd" and self.decay > 1 - self.warmup:
            raise ConfigError(f"decay: {self.decay!r} and warmup {self.warmup!r} add up to more than 1")
        checked_integer("epochs", self.epochs, at_least(0))

    def rate(self, highest: float, progress: float) -> float:
        """Return the learning rate.

        With `epochs`, the warmup reaches the largest rate at the start of its last epoch, where the cosine begins, as
        in the published schedule.

        Parameters
        ----------
        highest : float
            Largest learning rate of the schedule.
        progress : float
            Fraction of the training that is done; clamped to 0 to 1.

        Returns
        -------
        float

        Examples
        --------
        >>> Schedule("steps").rate(0.1, 0.5)
        0.1
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
class Budget:
    """Length of a training in steps, minutes, or both; the training ends when the first of them is used up.

    Parameters
    ----------
    steps : int, optional
        Number of meta-batches.
    minutes : float, optional
        Duration, including validation, summed over all calls that resume the training.

    Raises
    ------
    ConfigError
        If a value is not positive, or infinite.

    Examples
    --------
    >>> Budget(steps=100, minutes=2).progress(step=10, seconds=90)
    0.75
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("minutes", self.minutes)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}: expected a number above 0, got {value!r}")

    def progress(self, step: int, seconds: float) -> float:
        """Return the fraction of the training that is done: of its steps or its time, whichever is larger.

        Examples
        --------
        >>> Budget(steps=100).progress(step=25, seconds=1e6)
        0.25
        """
        steps = step / self.steps if self.steps else 0.0
        return min(1.0, max(steps, seconds / (60 * self.minutes) if self.minutes else 0.0))
