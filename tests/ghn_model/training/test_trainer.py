"""Whole training runs: results, resuming after interrupts and kills, skipped meta-batches, errors."""

from __future__ import annotations

import csv
import json
import math
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepnets import DeepNets1M
from deepnets.support import BusyError, ConfigError, TrainingError
from ghn_model import GHN, describe
from ghn_model.training import Budget, CheckpointPolicy, Distributed, train
from ghn_model.training.objective import Objective, Outcome
from tests.support.training_runs import ROOT, command, run, small_config, small_recipe, stream, tensors, train_here


def rows(out: Path) -> list[dict[str, float]]:
    """Return the rows of the log as numbers."""
    with (out / "log.csv").open(newline="") as file:
        return [{name: float(value or math.nan) for name, value in row.items()} for row in csv.DictReader(file)]


def reproducible(log: list[dict[str, float]]) -> list[tuple[float, ...]]:
    """Return the columns that are the same in every run."""
    names = ("step", "epoch", "learning_rate", "loss", "top1", "gradient_norm", "skipped")
    return [tuple(row[name] for name in names) for row in log]


def same(one: Path, other: Path) -> bool:
    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- a run ---


@pytest.mark.slow
def test_the_loss_decreases_and_a_hypernetwork_is_saved(corpus: Path, tmp_path: Path) -> None:
    config = small_config(init="small", dirac=True)
    changes: dict[str, Any] = {"batch_size": 8, "ema_decay": 0.5, "network_norm": "none", "low_resolution": 0.0}
    path = train_here(corpus, tmp_path / "a" / "run", hypernetwork=config, steps=72, **changes)
    assert path == tmp_path / "a" / "run" / "ghn.safetensors"
    log = rows(path.parent)
    assert [row["step"] for row in log] == list(range(2, 74, 2))
    # The median, because single networks without norms can have losses above 10 at the beginning of a training.
    assert statistics.median(row["loss"] for row in log[-12:]) < log[0]["loss"] - 0.2
    assert all(0 <= row["top1"] <= 100 and 0 < row["hypernetwork_share"] < 1 and row["memory_mb"] > 0 for row in log)
    assert log[-1]["progress"] == 1
    found = describe(path)
    assert found.metadata["steps"] == 72
    assert found.metadata["images"] == "plain"
    assert found.metadata["recipe"]["meta_batch_size"] == 2
    state = tensors(path.parent / "state.safetensors")
    averaged, last = (state[f"{kind}.decoder.fc.0.weight"] for kind in ("average", "weights"))
    assert torch.equal(GHN.from_pretrained(path).state_dict()["decoder.fc.0.weight"], averaged)
    assert not torch.equal(averaged, last)


