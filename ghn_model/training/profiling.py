"""Where the time of a training step goes: the trainer itself, timed for some steps and then profiled for a few more.

The tables are those of `torch.profiler`, with the parts of a step (`ghn_model.training.step_parts`) as ranges.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from deepnets.corpus import DeepNets1M, MetaBatchSampler
from deepnets.families import FamilyNetworks
from ghn_model.config import GHNConfig
from ghn_model.tasks import LogitTask
from ghn_model.training.distributed import Distributed, joined
from ghn_model.training.images import Images
from ghn_model.training.meta_batches import DrawnNetworks
from ghn_model.training.recipe import Recipe
from ghn_model.training.runs import train
from ghn_model.training.schedules import Budget
from ghn_model.training.state import CheckpointPolicy
from ghn_model.training.step_parts import PARTS
from ghn_model.training.texts import TextStream

__all__ = ["StepProfile", "profile_training"]

WARMUP_STEPS = 5
"""Steps before the measurement, during which libraries are loaded, memory is allocated and workers start."""

TABLE_ROWS = 15


class StepProfile(NamedTuple):
    """Timings of training steps.

    Attributes
    ----------
    steps : int
        Number of steps timed without the profiler.
    step_ms : float
        Milliseconds per step without the profiler; the slowest process counts.
    networks_per_s : float
        Networks per second of all processes together, without the profiler.
    networks_per_core_s : float
        Networks per second of processor time of all processes, without the profiler and without data loader workers;
        unlike `networks_per_s`, it hardly changes when other programs run at the same time.
    parts : dict of str to float
        Milliseconds of host time per step for each part of a step, with the profiler, in the main process; empty in
        the others.
    kernels, kernel_ms : float
        Number of GPU kernels per step and the sum of their execution times in milliseconds; 0 without a GPU.
    table : str
        `torch.profiler`'s table of the most expensive operators, or kernels on a GPU.
    """

    steps: int
    step_ms: float
    networks_per_s: float
    networks_per_core_s: float
    parts: dict[str, float]
    kernels: float
    kernel_ms: float
    table: str


def profile_training(
    config: GHNConfig,
    recipe: Recipe,
    images: Images | TextStream,
    nets: DeepNets1M | FamilyNetworks,
    *,
    task: str | LogitTask = "classification",
    distributed: Distributed | None = None,
    workers: int = 0,
    steps: int = 20,
    profiled_steps: int = 3,
    out: Path | str | None = None,
) -> StepProfile:
    """Measure some steps of a training, whose result is discarded.

    Parameters
    ----------
    config, recipe, images, nets, task, distributed, workers
        As for `ghn_model.training.train`.
    steps : int, default 20
        Steps to time without the profiler.
    profiled_steps : int, default 3
        Further steps to profile.
    out : Path or str, optional
        Folder for `trace.json.gz`, which https://ui.perfetto.dev displays; created if it is missing.

    Returns
    -------
    StepProfile

    Raises
    ------
    ConfigError, TrainingError
        As `train` does.
    OSError
        If the folder cannot be created.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> from ghn_model.training import image_stream
    >>> config = GHNConfig(hidden=8, max_shape=(16, 16, 11, 11))
    >>> recipe = Recipe.preset("ghn2", "digits", max_params=2_000_000, max_nodes=0, meta_batch_size=1, batch_size=2)
    >>> images = image_stream("digits", 2, device=torch.device("cpu"))
    >>> nets = DeepNets1M(split="predefined")
    >>> found = profile_training(
    ...     config, recipe, images, nets, distributed=Distributed("cpu"), steps=1, profiled_steps=1
    ... )
    >>> found.step_ms > 0, list(found.parts)[:2]
    (True, ['data', 'images'])
    """
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
    # All steps as most of those of a training, so that timed and profiled ones are alike.
    recipe = recipe.replace(low_resolution=1 - 1e-9 if recipe.low_resolution >= 0.5 else 0.0)
    with joined(distributed) as processes, tempfile.TemporaryDirectory(prefix="profile-") as folder:
        measurement, world_size = _Measurement(processes, steps, profiled_steps), processes.world_size
        with measurement:
            train(
                Path(folder) / str(processes.rank),
                config,
                recipe,
                images,
                nets,
                task=task,
                budget=Budget(steps=WARMUP_STEPS + steps + profiled_steps),
                checkpoints=CheckpointPolicy(log_steps=10**9, minutes=1e6),
                distributed=processes,
                workers=workers,
                quiet=True,
                after_step=measurement.after_step,
            )
    if measurement.profiler and out is not None:
        measurement.profiler.export_chrome_trace(str(Path(out) / "trace.json.gz"))
    networks = _networks_in_steps(nets, recipe, processes, steps)
    return StepProfile(
        steps,
        1e3 * measurement.seconds / steps,
        networks / measurement.seconds,
        networks / (world_size * measurement.core_seconds),
        *_summary(measurement.profiler, profiled_steps),
    )


def _networks_in_steps(nets: DeepNets1M | FamilyNetworks, recipe: Recipe, distributed: Distributed, steps: int) -> int:
    """The number of networks in the timed steps; meta-batches at the end of a small set are incomplete."""
    drawn = DrawnNetworks(nets, recipe.max_params, recipe.max_nodes)
    rank, world_size = distributed.rank, distributed.world_size
    own = recipe.meta_batch_size // world_size
    batches = iter(MetaBatchSampler(drawn, own, seed=recipe.seed, rank=rank, world_size=world_size))
    return world_size * sum(len(batch) for batch in itertools.islice(batches, WARMUP_STEPS, WARMUP_STEPS + steps))


def _summary(profiler: profile | None, steps: int) -> tuple[dict[str, float], float, float, str]:
    if profiler is None:
        return {}, 0.0, 0.0, ""
    averages = profiler.key_averages()
    host = {event.key: event for event in averages if event.device_type == DeviceType.CPU}
    parts = {name: host[name].cpu_time_total / 1e3 / steps for name in PARTS if name in host}
    kernels: list[Any] = [
        event
        for event in profiler.events() or ()  # type: ignore[no-untyped-call]
        if event.device_type != DeviceType.CPU and event.name not in PARTS and not event.name.startswith("Mem")
    ]
    order = "self_device_time_total" if kernels else "self_cpu_time_total"
    table = averages.table(sort_by=order, row_limit=TABLE_ROWS, max_name_column_width=50)
    return parts, len(kernels) / steps, sum(kernel.device_time for kernel in kernels) / 1e3 / steps, table


class _Measurement:
    """Times and profiles the steps of a training in its callback `after_step`."""

    def __init__(self, distributed: Distributed, steps: int, profiled_steps: int) -> None:
        self.distributed, self.steps, self.profiled_steps = distributed, steps, profiled_steps
        activities = [ProfilerActivity.CPU]
        if distributed.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self.profiler = profile(activities=activities) if distributed.is_main else None
        self.seconds = self.core_seconds = 0.0
        self._started = 0.0, 0.0
        self._profiling = False

    def __enter__(self) -> _Measurement:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()  # also after an error: PyTorch supports one active profiler per process

    def after_step(self, done: int) -> None:
        if done == WARMUP_STEPS:
            self._synchronize()
            self._started = time.perf_counter(), time.process_time()
        elif done == WARMUP_STEPS + self.steps:
            self._synchronize()
            # Exchanged here, because the other processes may have ended after the last step.
            passed = time.perf_counter() - self._started[0], time.process_time() - self._started[1]
            self.seconds, self.core_seconds = self.distributed.maximum(passed)
            if self.profiler:
                self.profiler.start()
                self._profiling = True
        elif done == WARMUP_STEPS + self.steps + self.profiled_steps:
            self._synchronize()
            self._stop()

    def _stop(self) -> None:
        if self.profiler and self._profiling:
            self._profiling = False
            self.profiler.stop()

    def _synchronize(self) -> None:
        if self.distributed.device.type == "cuda":
            torch.cuda.synchronize(self.distributed.device)
