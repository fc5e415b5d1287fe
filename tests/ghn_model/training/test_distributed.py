"""Training with several processes: devices, collectives, seeds, whole runs."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepnets.support import ConfigError
from ghn_model.training import Distributed
from ghn_model.training.distributed import assigned_device
from ghn_model.training.objective import Objective, Outcome
from tests.support.training_runs import ROOT, command, run, train_here


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
    done = run([*torchrun, *command(corpus, tmp_path / "odd", steps=4, meta_batch_size=3)])
    assert done.returncode != 0
    assert "3 networks cannot be shared by 2 processes" in done.stderr


PROGRAM = """
import sys, torch
from ghn_model.training import Distributed
distributed = Distributed("cpu")
tensors = [torch.full((3, 2), 1.0 + distributed.rank), torch.arange(4.0) * distributed.rank]
distributed.average(tensors)
assert torch.equal(tensors[0], torch.full((3, 2), 1.5)), tensors
assert torch.equal(tensors[1], torch.arange(4.0) / 2), tensors
assert distributed.maximum([distributed.rank, -distributed.rank]) == [1.0, 0.0]
tensor = torch.full((2,), float(distributed.rank))
distributed.broadcast([tensor])
assert torch.equal(tensor, torch.zeros(2)), tensor
distributed.close()
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
