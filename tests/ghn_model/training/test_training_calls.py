"""Trainings that are divided into several calls by `stop_after`, and the output of a call."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepnets import ConfigError, DeepNets1M
from ghn_model import describe
from ghn_model.__main__ import main
from ghn_model.training import Budget, CheckpointPolicy, Distributed, Validation, image_stream, train, trainer
from ghn_model.training.log import Stopwatch
from ghn_model.training.meta_batches import DrawnNetworks
from ghn_model.training.objective import Objective, Outcome
from tests.support.training_runs import command, run, small_config, small_recipe, stream, tensors, train_here

NO_TIME = 1e-9  # minutes; at least one step is always done


@pytest.mark.slow
def test_several_calls_equal_a_single_call(corpus: Path, tmp_path: Path) -> None:
    """Each call does one step; further calls change nothing; the weights equal those of a single call."""
    steps = []
    for _ in range(6):
        path = train_here(corpus, tmp_path / "parts", steps=4, checkpoints=CheckpointPolicy(2, stop_after=NO_TIME))
        steps.append(describe(path).metadata["steps"])
    assert steps == [1, 2, 3, 4, 4, 4]
    whole = train_here(corpus, tmp_path / "whole", steps=4)
    for name in ("state.safetensors", "ghn.safetensors"):
        parts, expected = tensors(tmp_path / "parts" / name), tensors(whole.parent / name)
        assert parts.keys() == expected.keys()
        assert all(torch.equal(parts[key], expected[key]) for key in expected)


def test_after_step_is_called(corpus: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    recipe, budget = small_recipe(), Budget(steps=3)
    nets, images = DeepNets1M(corpus), stream(recipe.images_per_step)
    for expected in ([1], [1, 2, 3]):
        checkpoints = CheckpointPolicy(stop_after=NO_TIME if len(expected) == 1 else None)
        train(
            tmp_path,
            small_config(),
            recipe,
            images,
            nets,
            budget=budget,
            checkpoints=checkpoints,
            distributed=Distributed("cpu"),
            quiet=True,
            after_step=steps.append,
        )
        assert steps == expected


def test_output_of_a_call(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(corpus, tmp_path, images="digits", steps=2, stop_after=NO_TIME)
    words.remove("--quiet")
    path = re.escape(str(tmp_path / "ghn.safetensors"))
    for output in (
        r"1 steps in \d\.\d minutes, 50% of the training; use the same command to resume",
        r"2 steps in \d\.\d minutes",
    ):
        main(words[2:])
        assert re.fullmatch(f"{path}: {output}\n", capsys.readouterr().out)
    metadata = describe(tmp_path / "ghn.safetensors").metadata
    assert metadata["hardware"].startswith("one process with 1 of ")
    assert metadata["software"] == f"PyTorch {torch.__version__}"


@pytest.mark.slow
def test_processes_stop_together(corpus: Path, tmp_path: Path) -> None:
    """All processes stop after the same step; the next call resumes both."""
    words = command(corpus, tmp_path, images="digits", steps=3, stop_after=NO_TIME)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    for steps in (1, 2):
        done = run(words)
        assert done.returncode == 0, done.stderr
        found = describe(tmp_path / "ghn.safetensors").metadata
        assert found["steps"] == steps
    assert found["hardware"].startswith("2 processes")


def test_images_whose_files_have_changed(corpus: Path, tmp_path: Path) -> None:
    """`train` notices it without the option `run` of `image_stream`, too."""
    rng = np.random.default_rng(0)
    for name in ("circle", "square"):
        (tmp_path / "shapes" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (32, 32), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "shapes" / name / f"{number}.png")
    nets = DeepNets1M(corpus, num_classes=2)
    config = small_config().replace(num_classes=2)

    def call(steps: int) -> None:
        recipe = small_recipe()
        images = image_stream(f"folder:{tmp_path / 'shapes'}", recipe.images_per_step, device=torch.device("cpu"))
        train(tmp_path / "run", config, recipe, images, nets, budget=Budget(steps=steps), quiet=True)

    call(1)
    call(2)
    (tmp_path / "shapes" / "circle" / "0.png").rename(tmp_path / "shapes" / "square" / "99.png")
    with pytest.raises(ConfigError, match="holds a run with another image_fingerprint"):
        call(3)


def test_a_finished_training_keeps_its_command(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "started_by", lambda: "first")
    path = train_here(corpus, tmp_path, steps=2)
    monkeypatch.setattr(trainer, "started_by", lambda: "second")
    assert train_here(corpus, tmp_path, steps=1) == path
    assert describe(path).metadata["command"] == "first"
    train_here(corpus, tmp_path, steps=3)
    assert describe(path).metadata["command"] == "second"


def test_a_finished_state_without_its_weights_is_saved_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is written first, so a full disk can leave the weights of an earlier step."""

    def fail(*args: object) -> None:
        raise OSError("No space left on device")

    path = train_here(corpus, tmp_path, steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_hypernetwork", fail)
        with pytest.raises(OSError, match="No space"):
            train_here(corpus, tmp_path, steps=2)
    assert describe(path).metadata["steps"] == 1
    train_here(corpus, tmp_path, steps=2)
    assert describe(path).metadata["steps"] == 2


def test_networks_of_incomplete_meta_batches_are_counted(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the curve, the metadata and the rates of the log: a step has as many networks as there are."""
    real, counts = Objective.backward, []

    def backward(self: Objective, hypernetwork: Any, batch: Any, *arguments: Any, **options: Any) -> Outcome:
        counts.append(len(batch.graphs))
        return real(self, hypernetwork, batch, *arguments, **options)

    def metrics(self: Stopwatch, examples: str = "images") -> dict[str, float]:
        found = measured(self, examples)
        networks_per_s.append(found["data_wait"] / self._waits * sum(counts))  # data_wait is a share of the same time
        return found

    measured, networks_per_s = Stopwatch.metrics, []
    monkeypatch.setattr(Stopwatch, "metrics", metrics)
    monkeypatch.setattr(Objective, "backward", backward)
    recipe = small_recipe(meta_batch_size=3)
    images = stream(recipe.images_per_step)
    fitting = DrawnNetworks(DeepNets1M(corpus), recipe.max_params, recipe.max_nodes).indices
    nets = DeepNets1M(corpus, num_nets=int(fitting[3]) + 1)
    path = train(
        tmp_path,
        small_config(),
        recipe,
        images,
        nets,
        budget=Budget(steps=4),
        checkpoints=CheckpointPolicy(log_steps=4),
        validation=Validation([nets[int(fitting[0])]], [images.at(0)]),
        distributed=Distributed("cpu"),
        quiet=True,
    )
    assert sum(counts) == 8  # two passes through four networks
    assert describe(path).metadata["networks"] == 8
    (row,) = csv.DictReader((tmp_path / "curve.csv").open())
    assert row["networks"] == "8"
    (logged,) = csv.DictReader((tmp_path / "log.csv").open())
    assert float(logged["networks_per_s"]) == pytest.approx(networks_per_s[0], rel=1e-4)
