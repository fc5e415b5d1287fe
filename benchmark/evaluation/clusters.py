"""Distribution of networks over the machines of a Dask or Ray cluster; every machine supervises its own workers.

A task is one network.  If a machine or a process of the cluster is lost, its tasks are repeated elsewhere; rows are the
same, because they depend on the seed and the network alone.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import urllib.parse
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from benchmark.evaluation.jobs import EvaluationJob
from benchmark.evaluation.machine import Machine, default_workers, memory_limit
from benchmark.evaluation.rows import failed_row
from benchmark.evaluation.workers import close_workers, evaluate_in_worker
from deepnets.support import CLUSTERS, cluster_error

__all__ = ["evaluate_on_cluster"]

PATIENCE = 60.0
"""Seconds without any worker in the cluster after which the run ends."""

IDLE_SECONDS = 60.0
"""Seconds without a network after which the workers of a run on a machine of the cluster end.

A run that was killed cannot end them.  Those of a run that goes on are started again when they are needed.
"""

POLL_SECONDS = 2.0
_ADVICE = "Rows are kept: run it again to resume"
_DEATHS = ("KilledWorker", "WorkerCrashedError", "OutOfMemoryError")
"""Names of exceptions that mean that the processes of the cluster that had a task have died, again and again."""


def evaluate_on_cluster(
    work: Sequence[tuple[EvaluationJob, int]], machine: Machine
) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """Evaluate networks on a cluster.

    Parameters
    ----------
    work
        Jobs, each with the index of a network.
    machine
        With the backend "dask" or "ray".

    Yields
    ------
    The position in `work` and the row, in the order in which rows become available.  A network during whose evaluation
    processes of the cluster die repeatedly has the row of a failure.

    Raises
    ------
    DeepNetsError
        If the cluster cannot be reached or has no workers for `PATIENCE` seconds, or a job cannot be opened.
    """
    with CLUSTERS[machine.backend](machine.workers, machine.address, PATIENCE) as connection:
        cluster: _Cluster = _Dask(connection, machine) if machine.backend == "dask" else _Ray(connection, machine)
        places = iter(enumerate(work))
        pending: dict[Any, int] = {}
        seen = time.monotonic()
        try:
            while True:
                capacity = cluster.capacity()
                most = machine.workers or capacity + 1  # one task waits, so that no worker does
                for place, (job, index) in itertools.islice(places, max(0, most - len(pending))):
                    pending[cluster.submit(job, index)] = place
                if not pending:
                    return
                done = cluster.wait(list(pending))
                if done or capacity:
                    seen = time.monotonic()
                elif time.monotonic() - seen > PATIENCE:
                    raise TimeoutError
                for future in done:
                    place = pending.pop(future)
                    yield place, _row(cluster, future, *work[place])
        except Exception as error:
            raise cluster_error(error, machine.backend, _ADVICE) or error from error
        finally:
            with contextlib.suppress(Exception):  # what is gone has nothing to close
                cluster.close()


def _row(cluster: _Cluster, future: Any, job: EvaluationJob, index: int) -> dict[str, Any]:
    try:
        return cluster.result(future)
    except Exception as error:
        if type(error).__name__ not in _DEATHS:
            raise
        return failed_row(job.empty_row(index), f"a process of the cluster died repeatedly ({type(error).__name__})")


class _Cluster(Protocol):
    """What both backends can do."""

    def capacity(self) -> int:
        """Number of networks that can be evaluated at the same time; 0 if there are no workers."""

    def submit(self, job: EvaluationJob, index: int) -> Any:
        """Begin the evaluation of a network."""

    def wait(self, futures: Sequence[Any]) -> Sequence[Any]:
        """Return those that are finished, after a few seconds at the latest."""

    def result(self, future: Any) -> dict[str, Any]:
        """Return the row, or raise what was raised."""

    def close(self) -> None:
        """End what is running, and the workers of the run."""


class _Dask:
    def __init__(self, client: Any, machine: Machine) -> None:
        self._client, self._machine = client, machine
        self._futures: set[Any] = set()

    def capacity(self) -> int:
        return sum(self._client.nthreads().values())

    def submit(self, job: EvaluationJob, index: int) -> Any:
        future = self._client.submit(_on_dask_worker, job, index, self._machine, self._client.nthreads(), pure=False)
        self._futures.add(future)
        return future

    def wait(self, futures: Sequence[Any]) -> Sequence[Any]:
        import distributed

        try:
            return list(distributed.wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done)
        except (TimeoutError, distributed.TimeoutError):
            return []

    def result(self, future: Any) -> dict[str, Any]:
        self._futures.discard(future)
        row: dict[str, Any] = future.result()
        return row

    def close(self) -> None:
        if self._futures:
            self._client.cancel(list(self._futures), force=True)
        self._client.run(close_workers, self._machine.session)


def _on_dask_worker(job: EvaluationJob, index: int, machine: Machine, threads: dict[str, int]) -> dict[str, Any]:
    """Evaluate a network on the machine of this process, whose memory is shared by its Dask processes."""
    import distributed

    def host(address: str) -> str | None:
        return urllib.parse.urlsplit(address).hostname

    here = host(distributed.get_worker().address)
    slots = sum(number for address, number in threads.items() if host(address) == here)
    return _evaluate_here(job, index, machine, slots)


class _Ray:
    def __init__(self, ray: Any, machine: Machine) -> None:
        self._ray = ray
        gpus = 0 if machine.devices[0].startswith("cpu") else 1
        if gpus:  # Ray gives every task a GPU of its own, which is the only one that it sees
            machine = replace(machine, devices=(machine.devices[0].partition(":")[0],))
        self._gpus = gpus
        self._machine = ray.put(machine)
        self._function = ray.remote(_on_ray_worker).options(num_cpus=1, num_gpus=gpus, max_retries=3)
        self._jobs: dict[int, Any] = {}
        self._futures: set[Any] = set()

    def capacity(self) -> int:
        resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return int(sum(min(each.get("CPU", 0), each.get("GPU", 0) if self._gpus else 1e9) for each in resources))

    def submit(self, job: EvaluationJob, index: int) -> Any:
        if id(job) not in self._jobs:
            self._jobs[id(job)] = self._ray.put(job)
        future = self._function.remote(self._jobs[id(job)], index, self._machine)
        self._futures.add(future)
        return future

    def wait(self, futures: Sequence[Any]) -> Sequence[Any]:
        done: Sequence[Any] = self._ray.wait(list(futures), num_returns=1, timeout=POLL_SECONDS)[0]
        return done

    def result(self, future: Any) -> dict[str, Any]:
        self._futures.discard(future)
        row: dict[str, Any] = self._ray.get(future)
        return row

    def close(self) -> None:
        for future in self._futures:
            self._ray.cancel(future, force=True)


def _on_ray_worker(job: EvaluationJob, index: int, machine: Machine) -> dict[str, Any]:
    import ray

    here = ray.get_runtime_context().get_node_id()
    (slots,) = [int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["NodeID"] == here] or [1]
    return _evaluate_here(job, index, machine, slots)


def _evaluate_here(job: EvaluationJob, index: int, machine: Machine, slots: int) -> dict[str, Any]:
    slots = min(slots, machine.workers or slots) or default_workers(machine.devices)
    memory = machine.memory or _memory_share(machine.session, slots)
    return evaluate_in_worker(job, index, replace(machine, memory=memory), idle_seconds=IDLE_SECONDS)


@functools.lru_cache(maxsize=8)
def _memory_share(session: str, slots: int) -> int | None:
    """Determined once, before this process has workers, because they take memory themselves."""
    return memory_limit(slots)
