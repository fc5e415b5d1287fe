"""Graphs of networks that differ only in the sizes of their tensors, traced once and stored in files.

A *topology* is a graph without the shapes of its parameters.  It is stored under a digest of everything that it depends
on: the configuration without its sizes, the modules of the network and the names of their parameters, the size of the
images, the vocabulary, and the versions of the code.  Files are JSON with a checksum, written atomically.  A file that
is damaged, or does not fit the network, is ignored, and written again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from deepnets.architecture import NODE_TYPES
from deepnets.families.values import canonical, has_own_name
from deepnets.graph import ROLES, Graph, ParameterSlot
from deepnets.support import (
    DeepNetsError,
    digest_of_sources,
    is_of_user,
    parse_json,
    read_whole,
    replace_file,
    with_imports,
)
from deepnets.tracing import trace

__all__ = ["Topology", "TopologyCache", "describe_modules"]

FORMAT, VERSION = "deepnets1m topology", 1
MAX_BYTES = 16 << 20
MAX_IN_MEMORY = 4096

log = logging.getLogger(__name__)

Names = tuple[tuple[str, str], ...]


class Topology(NamedTuple):
    """A graph without the shapes of its parameters.

    Attributes
    ----------
    node_types, cells, in_degrees, sources
        As in `deepnets.Graph`, lists of integers.
    windows
        Height and width of the windows of pooling nodes, two integers per node, one after the other.
    slots
        For each node, the names and roles of its parameters.
    unused
        Names and roles of the parameters without a node.
    """

    node_types: list[int]
    cells: list[int]
    in_degrees: list[int]
    sources: list[int]
    windows: list[int]
    slots: tuple[Names, ...]
    unused: Names

    @classmethod
    def of(cls, graph: Graph) -> Topology:
        """Return the topology of a graph.

        Examples
        --------
        >>> from deepnets import trace
        >>> Topology.of(trace(nn.Linear(2, 3), torch.zeros(1, 2))).slots
        ((), (('weight', 'class_weight'),), (('bias', 'class_bias'),))
        """
        return cls(
            graph.node_types.tolist(),
            graph.cells.tolist(),
            graph.in_degrees.tolist(),
            graph.sources.tolist(),
            graph.windows.ravel().tolist(),
            tuple(tuple((slot.name, slot.role) for slot in slots) for slots in graph.parameters),
            tuple((slot.name, slot.role) for slot in graph.unused),
        )

    def parameter_slots(
        self, model: nn.Module
    ) -> tuple[tuple[tuple[ParameterSlot, ...], ...], tuple[ParameterSlot, ...]]:
        """Return the slots of all nodes, and those without a node, with the shapes that a network has."""
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        nodes = tuple(tuple(ParameterSlot(name, shapes[name], role) for name, role in slots) for slots in self.slots)
        return nodes, tuple(ParameterSlot(name, shapes[name], role) for name, role in self.unused)


class TopologyCache:
    """Topologies in memory, and in the files of a folder.

    Parameters
    ----------
    folder : Path, optional
        The folder; created when the first file is written.  By default, topologies are in memory only.

    Examples
    --------
    >>> cache = TopologyCache()
    >>> for width in (4, 8):
    ...     topology = cache.find({"width": "any"}, nn.Linear(width, 3), torch.zeros(1, width))
    >>> len(topology.node_types), cache.traced
    (3, 1)
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.traced = 0  # number of networks traced by this object
        self._known: OrderedDict[str, Topology] = OrderedDict()

    def find(
        self,
        settings: Mapping[str, Any],
        model: nn.Module,
        inputs: Any,
        vocabulary: str = "complete",
        code: Sequence[Any] = (),
    ) -> Topology:
        """Return the topology of a network, which is traced if it is not known.

        Parameters
        ----------
        settings : mapping
            Values that JSON can represent, and that the graph may depend on.
        model : nn.Module
            The network, whose values are not read.
        inputs
            Example of its inputs.
        vocabulary : str, default "complete"
            As in `deepnets.trace`.
        code : sequence of str or callable, optional
            Functions and classes that have built the network, or names of their modules.

        Raises
        ------
        TraceError
            If the network cannot be traced.
        """
        modules = describe_modules(model)
        versions, known = _versions(model, code)
        texts = [canonical(dict(settings)), vocabulary, canonical(modules), versions]
        key = hashlib.sha256("\n".join([str(VERSION), *texts]).encode()).hexdigest()[:32]
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        names = sorted(name for name, _ in model.named_parameters())
        topology = self._read(key, names) if known else None
        if topology is None:
            topology = Topology.of(trace(model, inputs, vocabulary=vocabulary))
            self.traced += 1
            if known:
                self._write(key, topology)
        self._known[key] = topology
        while len(self._known) > MAX_IN_MEMORY:
            self._known.popitem(last=False)
        return topology

    def _read(self, key: str, names: list[str]) -> Topology | None:
        if self.folder is None:
            return None
        path = self.folder / f"{key}.json"
        try:
            return _parsed(read_whole(path, MAX_BYTES), key, names)
        except FileNotFoundError:
            return None
        except (OSError, DeepNetsError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            log.info("%s is not used: %s", path, error)
            return None

    def _write(self, key: str, topology: Topology) -> None:
        if self.folder is None:
            return
        body = json.dumps(topology._asdict(), separators=(",", ":"))
        digest = hashlib.sha256(body.encode()).hexdigest()
        text = json.dumps({"format": FORMAT, "version": VERSION, "key": key, "sha256": digest, "topology": body})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(self.folder / f"{key}.json", text)
        except OSError as error:  # a full disk or a folder that is not writable: only time is lost
            log.info("%s: the graph is not stored: %s", self.folder, error)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "traced": 0, "_known": OrderedDict()}


