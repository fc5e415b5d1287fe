"""`Genotype`: the operations inside the two kinds of cell of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from deepnets.architecture.vocabulary import INPUT_STATES, MAX_STEPS, PRIMITIVES
from deepnets.support import ConfigError, abbreviated, checked_integer

__all__ = ["GENOTYPES", "Gene", "Genotype", "fields_of", "known_fields_of"]

Gene = tuple[str, int]
"""A primitive and the state that it reads."""


@dataclass(frozen=True)
class Genotype:
    """The operations inside normal cells and reduction cells.

    A cell computes a list of states.  States 0 and 1 are the outputs of the cell before the previous one and of the
    previous one.  Every step applies two operations to earlier states and adds the results, which gives the next state.

    Parameters
    ----------
    normal, reduce
        `2 * steps` pairs (primitive, state).  The sum of pairs `2 i` and `2 i + 1` is state `2 + i`.
    normal_concat, reduce_concat
        States whose concatenation is the output of the cell, in increasing order.

    Raises
    ------
    ConfigError
        If a primitive is unknown, a state does not exist yet, or a concatenation is empty or not in order.

    Examples
    --------
    >>> genotype = Genotype(normal=[("conv_3x3", 0), ("skip_connect", 1)], normal_concat=[2],
    ...                     reduce=[("max_pool_3x3", 0), ("avg_pool_3x3", 1)], reduce_concat=[2])
    >>> genotype.steps
    1
    """

    normal: tuple[Gene, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Gene, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for kind in ("normal", "reduce"):
            object.__setattr__(self, kind, _genes(kind, getattr(self, kind)))
        if len(self.normal) != len(self.reduce):
            raise ConfigError(
                f"genotype: normal has {len(self.normal)} pairs, reduce {len(self.reduce)}; give both the same number"
            )
        for kind in ("normal_concat", "reduce_concat"):
            object.__setattr__(self, kind, _concat(kind, getattr(self, kind), self.steps))

    @property
    def steps(self) -> int:
        """Number of steps per cell, each of which adds two operations."""
        return len(self.normal) // 2

    @property
    def primitives(self) -> frozenset[str]:
        """The primitives of both kinds of cell."""
        return frozenset(op for op, _ in self.normal + self.reduce)

    def to_dict(self) -> dict[str, Any]:
        """Convert to lists, which JSON can represent."""
        return {
            "normal": [[op, state] for op, state in self.normal],
            "normal_concat": list(self.normal_concat),
            "reduce": [[op, state] for op, state in self.reduce],
            "reduce_concat": list(self.reduce_concat),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Genotype:
        """Make a genotype from the result of `to_dict`.

        Parameters
        ----------
        values
            The four fields.

        Raises
        ------
        ConfigError
            If a key is unknown or missing, or a value is invalid.
        """
        return cls(**fields_of(cls, "genotype", values))


def fields_of(cls: type, what: str, values: Any) -> dict[str, Any]:
    """Return the values of the fields of a dataclass; other keys are an error.

    Parameters
    ----------
    cls
        A dataclass.
    what
        Name of the values in error messages.
    values
        Values by field name.

    Raises
    ------
    ConfigError
        If a key is unknown or missing; the message lists the valid ones.

    Examples
    --------
    >>> try:
    ...     fields_of(Genotype, "genotype", {"normal": [], "depth": 3})
    ... except ConfigError as error:
    ...     print(str(error)[:61])
    genotype: missing key 'normal_concat', 'reduce', 'reduce_conc
    """
    known = known_fields_of(cls, what, values)
    unknown = [abbreviated(name) for name in values if name not in known]
    if unknown:
        valid = ", ".join(field.name for field in fields(cls))
        raise ConfigError(f"{what}: unknown key {', '.join(unknown)}; valid keys are {valid}")
    return known


def known_fields_of(cls: type, what: str, values: Any) -> dict[str, Any]:
    """Return the values of the fields of a dataclass; other keys are ignored.

    Parameters and errors are those of `fields_of`.

    Examples
    --------
    >>> values = GENOTYPES["ViT"].to_dict()
    >>> known_fields_of(Genotype, "genotype", {**values, "score": 1}) == values
    True
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what}: expected a dict, got {type(values).__name__}")
    names = [field.name for field in fields(cls)]
    missing = [repr(field.name) for field in fields(cls) if field.default is MISSING and field.name not in values]
    if missing:
        raise ConfigError(f"{what}: missing key {', '.join(missing)}; valid keys are {', '.join(names)}")
    return {name: values[name] for name in names if name in values}


