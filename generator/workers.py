"""Where shards are made: on this machine's cores, or on a Dask or Ray cluster, all through joblib.

Workers write their shards themselves, so on a cluster the corpus folder must be on a file system that all of them
share.  The process that builds watches the folder: it shows progress, and gives up when nothing has been finished for a
long time (a Dask scheduler that has lost its workers would otherwise be waited for forever).
"""

from __future__ import annotations

import _thread
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from tqdm import tqdm

from deepnets.errors import ConfigError, DeepNetsError
from generator.shards import ShardTask, write_shard

__all__ = ["BACKENDS", "Workers", "make_shards"]

BACKENDS = ("loky", "dask", "ray")
"""Processes of this machine; a Dask cluster; a Ray cluster."""


@dataclass(frozen=True)
class Workers:
    """Who makes the shards.

    Attributes
    ----------
    jobs
        Shards made at the same time; None for one per core of this machine, or whatever the cluster has.
    backend
        One of `BACKENDS`.
    address
        Of the Dask scheduler or the Ray head; None starts a local one (Ray: or joins the one in `RAY_ADDRESS`).
    patience
        Seconds without a finished shard after which the build is given up.
    progress
        Whether to show a bar.
    """

    jobs: int | None = None
    backend: str = "loky"
    address: str | None = None
    patience: float = 600.0
    progress: bool = False

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend: unknown {self.backend!r}; use one of {', '.join(BACKENDS)}")
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"jobs: expected 1 or more, got {self.jobs}")
        if self.address is not None and self.backend == "loky":
            raise ConfigError("address: only the backends dask and ray have one")


def make_shards(tasks: Sequence[ShardTask], folder: Path, workers: Workers) -> None:
    """Make every shard that the folder does not hold already.

    Raises
    ------
    DeepNetsError
        If workers die, or nothing is finished for `workers.patience` seconds.
    """
    with _backend(workers) as options, _watched(tasks, folder, workers) as stalled:
        try:
            joblib.Parallel(**options)(joblib.delayed(write_shard)(task, folder.resolve()) for task in tasks)
        except KeyboardInterrupt:
            if not stalled.is_set():
                raise
            raise DeepNetsError(
                f"no shard was finished for {workers.patience:.0f} s; the {workers.backend} workers seem to be gone. "
                "Finished shards are kept: build again to continue"
            ) from None
        except Exception as error:
            if isinstance(error, DeepNetsError) or not _is_death(error):
                raise
            raise DeepNetsError(
                f"a {workers.backend} worker died ({type(error).__name__}): it was killed, or memory ran out. "
                "Finished shards are kept: build again to continue, perhaps with fewer jobs"
            ) from error


def _is_death(error: Exception) -> bool:
    return type(error).__name__ in {
        "TerminatedWorkerError",
        "BrokenProcessPool",
        "KilledWorker",
        "ActorDiedError",
        "RayActorError",
        "WorkerCrashedError",
        "OutOfMemoryError",
        "NodeDiedError",
    }


@contextlib.contextmanager
def _watched(tasks: Sequence[ShardTask], folder: Path, workers: Workers) -> Iterator[threading.Event]:
    """Show progress while the block runs, and interrupt it when there is none; the event says that this happened."""
    names = {task.name for task in tasks}
    over, stalled = threading.Event(), threading.Event()

    def watch() -> None:
        finished, since = -1, time.monotonic()
        unit = sum(task.count for task in tasks) / len(tasks)
        with tqdm(
            total=len(tasks), desc=tasks[0].spec.name, unit="shard", disable=None if workers.progress else True
        ) as bar:
            while True:
                last = over.wait(0.2)
                count = len(names.intersection(file.name for file in folder.iterdir()))
                if count != finished:
                    finished, since = count, time.monotonic()
                    bar.set_postfix_str(f"{count * unit:,.0f} candidates")
                    bar.update(count - bar.n)
                elif time.monotonic() - since > workers.patience:
                    stalled.set()
                    _thread.interrupt_main()
                    return
                if last:
                    return

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield stalled
    finally:
        over.set()
        watcher.join()


@contextlib.contextmanager
def _backend(workers: Workers) -> Iterator[dict[str, Any]]:
    """Make joblib use the workers; yields the options of its `Parallel`."""
    if workers.backend == "loky":
        yield {"n_jobs": workers.jobs or joblib.cpu_count(), "backend": "loky"}
    elif workers.backend == "dask":
        with _dask_client(workers), joblib.parallel_config(backend="dask", wait_for_workers_timeout=60):
            yield {"n_jobs": workers.jobs or -1}
    else:
        with _ray_cluster(workers), joblib.parallel_config(backend="ray"):
            yield {"n_jobs": workers.jobs or -1}  # joblib's default of 1 would be silently serial


@contextlib.contextmanager
def _dask_client(workers: Workers) -> Iterator[None]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise _missing("dask") from error
    with contextlib.ExitStack() as stack:
        if workers.address is None:
            cluster = LocalCluster(
                n_workers=workers.jobs or joblib.cpu_count(), threads_per_worker=1, dashboard_address=None
            )
            stack.enter_context(cluster)
            stack.enter_context(Client(cluster))
        else:
            try:
                stack.enter_context(Client(workers.address, timeout=20))
            except (OSError, ValueError) as error:
                raise DeepNetsError(f"address: no Dask scheduler answers at {workers.address}") from error
        yield


@contextlib.contextmanager
def _ray_cluster(workers: Workers) -> Iterator[None]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _missing("ray") from error
    register_ray()
    mine = not ray.is_initialized()
    if mine:
        local = {"num_cpus": workers.jobs or joblib.cpu_count()} if workers.address is None else {}
        try:
            ray.init(address=workers.address, log_to_driver=False, include_dashboard=False, **local)
        except (ConnectionError, ValueError) as error:
            raise DeepNetsError(f"address: no Ray cluster answers at {workers.address}") from error
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _missing(backend: str) -> DeepNetsError:
    return DeepNetsError(f'backend {backend}: is not installed; pip install "deepnets1m[cluster]"')
