"""Batches of training networks, prepared for a hypernetwork by the worker processes of a data loader.

Which networks are in a batch is a function of the seed and the number of the step alone, so a training can resume at
any step.
"""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from deepnets.corpus import DeepNets1M, MetaBatchSampler
from deepnets.families import FamilyNetworks
from deepnets.graph import Graph
from deepnets.support import ConfigError, EndWithParent, in_one_line
from deepnets.support.optional_models import without_values
from ghn_model.training.loading import supervised

__all__ = ["DrawnNetworks", "MetaBatch", "meta_batches"]

MAX_DRAWS = 16
"""How many widths are drawn for a network until one of them respects `max_params`."""

MAX_NETWORKS = 1000
"""How many networks are tried until one of them respects the limits."""


class DrawnNetworks(Dataset[Graph]):
    """Training networks within limits on their size.

    Networks that exceed a limit at the smallest width, for ten classes and 32 pixels, are excluded; widths that make a
    network too large are redrawn.  A network of which no drawn width fits, as for more classes, and a network of a
    family that exceeds a limit, whose size is known when it is built, is replaced by the next one that does fit.

    Parameters
    ----------
    nets : DeepNets1M or FamilyNetworks
        The training split.
    max_params, max_nodes : int, default 0
        Largest number of parameters and of graph nodes; 0 for no limit.

    Raises
    ------
    ConfigError
        If no network respects the limits; also when a network is drawn.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> drawn = DrawnNetworks(DeepNets1M(split="predefined"), max_params=2_000_000)
    >>> len(drawn), drawn.num_nodes
    (1, array([129]))
    """

    def __init__(self, nets: DeepNets1M | FamilyNetworks, max_params: int = 0, max_nodes: int = 0) -> None:
        self.nets = nets
        self.max_params, self.max_nodes = max_params, max_nodes
        self.indices: npt.NDArray[np.int64]
        self.num_nodes: npt.NDArray[np.int64]
        if isinstance(nets, FamilyNetworks):
            self.indices = np.arange(len(nets), dtype=np.int64)
            self.num_nodes = np.zeros(len(nets), np.int64)  # not known before all networks are built
            return
        allowed = np.ones(len(nets), bool)
        if max_nodes:
            allowed &= nets.num_nodes <= max_nodes
        if max_params:
            allowed &= np.asarray(nets.table["num_params"]) <= max_params
        self.indices = np.flatnonzero(allowed)
        if not len(self.indices):
            raise self._error("no network has")
        self.num_nodes = nets.num_nodes[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: tuple[int, int]) -> Graph:
        """Return a network for a pair of numbers: the network, and the pass that decides its width."""
        position, number = index
        if isinstance(self.nets, FamilyNetworks):
            return self._drawn_from_family(self.nets, position)
        most = min(MAX_NETWORKS, len(self.indices))
        for shift in range(most):  # the network itself, if one of its widths fits; else the next that has one
            tried = int(self.indices[(position + shift) % len(self.indices)])
            for attempt in range(MAX_DRAWS):
                graph = self.nets[tried, number * MAX_DRAWS + attempt]
                if not self.max_params or _num_params(graph) <= self.max_params:
                    return graph
        raise self._error(f"among {most:,} networks, none has")

    def _drawn_from_family(self, nets: FamilyNetworks, position: int) -> Graph:
        for attempt in range(min(MAX_NETWORKS, len(nets))):
            index = (position + attempt) % len(nets)
            if self.max_params and nets.num_params(index) > self.max_params:
                continue
            graph = nets[index]
            if not self.max_nodes or graph.num_nodes <= self.max_nodes:
                return graph
        raise self._error(f"among {min(MAX_NETWORKS, len(nets)):,} networks, none has")

    def _error(self, what: str) -> ConfigError:
        limits = {"parameters (max_params)": self.max_params, "nodes (max_nodes)": self.max_nodes}
        text = " and ".join(f"at most {limit:,} {unit}" for unit, limit in limits.items() if limit)
        return ConfigError(f"{self.nets!r}: {what} {text}; increase the limit")


