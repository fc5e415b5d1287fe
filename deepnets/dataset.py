"""`DeepNets1M`: a split of the corpus as a sequence of graphs, and the sampler that draws meta-batches from it.

A dataset is read-only and cheap to open.  It can be handed to the workers of a `torch.utils.data.DataLoader`, forked or
spawned; each opens the file for itself.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepnets.blueprint import IMAGE_SIZES, build_graph, count_parameters, parameter_slots
from deepnets.encoding import decode
from deepnets.errors import ConfigError, IntegrityError
from deepnets.graph import MAX_DISTANCE, Graph, Slots
from deepnets.records import decode_wiring
from deepnets.space import GENOTYPES, NORMS, PRIMITIVES, NetworkConfig
from deepnets.storage import CorpusFile, corpus_path
from deepnets.widths import Width, WidthRule, evaluation_factor

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from deepnets.batch import GraphBatch

__all__ = ["SPLITS", "DeepNets1M", "MetaBatchSampler"]

SPLITS = ("train", "val", "test", "search", "wide", "deep", "dense", "bnfree", "predefined")
"""Every split that can be loaded; all but `predefined` from a file."""

PREDEFINED = (NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False, norm="bn-track"),)
"""Networks that people designed: for now the vision transformer."""

Index = int | tuple[int, int]


class DeepNets1M:
    """One split of DeepNets-1M: a sequence of `Graph`s.

    Parameters
    ----------
    root
        The corpus folder that `make dataset` filled.
    split
        One of `SPLITS`.
    virtual_edges
        Largest distance for which batches of these graphs get virtual edges; 1 for none.
    num_classes, image_size
        Outputs of the classifier and side of the images (32 or 224): they decide parameter shapes and widths.
    num_nets
        Use only so many networks, from the first on.
    wider_nets
        Draw training widths as GHN-3 does.
    seed
        Of the training widths.

    Raises
    ------
    ConfigError
        For an option outside what is allowed, or a split that has not been built.
    FormatError, IntegrityError
        If the file is not a sound corpus file.

    Notes
    -----
    `nets[i]` is a training network at its first drawn width, `nets[i, d]` at its d-th: the same in every process.
    Other splits have fixed widths.

    Examples
    --------
    >>> nets = DeepNets1M("data", split="test")                     # doctest: +SKIP
    >>> len(nets), nets[0]                                          # doctest: +SKIP
    (500, Graph(113 nodes, 126 edges))
    >>> nets.table.num_params.median()                              # doctest: +SKIP
    """

    def __init__(
        self,
        root: Path | str = "data",
        split: str = "train",
        *,
        virtual_edges: int = 50,
        num_classes: int = 10,
        image_size: int = 32,
        num_nets: int | None = None,
        wider_nets: bool = False,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split: unknown {split!r}; use one of {', '.join(SPLITS)}")
        if image_size not in IMAGE_SIZES:
            raise ConfigError(f"image_size: expected one of {', '.join(map(str, IMAGE_SIZES))}; got {image_size!r}")
        if not 1 <= virtual_edges <= MAX_DISTANCE:
            raise ConfigError(f"virtual_edges: expected 1 to {MAX_DISTANCE}, got {virtual_edges!r}")
        if num_nets is not None and num_nets < 1:
            raise ConfigError(f"num_nets: expected 1 or more, got {num_nets!r}")
        self.split = split
        self.virtual_edges = virtual_edges
        self.num_classes = num_classes
        self.image_size = image_size
        self.file: CorpusFile | None = None
        self._widths: WidthRule | None = None
        if split == "predefined":
            available = len(PREDEFINED)
        else:
            path = corpus_path(root, split)
            if not path.exists():
                raise ConfigError(
                    f"{path}: no such file; build it with `make dataset SPLITS={split} OUT={root}` "
                    f"(or `python -m generator build --splits {split} --out {root}`)"
                )
            self.file = CorpusFile(path)
            available = self.file.num_networks
            if split == "train":
                self._widths = WidthRule(self.file, image_size, wider_nets, seed)
        self._length = available if num_nets is None else min(num_nets, available)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Index) -> Graph:
        """Network `index`, or (training) draw `d` of it with `nets[index, d]`; negative indices count from the end."""
        position, draw = index if isinstance(index, tuple) else (index, 0)
        position = operator.index(position)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"split {self.split} has {len(self)} networks, there is no {index}")
        if self.file is None:
            graph = build_graph(PREDEFINED[position], self.num_classes, self.image_size)
            graph.index, graph.virtual_edges = position, self.virtual_edges
            return graph
        try:
            arrays = decode_wiring(self.file.wiring(position, position + 1))
            config = partial(self._config, position, self._width(position, draw))
            node_types, cells, names, in_degrees, sources = arrays
            return Graph(
                node_types,
                cells,
                in_degrees,
                sources,
                names=names,
                config=config,
                slots=partial(_slots, config, self.num_classes, self.image_size),
                index=position,
                virtual_edges=self.virtual_edges,
            )
        except IntegrityError as error:
            raise self._damaged(position, error) from error

    def __iter__(self) -> Iterator[Graph]:
        return (self[i] for i in range(len(self)))

    def config(self, index: int) -> NetworkConfig:
        """The architecture of a network, without its graph."""
        return self[index].config

    @property
    def num_nodes(self) -> npt.NDArray[np.int64]:
        """`(len(self),) int64`, number of nodes of every graph."""
        if self.file is None:
            return np.array([graph.num_nodes for graph in self])
        return self.file.column("num_nodes")[: len(self)].astype(np.int64)

    @property
    def table(self) -> pd.DataFrame:
        """One row per network: the fields of its config, its sizes, and how often each primitive occurs in it.

        `num_params` counts the parameters for 32-pixel, `num_params_imagenet` for 224-pixel images, both with 10
        classes as in the original release.  Training networks are counted at the width 32, before one is drawn.
        """
        if self.file is None:
            return pd.DataFrame([_row(graph.config) for graph in self])
        columns = {name: values[: len(self)] for name, values in self.file.columns.items()}
        table = pd.DataFrame({name: values for name, values in columns.items() if values.ndim == 1})
        table["norm"] = pd.Categorical.from_codes(table["norm"], [str(norm) for norm in NORMS])
        for flag in ("stem_pool", "preproc", "glob_avg"):
            table[flag] = table[flag].astype(bool)
        for code, primitive in enumerate(PRIMITIVES):
            table[primitive] = (columns["ops"] == code).sum(axis=(1, 2)).astype(np.uint8)
        if evaluation_factor(self.split, self.image_size) > 1:
            configs = [self.config(i) for i in range(len(self))]
            table["C"] = [config.C for config in configs]
            table["num_params"] = [count_parameters(config) for config in configs]
            table["num_params_imagenet"] = [count_parameters(config, 10, 224) for config in configs]
        return table.drop(columns=["num_rows", "imagenet_stride"])

    def loader(
        self, meta_batch_size: int = 8, *, num_workers: int = 0, seed: int = 0, **options: Any
    ) -> DataLoader[GraphBatch]:
        """A `DataLoader` of `GraphBatch`es: endless meta-batches of the training split, one by one of the others.

        Parameters
        ----------
        meta_batch_size, seed
            As in `MetaBatchSampler`.
        num_workers
            Processes that read and batch ahead.
        options
            For the `DataLoader`: `pin_memory`, `multiprocessing_context`, ...
        """
        from torch.utils.data import DataLoader

        from deepnets.batch import GraphBatch

        if self.split != "train":
            return DataLoader(self, batch_size=1, num_workers=num_workers, collate_fn=GraphBatch, **options)  # type: ignore[arg-type]
        sampler = MetaBatchSampler(self, meta_batch_size, seed=seed)
        return DataLoader(self, batch_sampler=sampler, num_workers=num_workers, collate_fn=GraphBatch, **options)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def __repr__(self) -> str:
        return f"DeepNets1M(split={self.split!r}, {len(self):,} networks)"

    def _width(self, position: int, draw: int) -> Width | None:
        return self._widths.draw(position, draw) if self._widths else None

    def _config(self, position: int, width: Width | None) -> NetworkConfig:
        assert self.file is not None  # noqa: S101
        try:
            config = decode(self.file.architectures(np.array([position]))[0])
        except ConfigError as error:
            raise self._damaged(position, error) from error
        if width is not None:
            return config.replace(**width._asdict())
        factor = evaluation_factor(self.split, self.image_size)
        return config.replace(C=factor * config.C) if factor > 1 else config

    def _damaged(self, position: int, error: Exception) -> IntegrityError:
        assert self.file is not None  # noqa: S101
        if str(self.file.path) in str(error):
            return IntegrityError(str(error))
        return IntegrityError(f"{self.file.path}: split {self.split}, network {position}: {error}")


class MetaBatchSampler:
    """Endless random groups of networks for training, for the `batch_sampler` of a `DataLoader`.

    Every pass goes through the networks once, in random order, in consecutive groups.  A group whose graphs have too
    many nodes together is skipped, which bounds the memory of a training step.

    Parameters
    ----------
    nets
        What to draw from; anything with `num_nodes`.
    meta_batch_size
        Networks in a group.
    max_nodes
        Most nodes in a group; by default 275 per network, but at least 2,200, and no limit for groups of one
        (Knyazev et al., ICML 2023).  For groups of 8 this is the limit of Knyazev et al. (NeurIPS 2021).
    seed
        Of the order.
    rank, world_size
        Give every process of a distributed training its own groups: each the same number of them.

    Notes
    -----
    Yields lists of `(index, pass)`: as an index of `DeepNets1M`, the second number draws a new width in every pass.
    `position` is the number of groups yielded so far; set it (with the same other parameters) to continue from there.
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
        if meta_batch_size < 1:
            raise ConfigError(f"meta_batch_size: expected 1 or more, got {meta_batch_size!r}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank: expected 0 to {world_size - 1}, got {rank!r}")
        self._num_nodes = nets.num_nodes
        self._size = meta_batch_size
        self._limit = max_nodes
        if max_nodes is None and meta_batch_size > 1:
            self._limit = 2200 * max(8, meta_batch_size) // 8
        if self._limit is not None and int(self._num_nodes.min()) > self._limit:
            raise ConfigError(f"max_nodes: no network has as few as {self._limit} nodes")
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        self.position = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first = self.position * self._world_size + self._rank
        for group in itertools.islice(self._groups(), first, None, self._world_size):
            self.position += 1
            yield group

    def _groups(self) -> Iterator[list[tuple[int, int]]]:
        passes = 0
        empty = 0
        while True:
            words = np.random.Philox(key=self._seed, counter=[0, 0, passes, 1])
            order = np.random.Generator(words).permutation(len(self._num_nodes))
            starts = np.arange(0, len(order), self._size)
            totals = np.add.reduceat(self._num_nodes[order], starts)
            fitting = starts if self._limit is None else starts[totals <= self._limit]
            empty = 0 if len(fitting) else empty + 1
            if empty == 100:
                raise ConfigError(
                    f"max_nodes: in {empty} passes no group of {self._size} had {self._limit} nodes or fewer"
                )
            for start in fitting.tolist():
                yield [(i, passes) for i in order[start : start + self._size].tolist()]
            passes += 1


def _slots(config: partial[NetworkConfig], num_classes: int, image_size: int) -> Slots:
    return parameter_slots(config(), num_classes, image_size)


def _row(config: NetworkConfig) -> dict[str, Any]:
    graph = build_graph(config)
    fields = {name: value for name, value in config.to_dict().items() if name not in ("genotype", "imagenet_stride")}
    ops = [op for op, _ in config.genotype.normal + config.genotype.reduce]
    return {
        **fields,
        "steps": config.genotype.steps,
        "num_nodes": graph.num_nodes,
        "num_edges": graph.num_edges,
        "num_params": count_parameters(config),
        "num_params_imagenet": count_parameters(config, 10, 224),
        **{primitive: ops.count(primitive) for primitive in PRIMITIVES},
    }
