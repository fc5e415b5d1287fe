"""Training with several processes: devices, collectives, seeds, whole runs."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepnets.support import ConfigError
from ghn_model import describe
from ghn_model.training import Distributed
from ghn_model.training.distributed import LostProcessError, assigned_device
from ghn_model.training.objective import Objective, Outcome
from tests.support.training_runs import ROOT, command, run, tensors, train_here


def rows(out: Path) -> list[dict[str, float]]:
    """Return the rows of the log as numbers."""
    with (out / "log.csv").open(newline="") as file:
        return [{name: float(value or math.nan) for name, value in row.items()} for row in csv.DictReader(file)]


def test_devices_of_processes() -> None:
    """`cuda` assigns the GPUs to the processes in turn; `cuda:1` assigns one GPU to all of them."""
    assert [assigned_device("cuda", rank, gpus=2) for rank in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [assigned_device("cuda:1", rank, gpus=2) for rank in range(3)] == ["cuda:1"] * 3
    assert [assigned_device(None, 1, gpus=count) for count in (0, 2)] == ["cpu", "cuda:1"]
    assert assigned_device(torch.device("cpu"), 1, gpus=2) == torch.device("cpu")
    with pytest.raises(ConfigError, match="device: cannot use 'warp'"):
        Distributed("warp")


class OneOfTwo(Distributed):
    """One of two processes, of which the other one does not exist."""

    def __init__(self, rank: int) -> None:
        super().__init__("cpu")
        self.rank, self.world_size = rank, 2

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Change nothing."""


