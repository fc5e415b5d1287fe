"""`MetaBatchSampler`: random meta-batches of training networks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["MetaBatchSampler"]


class MetaBatchSampler:
    """Draw random meta-batches of networks without end, for the `batch_sampler` of a `DataLoader`.

    In every pass, the networks are shuffled and split into consecutive groups.  Groups with too many nodes are skipped,
    which limits the memory of a training step.  The last group of a pass can have fewer networks; with several
    processes, it is left out then.

    Parameters
    ----------
    nets
        A `DeepNets1M`, or any object with an attribute `num_nodes`, `(n,)` integers.
    meta_batch_size
        Number of networks in a meta-batch.
    max_nodes
        Largest total number of nodes in a meta-batch; with several processes, the limit is for the sum of theirs.  By
        default 275 per network, but at least 2,200 for all processes together, and no limit for meta-batches of one
        network (Knyazev et al., ICML 2023).  For meta-batches of 8, this is the limit of Knyazev et al. (NeurIPS 2021).
    seed
        Seed of the order.
    rank, world_size
        Index and number of the processes of distributed training.  Groups of `meta_batch_size * world_size` networks
        are divided among the processes; all of them get `meta_batch_size` networks and similar numbers of nodes.

    Attributes
    ----------
    position
        Number of meta-batches yielded so far, including those that workers of a `DataLoader` hold ready.  To resume
        training, set it to the number of meta-batches that have been used.  The same meta-batches follow if the other
        arguments, also `world_size`, are the same.

    Yields
    ------
    list of (int, int)
        Indices of a `DeepNets1M`: network and draw, which is the number of the pass, so that every pass draws new
        widths.

    Raises
    ------
    ConfigError
        If an argument is not allowed, or no group has at most `max_nodes` nodes.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> nets = SimpleNamespace(num_nodes=np.array([100, 120, 90, 80]))
    >>> batches = iter(MetaBatchSampler(nets, meta_batch_size=2))
    >>> first, second, third = next(batches), next(batches), next(batches)
    >>> sorted(first + second)
    [(0, 0), (1, 0), (2, 0), (3, 0)]
    >>> [draw for _, draw in third]
    [1, 1]
    """

    def __init__(
        self,
        nets: Any,
        meta_batch_size: int = 8,
        *,
        max_nodes: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._num_nodes = nets.num_nodes
        self._world_size = checked_integer("world_size", world_size, at_least(1))
        self._rank = checked_integer("rank", rank, range(self._world_size))
        meta_batch_size = checked_integer("meta_batch_size", meta_batch_size, at_least(1))
        self._size = meta_batch_size * self._world_size
        self._limit: int | None = None
        if max_nodes is not None:
            self._limit = checked_integer("max_nodes", max_nodes, at_least(1)) * self._world_size
        elif meta_batch_size > 1:
            self._limit = 2200 * max(8, self._size) // 8
        if self._limit is not None and int(self._num_nodes.min()) > self._limit:
            raise ConfigError(f"max_nodes: no network has as few as {self._limit} nodes")
        if self._world_size > 1 and len(self._num_nodes) < self._size:
            raise ConfigError(
                f"meta_batch_size: a step of {self._world_size} processes takes {self._size} networks, more than the "
                f"{len(self._num_nodes)} that there are"
            )
        self._seed = checked_integer("seed", seed, at_least(0))
        self.position = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for group in itertools.islice(self._groups(), self.position, None):
            self.position += 1
            yield self._share(group)

    def _share(self, group: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The networks of this process: those of the group are sorted by size and dealt out in alternating order."""
        if self._world_size == 1:
            return group
        group = sorted(group, key=lambda pair: (-int(self._num_nodes[pair[0]]), pair))
        rounds = [group[start : start + self._world_size] for start in range(0, len(group), self._world_size)]
        rounds = [part if number % 2 == 0 else part[::-1] for number, part in enumerate(rounds)]
        return [part[self._rank] for part in rounds if self._rank < len(part)]

    def _groups(self) -> Iterator[list[tuple[int, int]]]:
        passes = 0
        empty = 0
        while True:
            words = np.random.Philox(key=self._seed, counter=[0, 0, passes, 1])
            order = np.random.Generator(words).permutation(len(self._num_nodes))
            # Every process needs networks of the last group, too, so an incomplete group is dropped.
            last = len(order) if self._world_size == 1 else len(order) // self._size * self._size
            starts = np.arange(0, last, self._size)
            totals = np.add.reduceat(self._num_nodes[order[:last]], starts) if last else starts
            fitting = starts if self._limit is None else starts[totals <= self._limit]
            empty = 0 if len(fitting) else empty + 1
            if empty == 100:
                raise ConfigError(
                    f"max_nodes: in {empty} passes no group of {self._size} had {self._limit} nodes or fewer"
                )
            for start in fitting.tolist():
                yield [(i, passes) for i in order[start : start + self._size].tolist()]
            passes += 1
