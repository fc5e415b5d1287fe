"""Where shards are made: on this machine's cores, or on a Dask or Ray cluster, all through joblib.

Workers write their shards themselves, so on a cluster the corpus folder must be on a file system that all of them
share, and this package installed on each of them.  The process that builds watches the folder: it shows progress, and
gives up when nothing has been finished for a long time (a Dask scheduler that has lost its workers would otherwise be
waited for forever).

Signals are for the process that builds alone: its workers do not see Ctrl-C, and end when it does.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import multiprocessing.resource_tracker
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from joblib.externals import loky
from tqdm import tqdm

from deepnets.support import ConfigError, DeepNetsError
from generator.interrupts import Interrupts
from generator.shards import ShardTask, write_shard

__all__ = ["BACKENDS", "ShardMaker", "Workers", "make_shards"]

BACKENDS = ("loky", "dask", "ray")
"""Processes of this machine; a Dask cluster; a Ray cluster."""

_CONTINUE = "Finished shards are kept: build again to continue"


@dataclass(frozen=True)
class Workers:
    """Who makes the shards; nothing here changes what is in them.

    Attributes
    ----------
    jobs
        Shards made at the same time; None for one per core of this machine, or whatever the cluster has.
    backend
        One of `BACKENDS`.
    address
        Of the Dask scheduler or the Ray head; None starts a local one (Ray: or joins the one in `RAY_ADDRESS`).
    patience
        Seconds without a finished shard after which the build is given up (in the main thread; others cannot be
        interrupted).
    progress
        Whether to show a bar.
    shard_size
        Candidates per shard.  The default takes half a second, 2 MB on disk and 80 MB of memory.
    """

    jobs: int | None = None
    backend: str = "loky"
    address: str | None = None
    patience: float = 600.0
    progress: bool = False
    shard_size: int = 16_384

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend: unknown {self.backend!r}; use one of {', '.join(BACKENDS)}")
        for name, value in (("jobs", self.jobs), ("shard_size", self.shard_size)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name}: expected 1 or more, got {value}")
        if not self.patience > 0:
            raise ConfigError(f"patience: expected a positive number of seconds, got {self.patience}")
        if self.address is not None and self.backend == "loky":
            raise ConfigError(f"address: only the backends dask and ray have one, got {self.address!r} for loky")


def make_shards(tasks: Sequence[ShardTask], folder: Path, workers: Workers) -> None:
    """Make every shard that the folder does not hold already, with workers that are started for it alone."""
    with Interrupts() as interrupts, ShardMaker(workers, interrupts) as maker:
        maker.make(tasks, folder)


class ShardMaker:
    """Makes shards; its workers are started when they are first needed, and stopped when the block ends."""

    def __init__(self, workers: Workers, interrupts: Interrupts) -> None:
        self.workers = workers
        self._interrupts = interrupts
        self._cluster = contextlib.ExitStack()
        self._parallel: joblib.Parallel | None = None

    def __enter__(self) -> ShardMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.close()

    def make(self, tasks: Sequence[ShardTask], folder: Path) -> None:
        """Make every shard that the folder does not hold already; after an interrupt, only those in progress.

        Raises
        ------
        DeepNetsError
            If workers die, or nothing is finished for `workers.patience` seconds.
        """
        folder = folder.resolve()
        backend = self.workers.backend
        wanted = itertools.takewhile(lambda _: not self._interrupts.waiting, tasks)
        stalled = threading.Event()
        try:
            parallel = self._started(len(tasks))
            with _watched(tasks, folder, self.workers, self._interrupts, stalled):
                parallel(joblib.delayed(write_shard)(task, folder) for task in wanted)
                self._interrupts.check()
        except KeyboardInterrupt:
            self._interrupts.check()
            if not stalled.is_set():
                raise
            raise DeepNetsError(
                f"no shard was finished for {self.workers.patience:g} s; the {backend} workers seem to be gone. "
                f"{_CONTINUE}"
            ) from None
        except Exception as error:
            explained = _explained(error, backend)
            if explained is None:
                raise
            raise explained from error
        missing = sum(not (folder / task.name).exists() for task in tasks)
        if missing:
            raise DeepNetsError(
                f"{folder}: {missing} shards are missing although the {backend} workers made them; the folder must be "
                "on a file system that all workers share"
            )

    def _started(self, num_tasks: int) -> joblib.Parallel:
        if self.workers.backend == "loky":
            return _loky_processes(min(self.workers.jobs or joblib.cpu_count(), num_tasks))
        if not self._parallel:
            self._cluster.enter_context(_CLUSTERS[self.workers.backend](self.workers))
            # With Ray, joblib's default of one job is silently serial.  The block is entered but once, because Ray
            # complains of the workers that joblib ends after every call otherwise.
            parallel = joblib.Parallel(n_jobs=self.workers.jobs or -1, batch_size=1)
            self._parallel = self._cluster.enter_context(parallel)
        return self._parallel


def _explained(error: Exception, backend: str) -> DeepNetsError | None:
    """What happened, in one line, if it was the workers' or the user's doing and not a mistake in the code."""
    cause = getattr(error, "cause", None)  # Ray wraps what a task raised, and puts a traceback into its message
    for candidate in (cause, error):
        if isinstance(candidate, DeepNetsError):
            return candidate
    name = type(error).__name__
    if name in _DEATHS:
        return DeepNetsError(
            f"a {backend} worker died ({name}): it was killed, or memory ran out. {_CONTINUE}, perhaps with fewer jobs"
        )
    if name in _LOSSES:
        return DeepNetsError(f"the {backend} cluster has no workers, or was lost ({name}). {_CONTINUE}")
    if isinstance(cause or error, ImportError):
        return DeepNetsError(f"a {backend} worker cannot load deepnets1m ({cause or error}); install it there, too")
    return None


_DEATHS = {
    "ActorDiedError",
    "BrokenProcessPool",
    "KilledWorker",
    "NodeDiedError",
    "OutOfMemoryError",
    "RayActorError",
    "TerminatedWorkerError",
    "WorkerCrashedError",
}
_LOSSES = {"CancelledError", "CommClosedError", "FutureCancelledError", "TimeoutError"}


@contextlib.contextmanager
def _watched(
    tasks: Sequence[ShardTask], folder: Path, workers: Workers, interrupts: Interrupts, stalled: threading.Event
) -> Iterator[None]:
    """Show progress while the block runs; interrupt it when there is none, having set the event."""
    names = {task.name for task in tasks}
    over = threading.Event()

    def count() -> int:
        with os.scandir(folder) as entries:
            return sum(entry.name in names for entry in entries)

    def watch() -> None:
        seen, since = before, time.monotonic()
        while not over.wait(0.2):
            with contextlib.suppress(OSError):
                if (finished := count()) != seen:
                    bar.update(finished - seen)
                    seen, since = finished, time.monotonic()
            if time.monotonic() - since > workers.patience:
                stalled.set()
                interrupts.force()
                return

    before = count()
    with tqdm(
        total=len(tasks),
        initial=before,
        desc=tasks[0].spec.name,
        unit="shard",
        disable=None if workers.progress else True,
    ) as bar:
        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        bar.update(len(tasks) - bar.n)


# --- backends -----------------------------------------------------------------------------------------------------


def _loky_processes(jobs: int) -> joblib.Parallel:
    """Start processes on this machine, which joblib keeps for the next call with the same options."""
    if jobs == 1:
        return joblib.Parallel(n_jobs=1)
    options = {"n_jobs": jobs, "backend": "loky", "initializer": _end_with, "initargs": (os.getpid(),)}
    with _inherited_block():
        joblib.Parallel(**options)(joblib.delayed(os.getpid)() for _ in range(jobs))
    return joblib.Parallel(batch_size=1, **options)


@contextlib.contextmanager
def _inherited_block() -> Iterator[None]:
    """Block Ctrl-C while processes are started, who inherit this for good; here it is only late."""
    for tracker in (multiprocessing.resource_tracker, loky.backend.resource_tracker):
        tracker.ensure_running()  # which unblocks the signal in some versions, so not later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> None:
    """In a worker: end when the process that builds has ended, which SIGKILL gives it no chance to announce."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end with the parent", daemon=True).start()


