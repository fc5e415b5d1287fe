"""Clusters build the same corpus, run on this machine only, and report errors in one line.

Every test uses a real cluster of processes on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deepnets.support import DeepNetsError
from generator import SPLITS, Workers
from generator.selection import shard_folder
from generator.shards import ShardTask
from tests.generator.builds import make_shards
from tests.support.dask_cluster import DaskCluster
from tests.support.processes import (
    PATIENCE,
    ROOT,
    Corpus,
    Terminal,
    build,
    command,
    digests,
    family,
    one_error,
    running,
    shards,
    start,
    until,
)

INTERRUPTED = "interrupted; finished shards are kept: run the same command again to resume"
OPTIONS = {"splits": "search,train", "shard_size": 128, "workers": 2}
EXPECTED = ("search", "train")
BACKENDS = (
    pytest.param("dask", marks=pytest.mark.cluster),
    pytest.param("ray", marks=[pytest.mark.cluster, pytest.mark.slow]),
)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Set a separate temporary folder, a read-only home folder, and a path with the packages for all workers."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setenv("HOME", "/proc/nobody")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        yield Path(folder)


@pytest.fixture
def installed(request: pytest.FixtureRequest) -> None:
    """Skip the test if its backend is not installed."""
    pytest.importorskip({"dask": "distributed", "ray": "ray"}[request.getfixturevalue("backend")])


def same(out: Path, corpus: Corpus) -> bool:
    return digests(out) == {split: corpus.digests[split] for split in EXPECTED}


# --- local clusters ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_local_cluster_builds_the_same_corpus_and_cleans_up(
    small_corpus: Corpus, tmp_path: Path, surroundings: Path, backend: str
) -> None:
    addresses, relatives = set(), {}
    with start(tmp_path, backend=backend, **OPTIONS, **small_corpus.sizes) as process:
        while process.poll() is None:
            relatives.update(family(process.pid))
            for relative in relatives.values():
                with contextlib.suppress(psutil.Error):
                    for connection in relative.net_connections("inet"):
                        addresses |= {end.ip for end in (connection.laddr, connection.raddr) if end}
            time.sleep(0.2)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert errors == ""
        assert [line.split()[0] for line in output.splitlines()] == ["split", "search", "train", "2,900"]
        until(lambda: not any(map(running, relatives.values())), seconds=120)
    assert addresses
    assert {address.removeprefix("::ffff:") for address in addresses} <= {"127.0.0.1", "::1"}
    assert len(relatives) >= 3
    assert same(tmp_path, small_corpus)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deepnets1m_search.h5", "deepnets1m_train.h5"]
    assert not list(surroundings.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", BACKENDS)
def test_control_c_stops_a_local_cluster(small_corpus: Corpus, tmp_path: Path, backend: str) -> None:
    with Terminal(command(tmp_path, backend=backend, **OPTIONS, train_size=20_000)) as terminal:
        until(lambda: len(shards(tmp_path)) > 4)
        relatives = family(terminal.pid)
        terminal.press(b"\x03")
        assert terminal.wait() == 130, terminal.text
        assert terminal.lines[-1] == INTERRUPTED, terminal.text
        for line in terminal.lines[:-1]:
            assert "shard" in line or "split" in line, terminal.text
        until(lambda: not any(map(running, relatives.values())), seconds=120)
    build(tmp_path, **{**OPTIONS, "workers": 1}, **small_corpus.sizes)
    assert same(tmp_path, small_corpus)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_ray_worker_that_is_killed_ends_the_build(small_corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with start(tmp_path, backend="ray", **{**OPTIONS, "shard_size": 16}, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > 2)
        victim = next(p for p in family(process.pid).values() if "PoolActor" in " ".join(p.cmdline()))
        victim.kill()
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("error: a ray worker died (")
    assert "Traceback" not in output + errors
    assert len((output + errors).splitlines()) <= 4
    assert shards(tmp_path)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_local_dask_cluster_replaces_a_worker_that_is_killed(small_corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with start(tmp_path, backend="dask", **OPTIONS, **small_corpus.sizes) as process:
        until(lambda: len(shards(tmp_path)) > 2)
        os.kill(process.pid, signal.SIGSTOP)
        spawned = [p for p in family(process.pid).values() if "spawn_main" in " ".join(p.cmdline())]
        spawned[0].kill()
        os.kill(process.pid, signal.SIGCONT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, ""), output
    assert same(tmp_path, small_corpus)


# --- clusters with an address -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def ray_head(folder: Path) -> Iterator[str]:
    """The address of a Ray cluster that belongs to another process."""
    code = (
        "import ray, sys; "
        f"ray.init('local', num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir={str(folder)!r}, "
        "_node_ip_address='127.0.0.1', logging_level='ERROR'); "
        "print(ray.get_runtime_context().gcs_address, flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        assert process.poll() is None, "the cluster of another process was stopped"
        process.communicate()


@contextlib.contextmanager
def dask_head(folder: Path) -> Iterator[str]:
    """The address of a Dask cluster of two workers."""
    with DaskCluster(folder, 2) as dask:
        yield dask.address
        assert all(process.poll() is None for process in (dask.scheduler, *dask.workers)), (
            "the cluster of another process was stopped"
        )


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_existing_cluster(
    small_corpus: Corpus, tmp_path: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """It builds the same corpus, and errors of its workers are reported in one line without a traceback."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    shard = tmp_path / ".partial" / shard_folder("search", 0) / "search-000000000000-128.h5"
    (shard / "in the way").mkdir(parents=True)
    options = {**OPTIONS, **small_corpus.sizes, "backend": backend}
    with {"dask": dask_head, "ray": ray_head}[backend](surroundings) as address:
        failed = build(tmp_path, address=address, **options)
        line = one_error(failed.returncode, failed.stdout, failed.stderr)
        assert line == f"error: {shard}: cannot be written: Is a directory"
        shutil.rmtree(shard)
        done = build(tmp_path, address=address, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert same(tmp_path, small_corpus)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("victim", ["workers", "scheduler"])
def test_a_lost_dask_cluster(small_corpus: Corpus, tmp_path: Path, victim: str) -> None:
    pytest.importorskip("distributed")
    out = tmp_path / "data"
    options = {"backend": "dask", "patience": 20, **OPTIONS, **small_corpus.sizes, "splits": "train", "shard_size": 16}
    with DaskCluster(tmp_path, 2) as dask:
        with start(out, address=dask.address, **options) as process:
            until(lambda: len(shards(out)) > 2)
            for lost in dask.workers if victim == "workers" else [dask.scheduler]:
                lost.kill()
            output, errors = process.communicate(timeout=PATIENCE)
        line = one_error(process.returncode, output, errors)
        assert line.startswith(("error: no shard was finished for 20 s; the dask", "error: the dask cluster has no"))
        assert line.endswith("Finished shards are kept: build again to resume")
        kept = shards(out)
        assert len(kept) > 2
        if victim == "workers":
            idle = build(out, address=dask.address, **{**options, "patience": 1})
            line = one_error(idle.returncode, idle.stdout, idle.stderr)
            assert line.startswith("error: the dask cluster has no workers")
    build(out, **{**OPTIONS, "workers": 1}, **small_corpus.sizes)
    assert same(out, small_corpus)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_address_without_a_cluster(tmp_path: Path, backend: str) -> None:
    failed = build(tmp_path, backend=backend, address="127.0.0.1:9", splits="search", search_size=5)
    line = one_error(failed.returncode, failed.stdout, failed.stderr)
    assert line.startswith("error: address: no ")
    assert line.endswith(" answers at 127.0.0.1:9")


# --- without a cluster ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_backend_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DeepNetsError, match=rf"backend {backend}: is not installed; pip install .*cluster"):
        make_shards([ShardTask(SPLITS["train"], 0, 0, 1)], tmp_path, Workers(backend=backend))


def test_a_folder_that_workers_do_not_share(tmp_path: Path) -> None:
    tasks = [ShardTask(SPLITS["train"], 0, i, 1) for i in range(2)]
    with pytest.raises(FileNotFoundError):
        make_shards(tasks, tmp_path / "elsewhere", Workers(num_workers=1))


def test_missing_shards_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a cluster whose machines have separate folders of the same name."""
    monkeypatch.setattr("generator.workers.write_shard", lambda task, folder: None)
    with pytest.raises(DeepNetsError, match=r"2 shards are missing .* on a file system that all workers share"):
        make_shards([ShardTask(SPLITS["train"], 0, i, 1) for i in range(2)], tmp_path, Workers(num_workers=1))


def test_stalled_workers_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.workers.write_shard", lambda task, folder: time.sleep(20))
    begin = time.monotonic()
    with pytest.raises(DeepNetsError, match=r"no shard was finished for 0.5 s; the loky workers seem to be gone"):
        make_shards([ShardTask(SPLITS["train"], 0, 0, 1)], tmp_path, Workers(num_workers=1, patience=0.5))
    assert time.monotonic() - begin < 19  # before the worker ends


class TokenError(RuntimeError):
    """An exception that represents a bug in the code."""


def test_unexpected_exceptions_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: ShardTask, folder: Path) -> None:
        raise TokenError

    monkeypatch.setattr("generator.workers.write_shard", fail)
    with pytest.raises(TokenError):
        make_shards([ShardTask(SPLITS["train"], 0, 0, 1)], tmp_path, Workers(num_workers=1))


def test_workers_with_other_code_are_refused(tmp_path: Path) -> None:
    """Shards of other code could differ, and nothing else would tell."""
    task = ShardTask(SPLITS["train"], 0, 0, 1, sources="0123456789abcdef")
    with pytest.raises(DeepNetsError, match="a worker has other code than the build; install the same version"):
        make_shards([task], tmp_path, Workers(num_workers=1))
    assert not list(tmp_path.glob("*.h5"))
