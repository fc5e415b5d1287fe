"""The words of the original files: what they call node types and parameters, in old files and in new ones.

A split has two tables of its own, filled in order of first appearance; node rows hold indices into them.  `Tables`
translates a split's indices into ours, `Vocabulary` makes the tables of a split that is being written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NAMES, PUBLISHED_NODE_TYPES
from deepnets.graph import Graph, ParameterSlot
from deepnets.support import FormatError

__all__ = ["UNKNOWN_NAME", "Tables", "Vocabulary", "parameter_name", "type_name"]

UNKNOWN_NAME = 65_535
"""Stands for a name that no parameter of ours has; `NAMES` is far shorter."""

_NOT_IN_TABLE = 65_534
_MAX_LENGTH = 200  # of a word that is worth understanding
_MAX_ENTRIES = 65_534  # as many as the indices of node rows can tell apart

_PARAMETER_FREE = np.isin(
    PUBLISHED_NODE_TYPES, ("max_pool", "avg_pool", "msa", "cse", "sum", "concat", "input", "glob_avg")
)
_BIAS = PUBLISHED_NODE_TYPES.index("bias")
_NAME_INDEX = {name: index for index, name in enumerate(NAMES)}
_WITH_KERNEL_SIZE = re.compile(r"(sep_conv|dil_conv|max_pool|avg_pool)_\d+x\d+")
_KERNELS = ("conv", "sep_conv", "dil_conv")


def type_name(word: str) -> str | None:
    """The node type that a word stands for, `None` if it stands for none.

    Older files have kernel sizes in them, and call the bias of a linear layer `fc-b`.

    Examples
    --------
    >>> type_name("conv_1x1"), type_name("sep_conv_5x5"), type_name("fc-b"), type_name("gelu")
    ('conv', 'sep_conv', 'bias', None)
    """
    if word in PUBLISHED_NODE_TYPES:
        return word
    if word == "fc-b":
        return "bias"
    if word.startswith("conv_"):
        return "conv"
    sized = _WITH_KERNEL_SIZE.fullmatch(word)
    return sized[1] if sized else None


def parameter_name(word: str, kind: str = "weight") -> str:
    """The parameter that a word stands for, without the `cells.<cell>.` of layers inside a cell.

    Parameters
    ----------
    word
        A name as files have it: of today's code or of older code, with or without its last component.
    kind
        `"weight"` or `"bias"`: the last component, where it was left out.

    Examples
    --------
    >>> parameter_name("_ops.3.1"), parameter_name("cells.0.stem0.3"), parameter_name("_ops.1.to_out.0.")
    ('_ops.3.op.1.weight', 'stem0.3.weight', '_ops.1.to_out.0.weight')
    """
    if not word.startswith("classifier"):
        word = re.sub(r"^.*?(?=stem|pos_enc)", "", word)
        word = re.sub(r"^cells\.\d+\.", "", word)
        word = re.sub(r"(_ops\.\d+)\.(?=\d+(\.|$))", r"\1.op.", word)
        word = word.replace(".attn.", ".")  # GHN-3's attention keeps its layers one level deeper
        word = word.removesuffix(".")
    return word if word.endswith((".weight", ".bias")) else f"{word}.{kind}"


class Tables(NamedTuple):
    """A split's two tables as arrays: from an index of the file to an index of ours.

    Attributes
    ----------
    types
        Into `PUBLISHED_NODE_TYPES`; 255 where the table has no entry.
    weights, biases
        Into `deepnets.architecture.NAMES`, for nodes that stand for a weight (or a norm) and for a bias.
    """

    types: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.uint16]
    biases: npt.NDArray[np.uint16]

    @classmethod
    def from_meta(cls, meta: Any) -> Tables:
        """Understand the `meta` object of a split; `FormatError` if it is none, or has an unknown node type."""
        if not isinstance(meta, Mapping):
            raise FormatError("meta: expected an object with primitives_ext and unique_op_names")
        words = _entries(meta, "primitives_ext")
        types = np.full(max(words, default=-1) + 1, 255, np.uint8)
        for index, word in words.items():
            name = type_name(word) if len(word) <= _MAX_LENGTH else None
            if name is None:
                raise FormatError(
                    f"meta: primitives_ext[{index}] is {word[:_MAX_LENGTH]!r}, not a node type; "
                    f"known are {', '.join(PUBLISHED_NODE_TYPES)}"
                )
            types[index] = PUBLISHED_NODE_TYPES.index(name)
        words = _entries(meta, "unique_op_names")
        weights = np.full(max(words, default=-1) + 1, _NOT_IN_TABLE, np.uint16)
        biases = weights.copy()
        for index, word in words.items():
            word = word[:_MAX_LENGTH]
            weights[index] = _NAME_INDEX.get(parameter_name(word, "weight"), UNKNOWN_NAME)
            biases[index] = _NAME_INDEX.get(parameter_name(word, "bias"), UNKNOWN_NAME)
        return cls(types, weights, biases)

    def translate(self, rows: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        """Node types `(N,) uint8` and names `(N,) uint16` of a network's node rows `(N, 3)`.

        A node without parameters is named after its type, whatever the file calls it.
        """
        type_indices, name_indices = rows[:, 0], rows[:, 2]
        _check_range("type", type_indices, len(self.types))
        _check_range("name", name_indices, len(self.weights))
        types = self.types[type_indices]
        names = np.where(types == _BIAS, self.biases[name_indices], self.weights[name_indices])
        if (types == 255).any() or (names == _NOT_IN_TABLE).any():
            raise FormatError("nodes: an index of a type or name that the split's tables leave out")
        return types, np.where(_PARAMETER_FREE[types], types, names).astype(np.uint16)


class Vocabulary:
    """The two tables of a split that is being written; they grow with the networks."""

    def __init__(self) -> None:
        self._types: dict[str, int] = {}
        self._names: dict[str, int] = {}

    def rows(self, graph: Graph) -> npt.NDArray[np.uint16]:
        """The node rows `(N, 3)` of a graph that knows names and parameters: type, cell and name."""
        if graph.names is None:
            raise FormatError("the graph does not know the names of its nodes")
        rows = np.empty((graph.num_nodes, 3), np.uint16)
        rows[:, 1] = graph.cells
        nodes = zip(graph.node_types.tolist(), graph.names.tolist(), graph.parameters)
        for row, (type_index, name_index, slots) in zip(rows, nodes):
            kind, name = _words(PUBLISHED_NODE_TYPES[type_index], NAMES[name_index], slots)
            row[0] = self._types.setdefault(kind, len(self._types))
            row[2] = self._names.setdefault(name, len(self._names))
        return rows

    def meta(self) -> dict[str, dict[str, str]]:
        """The `meta` object of the split."""
        return {
            "primitives_ext": {str(index): word for word, index in self._types.items()},
            "unique_op_names": {str(index): word for word, index in self._names.items()},
        }


def _words(kind: str, name: str, slots: tuple[ParameterSlot, ...]) -> tuple[str, str]:
    """What the original release calls a node's type and name.

    Kernels go without `.weight`, because GHN-3 asserts `stem0.3` and `stem1.1` in networks without norms.
    """
    if kind not in _KERNELS:
        return kind, name
    window = slots[0].shape[2:]
    if kind == "conv" and set(window) <= {1}:
        kind = "conv_1x1"
    return kind, name.removesuffix(".weight") if window else name


def _entries(meta: Mapping[str, Any], key: str) -> dict[int, str]:
    table = meta.get(key)
    if not isinstance(table, Mapping):
        raise FormatError(f"meta: expected an object under {key}, got {type(table).__name__}")
    entries = {}
    for index, word in table.items():
        if not (index.isascii() and index.isdecimal() and len(index) <= 5 and int(index) < _MAX_ENTRIES):
            raise FormatError(f"meta: {key} has the key {index[:20]!r}; expected an index, 0 to {_MAX_ENTRIES - 1}")
        if not isinstance(word, str):
            raise FormatError(f"meta: {key}[{index}] is {type(word).__name__}; expected a string")
        entries[int(index)] = word
    return entries


def _check_range(what: str, indices: npt.NDArray[np.uint16], length: int) -> None:
    if len(indices) and indices.max() >= length:
        raise FormatError(f"nodes: {what} index {indices.max()} is outside the split's table of {length}")
