"""`Machine`: where networks are evaluated, and with which limits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from benchmark.choices import BACKENDS, MAX_TIMEOUT
from deepnets.support import CLUSTERS, ConfigError, at_least, available_memory, checked_integer

__all__ = ["BACKENDS", "MAX_TIMEOUT", "Machine", "checked_device", "default_workers", "memory_limit"]

MEMORY_SHARE = 0.9
"""Share of the available memory that all workers together may use."""


@dataclass(frozen=True)
class Machine:
    """Where networks are evaluated.  Results do not depend on it, except for times and memory.

    Attributes
    ----------
    devices
        Devices of PyTorch of every machine.  A new worker uses the one that has the fewest workers of the same run on
        its machine.
    workers
        Number of networks that are evaluated at the same time; None for one per GPU, one per core, or as many as a
        cluster with an address has threads (Dask) or CPUs (Ray).
    threads
        Number of threads of PyTorch in each worker.  It can change the last digits of outputs, so it does not depend
        on `workers`.
    backend
        How networks are distributed over workers, one of `BACKENDS`.
    address
        Address of the Dask scheduler or the Ray head node.  Without one, these backends start a cluster on this
        machine.  Working directory, corpus and images must be on file systems that all machines share.
    timeout
        Time limit per network in seconds; None for no limit.
    memory
        Memory limit in bytes of the predictor, with the processes that it starts, and of the evaluation in each worker;
        None for an equal share of 90 % of the available memory of its machine.
    fresh
        Whether each network is predicted in a new process.  By default, a predictor keeps its process, so its code can
        carry something over from one network to the next.
    working_directory
        Working directory of the workers.
    session
        Identifies a run among those that share machines; set by `evaluate_all`.

    Raises
    ------
    ConfigError
        If a value is not allowed, or a device cannot be used.

    Examples
    --------
    >>> Machine(workers=2, timeout=60).resolved().workers
    2
    """

    devices: tuple[str, ...] = ("cpu",)
    workers: int | None = None
    threads: int = 1
    backend: str = "threading"
    address: str | None = None
    timeout: float | None = 1800.0
    memory: int | None = None
    fresh: bool = False
    working_directory: str = field(default_factory=os.getcwd)
    session: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "memory"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checked_integer(name, getattr(self, name), at_least(1)))
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend: unknown {self.backend!r}; use one of {', '.join(BACKENDS)}")
        if self.address is not None and self.backend not in CLUSTERS:
            raise ConfigError(f"address: only the backends dask and ray have one, got {self.address!r}")
        if self.timeout is not None and not 0 < self.timeout <= MAX_TIMEOUT:
            raise ConfigError(
                f"timeout: expected a number of seconds above 0, {MAX_TIMEOUT:g} or less, got {self.timeout!r}"
            )
        if not self.devices:
            raise ConfigError("devices: expected at least one, such as cpu or cuda:0")
        if self.address is None:  # the machines of a cluster can have other devices than this one
            for device in self.devices:
                checked_device(device)

    def resolved(self) -> Machine:
        """Return a copy in which `workers` and `memory` have values, unless a cluster determines them."""
        if self.address is not None:
            return self
        workers = self.workers or default_workers(self.devices)
        return replace(self, workers=workers, memory=self.memory or memory_limit(workers))


def checked_device(device: str) -> str:
    """Return a device of PyTorch, after checking that networks can run on it.

    Raises
    ------
    ConfigError
        If the device does not exist, or holds no values.

    Examples
    --------
    >>> checked_device("cpu")
    'cpu'
    """
    try:
        is_meta = torch.empty(0, device=device).is_meta
    except Exception as error:
        raise ConfigError(f"device: cannot use {device!r}: {' '.join(str(error).split())[:200]}") from error
    if is_meta:
        raise ConfigError("device: cannot use 'meta', which holds no values; use cpu or a GPU such as cuda:0")
    return device


def default_workers(devices: Sequence[str]) -> int:
    """Return the default number of workers: one per GPU, or one per core.

    Examples
    --------
    >>> default_workers(["cuda:0", "cuda:1"])
    2
    """
    if devices and not devices[0].startswith("cpu"):
        return len(devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_limit(workers: int) -> int | None:
    """Return the default memory limit of each worker in bytes; None where the available memory is not known."""
    available = available_memory()
    return None if available is None else int(MEMORY_SHARE * available / workers)
