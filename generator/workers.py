"""Make shards in parallel, on the cores of this machine or on a Dask or Ray cluster, through joblib.

Workers write their shards to files.  On a cluster, the corpus folder must be on a file system that all workers share,
and this package must be installed on every machine.  The process that builds watches the folder: it shows progress, and
stops when no shard has been finished for a long time, because a Dask scheduler without workers would wait forever.

Only the process that builds receives signals: its workers ignore Ctrl-C, and end when it ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib

from deepnets.support import (
    CLUSTERS,
    ConfigError,
    DeepNetsError,
    DeferredSignals,
    ProgressBar,
    at_least,
    checked_integer,
    cluster_error,
    loky_processes,
)
from generator.choices import BACKENDS, SHARD_SIZE
from generator.shards import ShardTask, write_shard

__all__ = ["BACKENDS", "ShardMaker", "Workers"]

_RESUME = "Finished shards are kept: build again to resume"


@dataclass(frozen=True)
class Workers:
    """How shards are made in parallel.  None of these options changes the content of the corpus.

    Parameters
    ----------
    num_workers
        Number of worker processes.  None, the default: one per core of this machine, or all that the cluster has.
    backend
        One of `BACKENDS`.
    address
        Address of the Dask scheduler or the Ray head node.  None, the default: start a local cluster (Ray: or connect
        to the one in `RAY_ADDRESS`).
    patience
        Seconds without a finished shard after which the build stops.  Has no effect outside the main thread.
    progress
        Whether to show a progress bar.
    shard_size
        Candidates per shard.  A shard of the default size takes half a second, 2 MB on disk and 80 MB of memory.

    Raises
    ------
    ConfigError
        If an option is not allowed.

    Examples
    --------
    >>> Workers(num_workers=2).backend
    'loky'
    """

    num_workers: int | None = None
    backend: str = "loky"
    address: str | None = None
    patience: float = 600.0
    progress: bool = False
    shard_size: int = SHARD_SIZE

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend: unknown {self.backend!r}; use one of {', '.join(BACKENDS)}")
        if self.num_workers is not None:
            object.__setattr__(self, "num_workers", checked_integer("num_workers", self.num_workers, at_least(1)))
        object.__setattr__(self, "shard_size", checked_integer("shard_size", self.shard_size, at_least(1)))
        if not self.patience > 0:
            raise ConfigError(f"patience: expected a positive number of seconds, got {self.patience}")
        if self.address is not None and self.backend == "loky":
            raise ConfigError(f"address: only the backends dask and ray have one, got {self.address!r} for loky")


class ShardMaker:
    """Make shards with workers that start when they are first needed and stop when the context ends.

    Parameters
    ----------
    workers
        The options.
    signals
        After a deferred signal, no new shards are begun.

    Examples
    --------
    >>> import tempfile
    >>> from generator import SPLITS
    >>> task = ShardTask(SPLITS["train"], seed=0, start=0, count=20)
    >>> with tempfile.TemporaryDirectory() as folder, DeferredSignals() as signals:
    ...     with ShardMaker(Workers(num_workers=1), signals) as maker:
    ...         maker.make([task], Path(folder))
    ...     os.listdir(folder)
    ['train-000000000000-20.h5']
    """

    def __init__(self, workers: Workers, signals: DeferredSignals) -> None:
        self.workers = workers
        self._signals = signals
        self._cluster = contextlib.ExitStack()
        self._parallel: joblib.Parallel | None = None

    def __enter__(self) -> ShardMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.close()

    def make(self, tasks: Sequence[ShardTask], folder: Path) -> None:
        """Make every shard that is missing or damaged in a folder.

        Parameters
        ----------
        tasks
            The shards.
        folder
            An existing folder that all workers can write to.

        Raises
        ------
        DeepNetsError
            If workers die, or no shard is finished for `workers.patience` seconds.
        """
        folder = folder.resolve()
        backend = self.workers.backend
        pending = itertools.takewhile(lambda _: not self._signals.received, tasks)
        stalled = threading.Event()
        try:
            parallel = self._started(len(tasks))
            with _watched(tasks, folder, self.workers, self._signals, stalled):
                parallel(joblib.delayed(write_shard)(task, folder) for task in pending)
                self._signals.check()
        except KeyboardInterrupt:
            self._signals.check()
            if not stalled.is_set():
                raise
            raise DeepNetsError(
                f"no shard was finished for {self.workers.patience:g} s; the {backend} workers seem to be gone. "
                f"{_RESUME}"
            ) from None
        except Exception as error:
            explained = cluster_error(error, backend, _RESUME)
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
            return loky_processes(min(self.workers.num_workers or joblib.cpu_count(), num_tasks))
        if not self._parallel:
            options = self.workers
            cluster = CLUSTERS[options.backend](options.num_workers, options.address, options.patience)
            self._cluster.enter_context(cluster)
            # With Ray, joblib's default of one job is serial.  The context is entered only once: Ray reports the
            # workers that joblib ends after every call outside a context as errors.
            parallel = joblib.Parallel(n_jobs=options.num_workers or -1, batch_size=1)
            self._parallel = self._cluster.enter_context(parallel)
        return self._parallel


@contextlib.contextmanager
def _watched(
    tasks: Sequence[ShardTask], folder: Path, workers: Workers, signals: DeferredSignals, stalled: threading.Event
) -> Iterator[None]:
    """Show progress while the block runs; if there is none for too long, set `stalled` and interrupt the block."""
    names = {task.name for task in tasks}
    ended = threading.Event()

    def count() -> int:
        with os.scandir(folder) as entries:
            return sum(entry.name in names for entry in entries)

    def watch() -> None:
        seen, since = before, time.monotonic()
        while not ended.wait(0.2):
            with contextlib.suppress(OSError):
                if (finished := count()) != seen:
                    bar.update(finished - seen)
                    seen, since = finished, time.monotonic()
            if time.monotonic() - since > workers.patience:
                stalled.set()
                signals.interrupt()
                return

    before = count()
    with ProgressBar(
        total=len(tasks),
        initial=before,
        desc=tasks[0].spec.name,
        unit="shard",
        show=workers.progress,
    ) as bar:
        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
        bar.update(len(tasks) - bar.n)