@pytest.mark.parametrize("shared", [True, False])
def test_processes_see_the_same_images_and_different_dropout(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """If networks do not share images, processes see different parts of the images of a step."""
    real = Objective.backward
    seen: list[tuple[Tensor, Tensor, list[Any]]] = []

    def backward(
        self: Objective, hypernetwork: Any, batch: Any, images: Tensor, labels: Tensor, **given: Any
    ) -> Outcome:
        seen.append((images, torch.rand(8), [graph.index for graph in batch.graphs]))
        return real(self, hypernetwork, batch, images, labels, **given)

    monkeypatch.setattr(Objective, "backward", backward)
    for rank in range(2):
        train_here(corpus, tmp_path / str(rank), steps=2, distributed=OneOfTwo(rank), share_images=shared)
    for (images, dropout, graphs), (other_images, other_dropout, other_graphs) in zip(seen[:2], seen[2:], strict=True):
        assert len(images) == len(other_images) == 4
        assert torch.equal(images, other_images) == shared
        assert not torch.equal(dropout, other_dropout)
        assert not set(graphs) & set(other_graphs)


def test_steps_that_fail_in_another_process_are_in_no_rate(corpus: Path, tmp_path: Path) -> None:
    class OtherFails(OneOfTwo):
        def maximum(self, values: Sequence[float]) -> list[float]:
            return [1.0, *values[1:]]

    train_here(corpus, tmp_path, steps=2, distributed=OtherFails(0))
    (row,) = rows(tmp_path)
    assert (row["skipped"], row["networks_per_s"], row["hypernetwork_share"]) == (2, 0, 0)


def test_resuming_with_another_number_of_processes_is_a_warning(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = train_here(corpus, tmp_path, steps=1)
    assert describe(path).metadata["processes"] == 1
    train_here(corpus, tmp_path, steps=2)
    assert not caplog.records
    train_here(corpus, tmp_path, steps=3, distributed=OneOfTwo(0))
    (record,) = caplog.records
    assert "resumes with 2 processes instead of 1; meta-batches can have other networks" in record.getMessage()


def test_the_state_is_saved_if_another_process_has_ended(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During the exchange of flags, or while gradients are averaged; the weights are those of the last whole step."""
    train_here(corpus, tmp_path / "whole", steps=4, ema_decay=0.5)
    for name in ("maximum", "average"):
        real, calls = getattr(Distributed, name), itertools.count(1)

        def end(*arguments: Any, real: Any = real, calls: Any = calls) -> Any:
            if next(calls) == 3:
                raise LostProcessError("another process of the training has ended")
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Distributed, name, end)
            with pytest.raises(LostProcessError, match=f"{name}: another process .* has ended; its state is saved, so"):
                train_here(corpus, tmp_path / name, steps=4, ema_decay=0.5)
        assert describe(tmp_path / name / "ghn.safetensors").metadata["steps"] == 2
        train_here(corpus, tmp_path / name, steps=4, ema_decay=0.5)
        state, expected = (tensors(tmp_path / folder / "state.safetensors") for folder in (name, "whole"))
        assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    "variables", [{"RANK": "1"}, {"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x"}]
)
def test_variables_of_processes_that_do_not_fit_together(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError, match="RANK=x: expected" if "x" in variables.values() else "RANK=.* and WORLD_SIZE="
    ):
        Distributed("cpu")


def test_the_hardware_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert Distributed("cpu").hardware == "one process with 1 of 2 cores"
    assert OneOfTwo(0).hardware == "2 processes with 1 of 2 cores each"


@pytest.mark.slow
def test_two_processes_train_and_resume(corpus: Path, tmp_path: Path) -> None:
    """Each process trains on half of the networks."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = {"log_steps": 1, "workers": 1}
    for steps in (2, 4):
        done = run([*torchrun, *command(corpus, tmp_path / "two", steps=steps, **options)])
        assert done.returncode == 0, done.stderr
    log = rows(tmp_path / "two")
    assert [row["step"] for row in log] == [1, 2, 3, 4]
    assert log[0]["loss"] == pytest.approx(math.log(10), abs=0.05)
    assert all(row["networks_per_s"] > 0 for row in log)
    metadata = describe(tmp_path / "two" / "ghn.safetensors").metadata
    assert metadata["command"].startswith("torchrun --nproc-per-node 2 -m ghn_model train --data ")
    assert (metadata["processes"], metadata["networks"]) == (2, 8)
    done = run([*torchrun, *command(corpus, tmp_path / "odd", steps=4, meta_batch_size=3)])
    assert done.returncode != 0
    assert "3 networks cannot be shared by 2 processes" in done.stderr


PROGRAM = """
import os, sys, time, torch
import torch.distributed as dist
from ghn_model.training import Distributed
from ghn_model.training.distributed import LostProcessError
distributed = Distributed("cpu")
tensors = [torch.full((3, 2), 1.0 + distributed.rank), torch.arange(4.0) * distributed.rank]
distributed.average(tensors)
assert torch.equal(tensors[0], torch.full((3, 2), 1.5)), tensors
assert torch.equal(tensors[1], torch.arange(4.0) / 2), tensors
assert distributed.maximum([distributed.rank, -distributed.rank]) == [1.0, 0.0]
tensor = torch.full((2,), float(distributed.rank))
distributed.broadcast([tensor])
assert torch.equal(tensor, torch.zeros(2)), tensor
for dtype in (torch.int16, torch.bool, torch.bfloat16, torch.complex64):
    tensors = [torch.full((), distributed.rank, dtype=dtype), torch.full((3, 2), distributed.rank, dtype=dtype).t()]
    distributed.broadcast(tensors)
    assert not any(tensor.any() for tensor in tensors), dtype
for number in range(2):  # one training after the other
    time.sleep(1 - distributed.rank)
    distributed.close()
    distributed = Distributed("cpu")
    assert distributed.maximum([distributed.rank]) == [1.0]
distributed.close()
dist.init_process_group("gloo")  # a group of the program, which remains
for number in range(2):
    distributed = Distributed("cpu")
    assert (distributed.rank, distributed.world_size) == (dist.get_rank(), 2)
    assert distributed.maximum([distributed.rank]) == [1.0]
    distributed.close()
    number = torch.ones(1)
    dist.all_reduce(number)
    assert number.item() == 2
distributed = Distributed("cpu")
if distributed.rank == 1:
    os._exit(0)
try:
    distributed.maximum([0])
except LostProcessError as error:
    assert "another process of the training has ended" in str(error)
else:
    raise AssertionError("nothing was lost")
os._exit(0)  # the group cannot be left together
"""


@pytest.mark.slow
def test_collectives(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(open({str(program)!r}).read())"
    program.with_name("main.py").write_text(script)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program.with_name("main.py"))]
    done = run(words)
    assert done.returncode == 0, done.stderr
