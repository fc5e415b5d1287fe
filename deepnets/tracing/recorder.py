"""What a traced run writes down: nodes with their sources and parameters, in the order of execution.

A `Value` says what a tensor is made of: the nodes whose data it carries, and parameters that no operation on data has
met yet ("pending": a weight under a reparametrisation, a position embedding that was sliced).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from deepnets.graph import ParameterSlot

__all__ = ["INPUT", "Node", "Pending", "Recorder", "Value"]

INPUT = 0
"""The node of all that the network is given."""


class Pending(NamedTuple):
    """A parameter: its name and shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def is_vector(self) -> bool:
        """Whether at most one of its axes is longer than 1."""
        return sum(size > 1 for size in self.shape) <= 1


class Value(NamedTuple):
    """What a tensor is made of.

    Attributes
    ----------
    nodes
        Whose data it carries, in increasing order: usually one; several for the product of two matrices until it is
        known whether that is attention.
    pending
        The parameters it is computed from, if it is computed from no data.
    kind
        "scores" for a product of two matrices of data, "weights" behind a softmax, else "".
    """

    nodes: tuple[int, ...] = ()
    pending: tuple[Pending, ...] = ()
    kind: str = ""


@dataclass
class Node:
    """A node under construction."""

    type: str
    sources: list[int]
    slots: list[ParameterSlot] = field(default_factory=list)
    cell: int = 0
    window: tuple[int, int] = (0, 0)


class Recorder:
    """The nodes of one run.

    Attributes
    ----------
    nodes
        In the order of execution; the first is the input.
    cell
        The cell that new nodes are in.
    claimed
        Names of the parameters that have a node.
    """

    def __init__(self) -> None:
        self.nodes = [Node("input", [])]
        self.cell = 0
        self.claimed: set[str] = set()

    def add(
        self,
        kind: str,
        sources: Iterable[int],
        parameters: Sequence[tuple[Pending, str]] = (),
        window: tuple[int, int] = (0, 0),
    ) -> int:
        """Write down a node and return its number.

        Parameters
        ----------
        kind
            Its type, one of `deepnets.NODE_TYPES`.
        sources
            The nodes that it reads, in any order and as often as may be.
        parameters
            What it stands for, with roles.  A parameter that has a node already is left to that one.
        window
            Height and width of what it pools over.
        """
        slots = []
        for parameter, role in parameters:
            if parameter.name not in self.claimed:
                self.claimed.add(parameter.name)
                slots.append(ParameterSlot(parameter.name, parameter.shape, role))
        self.nodes.append(Node(kind, sorted(set(sources)), slots, self.cell, window))
        return len(self.nodes) - 1

    def join(self, kind: str, sources: Iterable[int]) -> int:
        """The node where several tensors meet; if all come from one node, that one."""
        distinct = set(sources)
        return self.add(kind, distinct) if len(distinct) > 1 else distinct.pop()
