"""`Recorder`, the nodes of a run in the order of execution, and `Value`, what a tensor is computed from.

A tensor is computed from the outputs of nodes, or from parameters alone.  The latter are *pending* until an operation
combines them with data: only then is their role known.  Examples are a weight that is normalised before the
convolution, and a position embedding that is sliced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from deepnets.graph import ParameterSlot

__all__ = ["CONSTANT", "INPUT", "Node", "Pending", "Recorder", "Recording", "Value", "ancestors", "union"]

INPUT = 0
"""The node of all inputs of the network."""


class Pending(NamedTuple):
    """A parameter that has not been combined with data yet: its name and shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def is_vector(self) -> bool:
        """Whether at most one axis is longer than 1."""
        return sum(size > 1 for size in self.shape) <= 1


class Value(NamedTuple):
    """What a tensor is computed from; `Value()` for a constant.

    Attributes
    ----------
    nodes : tuple of int
        Nodes whose outputs the tensor contains, in increasing order.  Usually there is one; a product of two matrices
        has several until it is known whether it belongs to attention.
    pending : tuple of Pending
        Parameters that the tensor is computed from, if it does not depend on data.
    kind : str
        "scores" for a product of two matrices of data, "weights" after a softmax, "numbers" for what is computed from
        inputs of an integer dtype or `bool`, "flags" for comparisons of such inputs, otherwise "".
    """

    nodes: tuple[int, ...] = ()
    pending: tuple[Pending, ...] = ()
    kind: str = ""

    @property
    def selects(self) -> bool:
        """Whether the tensor holds integer inputs, which next to other data are indices, conditions or masks."""
        return self.kind in ("numbers", "flags")

    @property
    def attends(self) -> bool:
        """Whether the tensor may hold the scores or the weights of attention."""
        return self.kind in ("scores", "weights")


CONSTANT = Value()
"""What a constant is computed from."""


def union(values: Iterable[Value]) -> Value:
    """Return what several tensors together are computed from, given what each of them is computed from.

    Integer inputs next to other data are indices or masks and do not count; comparisons of them count only alone.

    Examples
    --------
    >>> union([Value((0,)), Value((3,)), Value((1,), (), "numbers")]).nodes
    (0, 3)
    """
    chosen = list(dict.fromkeys(value for value in values if value != CONSTANT))
    if len(chosen) <= 1:
        return chosen[0] if chosen else CONSTANT
    if any(value.nodes and not value.selects for value in chosen):
        chosen = [value for value in chosen if not value.selects]
    elif any(value.kind != "flags" for value in chosen):
        chosen = [value for value in chosen if value.kind != "flags"]
    nodes = sorted({node for value in chosen for node in value.nodes})
    pending = {parameter: None for value in chosen for parameter in value.pending}
    kinds = [value.kind for value in chosen if value.kind]
    return Value(tuple(nodes), tuple(pending), kinds[0] if len(kinds) == 1 else "")


@dataclass
class Node:
    """A node before the graph is finished: its type, sources, parameters, cell and pooling window.

    `detail` distinguishes nodes of one type that not all vocabularies treat alike: "mean" for a global pooling that is
    a mean over the spatial axes instead of an adaptive pooling, "hardswish" for a product whose gate, the smaller
    tensor, is the result of a hardswish.  `outputs` is the size of the last axis of the result of a linear layer.
    `reused` holds the slots of parameters that an earlier node has.
    """

    type: str
    sources: list[int]
    slots: list[ParameterSlot] = field(default_factory=list)
    cell: int = 0
    window: tuple[int, int] = (0, 0)
    detail: str = ""
    outputs: int = 0
    reused: list[ParameterSlot] = field(default_factory=list)


def ancestors(nodes: Sequence[Node], start: Iterable[int]) -> set[int]:
    """Return nodes, by their numbers, and all that they are computed from.

    Examples
    --------
    >>> ancestors([Node("input", []), Node("conv", [0]), Node("conv", [0]), Node("bias", [2])], [3])
    {0, 2, 3}
    """
    found = set(start)
    todo = list(found)
    while todo:
        new = [source for source in nodes[todo.pop()].sources if source not in found]
        found.update(new)
        todo += new
    return found


class Recorder:
    """Records the nodes of one run.

    Attributes
    ----------
    nodes : list of Node
        In the order of execution; the first one is the input.
    cell : int
        Cell of the nodes that are added next.
    claimed : set of str
        Names of the parameters that have a node.

    Examples
    --------
    >>> recorder = Recorder()
    >>> conv = recorder.add("conv", [INPUT], [(Pending("conv.weight", (8, 3, 3, 3)), "weight")])
    >>> recorder.join("sum", [INPUT, conv])
    2
    >>> [(node.type, node.sources) for node in recorder.nodes]
    [('input', []), ('conv', [0]), ('sum', [0, 1])]
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
        detail: str = "",
    ) -> int:
        """Add a node and return its number.

        Parameters
        ----------
        kind : str
            Its type, one of `deepnets.NODE_TYPES`.
        sources : iterable of int
            The nodes that it reads, in any order; repetitions are ignored.
        parameters : sequence of (Pending, str)
            The parameters that it stands for, with their roles.  A parameter that has a node keeps it, at least until
            the output of the run is known.
        window : (int, int)
            Height and width of the pooling window; (0, 0) for other nodes.
        detail : str
            As in `Node`.
        """
        slots: list[ParameterSlot] = []
        reused: list[ParameterSlot] = []
        for parameter, role in parameters:
            slot = ParameterSlot(parameter.name, parameter.shape, role)
            (reused if parameter.name in self.claimed else slots).append(slot)
            self.claimed.add(parameter.name)
        self.nodes.append(Node(kind, sorted(set(sources)), slots, self.cell, window, detail, reused=reused))
        return len(self.nodes) - 1

    def join(self, kind: str, sources: Iterable[int]) -> int:
        """Add a node that combines several sources and return its number; a single source is returned as it is."""
        distinct = set(sources)
        return self.add(kind, distinct) if len(distinct) > 1 else distinct.pop()


class Recording(Protocol):
    """An object that records a run: of a module, or of an ONNX model."""

    @property
    def recorder(self) -> Recorder:
        """The nodes of the run."""
