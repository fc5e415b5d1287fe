"""`DeepNets1M`: a split of the corpus as a sequence of graphs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepnets.architecture import NetworkConfig, checked_task
from deepnets.corpus.layout import NETWORK_SPLITS, corpus_path
from deepnets.corpus.network_table import network_table
from deepnets.corpus.predefined import (
    NUM_PREDEFINED,
    predefined_config,
    predefined_graph,
    predefined_network,
    predefined_statistics,
)
from deepnets.corpus.sampler import MetaBatchSampler
from deepnets.corpus.storage import CorpusFile
from deepnets.corpus.stored_network import StoredNetwork
from deepnets.corpus.widths import WidthRule, evaluation_factor
from deepnets.corpus.wiring import decode_wiring
from deepnets.graph import MAX_DISTANCE, Graph
from deepnets.support import (
    ConfigError,
    FormatError,
    IntegrityError,
    MissingDataError,
    MissingDependencyError,
    at_least,
    checked_integer,
    install_command,
    naming_extras,
)

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

    from deepnets.corpus.pyg_dataset import PyGDataset
    from deepnets.graph import GraphBatch

__all__ = ["DeepNets1M"]

Index = int | tuple[int, int]


class DeepNets1M:
    """A split of DeepNets-1M: a read-only sequence of graphs.

    ============  =========  ======  =======  ==========================================================
    split         networks   cells   steps    networks
    ============  =========  ======  =======  ==========================================================
    `train`       1,000,000  4-18    1-4      for training; widths are drawn when a network is loaded
    `val`               500  4-18    1-4      in distribution, for validation
    `test`              500  4-18    1-4      in distribution, for testing
    `search`        100,000  6-20    1-6      for architecture search
    `wide`              100  4-18    1-4      the first of `test`, 4 times as wide (ImageNet: 2 times)
    `deep`              100  10-36   1-4      deeper than training networks
    `dense`             100  4-18    2-10     more operations per cell than training networks
    `bnfree`            100  4-18    1-4      without batch norm
    `predefined`          2  12, 16  1        ResNet-50 and a vision transformer; no file needed
    ============  =========  ======  =======  ==========================================================

    The sizes are the published ones (Knyazev et al., NeurIPS 2021, table 1); `train` and `search` can be built smaller.
    Evaluation splits have the smallest width with at least 2.5 million parameters for CIFAR-10.

    Networks are read when they are needed.  Other processes, such as workers of a `DataLoader`, open the file again.

    - `nets[i]` is the graph of network i; negative indices count from the end.
    - `nets[i, d]` is draw d of a training network: the width is a function of (seed, i, d).  `nets[i]` is `nets[i, 0]`.
    - `nets[10:20]` is a list of graphs.
    - `for graph in nets` reads the graphs one after the other.

    Parameters
    ----------
    root
        Corpus folder, as `deepnets build` fills it.
    split
        One of the splits in the table.
    virtual_edges
        Largest distance for which batches of these graphs have virtual edges; 1 for none.
    num_classes
        Number of outputs of the classifiers.
    image_size
        Height and width of the images, 16 to 512.  Widths and the shapes of parameters depend on it.
    num_nets
        Use the first `num_nets` networks only.  By default all.
    wider_nets
        Draw training widths as GHN-3 does.
    seed
        Seed of the training widths.

    Attributes
    ----------
    split, virtual_edges, num_classes, image_size, wider_nets, seed
        The arguments.
    file
        The `CorpusFile`, or None for `predefined`.

    Raises
    ------
    ConfigError
        If an argument is not allowed.
    MissingDataError
        If the split has not been built.
    FormatError, IntegrityError
        If the file is not a corpus file, or is damaged.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> nets = DeepNets1M(split="predefined")
    >>> len(nets)
    2
    >>> nets[-1]
    Graph(129 nodes, 148 edges)
    >>> nets[1:]
    [Graph(129 nodes, 148 edges)]

    The other splits are read from files:

    >>> import tempfile
    >>> from generator import BuildPlan, Workers, build_corpus
    >>> folder = tempfile.TemporaryDirectory()
    >>> plan = BuildPlan(splits=("search",), search_size=5)
    >>> _ = build_corpus(folder.name, plan, workers=Workers(num_workers=1))
    >>> nets = DeepNets1M(folder.name, split="search")
    >>> [graph.num_nodes for graph in nets] == nets.num_nodes.tolist()
    True
    >>> nets.close(); folder.cleanup()
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
        if split not in NETWORK_SPLITS:
            raise ConfigError(f"split: unknown {split!r}; use one of {', '.join(NETWORK_SPLITS)}")
        self.split = split
        self.virtual_edges = checked_integer("virtual_edges", virtual_edges, range(1, MAX_DISTANCE + 1))
        self.num_classes, self.image_size = checked_task(num_classes, image_size)
        self.seed, self.wider_nets = checked_integer("seed", seed, at_least(0)), bool(wider_nets)
        if num_nets is not None:
            num_nets = checked_integer("num_nets", num_nets, at_least(1))
        self.file: CorpusFile | None = None
        self._widths: WidthRule | None = None
        if split == "predefined":
            available = NUM_PREDEFINED
        else:
            path = corpus_path(root, split)
            if not path.exists():
                raise MissingDataError(
                    f"{path}: no such file; build it with `deepnets build --splits {split} --out {root}`"
                )
            self.file = CorpusFile(path)
            if self.file.split != split:
                raise FormatError(f"{path}: holds the split {self.file.split!r}, not {split!r}; was it renamed?")
            available = self.file.num_networks
            if split == "train":
                self._widths = WidthRule(self.file, self.image_size, self.wider_nets, self.seed)
        self._length = available if num_nets is None else min(num_nets, available)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: Index) -> Graph: ...
    @overload
    def __getitem__(self, index: slice) -> list[Graph]: ...
    def __getitem__(self, index: Index | slice) -> Graph | list[Graph]:
        """Read a graph, or a list of graphs for a slice."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position, draw = self._position_and_draw(index)
        if self.file is None:
            graph = predefined_graph(position, self.num_classes, self.image_size)
            return graph.replace(index=position, virtual_edges=self.virtual_edges, label=("ResNet-50", "ViT")[position])
        try:
            node_types, cells, names, in_degrees, sources = decode_wiring(self.file.wiring(position, position + 1))
        except IntegrityError as error:
            raise IntegrityError(f"{self._where(position)}: {error}") from error
        network = self._stored(position, draw)
        return Graph(
            node_types,
            cells,
            in_degrees,
            sources,
            names=names,
            config=network.config,
            slots=network.slots,
            index=position,
            virtual_edges=self.virtual_edges,
            label=f"network {position} of {self.split}",
        )

    def __iter__(self) -> Iterator[Graph]:
        return (self[i] for i in range(len(self)))

    def config(self, index: Index) -> NetworkConfig:
        """Return the architecture of a network, without reading its graph.

        Parameters
        ----------
        index
            i or (i, d), as in `nets[i]` and `nets[i, d]`.

        Raises
        ------
        ConfigError
            For the ResNet-50 of `predefined`, which has no configuration.
        IntegrityError
            If the file is damaged.
        """
        position, draw = self._position_and_draw(index)
        if self.file is None:
            return predefined_config(position)
        return self._stored(position, draw).config()

    def network(self, index: Index) -> nn.Module:
        """Build a network with PyTorch's default initialisation.

        Parameters
        ----------
        index
            i or (i, d), as in `nets[i]` and `nets[i, d]`.

        Returns
        -------
        torch.nn.Module
            A `deepnets.Network`, or torchvision's ResNet-50.

        Raises
        ------
        MissingDependencyError
            For the ResNet-50, if torchvision is not installed.
        """
        position, _ = self._position_and_draw(index)
        if self.file is None:
            return predefined_network(position, self.num_classes, self.image_size)
        from deepnets.architecture import Network

        return Network(self.config(index), self.num_classes, self.image_size)

    @property
    def num_nodes(self) -> npt.NDArray[np.int64]:
        """`(len(self),) int64`, number of nodes of every graph."""
        if self.file is None:
            return np.array([predefined_statistics(i)["num_nodes"] for i in range(len(self))], np.int64)
        return self.file.column("num_nodes")[: len(self)].astype(np.int64)

    @property
    def table(self) -> pd.DataFrame:
        """One row per network: fields of its configuration, its sizes, and the number of times each primitive occurs.

        `num_params` is the number of parameters for 32-pixel images, `num_params_imagenet` for 224-pixel images, both
        with 10 classes as in the original release, and at the width that networks of the split have for such images.
        Training networks are counted at width 32.  The predefined ResNet-50 has no configuration.
        """
        return network_table(self.file, self.split, self.image_size, len(self))

    def to_pyg(
        self,
        virtual_edges: int = 1,
        targets: str | Sequence[str] = (),
        *,
        table: pd.DataFrame | pd.Series | None = None,
        shapes: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ) -> PyGDataset:
        """Return the split as a dataset of PyTorch Geometric, which reads each graph when it is indexed.

        Parameters
        ----------
        virtual_edges, shapes
            As in `Graph.to_pyg`.
        targets
            Names of the columns of `y`:

            - columns of `table`,
            - "num_params": number of parameters of the network as it is loaded, with its width and number of classes,
            - "flops": floating-point operations for one image (`deepnets.count_flops`).  They are counted when a graph
              is first read, which takes much longer than reading it.
            - columns of `DeepNets1M.table` with numbers.
        table
            One row per network, such as accuracies that `benchmark.analyses.read_accuracies` reads from a folder of
            results, or a series, which is named like its target.  Its index, or its column `index`, is the position in
            the split.  Missing networks get NaN.
        transform
            Function that is applied to each graph.

        Returns
        -------
        PyGDataset
            A `torch_geometric.data.Dataset` of the graphs that `Graph.to_pyg` makes, with `index` and `y` (1, T)
            `float32`.

        Raises
        ------
        ConfigError
            If a target is unknown or is not a number, or the index of `table` is not unique.
        MissingDependencyError
            If PyTorch Geometric is not installed (`pip install "deepnets1m[pyg]"`).

        Examples
        --------
        >>> DeepNets1M(split="predefined").to_pyg(targets="num_params")[1]
        NetworkData(x=[129], edge_index=[2, 148], edge_attr=[148], cell=[129], num_nodes=129, index=1, y=[1, 1])
        """
        try:
            from deepnets.corpus.pyg_dataset import PyGDataset
        except ImportError as error:
            raise MissingDependencyError(f"to_pyg needs PyTorch Geometric: {install_command('pyg')}") from error
        return PyGDataset(self, virtual_edges, targets, table=table, shapes=shapes, transform=transform)

    def loader(
        self,
        meta_batch_size: int | None = None,
        *,
        num_workers: int = 0,
        seed: int = 0,
        sampler: MetaBatchSampler | None = None,
        **options: Any,
    ) -> DataLoader[GraphBatch]:
        """Return a `DataLoader` that yields `GraphBatch`es.

        For `train`, it yields random meta-batches without end, and a second iteration goes on where the first one
        ended; for other splits, all graphs once, in their order.  The batches do not depend on `num_workers`.

        Parameters
        ----------
        meta_batch_size
            Graphs of a batch; by default 8 for `train`, and 1 for other splits.  The last batch may have fewer.
        seed
            As in `MetaBatchSampler`, for `train`.
        num_workers
            Number of processes that read and collate graphs.
        sampler
            Used in place of a new `MetaBatchSampler`: to resume training, on several GPUs, or for another split.
        options
            Further arguments of `torch.utils.data.DataLoader`, such as `pin_memory`.
        """
        with naming_extras():
            from deepnets.corpus.loader import data_loader
        return data_loader(self, meta_batch_size, num_workers=num_workers, seed=seed, sampler=sampler, **options)

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def __repr__(self) -> str:
        return f"DeepNets1M(split={self.split!r}, {len(self):,} networks)"

    def _position_and_draw(self, index: Index) -> tuple[int, int]:
        position, draw = index if isinstance(index, tuple) and len(index) == 2 else (index, 0)
        try:
            position, draw = operator.index(position), operator.index(draw)
        except TypeError as error:
            raise TypeError(
                f"index: expected an integer, a slice, or a pair (integer, draw), got {index!r}; for several networks "
                "write [nets[i] for i in ...]"
            ) from error
        if not -len(self) <= position < len(self):
            raise IndexError(f"split {self.split} has {len(self)} networks, there is no {position}")
        if draw < 0:
            raise IndexError(f"draws count from 0, got {draw}")
        return position % len(self), draw

    def _where(self, position: int) -> str:
        path = self.file.path if self.file else ""
        return f"{path}: split {self.split}, network {position}"

    def _stored(self, position: int, draw: int) -> StoredNetwork:
        """The record of a network, with its drawn width, or with a multiple of its stored width."""
        assert self.file is not None  # noqa: S101
        record = self.file.architectures(slice(position, position + 1))
        if self._widths:
            changes = self._widths.draw(position, draw)._asdict()
        else:
            changes = {"C": int(record["C"][0]) * evaluation_factor(self.split, self.image_size)}
        return StoredNetwork(record, changes, self._where(position), self.num_classes, self.image_size)
