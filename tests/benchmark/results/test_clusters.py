"""Runs on local clusters of Dask and Ray, and the assignment of devices."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from benchmark.evaluation import EvaluationJob, clusters
from benchmark.evaluation.devices import claim_device
from benchmark.results import Machine, run
from deepnets import ConfigError, DeepNetsError
from tests.generator.test_backends import ray_head
from tests.support.benchmark_runs import ROOT, command, lasting, table_of
from tests.support.dask_cluster import DaskCluster
from tests.support.processes import PATIENCE, family, running, until

PACKAGES = {"dask": "distributed", "ray": "ray"}
BACKENDS = [pytest.param(name, marks=[pytest.mark.cluster, pytest.mark.slow]) for name in PACKAGES]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("expected")
    run(["ghn2-digits", "random"], ["test"], data=data, out=out, limit=3, machine=Machine(workers=1))
    return out


def words(data: Path, out: Path, *others: object) -> list[object]:
    options = ["--predictors", "ghn2-digits", "random", "--splits", "test", "--limit", 3]
    return ["run", *options, "--data", data, "--out", out, "--quiet", "--no-report", *others]


def rows(out: Path) -> int:
    return len(table_of(out)) if (out / "networks.csv").exists() else 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_local_cluster_gives_the_same_rows_and_ends(expected: Path, data: Path, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(PACKAGES[backend])
    out, relatives = tmp_path / "out", {}
    with command(*words(data, out, "--backend", backend, "--workers", 2), cwd=tmp_path) as process:
        while process.poll() is None:
            relatives.update(family(process.pid))
            time.sleep(0.2)
        printed, errors = process.communicate()
    assert (process.returncode, printed, errors) == (0, "", "")
    assert lasting(out) == lasting(expected)
    assert len(relatives) >= 6  # two processes of the cluster, each with a predictor and an evaluation
    until(lambda: not any(map(running, relatives.values())))


@pytest.mark.slow
@pytest.mark.cluster
def test_a_dask_cluster_with_an_address_loses_a_worker(expected: Path, data: Path, tmp_path: Path) -> None:
    """Its networks are evaluated by the other worker; what was started on the workers ends with the run."""
    pytest.importorskip("distributed")
    out = tmp_path / "out"
    with DaskCluster(tmp_path, 2, threads=2) as dask:
        arguments = words(data, out, "--backend", "dask", "--address", dask.address)
        with command(*arguments, cwd=tmp_path) as process:
            until(lambda: rows(out) >= 1)
            victim = family(dask.workers[0].pid)
            dask.workers[0].kill()
            printed, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, printed, errors) == (0, "", "")
        assert lasting(out) == lasting(expected)
        until(lambda: not any(map(running, victim.values())))
        until(lambda: not family(dask.workers[1].pid))
        dask.workers[1].kill()
        dask.workers[1].wait()
        assert rows(out) == 6


@pytest.mark.slow
@pytest.mark.cluster
def test_a_ray_cluster_with_an_address_loses_a_worker(
    expected: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network that the process had is evaluated by another one."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    out = tmp_path / "out"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(  # a short path
            tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True)
        )
        address = stack.enter_context(ray_head(Path(folder)))
        arguments = words(data, out, "--backend", "ray", "--address", address)
        with command(*arguments, cwd=tmp_path) as process:
            until(lambda: process.poll() is not None or (rows(out) >= 1 and tasks_of_ray()))
            victim = tasks_of_ray()[0]
            assert rows(out) < 6
            relatives = family(victim.pid)
            victim.kill()
            printed, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, ""), printed  # Ray itself prints that a worker was lost
        assert "Traceback" not in printed
        assert lasting(out) == lasting(expected)
        until(lambda: not any(map(running, relatives.values())))


def tasks_of_ray() -> list[psutil.Process]:
    """Return the processes of a cluster, of this test, that evaluate networks now."""
    return [each for each in family(os.getpid()).values() if "_on_ray_worker" in title(each)]


def title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.slow
@pytest.mark.cluster
def test_a_lost_cluster_is_an_error_and_the_run_resumes(
    expected: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    options: dict[str, Any] = {"data": data, "out": tmp_path / "out", "limit": 3}
    with DaskCluster(tmp_path, 1) as dask:
        machine = Machine(backend="dask", address=dask.address)
        run(["ghn2-digits"], ["test"], machine=machine, **options)
        dask.workers[0].kill()
        dask.workers[0].wait()
        monkeypatch.setattr("benchmark.evaluation.clusters.PATIENCE", 3.0)
        with pytest.raises(DeepNetsError, match=r"the dask cluster has no workers, or was lost .*run it again"):
            run(["ghn2-digits", "random"], ["test"], machine=machine, **options)
    run(["ghn2-digits", "random"], ["test"], machine=Machine(workers=1), **options)
    assert lasting(tmp_path / "out") == lasting(expected)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_killed_run_leaves_nothing_on_a_dask_cluster(
    expected: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster goes on without it: its workers end after a while without networks, and the run can be resumed."""
    distributed = pytest.importorskip("distributed")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    out = tmp_path / "out"
    with DaskCluster(tmp_path, 2, threads=2) as dask:
        with distributed.Client(dask.address) as client:
            client.run(_set_idle_seconds, 3.0)
        arguments = words(data, out, "--backend", "dask", "--address", dask.address)
        with command(*arguments, cwd=tmp_path) as process:
            until(lambda: rows(out) >= 1)
            started = [each for worker in dask.workers for each in family(worker.pid).values()]
            process.kill()
            process.communicate(timeout=PATIENCE)
        assert len(started) >= 3  # a process server, a guard and a process
        until(lambda: not any(family(worker.pid) for worker in dask.workers))
        assert not any(map(running, started))
        assert not list((tmp_path / "temporary").glob("benchmark-*"))
        with distributed.Client(dask.address) as client:
            assert client.run_on_scheduler(_count_tasks) == 0
            assert client.run(_count_claims) == dict.fromkeys(client.nthreads(), 0)
        with command(*arguments, cwd=tmp_path) as process:
            assert process.communicate(timeout=PATIENCE) == ("", "")
        assert lasting(out) == lasting(expected)


