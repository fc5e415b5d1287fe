"""The boxes of a picture: the cells of a graph, or the modules of a traced network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from deepnets.drawing.looks import slots_of
from deepnets.graph import Graph
from deepnets.support import ConfigError

__all__ = ["Boxes", "boxes_of"]

FEWEST, MOST = 3, 40
"""Fewest nodes per box on average, and most boxes, when modules are selected."""

Path = tuple[str, ...]


class Boxes(NamedTuple):
    """The boxes of a picture.

    Attributes
    ----------
    groups : list of int
        The box of each node, never decreasing; all 0 for a picture without boxes.
    labels : dict
        The text of each box, by its number.
    are_modules : bool
        Whether the boxes are modules, not cells.
    """

    groups: list[int]
    labels: dict[int, str]
    are_modules: bool


def boxes_of(graph: Graph, modules: bool = True) -> Boxes:
    """Return the boxes of a graph: its cells, or for traced networks without cells their modules.

    A node belongs to the module of its parameters; one without parameters, such as a sum, belongs to the module of the
    node before it.  Modules are as deep in the network as possible with three nodes per box or more on average, and
    hardly any box with fewer than four.

    Parameters
    ----------
    graph : Graph
        The graph.
    modules : bool, default True
        Whether modules become boxes.

    Examples
    --------
    >>> import torch
    >>> from deepnets import trace
    >>> def block():
    ...     return torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 3, 1))
    >>> boxes_of(trace(torch.nn.Sequential(block(), block()))).labels
    {0: '0', 1: '1'}
    """
    if graph.cells.any():
        groups = graph.cells.tolist()
        return Boxes(groups, {cell: str(cell) for cell in groups}, are_modules=False)
    owners = _owners(graph) if modules and not _has_config(graph) else []
    best: list[Path] = []
    for depth in range(1, max(map(len, owners), default=0) + 1):
        keys = [owner[:depth] for owner in owners]
        lengths = [sum(1 for _ in run) for _, run in groupby(keys)]
        tiny = sum(length < 4 for length in lengths)
        if 1 < len(lengths) <= min(MOST, graph.num_nodes / FEWEST) and tiny <= max(3, len(lengths) // 10):
            best = keys
    if not best:
        return Boxes([0] * graph.num_nodes, {}, are_modules=False)
    groups, labels = _numbered(best)
    return Boxes(groups, labels, are_modules=True)


def _has_config(graph: Graph) -> bool:
    try:
        graph.config  # noqa: B018 - raises if there is none
    except ConfigError:
        return False
    return True


def _owners(graph: Graph) -> list[Path]:
    """Return the path of the module that contains the layer of each node; empty if no parameters are known."""
    known = [tuple(slots[0].name.split(".")[:-2]) if slots else None for slots in slots_of(graph)]
    owner = next((path for path in known if path is not None), None)
    if owner is None:
        return []
    owners: list[Path] = []
    for path in known:
        owner = owner if path is None else path
        owners.append(owner)
    return owners


def _numbered(keys: Sequence[Path]) -> tuple[list[int], dict[int, str]]:
    """Number runs of equal keys; a module that other nodes interrupt has several boxes."""
    groups: list[int] = []
    labels = {}
    for number, (key, run) in enumerate(groupby(keys)):
        groups += [number] * sum(1 for _ in run)
        labels[number] = ".".join(key)
    return groups, labels
