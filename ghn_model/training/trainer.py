"""The training loop of hypernetworks: each step predicts the parameters of a few networks, and evaluates them.

    corpus ──meta-batch──▶ hypernetwork ──parameters──▶ networks ◀──images or texts
                              ▲                            │
                              └───────── gradient ─────────┘ loss

A run is a folder with `state.safetensors` (to resume), `log.csv`, and `ghn.safetensors` (the trained hypernetwork).
Everything that happens in a step, random numbers included, is a function of the seed, the number of the step and the
weights.  A run that is interrupted and resumed therefore gives the same result as one that is not; on a CPU, and with a
budget of steps, bit for bit.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.corpus import DeepNets1M
from deepnets.families import FamilyNetworks
from deepnets.support import CheckpointError, DeferredSignals, TrainingError, is_out_of_memory, started_by
from ghn_model.config import GHNConfig
from ghn_model.tasks import LogitTask
from ghn_model.training.checking import check_hypernetwork, varied_networks
from ghn_model.training.distributed import Distributed, LostProcessError
from ghn_model.training.examples import examples_of_process
from ghn_model.training.hypernetwork import (
    Hypernetwork,
    Weights,
    build_hypernetwork,
    is_ghn,
    read_metadata,
    save_hypernetwork,
    start_from,
)
from ghn_model.training.images import Images
from ghn_model.training.loading import LoaderError
from ghn_model.training.log import Log, Stopwatch, gpu_utilization, memory_in_use
from ghn_model.training.meta_batches import DrawnNetworks, MetaBatch, meta_batches
from ghn_model.training.objective import Objective, Outcome
from ghn_model.training.optimization import Optimization
from ghn_model.training.recipe import Recipe
from ghn_model.training.resuming import identity_of, match_identity
from ghn_model.training.schedules import Budget
from ghn_model.training.state import CheckpointPolicy, Progress, load_state, save_state
from ghn_model.training.step_parts import part
from ghn_model.training.texts import TextStream
from ghn_model.training.validation import Validation, is_in_curve, start_curve

__all__ = ["Trainer"]


class Trainer:
    """One run of `ghn_model.training.train`, which documents the parameters.

    Attributes
    ----------
    hypernetwork : nn.Module
        Hypernetwork in training mode.
    optimization : Optimization
        Optimizer, averages of the weights and loss scale.
    progress : Progress
        How far the training has come.
    """

    checkpoints = CheckpointPolicy()
    validation: Validation | None = None
    workers = 0
    log_options: Mapping[str, Any] = {}
    after_step: Callable[[int], None] | None = None

    def __init__(
        self,
        out: Path,
        hypernetwork: GHNConfig | Hypernetwork | Callable[[], Hypernetwork],
        recipe: Recipe,
        images: Images | TextStream,
        nets: DeepNets1M | FamilyNetworks,
        budget: Budget,
        distributed: Distributed,
        init: Weights | None = None,
        *,
        task: LogitTask,
    ) -> None:
        self.out, self.recipe, self.images, self.budget, self.distributed = out, recipe, images, budget, distributed
        self.task = task
        self.state_path = out / "state.safetensors"
        torch.manual_seed(step_seed(recipe.seed, -1, 0))
        self.hypernetwork = build_hypernetwork(hypernetwork).to(distributed.device).train()
        self.identity = identity_of(recipe, images, nets, task, self.hypernetwork, distributed)
        if init is not None:
            self.identity["init"] = start_from(init, self.hypernetwork)
        distributed.broadcast(self.hypernetwork.state_dict().values())
        self.nets = DrawnNetworks(nets, recipe.max_params, recipe.max_nodes)
        if not is_ghn(self.hypernetwork):
            check_hypernetwork(self.hypernetwork, varied_networks(self.nets), nets.split, distributed.device)
        self.objective = Objective(
            getattr(images, "image_size", 32),
            recipe.label_smoothing,
            recipe.predicted_param_decay,
            recipe.precision,
            recipe.network_norm,
            recipe.share_images,
            task,
            images if task.examples == "images" else None,
        )
        self.optimization = Optimization(self.hypernetwork, recipe, distributed)
        # Sums since the last row of the log: number, loss, metric of the task and gradient norm of the steps that
        # changed weights, and the number of failed steps.
        self.totals = torch.zeros(5, dtype=torch.float64, device=distributed.device)
        self.stopwatch = Stopwatch()
        self.progress = Progress()
        if self.state_path.exists():
            self._resume()

    def run(self) -> Path:
        """Train until the budget is used up, a signal arrives or `stop_after` is over; return the file."""
        if self.validation and self.task.examples == "images":
            self.validation.check(self.hypernetwork, self.images, self.distributed.device)
        resumed = self.progress
        log = self._open_log() if self.distributed.is_main else None
        if self.validation and self.distributed.is_main:
            start_curve(self.out, self.progress.step, self.validation.columns)
        try:
            with DeferredSignals(repeat_after=2) as signals:
                try:
                    self._loop(log, signals)
                except (LoaderError, LostProcessError) as error:  # neither of them leaves a step half done
                    self._save()
                    signals.check()
                    saved = "its state is saved, so it can be resumed" if self.distributed.is_main else "resume the run"
                    raise type(error)(f"{self.out}: {error}; {saved}") from error
                # A finished training keeps the command that made its files.
                path = self._path if self.progress == resumed and self._is_saved() else self._save()
                signals.check()
        finally:
            if log:
                log.close()
        return path

    def _loop(self, log: Log | None, signals: DeferredSignals) -> None:
        resumed, policy = self.progress, self.checkpoints
        started = saved = time.monotonic()
        processor = time.process_time()
        if resumed.step and (validation := self._due_validation()) and self._curve_ends_before():
            self._validate(validation)
        self.stopwatch.restart()
        batches = self._meta_batches()
        stop = False
        while not stop and (fraction := self._fraction()) < 1:
            step = self.progress.step
            self.optimization.set_lr(fraction)
            self.stopwatch.start_step()
            batch, images, labels = self._load(batches, step)
            self.stopwatch.data_ready()
            half_images = F.avg_pool2d(images, 2) if fraction < self.recipe.low_resolution else None
            torch.manual_seed(step_seed(self.recipe.seed, step, 1 + self.distributed.rank))  # different dropout
            outcome = self._backward(batch, images, labels, half_images)

            now = time.monotonic()
            save = now - saved > 60 * policy.minutes or bool(policy.steps and (step + 1) % policy.steps == 0)
            stop = signals.received or (policy.stop_after is not None and now - started > 60 * policy.stop_after)
            seconds = resumed.seconds + now - started
            cores = resumed.core_seconds + self.distributed.world_size * (time.process_time() - processor)
            with part("synchronization"):  # a step that failed in one process is skipped by all
                flags = self.distributed.maximum([outcome is None, stop, save, seconds, cores])
            failed, stop, save = (bool(flag) for flag in flags[:3])
            with part("optimizer"):
                self._update(None if failed else outcome)
            networks = self.distributed.world_size * len(batch.graphs)
            skipped, seen = self.progress.skipped + int(failed), self.progress.networks + networks
            self.progress = Progress(step + 1, flags[3], skipped, flags[4], seen)
            hyper_seconds = None if failed or outcome is None else outcome.hyper_seconds
            self.stopwatch.end_step(hyper_seconds, networks, self.recipe.batch_size)

            if (step + 1) % policy.log_steps == 0 or self._fraction() >= 1:
                self._report(log)
            if validation := self._due_validation():
                self._validate(validation)
            if save:
                self._save()
                saved = time.monotonic()
            if log:
                log.advance(self.progress.seconds if self.budget.steps is None else step + 1)
            if self.after_step:
                self.after_step(step + 1)

    def _load(self, batches: Iterator[MetaBatch], step: int) -> tuple[MetaBatch, Tensor, Tensor]:
        device = self.distributed.device
        with part("data"):
            batch = next(batches).to(device)
        with part("images"):
            torch.manual_seed(step_seed(self.recipe.seed, step, 0))  # the same augmentation in all processes
            rank, world_size = self.distributed.rank, self.distributed.world_size
            images, labels = examples_of_process(self.images, step, self.recipe, rank, world_size)
            if not self.recipe.share_images:  # the last networks of a small set can be fewer than those of a step
                size = len(labels) // (self.recipe.meta_batch_size // world_size) * len(batch.graphs)
                images, labels = images[:size], labels[:size]
            return batch, self.task.arranged(images, self.recipe.memory_format(device)), labels

    def _backward(self, batch: MetaBatch, images: Tensor, labels: Tensor, half_images: Tensor | None) -> Outcome | None:
        """Compute gradients, in smaller pieces if memory runs out; return None if one network alone is too large."""
        outcome = self._try_backward(batch, images, labels, half_images, 1.0)
        graphs, pieces = batch.graphs, 1
        while outcome is None and pieces < len(graphs):
            pieces = min(2 * pieces, len(graphs))
            self.optimization.zero_grad()
            bounds = [len(graphs) * piece // pieces for piece in range(pieces + 1)]
            outcomes = []
            for start, end in itertools.pairwise(bounds):
                piece = MetaBatch.of(self.hypernetwork, graphs[start:end]).to(self.distributed.device)
                size = 0 if self.recipe.share_images else len(labels) // len(graphs)
                own = slice(start * size, end * size or None)
                half = None if half_images is None else half_images[own]
                found = self._try_backward(piece, images[own], labels[own], half, (end - start) / len(graphs))
                if found is None:
                    break
                outcomes.append(found)
            else:
                outcome = Outcome.merge(outcomes)
        return outcome

    def _try_backward(
        self, batch: MetaBatch, images: Tensor, labels: Tensor, half_images: Tensor | None, weight: float
    ) -> Outcome | None:
        try:
            return self.objective.backward(
                self.hypernetwork,
                batch,
                images,
                labels,
                scale=self.optimization.scale,
                half_images=half_images,
                typical_norm=self.optimization.typical_norm,
                weight=weight,
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if self.distributed.device.type == "cuda":  # after the handler, whose traceback keeps tensors alive
            torch.cuda.empty_cache()
        return None

    def _update(self, outcome: Outcome | None) -> None:
        if outcome is None:
            self.optimization.zero_grad()
            return
        metrics = torch.stack([outcome.loss.float(), outcome.tally / outcome.answers, outcome.log_norm])
        failed, norm = self.optimization.step(metrics)
        new = torch.stack([torch.ones_like(norm), metrics[0], metrics[1], norm]).double()
        unchanged = failed | ~norm.isfinite()  # an overflow in half precision is no failure, but skips the update, too
        self.totals[:4] += torch.where(unchanged, 0.0, new)
        self.totals[4] += failed

    def _report(self, log: Log | None) -> None:
        """Write a row of the log; raise an error if too many meta-batches were skipped."""
        done, loss, tally, norm, failed = self.totals.tolist()  # the only synchronization with the device
        self.totals.zero_()
        step = self.progress.step
        self.progress = self.progress._replace(skipped=self.progress.skipped + round(failed))
        if log:
            count = done or math.nan
            log.write(
                {
                    "step": step,
                    "seconds": self.progress.seconds,
                    "progress": self._fraction(),
                    "epoch": step / self.images.per_epoch,
                    "learning_rate": self.optimization.lr,
                    "loss": loss / count,
                    self.task.metric.name: self.task.value(tally, count),
                    "gradient_norm": norm / count,
                    **self.stopwatch.metrics(self.task.examples),
                    "gpu_busy": gpu_utilization(self.distributed.device),
                    "memory_mb": memory_in_use(self.distributed.device),
                    "skipped": self.progress.skipped,
                }
            )
        self.stopwatch.restart()
        if self.progress.skipped > max(self.recipe.max_skipped, step // 50):
            raise TrainingError(
                f"{self.out}: {self.progress.skipped} of {step} meta-batches were skipped because of NaN or a lack of "
                "memory; lower the learning rate or max_params, or use a higher precision; the last saved state is kept"
            )

    def _due_validation(self) -> Validation | None:
        """The validation, if there is one after the last step."""
        due = self.validation and (self.progress.step % self.validation.every == 0 or self._fraction() >= 1)
        return self.validation if due else None

    def _curve_ends_before(self) -> bool:
        """Whether the last step was not validated: earlier calls had no validation, or were ended by an error."""
        missing = self.distributed.is_main and not is_in_curve(self.out, self.progress.step)
        return bool(self.distributed.maximum([missing])[0])

    def _validate(self, validation: Validation) -> None:
        with self.optimization.averaged_weights():
            shared = self.hypernetwork, self.out, self.distributed, self.progress
            validation.measure(*shared, self.progress.networks, self.objective.data)

    @property
    def _path(self) -> Path:
        return self.out / ("ghn.safetensors" if is_ghn(self.hypernetwork) else "hypernetwork.safetensors")

    def _is_saved(self) -> bool:
        """Whether the file of the hypernetwork has the weights of this step."""
        try:
            return self._path.is_file() and read_metadata(self._path).get("steps") == self.progress.step
        except CheckpointError:
            return False

    def _save(self) -> Path:
        if not self.distributed.is_main:
            return self._path
        optimization, progress = self.optimization, self.progress
        save_state(
            self.state_path,
            self.hypernetwork,
            optimization.optimizer,
            optimization.averages,
            self._extra(),
            progress,
            self.identity,
        )
        metadata = {
            **self.identity,
            "num_classes": self.images.num_classes,
            "steps": progress.step,
            "networks": progress.networks,
            "seconds": round(progress.seconds, 1),
            "core_seconds": round(progress.core_seconds, 1),
            "progress": round(self._fraction(), 4),
            "length": {"steps": self.budget.steps, "minutes": self.budget.minutes},
            "hardware": self.distributed.hardware,
            "software": f"PyTorch {torch.__version__}",
            **_command(),
        }
        with optimization.averaged_weights():
            return save_hypernetwork(self.hypernetwork, self.out, metadata)

    def _resume(self) -> None:
        match_identity(self.state_path, self.hypernetwork, self.identity)
        optimization = self.optimization
        found = load_state(
            self.state_path, self.hypernetwork, optimization.optimizer, optimization.averages, self._extra()
        )
        # Earlier versions did not count networks.
        networks = found.networks or found.step * self.recipe.meta_batch_size
        self.progress = found._replace(networks=networks)

    def _extra(self) -> dict[str, Tensor]:
        return {"totals": self.totals, **self.optimization.extra()}

    def _fraction(self) -> float:
        return self.budget.progress(self.progress.step, self.progress.seconds)

    def _meta_batches(self) -> Iterator[MetaBatch]:
        return meta_batches(
            self.nets,
            self.hypernetwork,
            self.recipe.meta_batch_size // self.distributed.world_size,
            seed=self.recipe.seed,
            first=self.progress.step,
            rank=self.distributed.rank,
            world_size=self.distributed.world_size,
            workers=self.workers,
            for_gpu=self.distributed.device.type == "cuda",
        )

    def _open_log(self) -> Log:
        steps, minutes = self.budget.steps, self.budget.minutes
        total, unit = (steps, " steps") if steps else (60 * (minutes or 0), " s")
        at = self.progress.step if steps else self.progress.seconds
        step, options = self.progress.step, {"settings": self.identity, **self.log_options}
        return Log(self.out, step=step, total=total, initial=at, unit=unit, task=self.task, **options)


def step_seed(seed: int, step: int, stream: int) -> int:
    """Return the seed of PyTorch's generators in a step; stream 0 is for images, 1 + rank for dropout.

    Examples
    --------
    >>> step_seed(0, 1, 0) == step_seed(0, 1, 1)
    False
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {stream}".encode()).digest()[:8], "little") >> 1


def _command() -> dict[str, str]:
    """Return the command that started the training as metadata; empty if it was started from Python."""
    return {"command": command} if (command := started_by()) else {}
