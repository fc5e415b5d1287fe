"""Genotypes of other search spaces, as far as DeepNets-1M has their operations: DARTS, NASLib, NATS-Bench.

    Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=[...], ...)    DARTS
    (((0, 3), (1, 3), ...), ((0, 0), (1, 2), ...))                          NASLib, spaces DARTS and NAS-Bench-301
    |nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|...    NATS-Bench (topology), NAS-Bench-201
    [2, 2, 0, 4, 1, 3]                                                      NASLib, space NAS-Bench-201

Texts are parsed, not executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from deepnets.architecture.genotype import GENOTYPES, Gene, Genotype
from deepnets.support import ConfigError, abbreviated

__all__ = ["parse_genotype"]

DARTS_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Operations of the numbers in compact DARTS genotypes of NASLib."""

NAS201_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
"""Operations of the six numbers of NAS-Bench-201 architectures in NASLib."""

NAS201_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""Edges of the cell of NAS-Bench-201, in the order of these numbers."""

_NAS201_NAMES = {name: name.replace("nor_conv", "conv") for name in NAS201_OPERATIONS}
_LONGEST = 10_000  # characters; genotypes have hundreds
_STATE = (2, 3, 5)  # the states of our cell that are the nodes 1, 2, 3 of a NAS-Bench-201 cell


def parse_genotype(genotype: Any) -> Genotype:
    """Convert a genotype of another search space.

    DARTS genotypes have the same cells here, with the concatenation that they state (compact ones: states 2 to 5).

    A cell of NAS-Bench-201, the topology space of NATS-Bench, becomes a normal cell with four steps, which computes the
    same function of the output of the previous cell: its third node, a sum of three operations, takes two steps.  The
    reduction cell is the residual block that these benchmarks have between their stages, two 3x3 convolutions and a
    shortcut, except that the shortcut is that of `skip_connect` with stride 2.  A
    `NetworkConfig(genotype, n_cells=17, C=16)` has three stages of five cells, as published; cells additionally
    convert their inputs by 1x1 convolutions, as in all networks of DeepNets-1M with `C_mult=2`.

    Parameters
    ----------
    genotype
        A `Genotype`, its dictionary, a name in `deepnets.GENOTYPES`, or one of the forms in the head of this module: a
        text, or the lists or numbers that it stands for, also as NumPy arrays.

    Returns
    -------
    Genotype

    Raises
    ------
    ConfigError
        If the form is not one of these, or the space has no such operation.  Spaces of sizes, such as the size space of
        NATS-Bench (`"16:24:32:40:48"`), are not spaces of genotypes.

    References
    ----------
    Liu et al., "DARTS: Differentiable Architecture Search" (ICLR 2019); Dong and Yang, "NAS-Bench-201" (ICLR 2020);
    Dong et al., "NATS-Bench" (TPAMI 2021); Ruchte et al., "NASLib" (2020).

    Examples
    --------
    >>> text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    >>> parse_genotype(text).normal
    (('conv_3x3', 1), ('none', 0), ('conv_3x3', 1), ('avg_pool_3x3', 2), ('skip_connect', 1), ('none', 2), \
('skip_connect', 4), ('conv_1x1', 3))
    >>> parse_genotype([2, 2, 0, 4, 1, 3]) == parse_genotype(text)
    True
    """
    if isinstance(genotype, Genotype):
        return genotype
    if isinstance(genotype, Mapping):
        return Genotype.from_dict(genotype)
    if isinstance(genotype, str):
        return _parsed(genotype)
    fields = ("normal", "normal_concat", "reduce", "reduce_concat")
    if all(hasattr(genotype, name) for name in fields):  # the named tuple of DARTS
        return _genotype({name: getattr(genotype, name) for name in fields})
    genotype = _plain(genotype)
    if isinstance(genotype, Sequence):
        if len(genotype) == len(NAS201_EDGES) and all(_is_integer(number) for number in genotype):
            return _from_nas201([_named(NAS201_OPERATIONS, number, genotype) for number in genotype])
        if len(genotype) == 2 and all(isinstance(cell, Sequence) and not isinstance(cell, str) for cell in genotype):
            return _from_compact(genotype)
    raise _unknown(genotype)


def _plain(value: Any) -> Any:
    """Return lists and numbers in the place of arrays and numbers of NumPy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _unknown(genotype: Any) -> ConfigError:
    return ConfigError(
        "genotype: expected a Genotype, a name, a genotype of DARTS, the text |op~0|+|op~0|op~1|+|op~0|op~1|op~2| of "
        f"NATS-Bench, or the numbers of NASLib, got {abbreviated(genotype)}"
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _named(operations: Sequence[str], number: Any, genotype: Any) -> str:
    if not _is_integer(number) or not 0 <= number < len(operations):
        raise ConfigError(
            f"genotype: operations have the numbers 0 to {len(operations) - 1}, got {abbreviated(number)} in "
            f"{abbreviated(genotype)}"
        )
    return operations[int(number)]


# --- texts ---


def _parsed(text: str) -> Genotype:
    text = text.strip()
    if text in GENOTYPES:
        return GENOTYPES[text]
    if text.startswith("|"):
        return _from_nas201(_nas201_operations(text))
    if len(text) > _LONGEST:
        raise _unknown(text)
    try:
        tree = ast.parse(text, mode="eval").body
        if isinstance(tree, ast.Call):
            name = tree.func
            if not isinstance(name, ast.Name) or name.id != "Genotype" or tree.args:
                raise _unknown(text)
            return _genotype({part.arg or "**": _value(part.value) for part in tree.keywords})
        return parse_genotype(ast.literal_eval(tree))
    except ConfigError:
        raise
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise _unknown(text) from error


def _value(node: ast.expr) -> Any:
    """Return a literal, or the numbers of ``range(a, b)``, which DARTS genotypes contain."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords:
        ends = [ast.literal_eval(end) for end in node.args]
        if len(ends) in (1, 2) and all(_is_integer(end) and 0 <= end < 100 for end in ends):
            return range(*ends)
    return ast.literal_eval(node)


def _genotype(fields: Mapping[str, Any]) -> Genotype:
    return Genotype.from_dict(fields)


def _nas201_operations(text: str) -> list[str]:
    """Return the operations of a NATS-Bench text, in the order of `NAS201_EDGES`."""
    nodes = text.split("+")
    found: dict[tuple[int, int], str] = {}
    for target, node in enumerate(nodes, 1):
        genes = node.strip().strip("|").split("|")
        for gene in genes:
            match = re.fullmatch(r"([a-z0-9_]+)~([0-9])", gene.strip())
            if match is None:
                raise _unknown(text)
            found[int(match[2]), target] = match[1]
        if len(genes) != target:
            raise _unknown(text)
    if set(found) != set(NAS201_EDGES):
        raise _unknown(text)
    return [found[edge] for edge in NAS201_EDGES]


# --- spaces ---


def _from_compact(cells: Sequence[Any]) -> Genotype:
    genes: list[list[Gene]] = []
    for cell in cells:
        if not all(isinstance(gene, Sequence) and not isinstance(gene, str) and len(gene) == 2 for gene in cell):
            raise _unknown(cells)
        genes.append([(_named(DARTS_OPERATIONS, number, cells), state) for state, number in cell])
    if [len(cell) for cell in genes] != [8, 8]:
        raise ConfigError(
            f"genotype: compact DARTS genotypes have 8 pairs (state, operation) per cell, got "
            f"{' and '.join(str(len(cell)) for cell in genes)}"
        )
    return Genotype(tuple(genes[0]), (2, 3, 4, 5), tuple(genes[1]), (2, 3, 4, 5))


def _from_nas201(operations: Sequence[str]) -> Genotype:
    for name in operations:
        if name not in _NAS201_NAMES:
            known = ", ".join(NAS201_OPERATIONS)
            raise ConfigError(f"genotype: NAS-Bench-201 has the operations {known}, got {abbreviated(name)}")
    # The edge a -> b is an operation on state 1, the output of the previous cell, or on the state of node a.
    op = {edge: _NAS201_NAMES[name] for edge, name in zip(NAS201_EDGES, operations)}
    normal = (
        *((op[0, 1], 1), ("none", 0)),
        *((op[0, 2], 1), (op[1, 2], _STATE[0])),
        *((op[0, 3], 1), (op[1, 3], _STATE[0])),
        *(("skip_connect", 4), (op[2, 3], _STATE[1])),
    )
    block = (("conv_3x3", 1), ("none", 0), ("conv_3x3", 2), ("skip_connect", 1))
    unused = (("none", 0), ("none", 1)) * 2
    return Genotype(normal, (_STATE[2],), block + unused, (3,))
