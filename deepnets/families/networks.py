"""`FamilyNetworks`: a split of a family as a sequence of graphs."""

from __future__ import annotations

import hashlib
import operator
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from deepnets.architecture import checked_task
from deepnets.families.family import Family
from deepnets.families.language_models import check_transformers
from deepnets.families.models import build_model, example_inputs
from deepnets.families.names import find_family, split_of
from deepnets.families.topologies import TopologyCache
from deepnets.families.values import canonical, check_values, functions_in, named
from deepnets.graph import MAX_DISTANCE, Graph, Slots
from deepnets.support import ConfigError, abbreviated, at_least, checked_integer
from deepnets.support.optional_models import without_values

__all__ = ["FamilyGraph", "FamilyNetwork", "FamilyNetworks"]

MAX_SKELETONS = 16

SAMPLE = 20
"""Number of configurations in the identity of a split, which change with the code of a rule."""


class FamilyNetwork(NamedTuple):
    """One network of a family: all that is needed to build it.

    Attributes
    ----------
    family
        The family.
    config
        Its configuration, plain values that JSON can represent.
    arguments
        Arguments of the model that all networks share.
    num_classes, image_size
        Number of classes, and height and width of the images; not used for texts.

    Examples
    --------
    >>> from deepnets.families import find_family
    >>> family = find_family("resnet-widths")
    >>> network = FamilyNetwork(family, {"depths": [1, 1], "widths": [8, 8]}, {}, 10, 32)
    >>> sum(parameter.numel() for parameter in network.build().parameters())
    2770
    """

    family: Family
    config: Mapping[str, Any]
    arguments: Mapping[str, Any]
    num_classes: int
    image_size: int

    @property
    def key(self) -> list[Any]:
        """Plain values that are the same for equal networks; functions count by their names only."""
        return [self.family.identity, dict(self.config), named(self.arguments), *self[3:]]

    @property
    def code(self) -> list[Any]:
        """The functions and classes that the network is made by: others may have the same names."""
        return functions_in([self.family.model, self.arguments])

    def build(self) -> nn.Module:
        """Build the network on the current default device, with the initial values of its model.

        Raises
        ------
        ConfigError
            If the model does not accept the configuration.
        MissingDependencyError
            If the model needs a package that is not installed.
        """
        offered = {"num_classes": self.num_classes, "image_size": self.image_size}
        return build_model(
            self.family.model,
            {**self.arguments, **self.config},
            offered if self.family.task == "images" else {},
            f"family {self.family.name}: config {abbreviated(dict(self.config))}",
        )

    def skeleton(self) -> nn.Module:
        """Return the network on the device `meta`, in evaluation mode; it is shared, so do not change it.

        Raises
        ------
        ConfigError, MissingDependencyError
            As `build`.
        """
        key = canonical(self.key)
        made_by, skeleton = _skeletons.get(key, ([], None))
        if skeleton is None or made_by != self.code:  # other functions of the same names
            skeleton = self._built_without_values().eval()
            _skeletons[key] = self.code, skeleton
            if len(_skeletons) > MAX_SKELETONS:
                _skeletons.popitem(last=False)
        return skeleton

    def _built_without_values(self) -> nn.Module:
        try:
            with torch.device("meta"):
                return self.build()
        except ConfigError:  # the constructor may need values of tensors
            with torch.random.fork_rng([]), torch.device("cpu"):
                return without_values(self.build())

    def example_inputs(self) -> Any:
        """Return an example of the inputs, as `FamilyNetworks.example_inputs` does."""
        return example_inputs(self.family.task, self.image_size)


_skeletons: OrderedDict[str, tuple[list[Any], nn.Module]] = OrderedDict()


class FamilyGraph(Graph):
    """Graph of a network of a family.

    Attributes
    ----------
    network : FamilyNetwork
        The network.

    Examples
    --------
    >>> FamilyNetworks("resnet-widths", "test")[0].network.family.name
    'resnet-widths'
    """

    network: FamilyNetwork


