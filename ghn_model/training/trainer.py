"""Training a hypernetwork: a step is a few networks with predicted parameters, and a few images.

    corpus ──meta-batch──▶ GHN ──parameters──▶ networks on `meta` ◀──images
                            ▲                        │
                            └────── gradient ────────┘ loss

A run lives in a folder: `state.safetensors` to go on from, `log.csv`, and `ghn.safetensors`, the hypernetwork itself.
What happens in step n, random numbers included, is a function of the seed, of n and of the weights; so a run that is
killed and continued does what it would have done (bitwise on a CPU, if lengths are given in steps, not in minutes).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.corpus import DeepNets1M
from deepnets.graph import Graph
from deepnets.support import ConfigError, TrainingError, exclusive, is_out_of_memory
from ghn_model.checkpoints import save_checkpoint
from ghn_model.config import GHNConfig
from ghn_model.ghn import GHN
from ghn_model.prepared_batch import PreparedBatch
from ghn_model.training.distributed import Ranks
from ghn_model.training.log import Clock, Log, gpu_busy, memory_in_use
from ghn_model.training.meta_batches import DrawnNetworks, meta_batches
from ghn_model.training.objective import Objective, Outcome
from ghn_model.training.optimization import Optimization
from ghn_model.training.recipe import Recipe
from ghn_model.training.schedules import Length
from ghn_model.training.signals import NotedSignals
from ghn_model.training.state import Moment, load_state, read_about, save_state
from ghn_model.training.step_parts import part
from ghn_model.training.validation import Validation

__all__ = ["Images", "Saving", "train"]


class Images(Protocol):
    """Training images by the number of the step, the same in every process."""

    name: str
    num_classes: int
    image_size: int
    per_epoch: int
    """Steps in a pass through the images."""

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Images `(B, 3, image_size, image_size)` and labels `(B,) int64`, on the device of the training."""


@dataclass(frozen=True)
class Saving:
    """How often figures are logged and states saved, and when to stop for now.

    Parameters
    ----------
    log_steps
        Steps between rows of the log.
    steps, minutes
        Between saved states, whichever comes first; the last state is always saved.
    stop_after
        Minutes after which this call ends, though the training has not; another goes on with it.  For machines that are
        had for short times.
    """

    log_steps: int = 20
    steps: int | None = None
    minutes: float = 5.0
    stop_after: float | None = None


def train(
    out: Path | str,
    config: GHNConfig,
    recipe: Recipe,
    images: Images,
    nets: DeepNets1M,
    *,
    length: Length | None = None,
    saving: Saving | None = None,
    init: GHN | None = None,
    validation: Validation | None = None,
    ranks: Ranks | None = None,
    workers: int = 0,
    quiet: bool = False,
    after_step: Callable[[int], None] | None = None,
) -> Path:
    """Train a hypernetwork, or go on with a training that was interrupted.

    Parameters
    ----------
    out
        Folder of the run; made if missing.  If it holds the state of a run, that is continued.
    config, recipe
        What is trained, and how; of a continued run, they must be the same.
    images
        What the networks see.
    nets
        The networks, of the training split, for the classes and size of the images.
    length
        When it ends; may change when a run is continued.
    saving
        How often figures are logged and states saved, and when to stop for now.
    init
        A hypernetwork whose weights a new run starts from, with a fresh optimizer; a run that is resumed has its own.
        Tensors of other shapes, which depend on the number of classes, start anew.
    validation
        How to measure the accuracy on networks and images that are not trained on, now and then, into `curve.csv`.
    ranks
        This process among others; by default alone, on a GPU if there is one.
    workers
        Processes that prepare graphs.
    quiet
        Whether to show no bar.
    after_step
        Called with the number of steps that are done, after each.

    Returns
    -------
    The file of the hypernetwork.

    Raises
    ------
    ConfigError
        If things do not go together, or the folder holds another run or is in use.
    TrainingError
        If too many meta-batches end in NaN or in want of memory.
    """
    ranks = ranks or Ranks()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    length = length or Length()
    if length.steps is None and length.minutes is None:
        length = Length(steps=recipe.epochs * images.per_epoch)
    if (nets.num_classes, nets.image_size) != (images.num_classes, images.image_size):
        raise ConfigError(
            f"nets: are for {nets.num_classes} classes and images of {nets.image_size} pixels, but the images have "
            f"{images.num_classes} and {images.image_size}"
        )
    if config.num_classes != images.num_classes:
        raise ConfigError(f"config: is for {config.num_classes} classes, the images have {images.num_classes}")
    if recipe.meta_batch % ranks.world_size:
        raise ConfigError(f"meta_batch: {recipe.meta_batch} networks cannot be shared by {ranks.world_size} processes")
    with exclusive(out) if ranks.first else contextlib.nullcontext(), _random_numbers(ranks):
        run = _Run(
            out, config, recipe, images, nets, length, saving or Saving(), init, validation, ranks, workers, quiet
        )
        return run.to_the_end(after_step)


