"""Trainings with worker processes that are killed, whose workers are killed, or that are interrupted twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deepnets.families import Family, FamilyNetworks
from deepnets.support import ConfigError
from ghn_model import GHN
from ghn_model.training.meta_batches import DrawnNetworks, meta_batches
from ghn_model.training.runs import FILES
from tests.support.processes import members
from tests.support.training_runs import ROOT, command, run, small_config, tensors

PATIENCE = 240.0


def until(condition: object, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"waited for {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def training(corpus: Path, out: Path, workers: int = 2) -> Iterator[subprocess.Popen[str]]:
    """A training in a session of its own that has written rows of its log."""
    words = [sys.executable, *command(corpus, out, steps=100_000, log_steps=2, workers=workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )

    def logged() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        return (out / "log.csv").exists() and len((out / "log.csv").read_text().splitlines()) > 2

    try:
        until(logged)
        yield process
    finally:
        for left in members(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.communicate(timeout=60)


def loaders(leader: int) -> list[psutil.Process]:
    """The workers of the data loader: children of the fork server."""
    server = [each for each in members(leader) if any("forkserver" in word for word in each.cmdline())]
    return [each for each in server if each.ppid() in {other.pid for other in server}]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_training_that_is_killed(corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    with training(corpus, tmp_path / "run") as process:
        assert len(loaders(process.pid)) == 2
        process.send_signal(number)
        process.wait(timeout=PATIENCE)
        until(lambda: not members(process.pid), 30)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_ends_the_training_with_its_state(corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    with training(corpus, out) as process:
        loaders(process.pid)[0].send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert errors == (
            f"error: {out}: a worker process that prepares data was killed, or memory ran out; its state is saved, so "
            "it can be resumed\n"
        )
        assert (out / "state.safetensors").exists()
        until(lambda: not members(process.pid), 30)


@pytest.mark.slow
def test_two_interrupts_within_milliseconds_save_the_state(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with training(corpus, out, workers=0) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert errors.splitlines()[-1].endswith("interrupted; use the same command to resume a training")
        assert (out / "state.safetensors").exists()


@pytest.mark.slow
def test_a_state_that_cannot_be_written(corpus: Path, tmp_path: Path) -> None:
    """One line says so, as on a full disk; without the limit, the same command gives the same hypernetwork."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    options = {"steps": 2, "log_steps": 1, "save_steps": 1, "workers": 0}
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); sys.argv[0] = ''"
    words = command(corpus, out, **options)
    failed = run(["-c", f"{limit}; runpy.run_module('ghn_model', run_name='__main__')", *words[2:]])
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith(f"error: {out}/state.safetensors: ")
    assert "File too large" in line
    assert not (out / "state.safetensors").exists()
    assert not list(out.glob(".*.tmp"))
    for folder in (out, whole):
        done = run(command(corpus, folder, **options))
        assert (done.returncode, done.stderr) == (0, "")
    assert (out / "ghn.safetensors").stat().st_size > 50_000
    found, expected = tensors(out / "ghn.safetensors"), tensors(whole / "ghn.safetensors")
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)


def test_temporary_files_of_killed_runs_are_removed(corpus: Path, tmp_path: Path) -> None:
    from tests.support.training_runs import train_here

    for name in FILES:
        (tmp_path / f".{name}.123-0123abcd.tmp").write_bytes(b"left")
    (tmp_path / ".mine.tmp").touch()
    train_here(corpus, tmp_path, steps=1)
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".mine.tmp"]


def test_networks_that_cannot_be_sent_to_workers(tmp_path: Path) -> None:
    family = Family("nested", lambda width, num_classes: None, {"width": [4]}, sizes=["width"])  # type: ignore[arg-type]
    nets = DrawnNetworks(FamilyNetworks(family, root=tmp_path))
    with pytest.raises(ConfigError, match=r"cannot be sent to worker processes: .*lambda.*; define functions with def"):
        meta_batches(nets, GHN(small_config()), 1, workers=1)
