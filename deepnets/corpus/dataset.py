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

from deepnets.architecture import NORMS, PRIMITIVES, NetworkConfig, checked_task, decode, encode
from deepnets.corpus.predefined import (
    NUM_PREDEFINED,
    RESNET_50,
    VIT,
    predefined_graph,
    predefined_measures,
    predefined_network,
)
from deepnets.corpus.statistics import tabulate
from deepnets.corpus.storage import Columns, CorpusFile, corpus_path
from deepnets.corpus.widths import Width, WidthRule, evaluation_factor
from deepnets.corpus.wiring import decode_wiring
from deepnets.graph import MAX_DISTANCE, Graph, Slots, count_parameters, parameter_slots
from deepnets.support import ConfigError, FormatError, IntegrityError, at_least, checked_integer

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

    from deepnets.graph import GraphBatch

__all__ = ["SPLITS", "DeepNets1M", "MetaBatchSampler"]

SPLITS = ("train", "val", "test", "search", "wide", "deep", "dense", "bnfree", "predefined")
"""Every split that can be loaded; all but `predefined` from a file."""

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
        self.split = split
        self.virtual_edges = checked_integer("virtual_edges", virtual_edges, range(1, MAX_DISTANCE + 1))
        self.num_classes, self.image_size = checked_task(num_classes, image_size)
        seed = checked_integer("seed", seed, at_least(0))
        if num_nets is not None:
            num_nets = checked_integer("num_nets", num_nets, at_least(1))
        self.file: CorpusFile | None = None
        self._widths: WidthRule | None = None
        if split == "predefined":
            available = NUM_PREDEFINED
        else:
            path = corpus_path(root, split)
            if not path.exists():
                raise ConfigError(
                    f"{path}: no such file; build it with `make dataset SPLITS={split} OUT={root}` "
                    f"(or `python -m generator build --splits {split} --out {root}`)"
                )
            self.file = CorpusFile(path)
            if self.file.split != split:
                raise FormatError(f"{path}: holds the split {self.file.split!r}, not {split!r}; was it renamed?")
            available = self.file.num_networks
            if split == "train":
                self._widths = WidthRule(self.file, image_size, wider_nets, seed)
        self._length = available if num_nets is None else min(num_nets, available)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Index) -> Graph:
        """Network `index`, or (training) draw `d` of it with `nets[index, d]`; negative indices count from the end."""
        position, draw = self._place(index)
        if self.file is None:
            graph = predefined_graph(position, self.num_classes, self.image_size)
            graph.index, graph.virtual_edges = position, self.virtual_edges
            return graph
        where = f"{self.file.path}: split {self.split}, network {position}"
        rows = self.file.wiring(position, position + 1)
        try:
            node_types, cells, names, in_degrees, sources = decode_wiring(rows)
        except IntegrityError as error:
            raise IntegrityError(f"{where}: {error}") from error
        # What a graph still needs of the file goes with it, so that it can be sent to another process without it.
        config = partial(
            _config, self.file.architectures(slice(position, position + 1)), self._width(position, draw), where
        )
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

    def __iter__(self) -> Iterator[Graph]:
        return (self[i] for i in range(len(self)))

    def config(self, index: int) -> NetworkConfig:
        """The architecture of a network, without its graph."""
        return self[index].config

    def network(self, index: Index) -> nn.Module:
        """A network itself, with PyTorch's default initialisation: of the predefined split, also one without config."""
        position, _ = self._place(index)
        if self.file is None:
            return predefined_network(position, self.num_classes, self.image_size)
        from deepnets.architecture import Network

        return Network(self[index].config, self.num_classes, self.image_size)

    @property
    def num_nodes(self) -> npt.NDArray[np.int64]:
        """`(len(self),) int64`, number of nodes of every graph."""
        if self.file is None:
            return np.array([predefined_measures(i)["num_nodes"] for i in range(len(self))], np.int64)
        return self.file.column("num_nodes")[: len(self)].astype(np.int64)

    @property
    def table(self) -> pd.DataFrame:
        """One row per network: the fields of its config, its sizes, and how often each primitive occurs in it.

        `num_params` counts the parameters for 32-pixel, `num_params_imagenet` for 224-pixel images, both with 10
        classes as in the original release, each at the width that networks of the split have with such images.
        Training networks are counted at the width 32, before one is drawn.  The predefined ResNet-50 has no config.
        """
        if self.file is not None:
            return self._tabulated({name: values[: len(self)] for name, values in self.file.columns.items()})
        architectures = encode([VIT])
        measures, _ = tabulate(architectures)
        vit = self._tabulated(
            {name: part[name] for part in (architectures, measures) for name in part.dtype.names or ()}
        )
        resnet = pd.DataFrame([predefined_measures(RESNET_50)], columns=vit.columns)
        return pd.concat([resnet, vit], ignore_index=True)[: len(self)]

    def _tabulated(self, columns: Columns) -> pd.DataFrame:
        table = pd.DataFrame({name: values for name, values in columns.items() if values.ndim == 1})
        table["norm"] = pd.Categorical.from_codes(table["norm"], [str(norm) for norm in NORMS])
        for flag in ("stem_pool", "preproc", "glob_avg"):
            table[flag] = table[flag].astype(bool)
        for code, primitive in enumerate(PRIMITIVES):
            table[primitive] = (columns["ops"] == code).sum(axis=(1, 2)).astype(np.uint8)
        if self.split == "wide":  # the file states the widths of the `test` networks
            stored = [decode(record) for record in self.file.architectures(slice(len(self)))] if self.file else []
            for column, size in (("num_params", 32), ("num_params_imagenet", 224)):
                wide = [config.replace(C=config.C * evaluation_factor("wide", size)) for config in stored]
                table[column] = np.array([count_parameters(config, image_size=size) for config in wide], np.uint64)
            table["C"] *= evaluation_factor("wide", self.image_size)
        return table.drop(columns=["num_rows", "imagenet_stride"])

    def loader(
        self,
        meta_batch_size: int = 8,
        *,
        num_workers: int = 0,
        seed: int = 0,
        sampler: MetaBatchSampler | None = None,
        **options: Any,
    ) -> DataLoader[GraphBatch]:
        """A `DataLoader` of `GraphBatch`es: endless meta-batches of the training split, one by one of the others.

        Parameters
        ----------
        meta_batch_size, seed
            As in `MetaBatchSampler`.
        num_workers
            Processes that read and batch ahead.
        sampler
            In place of one made from these: with another limit of nodes, for one of several ranks, or to continue.
        options
            For the `DataLoader`: `pin_memory`, `multiprocessing_context`, ...
        """
        from torch.utils.data import DataLoader

        from deepnets.graph import GraphBatch

        if self.split != "train":
            return DataLoader(self, batch_size=1, num_workers=num_workers, collate_fn=GraphBatch, **options)  # type: ignore[arg-type]
        sampler = sampler or MetaBatchSampler(self, meta_batch_size, seed=seed)
        return DataLoader(self, batch_sampler=sampler, num_workers=num_workers, collate_fn=GraphBatch, **options)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def __repr__(self) -> str:
        return f"DeepNets1M(split={self.split!r}, {len(self):,} networks)"

    def _place(self, index: Index) -> tuple[int, int]:
        """Position and draw that an index stands for."""
        position, draw = index if isinstance(index, tuple) and len(index) == 2 else (index, 0)
        try:
            position, draw = operator.index(position), operator.index(draw)
        except TypeError as error:
            raise TypeError(
                f"index: expected an integer, or a pair (integer, draw), got {index!r}; for several networks write "
                "[nets[i] for i in ...]"
            ) from error
        if not -len(self) <= position < len(self):
            raise IndexError(f"split {self.split} has {len(self)} networks, there is no {position}")
        if draw < 0:
            raise IndexError(f"draws count from 0, got {draw}")
        return position % len(self), draw

    def _width(self, position: int, draw: int) -> Width | int:
        """What is drawn for a training network; by how much the width of another is multiplied."""
        if self._widths:
            return self._widths.draw(position, draw)
        return evaluation_factor(self.split, self.image_size)


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
        Share groups of `meta_batch_size * world_size` networks among the processes of a distributed training, each of
        which gets `meta_batch_size` of every group and about as many nodes as the others.

    Notes
    -----
    Yields lists of `(index, pass)`: as an index of `DeepNets1M`, the second number draws a new width in every pass.
    `position` is the number of groups yielded so far, those that loader workers hold ready included.  To continue a
    training, set it to the number of groups that were trained on, with the same other parameters.
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
        self._size = checked_integer("meta_batch_size", meta_batch_size, at_least(1)) * self._world_size
        self._limit: int | None = None
        if max_nodes is not None:
            self._limit = checked_integer("max_nodes", max_nodes, at_least(1))
        elif self._size > 1:
            self._limit = 2200 * max(8, self._size) // 8
        if self._limit is not None and int(self._num_nodes.min()) > self._limit:
            raise ConfigError(f"max_nodes: no network has as few as {self._limit} nodes")
        self._seed = checked_integer("seed", seed, at_least(0))
        self.position = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for group in itertools.islice(self._groups(), self.position, None):
            self.position += 1
            yield self._share(group)

    def _share(self, group: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The part of a group that is this process's: the networks by size, dealt out forth and back."""
        if self._world_size == 1:
            return group
        group = sorted(group, key=lambda pair: (-int(self._num_nodes[pair[0]]), pair))
        rounds = [group[start : start + self._world_size] for start in range(0, len(group), self._world_size)]
        hands = [some if number % 2 == 0 else some[::-1] for number, some in enumerate(rounds)]
        return [some[self._rank] for some in hands if self._rank < len(some)]

    def _groups(self) -> Iterator[list[tuple[int, int]]]:
        passes = 0
        empty = 0
        while True:
            words = np.random.Philox(key=self._seed, counter=[0, 0, passes, 1])
            order = np.random.Generator(words).permutation(len(self._num_nodes))
            # Processes that share groups all need networks of the last one, too.
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


def _config(record: npt.NDArray[np.void], width: Width | int, where: str) -> NetworkConfig:
    """The config of a stored network, at its drawn width or at a multiple of the stored one."""
    try:
        config = decode(record[0])
        return config.replace(**({"C": width * config.C} if isinstance(width, int) else width._asdict()))
    except ConfigError as error:
        raise IntegrityError(f"{where}: {error}") from error


def _slots(config: partial[NetworkConfig], num_classes: int, image_size: int) -> Slots:
    return parameter_slots(config(), num_classes, image_size)