def _set_idle_seconds(seconds: float) -> None:
    import benchmark.evaluation.clusters

    benchmark.evaluation.clusters.IDLE_SECONDS = seconds


def _count_tasks(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def _count_claims() -> int:
    import benchmark.evaluation.devices

    return sum(benchmark.evaluation.devices._used.values())


@pytest.mark.slow
@pytest.mark.cluster
def test_control_c_ends_a_local_cluster(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    out = tmp_path / "out"
    arguments = words(data, out, "--backend", "dask", "--workers", 2)
    with command(*arguments, cwd=tmp_path, start_new_session=True) as process:
        until(lambda: rows(out) >= 1)
        relatives = family(process.pid)
        os.kill(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130
    assert len(errors.splitlines()) == 1, errors
    until(lambda: not any(map(running, relatives.values())))


@pytest.mark.slow
@pytest.mark.parametrize("backend", PACKAGES)
def test_errors_of_clusters_are_one_line(data: Path, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(PACKAGES[backend])
    arguments = words(data, tmp_path / "out", "--backend", backend, "--address", "127.0.0.1:9")
    process = command(*arguments, cwd=tmp_path)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert re.fullmatch(r"error: address: no .* answers at 127\.0\.0\.1:9\n", errors)


def test_only_clusters_have_an_address() -> None:
    with pytest.raises(ConfigError, match="address: only the backends dask and ray have one"):
        Machine(address="tcp://127.0.0.1:8786")


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes see each other's claims on Linux")
def test_processes_share_devices_evenly() -> None:
    devices = ["cuda:0", "cuda:1", "cuda:2"]
    context = get_context("spawn")
    queue, ended = context.Queue(), context.Event()
    processes = [context.Process(target=_claim, args=(devices, queue, ended)) for _ in range(6)]
    for process in processes:
        process.start()
    claimed = [queue.get(timeout=PATIENCE) for _ in processes]
    own = claim_device(devices, "another run")
    ended.set()
    for process in processes:
        process.join()
    assert sorted(claimed) == sorted(devices * 2)
    assert own.device == "cuda:0"
    own.release()
    assert claim_device(devices, "a run").device == "cuda:0"  # the processes have ended


def _claim(devices: list[str], queue: Any, ended: Any) -> None:
    claim = claim_device(devices, "a run")
    queue.put(claim.device)
    ended.wait()


IMAGES = """
import os, time
from pathlib import Path

import torch

from deepnets.data import load_images

def few(split="train", **options):
    if "device" in options:
        with open("devices.txt", "a") as file:
            file.write(options["device"] + "\\n")
    return load_images("digits", split, device=options.get("device", "cpu"))

def predict(model, graph):
    Path(f"waiting-{os.getpid()}").touch()
    until = time.monotonic() + 240
    while len(list(Path().glob("waiting-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    return {name: torch.zeros_like(tensor) for name, tensor in model.named_parameters()}
"""
"""Images that write down their device, and a predictor that waits for that of another worker."""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["threading", "loky", pytest.param("dask", marks=pytest.mark.cluster)])
def test_workers_of_a_backend_get_different_devices(data: Path, tmp_path: Path, backend: str) -> None:
    """The CPU has two names, so that two devices are available everywhere."""
    pytest.importorskip(PACKAGES.get(backend, "torch"))
    (tmp_path / "noting.py").write_text(IMAGES)
    options = ["--predictors", "noting:predict", "--splits", "test", "--limit", 4, "--images", "noting:few"]
    options += ["--device", "cpu", "cpu:0", "--workers", 2, "--backend", backend, "--data", data, "--out", "out"]
    with command("run", *options, "--quiet", "--no-report", cwd=tmp_path) as process:
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert table_of(tmp_path / "out")["status"].tolist() == ["ok"] * 4
    assert len(list(tmp_path.glob("waiting-*"))) == 2
    assert (tmp_path / "devices.txt").read_text().split().count("cpu:0") == 1  # the run itself loads images on "cpu"


class FakeRay:
    """Runs every task at once, and notes what it asks for."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.results: list[Any] = []
        self.resources = resources

    def nodes(self) -> list[dict[str, Any]]:
        lost = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
        return [lost, *({"Alive": True, "Resources": each} for each in self.resources)]

    def put(self, value: Any) -> Any:
        return value

    def remote(self, function: Any) -> Any:
        def options(**given: Any) -> Any:
            def submit(*arguments: Any) -> Any:
                self.asked.append(given)
                self.results.append(function(*arguments))
                return len(self.results) - 1

            return SimpleNamespace(remote=submit)

        return SimpleNamespace(options=options)

    def wait(self, futures: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return futures[:1], futures[1:]

    def get(self, future: Any) -> Any:
        return self.results[future]


@pytest.mark.parametrize(
    ("devices", "device", "gpus", "most"),
    [(("cuda:0", "cuda:1"), "cuda", 1, 3 + 1), (("cuda",), "cuda", 1, 3 + 1), (("cpu",), "cpu", 0, 6 + 1)],
)
def test_ray_is_asked_for_one_gpu_per_network(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], device: str, gpus: int, most: int
) -> None:
    """Ray shows a task its own GPU only, which is then the current one; one more network waits than there are GPUs."""
    ray = FakeRay({"CPU": 2.0, "GPU": 4.0}, {"CPU": 3.0, "GPU": 1.0}, {"CPU": 1.0})
    seen: list[tuple[int, tuple[str, ...]]] = []

    def evaluate(job: Any, index: int, machine: Machine) -> dict[str, Any]:
        seen.append((index, machine.devices))
        return {"index": index}

    monkeypatch.setattr(clusters, "_on_ray_worker", evaluate)
    monkeypatch.setitem(clusters.CLUSTERS, "ray", lambda *_: contextlib.nullcontext(ray))
    job = EvaluationJob(len, "test", "digits")
    machine = Machine(devices=devices, backend="ray", address="127.0.0.1:9")
    found = clusters.evaluate_on_cluster([(job, index) for index in range(10)], machine)
    assert next(found) == (0, {"index": 0})
    assert len(ray.asked) == most
    assert [(place, row["index"]) for place, row in found] == [(index, index) for index in range(1, 10)]
    assert seen == [(index, (device,)) for index in range(10)]
    assert [(each["num_gpus"], each["num_cpus"]) for each in ray.asked] == [(gpus, 1)] * 10