class _Run:
    def __init__(
        self,
        out: Path,
        config: GHNConfig,
        recipe: Recipe,
        images: Images,
        nets: DeepNets1M,
        length: Length,
        saving: Saving,
        init: GHN | None,
        validation: Validation | None,
        ranks: Ranks,
        workers: int,
        quiet: bool,
    ) -> None:
        self.out, self.recipe, self.images, self.length, self.saving = out, recipe, images, length, saving
        self.ranks, self.workers, self.quiet = ranks, workers, quiet or not ranks.first
        torch.manual_seed(_seed(recipe.seed, -1, 0))
        self.validation = validation
        self.ghn = GHN(config).to(ranks.device).train()
        if init is not None:
            _copy_weights(init, self.ghn)
        if recipe.compile:
            _compile(self.ghn)
        if recipe.precision == "tf32":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.nets = DrawnNetworks(nets, recipe.max_params, recipe.max_nodes)
        self.objective = Objective(
            images.image_size, recipe.label_smoothing, recipe.penalty, recipe.precision, recipe.network_norm
        )
        self.optimization = Optimization(self.ghn, recipe, ranks)
        self.totals = torch.zeros(5, dtype=torch.float64, device=ranks.device)
        self.about = {
            "config": config.to_dict(),
            "recipe": recipe.to_dict(),
            "images": images.name,
            "corpus": nets.file.content_digest if nets.file else nets.split,
        }
        if init is not None:
            self.about["init"] = _weights_digest(init)
        self.moment = Moment()
        self.state = out / "state.safetensors"
        if self.state.exists():
            self._continue()

    def _continue(self) -> None:
        known = read_about(self.state)
        known["recipe"] = Recipe.from_dict(known.get("recipe", {})).to_dict()
        known["config"] = GHNConfig.from_dict(known.get("config", {})).to_dict()
        for name, value in known.items():
            if value != self.about.get(name):
                raise ConfigError(
                    f"{self.out}: holds a run with another {name}{_difference(value, self.about.get(name))}; give the "
                    "same options to continue it, or another folder to begin anew"
                )
        optimization = self.optimization
        self.moment = load_state(self.state, self.ghn, optimization.optimizer, optimization.averages, self._extra())

    def _extra(self) -> dict[str, Tensor]:
        return {"totals": self.totals, **self.optimization.extra()}

    def to_the_end(self, after_step: Callable[[int], None] | None = None) -> Path:
        """Step after step, then the file of the hypernetwork."""
        log = self._log() if self.ranks.first else None
        if self.validation:
            self.validation.resume(self.out, self.moment.step, write=self.ranks.first)
        try:
            with NotedSignals() as signals:
                self._steps(log, signals, after_step)
                self._save()
                signals.check()
        finally:
            if log:
                log.close()
        return self.out / "ghn.safetensors"

    def _steps(self, log: Log | None, signals: NotedSignals, after_step: Callable[[int], None] | None) -> None:
        before, cores_before, saving = self.moment.seconds, self.moment.core_seconds, self.saving
        started = saved = time.monotonic()
        processor = time.process_time()
        clock = Clock()
        batches = self._batches()
        stop = 0.0
        while not stop and (progress := self.length.progress(self.moment.step, self.moment.seconds)) < 1:
            step = self.moment.step
            self.optimization.set_rate(progress)
            clock.begin()
            with part("data"):
                batch = next(batches).to(self.ranks.device, non_blocking=True)
            with part("images"):
                torch.manual_seed(_seed(self.recipe.seed, step, 0))  # the same images in every process
                images, labels = self.images.at(step)
                if self.recipe.channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
            clock.waited()
            torch.manual_seed(_seed(self.recipe.seed, step, 1 + self.ranks.rank))
            halved = F.avg_pool2d(images, 2) if progress < self.recipe.low_resolution else None
            outcome = self._attempt(batch, images, labels, halved)
            now = time.monotonic()
            due = now - saved > 60 * saving.minutes or bool(saving.steps and (step + 1) % saving.steps == 0)
            enough = signals.came or (saving.stop_after is not None and now - started > 60 * saving.stop_after)
            with part("agreement"):
                spent = self.ranks.world_size * (time.process_time() - processor)
                failed, stop, due_anywhere, seconds, cores = self.ranks.agree(
                    [outcome is None, enough, due, before + now - started, cores_before + spent]
                )
            with part("optimizer"):
                self._update(None if failed else outcome)
            self.moment = Moment(step + 1, seconds, self.moment.skipped + int(failed), cores)
            clock.end(outcome.hyper_seconds if outcome else None, self.recipe.meta_batch, len(labels))
            over = self.length.progress(step + 1, seconds) >= 1
            if (step + 1) % saving.log_steps == 0 or over:
                self._report(log, clock)
            if self.validation and (self.validation.due(step + 1) or over):
                self.validation.measure(
                    self.optimization.averaged(self.ghn), self.ranks, self.moment, (step + 1) * self.recipe.meta_batch
                )
            if due_anywhere:
                self._save()
                saved = time.monotonic()
            if log:
                log.advance(seconds if self.length.steps is None else step + 1)
            if after_step:
                after_step(step + 1)

    def _batches(self) -> Iterator[PreparedBatch]:
        return meta_batches(
            self.nets,
            self.ghn.config,
            self.recipe.meta_batch // self.ranks.world_size,
            seed=self.recipe.seed,
            first=self.moment.step,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            workers=self.workers,
            for_gpu=self.ranks.device.type == "cuda",
        )

    def _attempt(self, batch: PreparedBatch, images: Tensor, labels: Tensor, halved: Tensor | None) -> Outcome | None:
        """A backward pass; None if there was not enough memory for it."""
        outcome = self._pass(batch, images, labels, halved, 1.0)
        graphs, pieces = batch.graphs, 1
        while outcome is None and pieces < len(graphs):  # again, in smaller pieces
            pieces = min(2 * pieces, len(graphs))
            self.optimization.forget()
            outcome = self._in_pieces(graphs, pieces, images, labels, halved)
        return outcome

    def _in_pieces(
        self, graphs: list[Graph], pieces: int, images: Tensor, labels: Tensor, halved: Tensor | None
    ) -> Outcome | None:
        bounds = [len(graphs) * piece // pieces for piece in range(pieces + 1)]
        outcomes = []
        for start, end in itertools.pairwise(bounds):
            batch = self.ghn.prepare(graphs[start:end]).to(self.ranks.device)
            outcome = self._pass(batch, images, labels, halved, (end - start) / len(graphs))
            if outcome is None:
                return None
            outcomes.append(outcome)
        return Outcome.joined(outcomes)

    def _pass(
        self, batch: PreparedBatch, images: Tensor, labels: Tensor, halved: Tensor | None, weight: float
    ) -> Outcome | None:
        try:
            return self.objective.backward(
                self.ghn,
                batch,
                images,
                labels,
                scale=self.optimization.scale,
                halved=halved,
                typical_norm=self.optimization.typical_norm,
                weight=weight,
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if self.ranks.device.type == "cuda":  # outside of the handler, where nothing of the pass is held any longer
            torch.cuda.empty_cache()
        return None

    def _update(self, outcome: Outcome | None) -> None:
        """Change the weights, unless something is NaN, and add to the totals."""
        if outcome is None:
            self.optimization.forget()
            return
        figures = torch.stack([outcome.loss.float(), outcome.correct / outcome.answers, outcome.log_norm])
        failed, norm = self.optimization.step(figures)
        new = torch.stack([torch.ones_like(norm), figures[0], figures[1], norm]).double()
        self.totals[:4] += torch.where(failed, 0.0, new)
        self.totals[4] += failed

    def _report(self, log: Log | None, clock: Clock) -> None:
        """Write a row; give up, if too many meta-batches were skipped."""
        done, loss, top1, norm, failed = self.totals.tolist()  # the one time that the device is waited for
        self.totals.zero_()
        step, seconds, skipped, cores = self.moment
        self.moment = Moment(step, seconds, skipped := skipped + round(failed), cores)
        if log:
            count = done or math.nan
            log.write(
                {
                    "step": step,
                    "seconds": seconds,
                    "progress": self.length.progress(step, seconds),
                    "epoch": step / self.images.per_epoch,
                    "learning_rate": self.optimization.rate,
                    "loss": loss / count,
                    "top1": 100 * top1 / count,
                    "gradient_norm": norm / count,
                    **clock.figures(),
                    "gpu_busy": gpu_busy(self.ranks.device),
                    "memory_mb": memory_in_use(self.ranks.device),
                    "skipped": skipped,
                }
            )
        clock.restart()
        if skipped > max(self.recipe.max_skipped, step // 50):
            raise TrainingError(
                f"{self.out}: {skipped} of {step} meta-batches ended in NaN or in want of memory; lower the learning "
                "rate or max_params, or use more precise numbers; the last state that was saved is kept"
            )

    def _save(self) -> None:
        if not self.ranks.first:
            return
        optimization, moment = self.optimization, self.moment
        save_state(
            self.state, self.ghn, optimization.optimizer, optimization.averages, self._extra(), moment, self.about
        )
        metadata = {**self.about, "steps": moment.step, "seconds": round(moment.seconds, 1)}
        metadata |= {"core_seconds": round(moment.core_seconds, 1)}
        progress = round(self.length.progress(moment.step, moment.seconds), 4)
        metadata |= {"progress": progress, "length": {"steps": self.length.steps, "minutes": self.length.minutes}}
        metadata |= {"hardware": self.ranks.hardware, "software": f"PyTorch {torch.__version__}"}
        save_checkpoint(optimization.averaged(self.ghn), self.out / "ghn.safetensors", metadata)

    def _log(self) -> Log:
        steps, minutes = self.length.steps, self.length.minutes
        total, unit = (steps, " steps") if steps else (60 * (minutes or 0), " s")
        at = self.moment.step if steps else self.moment.seconds
        return Log(self.out, step=self.moment.step, total=total, initial=at, unit=unit, quiet=self.quiet)


def _seed(seed: int, step: int, rank: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()[:8], "little") >> 1


def _copy_weights(source: GHN, target: GHN) -> None:
    """Copy the weights of tensors that have the same shapes in both."""
    values = source.state_dict()
    with torch.no_grad():
        for name, tensor in target.state_dict().items():
            if name in values and values[name].shape == tensor.shape:
                tensor.copy_(values[name])


def _weights_digest(ghn: GHN) -> str:
    digest = hashlib.sha256()
    for tensor in ghn.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _compile(ghn: GHN) -> None:
    encoders = ghn.gnn if ghn.config.hypernet == "graphormer" else ()
    for module in (ghn.decoder, ghn.decoder_1d, *encoders):  # type: ignore[misc]
        module.compile(dynamic=True)


def _difference(before: Any, now: Any) -> str:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f" ({before!r}, not {now!r})"
    keys = [key for key in before | now if before.get(key) != now.get(key)]
    parts = [f"{key} {before.get(key)!r}, not {now.get(key)!r}" for key in keys]
    return f" ({'; '.join(parts)})"


@contextlib.contextmanager
def _random_numbers(ranks: Ranks) -> Iterator[None]:
    """Leave the caller's random numbers as they are."""
    devices = [ranks.device] if ranks.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
