"""The example for clusters: jobs that wait for each other and stop in time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "slurm.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slurm", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Executor:
    """Stands for `submitit.AutoExecutor`."""

    made: list[Executor] = []

    def __init__(self, folder: str, cluster: str) -> None:
        self.parameters: dict[str, Any] = {"folder": folder, "cluster": cluster}
        Executor.made.append(self)

    def update_parameters(self, **given: Any) -> None:
        self.parameters |= given

    def submit(self, function: Any, arguments: list[str], processes: int) -> Any:
        self.function, self.arguments, self.processes = function, arguments, processes
        return SimpleNamespace(job_id=str(len(Executor.made)), result=lambda: 0, paths=SimpleNamespace(stdout="out"))


def test_each_job_waits_for_the_one_before(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=Executor))
    monkeypatch.setattr(Executor, "made", [])
    words = "slurm.py --jobs 3 --hours 2 --partition gpu --gpus 2 -- --preset ghn3-t --out runs/x"
    monkeypatch.setattr(sys, "argv", words.split())
    example.main()
    first, second, third = Executor.made
    assert first.parameters["timeout_min"] == 120
    assert (first.parameters["slurm_partition"], first.parameters["gpus_per_node"], first.processes) == ("gpu", 2, 2)
    assert "slurm_additional_parameters" not in first.parameters
    assert second.parameters["slurm_additional_parameters"] == {"dependency": "afterany:1"}
    assert third.parameters["slurm_additional_parameters"] == {"dependency": "afterany:2"}
    assert third.arguments == ["--preset", "ghn3-t", "--out", "runs/x", "--stop-after", "110"]
    assert capsys.readouterr().out.splitlines() == [f"job {number}: out" for number in (1, 2, 3)]


def test_jobs_with_submitit(example: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    commands = []
    monkeypatch.setattr(
        example.subprocess, "run", lambda command, check: commands.append(command) or SimpleNamespace(returncode=0)
    )
    jobs = example.submit(["--steps", "5"], jobs=2, hours=0.1, folder=str(tmp_path), cluster="debug")
    assert [job.result() for job in jobs] == [0, 0]
    assert commands == [[sys.executable, "-m", "deepnets", "train", "--steps", "5", "--stop-after", "1"]] * 2
    example.train(["--steps", "5"], processes=4)
    launched = "-m torch.distributed.run --standalone --nproc-per-node 4 -m deepnets train --steps 5"
    assert commands[-1][1:] == launched.split()
