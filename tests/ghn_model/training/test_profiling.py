"""Profiles of training steps."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepnets import DeepNets1M
from ghn_model.__main__ import main
from ghn_model.training import Distributed, profile_training
from ghn_model.training.meta_batches import DrawnNetworks
from ghn_model.training.objective import Objective
from ghn_model.training.profiling import WARMUP_STEPS
from ghn_model.training.step_parts import PARTS
from tests.support.training_runs import command, run, small_config, small_recipe, stream


def profile_command(corpus: Path, out: Path) -> list[str]:
    words = [word for word in command(corpus, out, images="digits", steps=2) if word != "--quiet"]
    words[2] = "profile"
    return words


@pytest.mark.slow
def test_the_command_prints_tables_and_writes_files(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*profile_command(corpus, tmp_path / "p")[2:], "--profiled-steps", "2"])
    output = capsys.readouterr().out
    assert "ms per step" in output
    assert "aten::" in output  # PyTorch's table
    assert all(part in output for part in PARTS)
    written = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert (written["steps"], written["preset"], written["kernels"]) == (2, "ghn2", 0)
    assert written["recipe"]["max_params"] == 100_000
    assert list(written["parts"]) == list(PARTS)
    assert written["networks_per_s"] == pytest.approx(2 * 1000 / written["step_ms"])
    assert written["networks_per_core_s"] > 0.9 * written["networks_per_s"] / (os.cpu_count() or 1)
    assert written["parts"]["networks backward"] > 0
    with gzip.open(tmp_path / "p" / "trace.json.gz", "rt") as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert set(PARTS) <= names


@pytest.mark.slow
def test_parts_cover_a_step(corpus: Path) -> None:
    recipe = small_recipe(meta_batch_size=1)
    found = profile_training(
        small_config(),
        recipe,
        stream(recipe.images_per_step),
        DeepNets1M(corpus),
        distributed=Distributed("cpu"),
        steps=2,
        profiled_steps=1,
    )
    assert (found.steps, found.kernels, found.kernel_ms) == (2, 0, 0)
    assert found.networks_per_s == pytest.approx(1000 / found.step_ms)
    assert all(milliseconds >= 0 for milliseconds in found.parts.values())
    assert "Self CPU" in found.table


def test_networks_of_incomplete_meta_batches_are_counted(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, counts = Objective.backward, []

    def backward(self: Objective, hypernetwork: Any, batch: Any, *arguments: Any, **options: Any) -> Any:
        counts.append(len(batch.graphs))
        return real(self, hypernetwork, batch, *arguments, **options)

    monkeypatch.setattr(Objective, "backward", backward)
    recipe = small_recipe(meta_batch_size=3)
    nets = DeepNets1M(corpus)
    fitting = DrawnNetworks(nets, recipe.max_params, recipe.max_nodes).indices
    nets = DeepNets1M(corpus, num_nets=int(fitting[3]) + 1)
    arguments = small_config(), recipe, stream(recipe.images_per_step), nets
    found = profile_training(*arguments, distributed=Distributed("cpu"), steps=3, profiled_steps=1)
    timed = sum(counts[WARMUP_STEPS : WARMUP_STEPS + 3])
    assert timed == 1 + 3 + 1
    assert found.networks_per_s == pytest.approx(timed / (3 * found.step_ms / 1000))


@pytest.mark.slow
@pytest.mark.parametrize(("low_resolution", "is_half"), [(0.2, False), (0.6, True)])
def test_all_steps_have_one_resolution(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, low_resolution: float, is_half: bool
) -> None:
    halved: list[bool] = []
    backward = Objective.backward

    def counted(self: Objective, *given: Any, half_images: Tensor | None, **options: Any) -> Any:
        halved.append(half_images is not None)
        return backward(self, *given, half_images=half_images, **options)

    monkeypatch.setattr(Objective, "backward", counted)
    recipe = small_recipe(low_resolution=low_resolution, share_images=False)
    images = stream(recipe.images_per_step)
    profile_training(small_config(), recipe, images, DeepNets1M(corpus), steps=1, profiled_steps=1)
    assert halved == [is_half] * (WARMUP_STEPS + 2)


@pytest.mark.slow
def test_a_failed_training_stops_the_profiler(corpus: Path) -> None:
    recipe, nets = small_recipe(), DeepNets1M(corpus)
    images = stream(recipe.images_per_step)
    before = images.at

    def at(step: int) -> tuple[Tensor, Tensor]:
        if step == WARMUP_STEPS + 2:  # the second profiled step
            raise RuntimeError("no more")
        return before(step)

    images.at = at  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no more"):
        profile_training(
            small_config(), recipe, images, nets, distributed=Distributed("cpu"), steps=1, profiled_steps=2
        )
    assert not torch.autograd._profiler_enabled()


@pytest.mark.slow
def test_errors_of_the_command_are_one_line(corpus: Path, tmp_path: Path) -> None:
    words = profile_command(corpus, tmp_path / "p")
    (tmp_path / "p").write_text("here")
    for more, message in (
        ([], f"error: {tmp_path / 'p'}: File exists\n"),
        (["--profiled-steps", "0"], "argument --profiled-steps: expected an integer, 1 or more, got '0'"),
    ):
        done = run([*words, *more])
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


@pytest.mark.slow
def test_processes_are_counted_together(corpus: Path, tmp_path: Path) -> None:
    words = profile_command(corpus, tmp_path / "p")
    done = run(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words, "--json"])
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["processes"] == 2
    assert found["networks_per_s"] == pytest.approx(2 * 1000 / found["step_ms"])
    assert found["networks_per_core_s"] > 0.9 * found["networks_per_s"] / (os.cpu_count() or 1)
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["profile.json", "trace.json.gz"]
