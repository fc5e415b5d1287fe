"""Many networks at a time: tasks are spread over lanes by joblib, and rows come back as they are ready."""

from __future__ import annotations

import base64
import os
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import joblib

from benchmark.evaluation.workers import close_lanes, evaluate_in_lane, open_lanes
from deepnets.support import ConfigError, available_memory

__all__ = ["BACKENDS", "default_jobs", "evaluate_all", "memory_limit", "pickled"]

BACKENDS = ("threading", "loky", "multiprocessing", "sequential")
"""Of joblib, on one machine.  Threads suffice: each only waits for the process of its lane."""

MEMORY_SHARE = 0.9
"""Of the memory that is available, for all lanes together."""


def default_jobs(devices: Sequence[str]) -> int:
    """Networks at a time: one per GPU, or per core."""
    if devices and not devices[0].startswith("cpu"):
        return len(devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_limit(jobs: int) -> int | None:
    """Bytes that the process of each lane may take, by default."""
    available = available_memory()
    return None if available is None else int(MEMORY_SHARE * available / jobs)


def pickled(value: Any) -> str:
    """A value as text for a task, functions of `__main__` and nested ones included."""
    import cloudpickle

    try:
        return base64.b64encode(cloudpickle.dumps(value)).decode()
    except Exception as error:
        raise ConfigError(
            f"{type(value).__name__}: cannot be sent to another process ({error}); leave out jobs, timeout and memory"
        ) from error


def evaluate_all(
    work: Sequence[tuple[Mapping[str, Any], int]], *, jobs: int = 1, backend: str = "threading"
) -> Generator[tuple[int, dict[str, Any]]]:
    """Evaluate networks, each in the process of a lane.

    Parameters
    ----------
    work
        Tasks (see `Lane.ask`), each with the index of a network.  Those of one task should follow each other.
    jobs
        Lanes.
    backend
        Of joblib, one of `BACKENDS`.

    Yields
    ------
    The place in `work`, and the row, in the order in which they are ready.

    Raises
    ------
    ConfigError
        For an unknown backend.
    DeepNetsError
        If a task cannot be done for any network.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend: unknown {backend!r}; use one of {', '.join(BACKENDS)}")
    if not work:
        return
    open_lanes()
    parallel = joblib.Parallel(
        n_jobs=min(jobs, len(work)),
        backend=backend,
        return_as="generator_unordered",
        pre_dispatch="1 * n_jobs + 1",
        batch_size=1,
    )
    rows = parallel(joblib.delayed(_one)(place, task, index) for place, (task, index) in enumerate(work))
    with warnings.catch_warnings():  # that not everything was done, whoever interrupts knows
        warnings.filterwarnings("ignore", message=r".*tasks which were still being processed", category=UserWarning)
        try:
            yield from rows
        finally:
            # A lane that is waited for must come to an end before joblib's threads can.
            close_lanes()
            rows.close()
            if backend == "loky":
                from joblib.externals.loky import get_reusable_executor

                get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _one(place: int, task: Mapping[str, Any], index: int) -> tuple[int, dict[str, Any]]:
    return place, evaluate_in_lane(task, index)
