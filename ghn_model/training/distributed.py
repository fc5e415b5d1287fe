"""Data-parallel training with several processes started by `torchrun`, on one device or several.

Each process trains on its own networks.  After the backward pass all processes average their gradients in one explicit
all-reduce.  DistributedDataParallel, which reduces during the backward pass, is not used, because a process that runs
out of memory must still take part in the reduction.  Flags and timings are exchanged between the hosts (gloo), which
does not synchronize with a GPU.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from deepnets.support import ConfigError, TrainingError, in_one_line, is_out_of_memory

__all__ = ["Distributed", "LostProcessError", "joined"]

BUCKET_NUMEL = 1 << 25
"""Maximum number of elements in one all-reduce."""

TIMEOUT = timedelta(minutes=30)

_groups = itertools.count()


class LostProcessError(TrainingError):
    """Another process of the training has ended, so that a collective operation failed."""


class Distributed:
    """This process among the processes of a training.

    If the program has joined a process group (`torch.distributed.init_process_group`), its processes are those of the
    training.  Otherwise rank and world size are read from the environment variables that `torchrun` sets.  Without
    them, the training consists of this process alone.

    Parameters
    ----------
    device : str or torch.device, optional
        Device of this process.  By default a GPU if there is one, otherwise the CPU.  "cuda" assigns the GPUs of a
        host to its processes in turn; "cuda:1" selects that GPU in every process.

    Attributes
    ----------
    rank, world_size : int
        Number of this process, and the number of processes.
    device : torch.device
        Device of this process.

    Raises
    ------
    ConfigError
        If the device cannot be used, or the environment variables do not fit together.

    Examples
    --------
    >>> distributed = Distributed("cpu")
    >>> distributed.rank, distributed.world_size, distributed.is_main
    (0, 1, True)
    >>> distributed.maximum([3, 4.5])
    [3.0, 4.5]
    """

    _group: dist.ProcessGroup | None = None  # the default one

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.rank, self.world_size = _rank_and_world_size()
        local_rank = _variable("LOCAL_RANK", self.rank)
        self._local_size = _variable("LOCAL_WORLD_SIZE", self.world_size)
        gpus = torch.cuda.device_count()
        self._one_gpu = device is not None and str(device).startswith("cuda:")
        self.device = _checked(assigned_device(device, local_rank, gpus), device)
        self._joined = False
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.world_size > 1:
            # NCCL does not support several processes on one GPU.
            gpu_is_shared = self._local_size > (1 if self._one_gpu else max(1, gpus))
            use_gloo = self.device.type != "cuda" or gpu_is_shared or not dist.is_nccl_available()
            self._group = _join("gloo" if use_gloo else "cpu:gloo,cuda:nccl")
            self._joined = True

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress (rank 0)."""
        return self.rank == 0

    @property
    def hardware(self) -> str:
        """Description of the devices and processes, for example "one process with 4 of 8 cores"."""
        processes = f"{self.world_size} processes" if self.world_size > 1 else "one process"
        if self.device.type == "cuda":
            hosts = max(1, self.world_size // self._local_size)
            per_host = 1 if self._one_gpu else min(torch.cuda.device_count(), self._local_size)
            return f"{hosts * per_host} x {torch.cuda.get_device_name(self.device)}, {processes}"
        each = " each" if self.world_size > 1 else ""
        return f"{processes} with {torch.get_num_threads()} of {os.cpu_count()} cores{each}"

    def maximum(self, values: Sequence[float]) -> list[float]:
        """Return the elementwise maximum of some numbers over all processes, without synchronizing with the device.

        Parameters
        ----------
        values : sequence of float
            As many in every process.

        Returns
        -------
        list of float
            The same in every process.

        Raises
        ------
        LostProcessError
            If another process has ended; also by the other methods.

        Examples
        --------
        >>> Distributed("cpu").maximum([1, True])
        [1.0, 1.0]
        """
        numbers = torch.tensor(values, dtype=torch.float64)
        if self._joined:
            with _collective():
                dist.all_reduce(numbers, dist.ReduceOp.MAX, self._group)
        return numbers.tolist()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors in place by their means over all processes.

        Parameters
        ----------
        tensors : sequence of Tensor
            Tensors of one dtype on `device`; the same shapes in every process.

        Examples
        --------
        >>> gradient = torch.ones(2)
        >>> Distributed("cpu").average([gradient])
        >>> gradient
        tensor([1., 1.])
        """
        if not self._joined:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            with _collective():
                dist.all_reduce(flat, group=self._group)
            flat /= self.world_size
            for tensor, part in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket])):
                tensor.copy_(part.view_as(tensor))

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of any dtype in place by those of rank 0.

        Examples
        --------
        >>> Distributed("cpu").broadcast([torch.ones(2)])
        """
        if not self._joined:
            return
        with torch.no_grad():
            for tensor in tensors:
                data = tensor.contiguous().flatten().view(torch.uint8)  # gloo does not know all dtypes
                with _collective():
                    dist.broadcast(data, 0, self._group)
                tensor.copy_(data.view(tensor.dtype).view_as(tensor))

    def close(self) -> None:
        """Leave the process group of the training; a group that the program had joined before remains.

        Examples
        --------
        >>> Distributed("cpu").close()
        """
        if self._joined:
            self._joined = False
            dist.destroy_process_group(self._group)


@contextlib.contextmanager
def joined(distributed: Distributed | None) -> Iterator[Distributed]:
    """Yield processes, or those of `Distributed()`, which then leave their process group at the end.

    Examples
    --------
    >>> with joined(None) as processes:
    ...     processes.world_size
    1
    """
    if distributed is not None:
        yield distributed
        return
    with contextlib.closing(Distributed()) as own:
        yield own


def assigned_device(device: str | torch.device | None, local_rank: int, gpus: int) -> str | torch.device:
    """Return the device of a process on a host with some number of GPUs.

    Examples
    --------
    >>> assigned_device(None, 1, gpus=0), assigned_device("cuda", 5, gpus=4), assigned_device("cuda:1", 0, gpus=4)
    ('cpu', 'cuda:1', 'cuda:1')
    """
    device = ("cuda" if gpus else "cpu") if device is None else device
    return f"cuda:{local_rank % gpus}" if str(device) == "cuda" and gpus else device


def _checked(chosen: str | torch.device, given: str | torch.device | None) -> torch.device:
    try:
        device = torch.device(chosen)
        torch.empty(0, device=device)
    except Exception as error:
        raise ConfigError(f"device: cannot use {str(given)!r}: {' '.join(str(error).split())[:200]}") from error
    return device


def _buckets(tensors: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET_NUMEL:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def _rank_and_world_size() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    world_size = _variable("WORLD_SIZE", 1)
    rank = _variable("RANK", 0 if world_size == 1 else -1)
    if not 0 <= rank < world_size:
        given = " and ".join(f"{name}={os.environ.get(name, '')}" for name in ("RANK", "WORLD_SIZE"))
        raise ConfigError(
            f"{given}: expected a rank from 0 to WORLD_SIZE - 1; start several processes with torchrun, which sets "
            "both variables, and unset both for one process"
        )
    return rank, world_size


def _join(backend: str) -> dist.ProcessGroup | None:
    """Return a group of its own for a training if the program has joined one; otherwise join the default group."""
    if dist.is_initialized():
        group: dist.ProcessGroup = dist.new_group(timeout=TIMEOUT, backend=backend)
        return group
    # The store of torchrun outlives a group; a later group with the same keys would find addresses of the earlier one.
    found = dist.rendezvous("env://", timeout=TIMEOUT)  # type: ignore[attr-defined]
    store, rank, world_size = next(iter(found))
    store.set_timeout(TIMEOUT)
    store = dist.PrefixStore(f"deepnets {next(_groups)}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank, world_size=world_size)
    return None


@contextlib.contextmanager
def _collective() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = in_one_line(error)
        raise LostProcessError(f"another process of the training has ended, or cannot be reached: {reason}") from error


def _variable(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    try:
        return int(value or default)
    except ValueError as error:
        raise ConfigError(f"{name}={value}: expected an integer, as torchrun sets it") from error
