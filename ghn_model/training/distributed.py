"""Several processes that train one hypernetwork, on one device or on many, as `torchrun` starts them.

Each has networks of its own.  After its backward pass all of them take the mean of their gradients, in one place and at
one time, so that a process that ran out of memory can still take part, with nothing.  A few numbers of each go
around beside, between the hosts, without waiting for devices.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from deepnets.support import ConfigError

__all__ = ["Ranks"]

BUCKET = 1 << 25
"""Most numbers that are sent at a time."""
PATIENCE = timedelta(minutes=30)


class Ranks:
    """The processes of a training, seen from one of them.

    Parameters
    ----------
    device
        Where to compute; by default a GPU if there is one.  Processes of a host take its GPUs in turns.

    Attributes
    ----------
    rank, world_size : int
        Which of how many.
    device : torch.device
    """

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.rank, self.world_size = _number("RANK", 0), _number("WORLD_SIZE", 1)
        self.device = _device(device, _number("LOCAL_RANK", 0))
        self._joined = False
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.world_size > 1:
            crowded = _number("LOCAL_WORLD_SIZE", self.world_size) > max(1, torch.cuda.device_count())
            shared = self.device.type != "cuda" or crowded or not dist.is_nccl_available()
            # NCCL refuses two processes on one device.
            dist.init_process_group("gloo" if shared else "cpu:gloo,cuda:nccl", timeout=PATIENCE)
            self._joined = True

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    @property
    def hardware(self) -> str:
        """What the processes run on, in words."""
        processes = f"{self.world_size} processes" if self.world_size > 1 else "one process"
        if self.device.type == "cuda":
            hosts = max(1, self.world_size // _number("LOCAL_WORLD_SIZE", self.world_size))
            count = hosts * min(torch.cuda.device_count(), _number("LOCAL_WORLD_SIZE", 1))
            return f"{count} x {torch.cuda.get_device_name(self.device)}, {processes}"
        return f"{processes} with {torch.get_num_threads()} of {os.cpu_count()} cores"

    def agree(self, values: Sequence[float]) -> list[float]:
        """The largest of each of some numbers over all processes; hosts wait for each other, devices do not."""
        if not self._joined:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return numbers.tolist()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, on the device and of one type, by their means over all processes."""
        if not self._joined:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            flat /= self.world_size
            for tensor, part in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket])):
                tensor.copy_(part.view_as(tensor))

    def leave(self) -> None:
        """End the connection."""
        if self._joined:
            self._joined = False
            dist.destroy_process_group()


def _buckets(tensors: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def _device(device: str | torch.device | None, local_rank: int) -> torch.device:
    count: int = torch.cuda.device_count()
    try:
        chosen = torch.device(("cuda" if count else "cpu") if device is None else device)
        if str(chosen) == "cuda" and count:  # "cuda:1" is that device, in every process
            chosen = torch.device("cuda", local_rank % count)
        torch.empty(0, device=chosen)
    except Exception as error:
        raise ConfigError(f"device: cannot use {str(device)!r}: {' '.join(str(error).split())[:200]}") from error
    return chosen
