"""The vocabulary of the original files: their names of node types and of parameters, in all versions.

Every split has two tables of names, in the order of first appearance, and node rows hold indices into them.  `Tables`
translates the indices of a split into those of this package; `Vocabulary` builds the tables of a split that is written.
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
"""Index of a name that is not in `deepnets.architecture.NAMES`, which is much shorter."""

_NOT_IN_TABLE = 65_534
_MAX_LENGTH = 200  # of a name; longer ones are not known
_MAX_ENTRIES = 65_534  # limited by the uint16 indices of node rows

_PARAMETER_FREE = np.isin(
    PUBLISHED_NODE_TYPES, ("max_pool", "avg_pool", "msa", "cse", "sum", "concat", "input", "glob_avg")
)
_BIAS = PUBLISHED_NODE_TYPES.index("bias")
_NAME_INDEX = {name: index for index, name in enumerate(NAMES)}
_WITH_KERNEL_SIZE = re.compile(r"(sep_conv|dil_conv|max_pool|avg_pool)_\d+x\d+")
_KERNELS = ("conv", "sep_conv", "dil_conv")


def type_name(word: str) -> str | None:
    """Translate a node type of an original file.

    Names in older files contain kernel sizes, and `fc-b` is the bias of a linear layer.

    Parameters
    ----------
    word : str
        The name in the file.

    Returns
    -------
    str or None
        One of `deepnets.architecture.PUBLISHED_NODE_TYPES`; None if the name is unknown.

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
    """Translate a parameter name of an original file, without the prefix `cells.<cell>.` of layers inside a cell.

    Parameters
    ----------
    word : str
        The name in the file, of any version of the original code, with or without its last component.
    kind : {"weight", "bias"}, default "weight"
        The last component, if the name lacks it.

    Returns
    -------
    str
        The name of the parameter.

    Examples
    --------
    >>> parameter_name("_ops.3.1"), parameter_name("cells.0.stem0.3"), parameter_name("_ops.1.to_out.0.")
    ('_ops.3.op.1.weight', 'stem0.3.weight', '_ops.1.to_out.0.weight')
    """
    if not word.startswith("classifier"):
        word = re.sub(r"^.*?(?=stem|pos_enc)", "", word)
        word = re.sub(r"^cells\.\d+\.", "", word)
        word = re.sub(r"(_ops\.\d+)\.(?=\d+(\.|$))", r"\1.op.", word)
        word = word.replace(".attn.", ".")  # attention in GHN-3 has one more level of modules
        word = word.removesuffix(".")
    return word if word.endswith((".weight", ".bias")) else f"{word}.{kind}"


class Tables(NamedTuple):
    """The two tables of a split as arrays that map an index in the file to an index in this package.

    Attributes
    ----------
    types : numpy array
        `uint8` indices into `PUBLISHED_NODE_TYPES`; 255 where the table has no entry.
    weights, biases : numpy array
        `uint16` indices into `deepnets.architecture.NAMES`, for nodes with a weight (or a norm), and with a bias.

    Examples
    --------
    >>> meta = {"primitives_ext": {"0": "input", "1": "conv_1x1"}, "unique_op_names": {"0": "input", "1": "stem.0"}}
    >>> types, names = Tables.from_meta(meta).translate(np.array([[0, 0, 0], [1, 0, 1]], np.uint16))
    >>> [PUBLISHED_NODE_TYPES[index] for index in types]
    ['input', 'conv']
    """

    types: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.uint16]
    biases: npt.NDArray[np.uint16]

    @classmethod
    def from_meta(cls, meta: Any) -> Tables:
        """Read the `meta` object of a split.

        Raises
        ------
        FormatError
            If the object does not have the expected form, or contains an unknown node type.
        """
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
        """Translate the node rows of a network.

        Parameters
        ----------
        rows : numpy array
            `(N, 3) uint16`: type, cell and name.

        Returns
        -------
        types : numpy array
            `(N,) uint8`, indices into `PUBLISHED_NODE_TYPES`.
        names : numpy array
            `(N,) uint16`, indices into `NAMES`.  A node without parameters has the name of its type.

        Raises
        ------
        FormatError
            If an index is not in the tables.
        """
        type_indices, name_indices = rows[:, 0], rows[:, 2]
        _check_range("type", type_indices, len(self.types))
        _check_range("name", name_indices, len(self.weights))
        types = self.types[type_indices]
        names = np.where(types == _BIAS, self.biases[name_indices], self.weights[name_indices])
        if (types == 255).any() or (names == _NOT_IN_TABLE).any():
            raise FormatError("nodes: an index of a type or name that the tables of the split do not contain")
        return types, np.where(_PARAMETER_FREE[types], types, names).astype(np.uint16)


class Vocabulary:
    """The two tables of a split that is written; every network can add entries.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> vocabulary = Vocabulary()
    >>> vocabulary.rows(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2)))[:2].tolist()
    [[0, 0, 0], [1, 0, 1]]
    >>> vocabulary.meta()["primitives_ext"]["0"]
    'input'
    """

    def __init__(self) -> None:
        self._types: dict[str, int] = {}
        self._names: dict[str, int] = {}

    def rows(self, graph: Graph) -> npt.NDArray[np.uint16]:
        """Return the node rows `(N, 3) uint16` of a graph: type, cell and name."""
        if graph.names is None:
            raise FormatError("the graph has no names of nodes")
        rows = np.empty((graph.num_nodes, 3), np.uint16)
        rows[:, 1] = graph.cells
        nodes = zip(graph.node_types.tolist(), graph.names.tolist(), graph.parameters)
        for row, (type_index, name_index, slots) in zip(rows, nodes):
            kind, name = _words(PUBLISHED_NODE_TYPES[type_index], NAMES[name_index], slots)
            row[0] = self._types.setdefault(kind, len(self._types))
            row[2] = self._names.setdefault(name, len(self._names))
        return rows

    def meta(self) -> dict[str, dict[str, str]]:
        """Return the `meta` object of the split."""
        return {
            "primitives_ext": {str(index): word for word, index in self._types.items()},
            "unique_op_names": {str(index): word for word, index in self._names.items()},
        }


def _words(kind: str, name: str, slots: tuple[ParameterSlot, ...]) -> tuple[str, str]:
    """Return the type and the name of a node in the original release.

    Names of kernels lack `.weight`, because GHN-3 expects `stem0.3` and `stem1.1` in networks without norms.
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
        raise FormatError(f"nodes: {what} index {indices.max()} is outside the table of {length} entries")
