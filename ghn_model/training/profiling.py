"""Where the time of a training step goes: the trainer itself, watched for some steps.

First some steps are timed as they are, then a few more under PyTorch's profiler, which makes them slower but says what
they are made of.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from deepnets.corpus import DeepNets1M
from ghn_model.config import GHNConfig
from ghn_model.training.distributed import Ranks
from ghn_model.training.recipe import Recipe
from ghn_model.training.schedules import Length
from ghn_model.training.trace_events import Profile, profile_of
from ghn_model.training.trainer import Images, Saving, train

__all__ = ["Measured", "profile_training"]

WARM_UP = 5
"""Steps before anything is measured: libraries are loaded, memory is taken, workers begin."""
TRACE = "trace.json.gz"


class Measured(NamedTuple):
    """What was measured.

    Attributes
    ----------
    steps
        How many steps were timed.
    step_ms
        Milliseconds of one, without the profiler.
    networks_per_s
        Of all processes together.
    profile
        What a step is made of, in the first process; None in the others.
    """

    steps: int
    step_ms: float
    networks_per_s: float
    profile: Profile | None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        return {**self._asdict(), "profile": self.profile and self.profile.to_dict()}


def profile_training(
    config: GHNConfig,
    recipe: Recipe,
    images: Images,
    nets: DeepNets1M,
    *,
    ranks: Ranks | None = None,
    workers: int = 0,
    steps: int = 20,
    profiled_steps: int = 3,
    out: Path | str | None = None,
) -> Measured:
    """Measure some steps of a training, whose result is thrown away.

    Parameters
    ----------
    config, recipe, images, nets, ranks, workers
        As for `ghn_model.training.train`.
    steps, profiled_steps
        How many are timed, and then profiled.
    out
        Folder for `trace.json.gz`, which https://ui.perfetto.dev and chrome://tracing show; made if missing.

    Returns
    -------
    What was measured; the time is the same in every process.

    Raises
    ------
    ConfigError, TrainingError
        As `train` does.
    OSError
        If the folder cannot be made, before anything is measured.
    """
    ranks = ranks or Ranks()
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="profile-") as folder, _Watch(ranks, steps, profiled_steps) as watch:
        train(
            Path(folder) / str(ranks.rank),
            config,
            recipe,
            images,
            nets,
            length=Length(steps=WARM_UP + steps + profiled_steps),
            saving=Saving(log_steps=10**9, minutes=1e6),
            ranks=ranks,
            workers=workers,
            quiet=True,
            after_step=watch,
        )
        found = None
        if watch.profiler:
            trace = Path(folder if out is None else out) / TRACE
            watch.profiler.export_chrome_trace(str(trace))
            with gzip.open(trace, "rt", encoding="utf-8", errors="replace") as file:
                found = profile_of(json.load(file)["traceEvents"])
    return Measured(steps, 1e3 * watch.seconds / steps, steps * recipe.meta_batch / watch.seconds, found)


class _Watch:
    """Called after each step."""

    def __init__(self, ranks: Ranks, steps: int, profiled_steps: int) -> None:
        self.ranks, self.device = ranks, ranks.device
        self.steps, self.profiled_steps = steps, profiled_steps
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self.profiler = profile(activities=activities) if ranks.first else None
        self.seconds = 0.0
        self._started = 0.0
        self._profiling = False

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()  # if the training has failed on its way: the next profiler needs this one to have stopped

    def _stop(self) -> None:
        if self.profiler and self._profiling:
            self._profiling = False
            self.profiler.stop()

    def __call__(self, done: int) -> None:
        if done == WARM_UP:
            self._synchronise()
            self._started = time.perf_counter()
        elif done == WARM_UP + self.steps:
            self._synchronise()
            # Here and not at the end: a process that leaves the others just after they have agreed may be aborted.
            (self.seconds,) = self.ranks.agree([time.perf_counter() - self._started])
            if self.profiler:
                self.profiler.start()
                self._profiling = True
        elif done == WARM_UP + self.steps + self.profiled_steps:
            self._synchronise()
            self._stop()

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
