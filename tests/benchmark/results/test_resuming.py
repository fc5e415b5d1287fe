"""Runs that are repeated, interrupted or killed, and folders with damaged or foreign files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmark.results import Machine, run
from benchmark.results.store import COLUMNS, ResultStore
from deepnets import FormatError
from deepnets.support import BusyError
from tests.support.benchmark_runs import command, lasting, table_of


def test_the_same_again_does_nothing(data: Path, here: Path) -> None:
    out = here / "out"
    for _ in range(2):
        run(["plugged_in:zeros"], ["test"], data=data, out=out, limit=2, machine=Machine(workers=1))
        content = (out / "networks.csv").read_bytes()
    begun = json.loads((out / "runs.json").read_text())
    assert len(begun) == 1
    assert next(iter(begun.values()))["finished"]
    run(["plugged_in:zeros"], ["test"], data=data, out=out, limit=3, machine=Machine(workers=1))
    assert (out / "networks.csv").read_bytes().startswith(content)
    assert len(table_of(out)) == 3
    with (here / "plugged_in.py").open("a") as file:
        file.write("# another predictor\n")
    del sys.modules["plugged_in"]
    run(["plugged_in:zeros"], ["test"], data=data, out=out, limit=1, machine=Machine(workers=1))
    assert len(table_of(out)) == 4
    assert len(json.loads((out / "runs.json").read_text())) == 2


def test_failed_networks_are_tried_again_if_wished(data: Path, here: Path) -> None:
    out = here / "out"
    flaky = here / "flaky.py"
    flaky.write_text(
        "from pathlib import Path\nimport plugged_in\n"
        f"def predict(model, graph):\n    assert graph.index or Path({str(here / 'repaired')!r}).exists()\n"
        "    return plugged_in.zeros(model, graph)\n"
    )
    options: dict[str, Any] = {"data": data, "out": out, "limit": 2, "machine": Machine(workers=1)}
    run(["flaky:predict"], ["test"], **options)
    assert table_of(out)["status"].tolist() == ["failed", "ok"]
    (here / "repaired").touch()
    run(["flaky:predict"], ["test"], **options)
    assert table_of(out)["status"].tolist() == ["failed", "ok"]
    run(["flaky:predict"], ["test"], **options, retry_failed=True)
    assert table_of(out)["status"].tolist() == ["ok", "ok"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_to_the_same_rows(data: Path, here: Path, number: signal.Signals) -> None:
    words = [
        "run",
        "--predictors",
        "plugged_in:slow",
        "random",
        "--splits",
        "test,val",
        "--data",
        data,
        "--workers",
        "2",
    ]
    words += ["--quiet", "--no-report"]
    whole = command(*words, "--out", here / "whole", cwd=here)
    process = command(*words, "--out", here / "killed", cwd=here, start_new_session=True)
    rows = here / "killed" / "networks.csv"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (rows.exists() and rows.read_bytes().count(b"\n") >= 3):
        time.sleep(0.02)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert errors.strip() == "interrupted; completed evaluations are kept; run the same command to resume"
    assert whole.wait(120) == 0
    assert 2 <= rows.read_bytes().count(b"\n") < 17
    _, errors = (again := command(*words, "--out", here / "killed", cwd=here)).communicate(timeout=120)
    assert again.returncode == 0, errors
    assert lasting(here / "killed") == lasting(here / "whole")


def test_processes_end_with_the_one_that_asks(data: Path, here: Path) -> None:
    words = ["run", "--predictors", "plugged_in:hangs", "--splits", "test", "--data", data, "--workers", "1"]
    process = command(*words, "--out", here / "out", "--quiet", cwd=here)
    until = time.monotonic() + 300  # on a busy machine, the start of two processes can take minutes
    while not (workers := workers_of(process.pid)) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    assert workers
    process.kill()
    process.communicate(timeout=60)
    until = time.monotonic() + 60
    while time.monotonic() < until and any(alive(worker) for worker in workers):
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)


def workers_of(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    fields = [line.split(None, 2) for line in listing.splitlines()[1:]]
    return [
        int(own)
        for own, parent, words in fields
        if int(parent) == pid and "benchmark.evaluation.worker_process" in words
    ]


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("kept", [0, 1, 5, 40, 250, -1, -7])
def test_a_torn_file_of_rows_is_mended(data: Path, here: Path, kept: int) -> None:
    out = here / "out"
    options: dict[str, Any] = {"data": data, "out": out, "limit": 2, "machine": Machine(workers=1)}
    run(["plugged_in:zeros"], ["test"], **options)
    before = lasting(out)
    content = (out / "networks.csv").read_bytes()
    (out / "networks.csv").write_bytes(content[:kept])
    run(["plugged_in:zeros"], ["test"], **options)
    assert lasting(out) == before


def test_a_folder_in_use(data: Path, here: Path) -> None:
    with ResultStore(here / "out").opened(), pytest.raises(BusyError, match="in use by another process"):
        run(["random"], ["test"], data=data, out=here / "out", machine=Machine(workers=1))


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "run\n", ",".join(COLUMNS) + "\nx,y\n"])
def test_a_foreign_file_is_left_alone(data: Path, here: Path, content: str) -> None:
    (here / "networks.csv").write_text(content)
    with pytest.raises(FormatError, match="is no table of this version"):
        run(["random"], ["test"], data=data, out=here, machine=Machine(workers=1))
    assert (here / "networks.csv").read_text() == content