def _genes(kind: str, pairs: Iterable[Any]) -> tuple[Gene, ...]:
    genes = []
    for position, pair in enumerate(_sequence(kind, pairs)):
        where = f"genotype {kind}[{position}]"
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ConfigError(f"{where}: expected a pair (primitive, state), got {abbreviated(pair)}")
        op, state = pair
        if op not in PRIMITIVES:
            raise ConfigError(f"{where}: unknown primitive {abbreviated(op)}; use one of {', '.join(PRIMITIVES)}")
        genes.append((op, checked_integer(f"{where} state", state, range(INPUT_STATES + position // 2))))
    if len(genes) % 2 or not 2 <= len(genes) <= 2 * MAX_STEPS:
        raise ConfigError(f"genotype {kind}: expected an even number of pairs, 2 to {2 * MAX_STEPS}, got {len(genes)}")
    return tuple(genes)


def _concat(kind: str, states: Iterable[Any], steps: int) -> tuple[int, ...]:
    allowed = range(INPUT_STATES, INPUT_STATES + steps)
    concat = tuple(checked_integer(f"genotype {kind}", state, allowed) for state in _sequence(kind, states))
    if not concat or list(concat) != sorted(set(concat)):
        raise ConfigError(
            f"genotype {kind}: expected one or more states in increasing order, got {abbreviated(concat)}"
        )
    return concat


def _sequence(name: str, values: Any) -> Iterable[Any]:
    if not isinstance(values, (list, tuple, range)):
        raise ConfigError(f"genotype {name}: expected a list, got {type(values).__name__}")
    return values


GENOTYPES: dict[str, Genotype] = {
    "ViT": Genotype(
        normal=(("none", 0), ("msa", 1)),
        normal_concat=(2,),
        reduce=(("none", 0), ("avg_pool_3x3", 1)),
        reduce_concat=(2,),
    ),
    "DARTS": Genotype(
        normal=(
            ("sep_conv_3x3", 0),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 0),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 1),
            ("skip_connect", 0),
            ("skip_connect", 0),
            ("dil_conv_3x3", 2),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            ("max_pool_3x3", 0),
            ("max_pool_3x3", 1),
            ("skip_connect", 2),
            ("max_pool_3x3", 1),
            ("max_pool_3x3", 0),
            ("skip_connect", 2),
            ("skip_connect", 2),
            ("max_pool_3x3", 1),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
    "PDARTS": Genotype(
        normal=(
            ("skip_connect", 0),
            ("dil_conv_3x3", 1),
            ("skip_connect", 0),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 3),
            ("sep_conv_3x3", 0),
            ("dil_conv_5x5", 4),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            ("avg_pool_3x3", 0),
            ("sep_conv_5x5", 1),
            ("sep_conv_3x3", 0),
            ("dil_conv_5x5", 2),
            ("max_pool_3x3", 0),
            ("dil_conv_3x3", 1),
            ("dil_conv_3x3", 1),
            ("dil_conv_5x5", 3),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
}
"""Genotypes by name: the vision transformer of the split `predefined`, and the results of two methods of architecture
search, DARTS (Liu et al., ICLR 2019) and P-DARTS (Chen et al., ICCV 2019)."""