def _parsed(content: bytes, key: str, names: list[str]) -> Topology:
    """Return the topology in a file, which is not trusted; raises an error if it is not one of this network."""
    outer = parse_json(content)
    if (outer["format"], outer["version"], outer["key"]) != (FORMAT, VERSION, key):
        raise ValueError("it is a file of another kind, version or network")
    if hashlib.sha256(outer["topology"].encode()).hexdigest() != outer["sha256"]:
        raise ValueError("its checksum is wrong")
    values = parse_json(outer["topology"])
    lists = [values[name] for name in ("node_types", "cells", "in_degrees", "sources", "windows")]
    if not all(isinstance(each, list) and all(type(number) is int for number in each) for each in lists):
        raise ValueError("it has entries that are not integers")
    slots = tuple(_names(each) for each in values["slots"])
    types, cells, degrees, sources, windows = lists
    topology = Topology(types, cells, degrees, sources, windows, slots, _names(values["unused"]))
    found = sorted([name for each in (*slots, topology.unused) for name, _ in each])
    if found != names or len(slots) != len(types):
        raise ValueError("it has other parameters than the network")
    if any(not 0 <= kind < len(NODE_TYPES) for kind in types):
        raise ValueError("it has nodes of an unknown type")
    Graph(types, cells, degrees, sources, windows=windows)  # checks the order of the nodes
    return topology


def _names(entries: Any) -> Names:
    names = tuple((name, role) for name, role in entries)
    if not all(isinstance(name, str) and role in ROLES for name, role in names):
        raise ValueError("it has parameters of an unknown role")
    return names


def describe_modules(model: nn.Module) -> list[Any]:
    """Return the names and classes of all modules, and the names and numbers of axes of all parameters.

    Networks of a family with different descriptions have different topologies, whatever the family declares as sizes:
    for example, residual blocks with and without a convolution in their short cut.

    Examples
    --------
    >>> describe_modules(nn.Linear(2, 3))
    [[['', 'torch.nn.modules.linear.Linear']], [['weight', 2], ['bias', 1]]]
    """
    modules = [[name, f"{type(part).__module__}.{type(part).__qualname__}"] for name, part in model.named_modules()]
    return [modules, [[name, parameter.dim()] for name, parameter in model.named_parameters()]]


def _versions(model: nn.Module, code: Sequence[Any]) -> tuple[str, bool]:
    """Return the versions of the code that a graph depends on, and whether they are known.

    This is the code of this package, of PyTorch, of the classes of all modules, and of what builds the network, with
    the modules of the user that they import.  Classes of a notebook have no file, so their versions are not known, and
    the names of lambdas and nested functions do not say which one is meant.  They are told apart by their addresses.
    """
    functions = [part for part in code if not isinstance(part, str)]
    parts = [*(type(part) for part in model.modules()), *functions]
    names = {*(str(part.__module__) for part in parts), *(part for part in code if isinstance(part, str))}
    found = {name: _version_of(name) for name in sorted(with_imports(names))}
    known = all(version is not None for version in found.values()) and all(map(has_own_name, functions))
    addresses = "" if known else repr([id(part) for part in parts])
    return "\n".join([_own_version(), torch.__version__, *filter(None, found.values()), addresses]), known


@functools.cache
def _own_version() -> str:
    return digest_of_sources("deepnets.tracing")


@functools.cache
def _version_of(module: str) -> str | None:
    """Return the version of the package of a module, or a digest of its files; None if it has neither.

    The version counts for installed packages only: users edit their own packages without changing it.
    """
    top = module.partition(".")[0]
    if top in ("", "deepnets", "torch"):
        return ""
    package = sys.modules.get(top)
    version, file = getattr(package, "__version__", None), getattr(package, "__file__", None)
    if isinstance(version, str) and (file is None or not is_of_user(top)):
        return f"{top} {version}"
    if file:
        return f"{top} {digest_of_sources(top)}"
    file = getattr(sys.modules.get(module), "__file__", None)  # of a folder without __init__.py
    return f"{module} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}" if file else None