@contextlib.contextmanager
def _dask_cluster(workers: Workers) -> Iterator[None]:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise _missing("dask") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silenced("distributed", "asyncio", "tornado"))
        if workers.address is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="deepnets1m-dask-"))
            stack.enter_context(dask.config.set({"temporary-directory": folder}))
            with _inherited_block():
                cluster = LocalCluster(
                    n_workers=workers.jobs or joblib.cpu_count(),
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            stack.enter_context(cluster)
            stack.enter_context(Client(cluster))
        else:
            _check_answer(workers.address, "Dask scheduler")
            try:
                stack.enter_context(Client(workers.address, timeout=10))
            except (OSError, ValueError) as error:
                raise DeepNetsError(f"address: no Dask scheduler answers at {workers.address}") from error
        wait = min(60, workers.patience)
        stack.enter_context(joblib.parallel_config(backend="dask", wait_for_workers_timeout=wait))
        yield


@contextlib.contextmanager
def _ray_cluster(workers: Workers) -> Iterator[None]:
    address = workers.address or os.environ.get("RAY_ADDRESS")
    with contextlib.ExitStack() as stack:
        if address is None:
            stack.enter_context(_environment(_private_ray()))
        else:
            _check_answer(address, "Ray cluster")
        try:
            import ray
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise _missing("ray") from error
        register_ray()
        if not ray.is_initialized():
            options: dict[str, Any] = {"address": address}
            if address is None:
                options = {
                    "address": "local",
                    "num_cpus": workers.jobs or joblib.cpu_count(),
                    "include_dashboard": False,
                    "_temp_dir": stack.enter_context(_short_folder()),
                    "_node_ip_address": "127.0.0.1",
                }
            stack.callback(ray.shutdown)
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            except (OSError, RuntimeError, ValueError) as error:
                if address is None:
                    raise DeepNetsError(f"backend ray: does not start: {str(error).partition('. ')[0]}") from error
                raise DeepNetsError(f"address: no Ray cluster answers at {address}") from error
        stack.enter_context(joblib.parallel_config(backend="ray"))
        yield


@contextlib.contextmanager
def _silenced(*families: str) -> Iterator[None]:
    """Keep libraries from logging their troubles, at length; what matters reaches us as an error."""
    logging.getLogger("asyncio")  # exists from now on
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in families]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _check_answer(address: str, of: str) -> None:
    """See whether anything answers at an address, before a library tries for a minute and complains at length."""
    try:
        place = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
        if place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), timeout=10).close()
    except (OSError, ValueError) as error:
        raise DeepNetsError(f"address: no {of} answers at {address}") from error


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for Ray, which keeps sockets there, whose paths have at most 107 characters on Linux, 103 on macOS."""
    place = tempfile.gettempdir()
    if len(place) > 16:
        place = "/tmp"  # noqa: S108 - only a folder of a random name is made there
    return tempfile.TemporaryDirectory(prefix="deepnets1m-ray-", dir=place, ignore_cleanup_errors=True)


_CLUSTERS = {"dask": _dask_cluster, "ray": _ray_cluster}


@functools.cache
def _private_ray() -> dict[str, str]:
    """Keeps a local Ray cluster to itself: no other machine, no file in the home folder, no report to its makers.

    Cached, because Ray does not forget a token as long as the process lives.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # which, in spite of its name, makes a local cluster use 127.0.0.1
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _missing(backend: str) -> DeepNetsError:
    return DeepNetsError(f'backend {backend}: is not installed; pip install "deepnets1m[cluster]"')
