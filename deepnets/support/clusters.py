"""Backends of joblib: processes of this machine, a Dask cluster, a Ray cluster.  Also used without joblib."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
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
from collections.abc import Iterator
from typing import Any

import joblib
from joblib.externals import loky

from deepnets.support import DeepNetsError, MissingDependencyError
from deepnets.support.extras import install_command

__all__ = ["CLUSTERS", "check_cluster", "cluster_error", "loky_processes"]


def loky_processes(num_workers: int) -> joblib.Parallel:
    """Start processes on this machine, which joblib keeps for the next call with the same options.

    Parameters
    ----------
    num_workers
        Number of processes.  With 1, no process is started: tasks run in this one.

    Returns
    -------
    joblib.Parallel

    Examples
    --------
    >>> loky_processes(1)(joblib.delayed(abs)(x) for x in (-1, 2))
    [1, 2]
    """
    if num_workers == 1 or joblib.effective_n_jobs(num_workers) == 1:  # joblib needs semaphores, such as in /dev/shm
        return joblib.Parallel(n_jobs=1)
    options = {"n_jobs": num_workers, "backend": "loky", "initializer": _end_with_parent, "initargs": (os.getpid(),)}
    with _inherited_block():
        joblib.Parallel(**options)(joblib.delayed(os.getpid)() for _ in range(num_workers))
    return joblib.Parallel(batch_size=1, **options)


@contextlib.contextmanager
def _inherited_block() -> Iterator[None]:
    """Block SIGINT while processes are started.  They inherit the block for good; here the signal is only delayed."""
    for tracker in (multiprocessing.resource_tracker, loky.backend.resource_tracker):
        tracker.ensure_running()  # starting it later would unblock the signal in some versions of Python
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(parent: int) -> None:
    """End this worker when its parent process has ended, even if the parent was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end with the parent", daemon=True).start()


@contextlib.contextmanager
def _dask_cluster(num_workers: int | None, address: str | None, patience: float) -> Iterator[Any]:
    """Run the block with a Dask cluster as the backend of joblib; yields its `distributed.Client`."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise _missing("dask") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silenced("distributed", "asyncio", "tornado"))
        if address is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="deepnets1m-dask-"))
            stack.enter_context(dask.config.set({"temporary-directory": folder}))
            with _inherited_block():
                cluster = LocalCluster(
                    n_workers=num_workers or joblib.cpu_count(),
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        else:
            _check_answer(address, "Dask scheduler")
            try:
                client = stack.enter_context(Client(address, timeout=10))
            except (OSError, ValueError) as error:
                raise DeepNetsError(f"address: no Dask scheduler answers at {address}") from error
        wait = min(60, patience)
        stack.enter_context(joblib.parallel_config(backend="dask", wait_for_workers_timeout=wait))
        yield client


@contextlib.contextmanager
def _ray_cluster(num_workers: int | None, address: str | None, patience: float) -> Iterator[Any]:
    """Run the block with a Ray cluster as the backend of joblib; yields the module `ray`."""
    address = address or os.environ.get("RAY_ADDRESS")
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
                    "num_cpus": num_workers or joblib.cpu_count(),
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
        yield ray


@contextlib.contextmanager
def _silenced(*families: str) -> Iterator[None]:
    """Suppress the log messages of libraries; relevant problems are raised as exceptions."""
    logging.getLogger("asyncio")  # creates the logger if it does not exist yet
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
    """Check that an address accepts connections; the libraries would try for a minute and log many lines."""
    try:
        place = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
        if place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), timeout=10).close()
    except (OSError, ValueError) as error:
        raise DeepNetsError(f"address: no {of} answers at {address}") from error


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder for Ray's sockets, whose paths are limited to 107 characters on Linux and 103 on macOS."""
    place = tempfile.gettempdir()
    if len(place) > 16:
        place = "/tmp"  # noqa: S108 - the folder in it has a random name
    return tempfile.TemporaryDirectory(prefix="deepnets1m-ray-", dir=place, ignore_cleanup_errors=True)


CLUSTERS = {"dask": _dask_cluster, "ray": _ray_cluster}
"""Context managers by backend: ``(num_workers, address, patience in seconds)``.

`dask` yields a `distributed.Client`, `ray` the module `ray`, connected; without an address, a cluster is started on
this machine, and ended with the block.
"""


def cluster_error(error: BaseException, backend: str, advice: str) -> DeepNetsError | None:
    """Return the one-line error of a task that failed on a cluster.

    Parameters
    ----------
    error
        The exception that the backend has raised.
    backend
        Name of the backend.
    advice
        How to resume, for messages about lost workers.

    Returns
    -------
    The error if the cause is the input or the cluster; None if it is a bug.

    Examples
    --------
    >>> cluster_error(TimeoutError(), "dask", "Run it again to resume")
    DeepNetsError('the dask cluster has no workers, or was lost (TimeoutError). Run it again to resume')
    """
    cause = getattr(error, "cause", None)  # Ray wraps the exception of a task
    for candidate in (cause, error):
        if isinstance(candidate, DeepNetsError):
            return candidate
    name = type(error).__name__
    if name in DEATHS:
        return DeepNetsError(
            f"a {backend} worker died ({name}): it was killed, or memory ran out. {advice}, perhaps with fewer workers"
        )
    if name in _LOSSES:
        return DeepNetsError(f"the {backend} cluster has no workers, or was lost ({name}). {advice}")
    if isinstance(cause or error, ImportError):
        return DeepNetsError(f"a {backend} worker cannot load deepnets1m ({cause or error}); install it there, too")
    return None


DEATHS = {
    "ActorDiedError",
    "BrokenProcessPool",
    "KilledWorker",
    "NodeDiedError",
    "OutOfMemoryError",
    "RayActorError",
    "TerminatedWorkerError",
    "WorkerCrashedError",
}
"""Names of exceptions that mean that a worker has died."""

_LOSSES = {"CancelledError", "CommClosedError", "FutureCancelledError", "TimeoutError"}


@functools.cache
def _private_ray() -> dict[str, str]:
    """Environment variables for a local Ray cluster that accepts no other machines and reports no usage statistics.

    Cached, because Ray keeps using the first token of a process.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # makes a local cluster use 127.0.0.1, on every platform
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set environment variables while the block runs."""
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


def check_cluster(backend: str) -> None:
    """Check that the packages of a cluster's backend are installed, before work begins that needs them later.

    Parameters
    ----------
    backend
        A key of `CLUSTERS`.

    Raises
    ------
    MissingDependencyError
        If a package is missing.

    Examples
    --------
    >>> check_cluster("dask")  # it is installed
    """
    packages = ("dask", "distributed") if backend == "dask" else ("ray",)
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise _missing(backend)


def _missing(backend: str) -> MissingDependencyError:
    return MissingDependencyError(f"backend {backend}: is not installed; {install_command('cluster')}")