@dataclass(frozen=True)
class MetaBatch:
    """Graphs of a training step.

    Parameters
    ----------
    graphs : list of Graph
        The graphs.
    inputs : object
        What the hypernetwork's `forward` takes: the result of its method `prepare`, or the graphs.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN, GHNConfig
    >>> graphs = [build_graph(NetworkConfig(GENOTYPES["ViT"], n_cells=1))]
    >>> batch = MetaBatch.of(GHN(GHNConfig(hidden=8)), graphs)
    >>> batch.graphs == graphs, len(GHN(GHNConfig(hidden=8))(batch.inputs))
    (True, 1)
    """

    graphs: list[Graph]
    inputs: Any

    @classmethod
    def of(cls, hypernetwork: nn.Module, graphs: Sequence[Graph]) -> MetaBatch:
        """Prepare graphs for a hypernetwork, which needs no weights for that."""
        graphs = list(graphs)
        prepare: Any = getattr(hypernetwork, "prepare", list)
        return cls(graphs, prepare(graphs))

    def to(self, device: torch.device) -> MetaBatch:
        """Return a copy on a device; the transfer from page-locked memory is asynchronous."""
        if not hasattr(self.inputs, "to"):
            return self
        return MetaBatch(self.graphs, self.inputs.to(device, non_blocking=True))

    def pin_memory(self) -> MetaBatch:
        """Return a copy with its tensors in page-locked memory; called by `DataLoader`."""
        if not hasattr(self.inputs, "pin_memory"):
            return self
        return MetaBatch(self.graphs, self.inputs.pin_memory())


class _Collate:
    """Prepares graphs in a worker process, with a copy of the hypernetwork without weights."""

    def __init__(self, hypernetwork: nn.Module) -> None:
        self.hypernetwork = without_values(hypernetwork) if hasattr(hypernetwork, "prepare") else nn.Module()

    def __call__(self, graphs: Sequence[Graph]) -> MetaBatch:
        return MetaBatch.of(self.hypernetwork, graphs)


def meta_batches(
    nets: DrawnNetworks,
    hypernetwork: nn.Module,
    meta_batch_size: int,
    *,
    seed: int = 0,
    first: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    for_gpu: bool = False,
) -> Iterator[MetaBatch]:
    """Return an endless iterator of the meta-batches of a training.

    Parameters
    ----------
    nets : DrawnNetworks
        Networks to draw from.
    hypernetwork : nn.Module
        Hypernetwork that the graphs are prepared for.
    meta_batch_size : int
        Networks per step of this process.
    seed : int, default 0
        Seed of the order.
    first : int, default 0
        Step of the first meta-batch.
    rank, world_size : int
        Number of this process and of all processes; each gets its own networks.
    workers : int, default 0
        Worker processes that prepare meta-batches ahead; 0 prepares them in this process.
    for_gpu : bool, default False
        Whether to put the batches into page-locked memory, for fast copies to a GPU.

    Raises
    ------
    ConfigError
        If the networks cannot be sent to worker processes.
    LoaderError
        By the iterator, if a worker process has ended.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> from ghn_model import GHN, GHNConfig
    >>> nets = DrawnNetworks(DeepNets1M(split="predefined"), max_params=2_000_000)
    >>> next(meta_batches(nets, GHN(GHNConfig(hidden=8)), 1)).graphs[0].num_nodes
    129
    """
    if workers:
        _check_pickles(nets)
    sampler = MetaBatchSampler(nets, meta_batch_size, seed=seed, rank=rank, world_size=world_size)
    sampler.position = first
    ahead = {"multiprocessing_context": "forkserver", "prefetch_factor": 4, "worker_init_fn": EndWithParent()}
    loader: DataLoader[MetaBatch] = DataLoader(
        nets,  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=_Collate(hypernetwork),
        num_workers=workers,
        pin_memory=for_gpu and torch.cuda.is_available(),
        **(ahead if workers else {}),  # type: ignore[arg-type]
    )
    return supervised(loader)


def _check_pickles(nets: DrawnNetworks) -> None:
    """Check that networks can be sent to worker processes: functions are sent by name."""
    try:
        data = pickle.dumps(nets)
    except Exception as error:  # pickle raises several types
        raise _not_sent(in_one_line(error, 200)) from error
    if b"__main__" in data and not hasattr(sys.modules["__main__"], "__file__"):
        raise _not_sent("functions or classes of a notebook have no file")


def _not_sent(reason: str) -> ConfigError:
    return ConfigError(
        f"networks: cannot be sent to worker processes: {reason}; define functions with def in a module, or use "
        "workers=0 (--workers 0)"
    )


def _num_params(graph: Graph) -> int:
    return sum(math.prod(slot.shape) for slots in graph.parameters for slot in slots)
