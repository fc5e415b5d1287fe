"""The networks to train: those of a split, models of a library, or models of the user."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmark.evaluation import LIBRARIES, Networks, open_networks
from benchmark.training import state_name
from deepnets.architecture import GENOTYPES, Network, NetworkConfig, has_cifar_stem
from deepnets.corpus import DeepNets1M
from deepnets.graph import Graph, build_graph
from deepnets.support import ConfigError, load_model
from ghn_model import graph_of

__all__ = ["TrainingJob", "genotype_config", "genotype_jobs", "jobs_of", "model_jobs"]


@dataclass(frozen=True)
class TrainingJob:
    """A network to train.

    Attributes
    ----------
    split, index, network
        Split or library, index in it, and name (possibly empty) of the network, as in tables.
    key
        Number below 2**63 that seeds its random numbers, independently of the other networks.
    build
        Function that builds the network with random parameters.
    graph
        Function from the built network and a vocabulary (see `deepnets.trace`) to its graph.

    Examples
    --------
    >>> (job,) = model_jobs(["torch.nn:Identity"], num_classes=10, image_size=32)
    >>> job.name
    'models-torch.nn-Identity'
    """

    split: str
    index: int
    network: str
    key: int
    build: Callable[[], nn.Module]
    graph: Callable[[nn.Module, str], Graph]

    @property
    def name(self) -> str:
        """Name of the file of the trained network, without suffix."""
        return state_name(self.split, self.network or self.index)


def jobs_of(networks: Networks, indices: Sequence[int], first: int = 0) -> list[TrainingJob]:
    """Return the jobs of networks of a split or library.

    Parameters
    ----------
    networks
        The split or library.
    indices
        Indices of the networks.
    first
        Number that is added to the indices in tables.

    Raises
    ------
    ConfigError
        If an index is out of range.

    Examples
    --------
    >>> networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    >>> [job.name for job in jobs_of(networks, [1, 0])]
    ['predefined-vit', 'predefined-resnet50']
    """
    total = len(networks)
    if outside := [index for index in indices if not 0 <= index < total]:
        raise ConfigError(f"index: split {networks.name} has networks 0 to {total - 1}, there is no {outside[0]}")

    def job(index: int) -> TrainingJob:
        name, key = networks.name_of(index), networks.key_of(index)
        return TrainingJob(
            networks.name,
            first + index,
            name,
            key,
            build=lambda: networks.build(index),
            graph=lambda _, vocabulary: networks.graph(index, vocabulary),
        )

    return [job(index) for index in indices]


def genotype_config(name: str, image_size: int, width: int | None = None, n_cells: int | None = None) -> NetworkConfig:
    """Return the network that is trained for a genotype.

    Parameters
    ----------
    name
        One of `deepnets.GENOTYPES`.
    image_size
        Height and width of the images, 16 to 512, which determines the stem and the defaults.
    width, n_cells
        Initial number of channels and number of cells.  By default those of DARTS (Liu et al., ICLR 2019): 36 and 20
        for up to 64 pixels, 48 and 14 for larger images; for the vision transformer those of the split `predefined`.

    Raises
    ------
    ConfigError
        If there is no such genotype, or a value is not allowed.

    Examples
    --------
    >>> config = genotype_config("DARTS", 32)
    >>> config.C, config.n_cells
    (36, 20)
    """
    if name not in GENOTYPES:
        raise ConfigError(f"network: unknown genotype {name!r}; use one of {', '.join(GENOTYPES)}")
    if name == "ViT":
        config = DeepNets1M("", "predefined")[1].config
    elif has_cifar_stem(image_size):
        config = NetworkConfig(GENOTYPES[name], n_cells=20, C=36)
    else:
        config = NetworkConfig(GENOTYPES[name], n_cells=14, C=48, stem_type=1)
    return config.replace(C=width or config.C, n_cells=n_cells or config.n_cells)


def genotype_jobs(
    names: Sequence[str], num_classes: int, image_size: int, width: int | None = None, n_cells: int | None = None
) -> list[TrainingJob]:
    """Return the jobs of networks by the names of their genotypes.

    Parameters
    ----------
    names
        Names in `deepnets.GENOTYPES`.
    num_classes
        Number of classes.
    image_size, width, n_cells
        As in `genotype_config`.

    Raises
    ------
    ConfigError
        As in `genotype_config`, or if a genotype is named twice.

    Examples
    --------
    >>> (job,) = genotype_jobs(["DARTS"], num_classes=10, image_size=32, width=16)
    >>> job.name
    'genotypes-DARTS-C16-L20'
    """
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"network: named twice: {', '.join(repeated)}")

    def job(name: str, index: int) -> TrainingJob:
        config = genotype_config(name, image_size, width, n_cells)
        network = f"{name}-C{config.C}-L{config.n_cells}"
        build, graph = (
            lambda: Network(config, num_classes, image_size),
            lambda _, vocabulary: build_graph(config, num_classes, image_size),
        )
        return TrainingJob("genotypes", index, network, _key(network), build, graph)

    return [job(name, index) for index, name in enumerate(names)]


def model_jobs(specs: Sequence[str], num_classes: int, image_size: int) -> list[TrainingJob]:
    """Return the jobs of models by name.

    Parameters
    ----------
    specs
        "torchvision:NAME" and "timm:NAME", as for `benchmark.evaluation.open_networks`, or "module:callable" of a
        function that builds a model and accepts the argument `num_classes`.
    num_classes, image_size
        Number of classes, and height and width of the images.

    Raises
    ------
    ConfigError
        If a library has no such model, or a model is named twice.

    Examples
    --------
    >>> [job.index for job in model_jobs(["my_models:small", "my_models:large"], num_classes=10, image_size=32)]
    [0, 1]
    """

    def job(spec: str, index: int) -> TrainingJob:
        example = torch.empty(1, 3, image_size, image_size)
        return TrainingJob(
            "models",
            index,
            spec,
            _key(spec),
            build=lambda: load_model(spec, num_classes=num_classes),
            graph=lambda model, vocabulary: graph_of(model, example, vocabulary),
        )

    jobs: list[TrainingJob] = []
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


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