class FamilyNetworks:
    """A split of a family: a read-only sequence of graphs, like `deepnets.DeepNets1M`.

    - `nets[i]` is the graph of network i; negative indices count from the end.
    - `nets[i, d]` is the same graph for every d, for samplers that draw the widths of DeepNets-1M.
    - `nets[10:20]` is a list of graphs.

    Parameters
    ----------
    family : str or Family
        As in `find_family`, with or without "family:" in front and the split behind, as in "resnet-widths/val".
    split : str, optional
        Name of the split; by default that of the text, or else "train".
    root : Path or str, optional
        Folder of the corpus.  Graphs are stored in its folder `families`, and read from there.  By default they are
        kept in memory.
    virtual_edges, num_classes, image_size, num_nets
        As in `deepnets.DeepNets1M`.
    seed : int, default 0
        Seed of the configurations.
    vocabulary : str, default "complete"
        Vocabulary of the graphs, as in `deepnets.trace`.
    **options
        Arguments of the model, or fields of the configurations, that replace those of the family, such as
        ``patch_size=2`` or ``vocab_size=256``.  Fields are replaced while configurations are drawn, before these are
        divided among splits by their hash, so splits have none in common; do not replace the fields in which the rules
        of splits differ.  Splits of distinct configurations are smaller if too few are left.

    Attributes
    ----------
    family : Family
        The family.
    name : str
        Its name.
    task : {"images", "text"}
        What the networks process.
    split, virtual_edges, num_classes, image_size, seed
        As given.

    Raises
    ------
    ConfigError
        If there is no such family or split, or a value is not allowed.

    Examples
    --------
    >>> nets = FamilyNetworks("resnet-widths", "test")
    >>> len(nets), nets.config(0)
    (100, {'depths': [2, 4, 1, 1], 'widths': [17, 17, 23, 22]})
    >>> graph = nets[0]
    >>> graph.num_nodes
    52
    >>> nets.build(nets.config(0)).fc.weight.shape
    torch.Size([10, 22])
    """

    def __init__(
        self,
        family: str | Family,
        split: str | None = None,
        *,
        root: Path | str | None = None,
        virtual_edges: int = 50,
        num_classes: int = 10,
        image_size: int = 32,
        num_nets: int | None = None,
        seed: int = 0,
        vocabulary: str = "complete",
        **options: Any,
    ) -> None:
        if isinstance(family, str):
            family, named = split_of(family, split or "train")
            split = split or named
        self.family = find_family(family)
        self.name, self.task = self.family.name, self.family.task
        self.split = split or "train"
        self.virtual_edges = checked_integer("virtual_edges", virtual_edges, range(1, MAX_DISTANCE + 1))
        self.num_classes, self.image_size = checked_task(num_classes, image_size)
        self.seed = checked_integer("seed", seed, range(2**63))
        self.vocabulary = vocabulary
        chosen = self.family.split(self.split)
        if num_nets is not None:
            num_nets = min(checked_integer("num_nets", num_nets, at_least(1)), chosen.size)
        fields = self.family.configs(self.split, self.seed, 1)[0].keys()
        if unknown := [name for name in options if name not in fields and name not in self.family.arguments]:
            known = ", ".join([*fields, *self.family.arguments])
            raise ConfigError(f"family {self.name}: has no {unknown[0]!r} to replace; it has {known}")
        check_values(options, f"family {self.name}")
        self._fixed = {name: value for name, value in options.items() if name in fields}
        self._arguments = {**self.family.arguments, **{k: v for k, v in options.items() if k not in fields}}
        self._configs = self.family.configs(self.split, self.seed, num_nets, self._fixed)
        self._names = self.family.names(self.split, self._fixed)
        self.cache = TopologyCache(None if root is None else Path(root) / "families")

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits of the family."""
        return tuple(self.family.splits)

    @property
    def total(self) -> int:
        """Number of networks in the split, also if `num_nets` is smaller."""
        return len(self._whole)

    @property
    def identity(self) -> str:
        """Text that changes with the networks, but not with their number."""
        values = [self.seed, self._fixed, named(self._arguments), list(self._whole[:SAMPLE])]
        digest = hashlib.sha256(canonical(values).encode()).hexdigest()[:16]
        return f"{self.name}/{self.split} {self.family.identity} {digest}"

    @cached_property
    def _whole(self) -> Sequence[dict[str, Any]]:
        """The configurations of the whole split."""
        return self.family.configs(self.split, self.seed, replaced=self._fixed)

    def __len__(self) -> int:
        return len(self._configs)

    def config(self, index: int) -> dict[str, Any]:
        """Return the configuration of a network, plain values that JSON can represent."""
        return deepcopy(self._configs[self._position(index)])

    def name_of(self, index: int) -> str:
        """Return the name of a network, an empty text for most."""
        position = self._position(index)
        return self._names[position] if self._names else ""

    def network(self, config: int | Mapping[str, Any]) -> FamilyNetwork:
        """Return the network of a configuration, or of an index."""
        values = config if isinstance(config, Mapping) else self.config(config)
        return FamilyNetwork(self.family, values, self._arguments, self.num_classes, self.image_size)

    def check_packages(self) -> None:
        """Check that the networks can be built: language models need a package that may not be installed.

        Raises
        ------
        MissingDependencyError
            If it is not installed; the message says what to install.
        """
        if self.family.model in ("gpt2", "llama"):
            check_transformers()

    def build(self, config: int | Mapping[str, Any]) -> nn.Module:
        """Build a network on the current default device, with the initial values of its model.

        Parameters
        ----------
        config : mapping or int
            A configuration, such as `config(i)`, or an index.

        Raises
        ------
        ConfigError
            If the model does not accept the configuration.
        MissingDependencyError
            If the model needs a package that is not installed.
        """
        return self.network(config).build()

    def example_inputs(self, config: int | Mapping[str, Any] | None = None) -> Any:
        """Return an example of the inputs of networks.

        Returns
        -------
        Tensor or dict
            `(1, 3, image_size, image_size) float32` on the device `meta` for images; for texts,
            ``{"input_ids": tensor}`` with a tensor `(1, 8) int64` of zeros.
        """
        return example_inputs(self.task, self.image_size)

    def graph(self, index: int, vocabulary: str | None = None) -> FamilyGraph:
        """Return the graph of a network; it is traced if no network of the same topology was traced before.

        Parameters
        ----------
        index : int
            Number of the network.
        vocabulary : str, optional
            Vocabulary of the graph, by default that of the sequence.

        Raises
        ------
        ConfigError, MissingDependencyError
            As `build`.
        TraceError
            If the network cannot be traced.
        """
        position = self._position(index)
        graph = self.graph_of(self.config(position), vocabulary)
        graph.index = position
        return graph

    def graph_of(self, config: Mapping[str, Any], vocabulary: str | None = None) -> FamilyGraph:
        """Return the graph of a configuration, which need not be one of the split; see `graph`."""
        network = self.network(config)
        model = network.skeleton()
        fields = {name: value for name, value in network.config.items() if name not in self.family.sizes}
        built_by = [named(self.family.model), named(self._arguments)]
        settings = {"task": self.task, "model": built_by, "fields": fields, "image_size": self.image_size}
        model_of = self.family.model
        modules = [model_of.partition(":")[0]] if isinstance(model_of, str) and ":" in model_of else []
        code = [*functions_in([model_of, self._arguments]), *modules]
        topology = self.cache.find(settings, model, network.example_inputs(), vocabulary or self.vocabulary, code)
        nodes, unused = topology.parameter_slots(model)
        types = np.array(topology.node_types, np.uint8)
        graph = FamilyGraph(
            types,
            topology.cells,
            topology.in_degrees,
            np.array(topology.sources, np.int32),
            slots=partial(Slots, nodes, unused, types),
            virtual_edges=self.virtual_edges,
            windows=topology.windows,
        )
        graph.network = network
        return graph

    @overload
    def __getitem__(self, index: int | tuple[int, int]) -> FamilyGraph: ...
    @overload
    def __getitem__(self, index: slice) -> list[FamilyGraph]: ...
    def __getitem__(self, index: int | tuple[int, int] | slice) -> FamilyGraph | list[FamilyGraph]:
        """Return a graph, or a list of graphs for a slice."""
        if isinstance(index, slice):
            return [self.graph(position) for position in range(*index.indices(len(self)))]
        return self.graph(index[0] if isinstance(index, tuple) else index)

    def __iter__(self) -> Iterator[FamilyGraph]:
        return (self.graph(index) for index in range(len(self)))

    def num_params(self, index: int) -> int:
        """Return the number of parameters of a network."""
        return sum(parameter.numel() for parameter in self.network(index).skeleton().parameters())

    @cached_property
    def num_nodes(self) -> npt.NDArray[np.int64]:
        """`(len(self),) int64`, number of nodes of every graph.  All networks are built."""
        return np.array([graph.num_nodes for graph in self], np.int64)

    @property
    def table(self) -> pd.DataFrame:
        """One row per network: the fields of its configuration, and `num_params`.  All networks are built."""
        rows = [{**self.config(index), "num_params": self.num_params(index)} for index in range(len(self))]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"FamilyNetworks({self.name}/{self.split}, {len(self):,} networks)"

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"family {self.name}, split {self.split}: has {len(self)} networks, there is no {index}")
        return position % len(self)
