"""What a training step needs of its networks, prepared by the workers of a loader: graphs as index arrays.

Which networks come in which step is a function of the seed and the number of the step alone, so that a training which
is continued sees what it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from deepnets.corpus import DeepNets1M, MetaBatchSampler
from deepnets.graph import Graph
from deepnets.support import ConfigError
from ghn_model.collation import collate_graphs
from ghn_model.config import GHNConfig
from ghn_model.encoders import Encoder, make_encoder
from ghn_model.prepared_batch import PreparedBatch
from ghn_model.training.signals import ignore_signals

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
            limits = {"parameters (max_params)": max_params, "nodes (max_nodes)": max_nodes}
            text = " and ".join(f"at most {limit:,} {what}" for what, limit in limits.items() if limit)
            raise ConfigError(f"{nets!r}: none has {text}; allow more")
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


def meta_batches(
    nets: DrawnNetworks,
    config: GHNConfig,
    meta_batch: int,
    *,
    seed: int = 0,
    first: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    for_gpu: bool = False,
) -> Iterator[PreparedBatch]:
    """The meta-batches of a training, without end.

    Parameters
    ----------
    nets
        What to draw from.
    config
        Of the hypernetwork that they are prepared for.
    meta_batch
        Networks in each, for this process.
    seed
        Of the order.
    first
        Number of the first one.
    rank, world_size
        Which of how many processes this is: each has meta-batches of its own.
    workers
        Processes that prepare meta-batches ahead.
    for_gpu
        Whether they are prepared for a GPU, in page-locked memory.
    """
    with torch.device("meta"):
        encoder = cast(Encoder, make_encoder(config))  # prepares graphs without its weights
    sampler = MetaBatchSampler(nets, meta_batch, seed=seed, rank=rank, world_size=world_size)
    sampler.position = first
    ahead = {"multiprocessing_context": "forkserver", "prefetch_factor": 4, "worker_init_fn": ignore_signals}
    loader: DataLoader[PreparedBatch] = DataLoader(
        nets,  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=partial(collate_graphs, config=config, encoder=encoder),
        num_workers=workers,
        pin_memory=for_gpu and torch.cuda.is_available(),
        **(ahead if workers else {}),  # type: ignore[arg-type]
    )
    return iter(loader)


def _size(graph: Graph) -> int:
    return sum(math.prod(slot.shape) for slots in graph.parameters for slot in slots)