class StopAfter(Distributed):
    """Stops a training after some steps, as a signal does."""

    def __init__(self, steps: int) -> None:
        super().__init__("cpu")
        self.steps = steps

    def maximum(self, values: Sequence[float]) -> list[float]:
        self.steps -= 1
        return [values[0], float(self.steps == 0), *values[2:]]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"ema_decay": 0.9, "network_norm": "clip", "low_resolution": 0.5, "max_params": 0, "max_nodes": 60},
        pytest.param({"share_images": False, "network_norm": "normalise", "max_params": 0}, marks=pytest.mark.slow),
    ],
)
def test_interrupted_runs_equal_uninterrupted_ones(corpus: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Weights, state and log are equal bit for bit."""

    def part(out: Path, until: int) -> None:
        hypernetwork = small_config(dirac="share_images" in changes)
        train_here(corpus, out, steps=9, distributed=StopAfter(until), hypernetwork=hypernetwork, **changes)

    part(tmp_path / "one", 100)
    for until in (3, 2, 100):
        part(tmp_path / "parts", until)
    assert same(tmp_path / "one" / "state.safetensors", tmp_path / "parts" / "state.safetensors")
    assert same(tmp_path / "one" / "ghn.safetensors", tmp_path / "parts" / "ghn.safetensors")
    assert reproducible(rows(tmp_path / "one")) == reproducible(rows(tmp_path / "parts"))


def test_a_finished_run_does_not_change(corpus: Path, tmp_path: Path) -> None:
    train_here(corpus, tmp_path, steps=3)
    before = tensors(tmp_path / "state.safetensors")
    log = rows(tmp_path)
    train_here(corpus, tmp_path, steps=3)
    after = tensors(tmp_path / "state.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert rows(tmp_path) == log


@pytest.mark.slow
def test_learning_rates_follow_the_budget(corpus: Path, tmp_path: Path) -> None:
    """With a budget of 0.1 minutes, the schedule is complete after this time."""
    recipe = small_recipe()
    images, nets = stream(recipe.images_per_step), DeepNets1M(corpus)
    started = time.monotonic()
    length = Budget(steps=100_000, minutes=0.1)
    train(
        tmp_path,
        small_config(),
        recipe,
        images,
        nets,
        budget=length,
        checkpoints=CheckpointPolicy(1),
        distributed=Distributed("cpu"),
        quiet=True,
    )
    assert time.monotonic() - started < 300  # the time was the limit, not the steps
    log = rows(tmp_path)
    assert log[-1]["progress"] == 1
    assert log[-1]["seconds"] >= 6
    for before, row in pairwise(log):  # the rate of a step is that at its start
        assert row["progress"] == pytest.approx(min(1, row["seconds"] / 6), rel=1e-4)
        expected = recipe.schedule.rate(recipe.lr, before["progress"])
        assert row["learning_rate"] == pytest.approx(expected, rel=1e-3, abs=1e-8)


# --- killed ---


@pytest.mark.slow
def test_a_killed_run_resumes(corpus: Path, tmp_path: Path) -> None:
    """After SIGKILL at random times, the weights are equal bit for bit."""
    options = {"images": "digits", "steps": 10, "log_steps": 2, "ema_decay": 0.9}
    done = run(command(corpus, tmp_path / "whole", **options))
    assert done.returncode == 0, done.stderr
    out, rng, kills = tmp_path / "killed", random.Random(5), 0
    while kills < 4:
        words = command(corpus, out, save_steps=1 + kills % 2, **options)
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        seen = _time(out / "state.safetensors")
        end = time.monotonic() + 300
        while _time(out / "state.safetensors") == seen and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        if process.wait() == 0:
            break
        kills += 1
    assert kills > 1
    done = run(command(corpus, out, **options))
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "whole" / "ghn.safetensors", out / "ghn.safetensors")
    whole, killed = (tensors(folder / "state.safetensors") for folder in (tmp_path / "whole", out))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert reproducible(rows(tmp_path / "whole")) == reproducible(rows(out))
    assert not list(out.glob(".*.tmp")) or kills  # temporary files are never read


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_the_state_and_print_how_to_resume(corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    words = command(corpus, tmp_path, steps=10_000, log_steps=1, save_minutes=60)
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while not (tmp_path / "log.csv").exists() or len((tmp_path / "log.csv").read_text().splitlines()) < 3:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    (line,) = errors.splitlines()
    assert line.startswith("interrupted; ")
    assert "same command" in line
    state = json.loads(_metadata(tmp_path / "state.safetensors")["moment"])
    assert state["step"] >= 2
    assert describe(tmp_path / "ghn.safetensors").metadata["steps"] == state["step"]


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


# --- skipped meta-batches ---


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], object]) -> None:
    """Make the backward passes of some steps fail, also in pieces: with an exception, or with a loss of NaN."""
    real, steps = Objective.backward, []

    def backward(self: Objective, *arguments: Any, weight: float, **options: Any) -> Outcome:
        if weight == 1.0:
            steps.append(weight)
        outcome = real(self, *arguments, weight=weight, **options)
        fault = fails(len(steps) - 1)
        if isinstance(fault, Exception):
            raise fault
        return replace(outcome, loss=outcome.loss * math.nan) if fault else outcome

    monkeypatch.setattr(Objective, "backward", backward)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "fault",
    [
        True,
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_nan_and_lack_of_memory_are_skipped(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: object
) -> None:
    failing(monkeypatch, lambda number: fault if number in (1, 4) else None)
    train_here(corpus, tmp_path / "skipping", steps=6)
    log = rows(tmp_path / "skipping")
    assert [row["skipped"] for row in log] == [1, 1, 2]
    assert all(math.isfinite(row["loss"]) for row in log)
    state = tensors(tmp_path / "skipping" / "state.safetensors")
    assert {float(value) for name, value in state.items() if name.startswith("optimizer.step.")} == {4.0}
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_skipped_steps_do_not_change_weights(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda number: number > 1)
    with monkeypatch.context() as patch:
        patch.setattr("ghn_model.training.trainer.step_seed", lambda *_: 1)
        train_here(corpus, tmp_path / "a", steps=2, schedule=small_recipe().schedule)
        before = weights(tmp_path / "a")
        train_here(corpus, tmp_path / "a", steps=5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path / "a").items())


def weights(out: Path) -> dict[str, Tensor]:
    return {name: t for name, t in tensors(out / "state.safetensors").items() if name.startswith("weights.")}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("fault", [True, torch.OutOfMemoryError("out of memory")])
def test_too_many_skipped_steps_are_an_error(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: object
) -> None:
    failing(monkeypatch, lambda number: fault if number >= 2 else None)
    with pytest.raises(TrainingError, match=r"4 of 6 meta-batches were skipped .* lower the learning rate"):
        train_here(corpus, tmp_path, steps=100, max_skipped=3, checkpoints=CheckpointPolicy(2, steps=2))
    assert describe(tmp_path / "ghn.safetensors").metadata["steps"] == 4


def test_overflows_in_half_precision_are_no_failures(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lower the loss scale, and are in no mean of the log."""
    monkeypatch.setattr("ghn_model.training.optimization.INITIAL_SCALE", 2.0**120)
    train_here(corpus, tmp_path, steps=4, precision="fp16", low_resolution=0.0)
    first, second = rows(tmp_path)
    assert (first["skipped"], second["skipped"]) == (0, 0)
    assert math.isnan(first["gradient_norm"])
    assert not math.isinf(second["gradient_norm"])


def test_other_errors_are_raised(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda number: RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train_here(corpus, tmp_path, steps=2)


@pytest.mark.parametrize("shared", [True, False])
def test_meta_batches_are_divided_if_memory_runs_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """The pieces get the images and half images of their networks, the typical norm, and weights that add up to 1."""
    real, calls = Objective.backward, []

    def backward(
        self: Objective, hypernetwork: Any, batch: Any, images: Tensor, labels: Tensor, **given: Any
    ) -> Outcome:
        examples = images, labels, given["half_images"]
        calls.append((len(batch.graphs), examples, given["typical_norm"], given["weight"]))
        if len(batch.graphs) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, hypernetwork, batch, images, labels, **given)

    monkeypatch.setattr(Objective, "backward", backward)
    train_here(corpus, tmp_path, steps=2, network_norm="clip", low_resolution=0.9, share_images=shared)
    assert [count for count, *_ in calls] == [2, 1, 1, 2, 1, 1]
    assert [weight for *_, weight in calls] == [1.0, 0.5, 0.5, 1.0, 0.5, 0.5]
    for first, *others in (calls[:3], calls[3:]):
        assert first[1][2].shape == (4 if shared else 8, 3, 16, 16)
        for number, other in enumerate(others):
            own = slice(None) if shared else slice(4 * number, 4 * number + 4)
            assert all(torch.equal(all_of[own], part) for all_of, part in zip(first[1], other[1]))
            assert torch.equal(first[2], other[2]) or (first[2].isnan() and other[2].isnan())
    assert rows(tmp_path)[-1]["skipped"] == 0


def test_low_resolution_ends_with_its_fraction(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, halved = Objective.backward, []

    def backward(self: Objective, *arguments: Any, **options: Any) -> Outcome:
        halved.append(options["half_images"] is not None)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Objective, "backward", backward)
    train_here(corpus, tmp_path, steps=4, low_resolution=0.5)
    assert halved == [True, True, False, False]


# --- errors ---


def test_one_run_at_a_time_in_a_folder(corpus: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(BusyError, match="is in use by another process"):
        train_here(corpus, tmp_path, steps=1)


def test_incompatible_arguments(corpus: Path, tmp_path: Path) -> None:
    recipe, images, nets = small_recipe(), stream(), DeepNets1M(corpus, num_classes=10, image_size=224)
    with pytest.raises(ConfigError, match="images of 224 pixels"):
        train(tmp_path, small_config(), recipe, images, nets, distributed=Distributed("cpu"))
    own = small_recipe(share_images=False)
    with pytest.raises(ConfigError, match=r"images: 4 per step, expected 8 \(Recipe.images_per_step\)"):
        train(tmp_path, small_config(), own, images, DeepNets1M(corpus), distributed=Distributed("cpu"))
    seven = small_config(num_classes=7)
    for hypernetwork in (seven, GHN(seven)):
        with pytest.raises(ConfigError, match="is for 7 classes"):
            train(tmp_path, hypernetwork, recipe, images, DeepNets1M(corpus), distributed=Distributed("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"data": "nowhere"}, 1, "deepnets build"),
        pytest.param({"steps": 0}, 2, "an integer, 1 or more", marks=pytest.mark.slow),
        pytest.param({"minutes": "soon"}, 2, "a number", marks=pytest.mark.slow),
        pytest.param({"preset": "ghn4"}, 2, "ghn2", marks=pytest.mark.slow),
        pytest.param({"max_params": 3}, 1, "at most 3 parameters", marks=pytest.mark.slow),
    ],
)
def test_errors_of_the_command_are_one_line(
    corpus: Path, tmp_path: Path, options: dict[str, object], status: int, message: str
) -> None:
    done = run(command(corpus, tmp_path, **options))
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (status, "")
    assert message in line
