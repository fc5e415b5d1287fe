"""The networks that are trained: those of a split, models of a library, or anybody's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmark.evaluation import LIBRARIES, ModelNetworks, Networks, SplitNetworks, open_networks
from deepnets.graph import Graph
from deepnets.support import ConfigError, load_model
from ghn_model import graph_of

__all__ = ["Job", "jobs_of", "model_jobs"]


@dataclass(frozen=True)
class Job:
    """A network to train.

    Attributes
    ----------
    split, index, network
        What it is called in tables: where it comes from, its number there, and its name, if it has one.
    key
        A number below 2**63 for its random numbers, whichever other networks there are.
    build
        Makes it, with random parameters.
    graph
        The graph of what `build` has made.
    """

    split: str
    index: int
    network: str
    key: int
    build: Callable[[], nn.Module]
    graph: Callable[[nn.Module], Graph]

    @property
    def name(self) -> str:
        """Of its file, without suffix."""
        return f"{self.split}-{re.sub('[^A-Za-z0-9._-]', '-', self.network) or self.index}"


def jobs_of(networks: Networks | SplitNetworks | ModelNetworks, indices: Sequence[int], first: int = 0) -> list[Job]:
    """Networks that can be evaluated, too.

    Parameters
    ----------
    networks
        All of them.
    indices
        Which.
    first
        What is added to their numbers in tables.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    total = len(networks)
    if outside := [index for index in indices if not 0 <= index < total]:
        raise ConfigError(f"index: split {networks.name} has networks 0 to {total - 1}, there is no {outside[0]}")

    def job(index: int) -> Job:
        name, key = networks.name_of(index), networks.key_of(index)
        build, graph = lambda: networks.build(index), lambda _: networks.graph(index)
        return Job(networks.name, first + index, name, key, build, graph)

    return [job(index) for index in indices]


def model_jobs(specs: Sequence[str], num_classes: int, image_size: int) -> list[Job]:
    """Models by name.

    Parameters
    ----------
    specs
        "torchvision:NAME" and "timm:NAME", as for `benchmark.evaluation.open_networks`, or "module:callable", which is
        called with `num_classes`.
    num_classes, image_size
        Of the task.

    Raises
    ------
    ConfigError
        If a library has no such model, or a model is named twice.
    """

    def job(spec: str, index: int) -> Job:
        key = int.from_bytes(hashlib.sha256(spec.encode()).digest()[:8], "little") >> 1
        example = torch.empty(1, 3, image_size, image_size)
        build, graph = lambda: load_model(spec, num_classes=num_classes), lambda model: graph_of(model, example)
        return Job("models", index, spec, key, build, graph)

    jobs: list[Job] = []
    for spec in specs:
        if spec.partition(":")[0] in LIBRARIES:
            networks = open_networks(spec, data="", num_classes=num_classes, image_size=image_size)
            jobs += jobs_of(networks, range(len(networks)), len(jobs))
        else:
            jobs.append(job(spec, len(jobs)))
    names = [each.name for each in jobs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"model: named twice: {', '.join(repeated)}")
    return jobs
