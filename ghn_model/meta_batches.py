"""What a training step needs of its networks, prepared by the workers of a loader: graphs as index arrays.

Which networks come in which step is a function of the seed and the number of the step alone, so that a training which
is continued sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from deepnets.batch import GraphBatch
from deepnets.dataset import DeepNets1M, MetaBatchSampler
from deepnets.errors import ConfigError
from deepnets.graph import Graph
from ghn_model.ghn import GHN

__all__ = ["DrawnNetworks", "meta_batches"]

DRAWS = 16
"""How often a width is drawn for a network until it is small enough."""


class DrawnNetworks(Dataset[Graph]):
    """Training networks within limits, in widths within limits.

    Parameters
    ----------
    nets
        The training split.
    max_params, max_nodes
        Of a network; 0 for no limit.  Networks that are too large at the width 32, the smallest, are left out; widths
        that make a network too large are drawn again.

    Raises
    ------
    ConfigError
        If nothing is small enough.
    """

    def __init__(self, nets: DeepNets1M, max_params: int = 0, max_nodes: int = 0) -> None:
        self.nets = nets
        self.max_params = max_params
        fit = np.ones(len(nets), bool)
        if max_nodes:
            fit &= nets.num_nodes <= max_nodes
        if max_params:
            fit &= np.asarray(nets.table["num_params"]) <= max_params
        self.indices: npt.NDArray[np.int64] = np.flatnonzero(fit)
        if not len(self.indices):
            raise ConfigError(
                f"{nets!r}: none has at most {max_params or 'any number of'} parameters and {max_nodes or 'any number of'}"
                " nodes; raise max_params or max_nodes"
            )
        self.num_nodes: npt.NDArray[np.int64] = nets.num_nodes[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: tuple[int, int]) -> Graph:
        position, number = index
        for attempt in range(DRAWS):
            graph = self.nets[int(self.indices[position]), number * DRAWS + attempt]
            if not self.max_params or _size(graph) <= self.max_params:
                break
        return graph


def _size(graph: Graph) -> int:
    return sum(int(np.prod(slot.shape)) for slots in graph.parameters for slot in slots)


class _Collate:
    """Several graphs as one batch."""

    def __init__(self, virtual_edges: int) -> None:
        self.virtual_edges = virtual_edges

    def __call__(self, graphs: Sequence[Graph]) -> GraphBatch:
        return GraphBatch(graphs, self.virtual_edges)


def meta_batches(
    nets: DrawnNetworks,
    meta_batch: int,
    virtual_edges: int,
    *,
    seed: int = 0,
    first: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[GraphBatch]:
    """The meta-batches of a training, without end.

    Parameters
    ----------
    nets
        What to draw from.
    meta_batch
        Networks in each, for this process.
    virtual_edges
        Longest path between nodes that are joined.
    seed
        Of the order.
    first
        Number of the first one.
    rank, world_size
        Which of how many processes this is: each has meta-batches of its own.
    workers
        Processes that prepare meta-batches ahead.
    pin_memory
        Whether tensors are in page-locked memory.
    """
    sampler = MetaBatchSampler(nets, meta_batch, seed=seed, rank=rank, world_size=world_size)
    sampler.position = first
    options = {"multiprocessing_context": "forkserver", "prefetch_factor": 4} if workers else {}
    loader: DataLoader[GraphBatch] = DataLoader(
        nets,
        batch_sampler=sampler,  # type: ignore[arg-type]
        collate_fn=_Collate(virtual_edges),
        num_workers=workers,
        pin_memory=pin_memory,
        **options,  # type: ignore[arg-type]
    )
    return iter(loader)
