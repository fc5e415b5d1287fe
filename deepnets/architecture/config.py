"""`NetworkConfig`, `Genotype`: the description of a DeepNets-1M network, as plain validated values.

A network is a stack of cells in the manner of DARTS.  A `Genotype` says what happens inside the two kinds of cell
(normal and reduction); a `NetworkConfig` adds the stem, the depth, the width and the head.  Everything else in the
toolkit, the computational graph, the PyTorch network and the records on disk, is a function of a `NetworkConfig`.

Field names are those of the original release (Knyazev et al., NeurIPS 2021), so that its metadata and its vocabulary
carry over.  This module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from deepnets.architecture.vocabulary import (
    IMAGE_SIZES,
    INPUT_STATES,
    MAX_CELLS,
    MAX_STEPS,
    MAX_WIDTH,
    NORMS,
    PRIMITIVES,
)
from deepnets.support import ConfigError, abbreviated, checked_integer

__all__ = ["GENOTYPES", "Gene", "Genotype", "NetworkConfig", "checked_task"]

Gene = tuple[str, int]


@dataclass(frozen=True)
class Genotype:
    """What happens inside a normal and inside a reduction cell.

    Parameters
    ----------
    normal, reduce
        `2 * steps` pairs (primitive, state).  Pairs `2i` and `2i + 1` are added up and make state `2 + i`; state 0 is
        the output of the cell before the previous one, state 1 that of the previous one.
    normal_concat, reduce_concat
        The states whose channels, concatenated, are the output of the cell, in increasing order.

    Raises
    ------
    ConfigError
        For an unknown primitive, a state that does not exist yet, an empty or unordered concatenation.

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
        """Number of two-input sums per cell."""
        return len(self.normal) // 2

    @property
    def primitives(self) -> frozenset[str]:
        """The primitives that occur in either kind of cell."""
        return frozenset(op for op, _ in self.normal + self.reduce)

    def to_dict(self) -> dict[str, Any]:
        """The genotype as lists, ready for JSON."""
        return {
            "normal": [[op, state] for op, state in self.normal],
            "normal_concat": list(self.normal_concat),
            "reduce": [[op, state] for op, state in self.reduce],
            "reduce_concat": list(self.reduce_concat),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Genotype:
        """Inverse of `to_dict`; an unknown or a missing key is a `ConfigError` that lists the valid ones."""
        return cls(**_checked_keys(cls, "genotype", values))


@dataclass(frozen=True)
class NetworkConfig:
    """One architecture: a genotype with its stem, depth, width and head.

    Parameters
    ----------
    genotype
        The two kinds of cell.
    n_cells
        Number of cells.  Those at one third and two thirds of the depth are reduction cells.
    C, C_mult
        Initial number of channels, and the factor by which every reduction cell multiplies it (1 or 2).
    ks
        Kernel size of the first convolution of the stem: 3, 5 or 7.
    stem_type, stem_pool
        0: one convolution, followed by max-pooling if `stem_pool`; 1: three convolutions, of which the last halves
        the resolution.  Networks with attention have a patch stem whatever these say.
    norm
        One of `NORMS`.
    preproc
        Whether 1x1 convolutions bring the two inputs of every cell to its width.
    glob_avg
        Global average pooling before the classifier; without it the feature map is flattened.
    fc_layers, fc_dim
        Linear layers of the classifier, and the width of the hidden ones.
    imagenet_stride
        Stride of the one-convolution stem on 224-pixel images: 2 or 4 (GHN-3's wider networks use 2).

    Raises
    ------
    ConfigError
        If a value is not allowed, or two of them do not go together.
    """

    genotype: Genotype
    n_cells: int
    C: int = 32
    C_mult: int = 2
    ks: int = 3
    stem_type: int = 0
    stem_pool: bool = False
    norm: str | None = "bnorm"
    preproc: bool = True
    glob_avg: bool = True
    fc_layers: int = 1
    fc_dim: int = 256
    imagenet_stride: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.genotype, Mapping):
            object.__setattr__(self, "genotype", Genotype.from_dict(self.genotype))
        if not isinstance(self.genotype, Genotype):
            raise ConfigError(f"genotype: expected a Genotype or its dict, got {type(self.genotype).__name__}")
        for name in ("stem_pool", "preproc", "glob_avg"):
            object.__setattr__(self, name, _flag(name, getattr(self, name)))
        object.__setattr__(self, "norm", _norm(self.norm))
        for name, allowed in _INTEGERS.items():
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), allowed))
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.C % 2:
            raise ConfigError(f"C: must be even (strided skips split it in two halves), got {self.C}")
        if self.is_vit and self.C % 8:
            raise ConfigError(f"C: networks with msa need a multiple of 8 (8 attention heads), got {self.C}")
        if not self.preproc and (len(self.genotype.normal_concat) > 1 or self.C_mult > 1):
            raise ConfigError(
                "preproc: must be true if a cell concatenates several states or C_mult is 2, because only the "
                "preprocessing brings the inputs of a cell to its width"
            )
        if not self.preproc and len(self.genotype.reduce_concat) > 1:
            raise ConfigError("preproc: must be true if reduce_concat has several states")
        if not self.glob_avg and (self.is_vit or self.n_cells < 3):
            raise ConfigError(
                "glob_avg: must be true for networks with msa and for fewer than 3 cells (a flattening head is "
                "defined for feature maps that two reduction cells made small)"
            )

    @property
    def is_vit(self) -> bool:
        """Whether attention occurs in either kind of cell; such networks have a patch stem and keep the resolution."""
        return "msa" in self.genotype.primitives

    @property
    def reduction_cells(self) -> tuple[int, ...]:
        """Indices of the cells that halve the resolution (not in ViTs) and multiply the width by `C_mult`."""
        return tuple(sorted({self.n_cells // 3, 2 * self.n_cells // 3} - {0}))

    def replace(self, **changes: Any) -> NetworkConfig:
        """A copy with some fields changed, validated again."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values, ready for JSON."""
        return {**asdict(self), "genotype": self.genotype.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Inverse of `to_dict`; an unknown or a missing key is a `ConfigError` that lists the valid ones.

        All keys but `genotype` and `n_cells` may be left out, for their defaults.
        """
        return cls(**_checked_keys(cls, "network config", values))

    def to_official(self) -> dict[str, Any]:
        """This network's metadata entry in the original release's JSON, without the counts.

        The entry has no `imagenet_stride`: the original release draws it when a network is loaded.
        """
        entry = self.to_dict()
        del entry["imagenet_stride"]
        return entry

    @classmethod
    def from_official(cls, entry: Mapping[str, Any]) -> NetworkConfig:
        """Read one network's metadata entry of the original release.

        Parameters
        ----------
        entry
            The JSON object.  `num_nodes`, `num_params` and keys of other tools are ignored; `C` and `fc_dim` may be
            missing, as in the training split, where they are drawn when a network is loaded.
        """
        values = _known(cls, "official metadata entry", entry)
        genotype = _known(Genotype, "official metadata entry: genotype", values["genotype"])
        values["genotype"] = Genotype(**genotype)
        if values.get("fc_layers") == 0:  # the original builder's way to say "one linear layer"
            values["fc_layers"] = 1
        if values.get("fc_dim") == 0:
            del values["fc_dim"]
        return cls(**values)


def checked_task(num_classes: int, image_size: int) -> tuple[int, int]:
    """The same as integers; `ConfigError` if there is no network for so many classes or images of this size."""
    return (
        checked_integer("num_classes", num_classes, range(1, 2**31)),
        checked_integer("image_size", image_size, IMAGE_SIZES),
    )


_INTEGERS: dict[str, range | tuple[int, ...]] = {
    "n_cells": range(1, MAX_CELLS + 1),
    "C": range(2, MAX_WIDTH + 1),
    "C_mult": (1, 2),
    "ks": (3, 5, 7),
    "stem_type": (0, 1),
    "fc_layers": range(1, 5),
    "fc_dim": range(1, MAX_WIDTH + 1),
    "imagenet_stride": (2, 4),
}


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


def _flag(name: str, value: Any) -> bool:
    if value in (True, False):  # 0 and 1 are welcome: the original metadata has been written by several tools
        return bool(value)
    raise ConfigError(f"{name}: expected true or false, got {abbreviated(value)}")


def _norm(value: Any) -> str | None:
    if value in (None, "", "none"):
        return None
    if isinstance(value, str) and value.startswith("bn"):
        if value in NORMS:
            return value
        return "bn-track" if "track" in value else "bnorm"
    raise ConfigError(f"norm: expected one of {', '.join(map(str, NORMS))}; got {abbreviated(value)}")


def _checked_keys(cls: type, what: str, values: Any) -> dict[str, Any]:
    """The values, if they are those of the fields of a class, and of none else."""
    known = _known(cls, what, values)
    unknown = [abbreviated(name) for name in values if name not in known]
    if unknown:
        valid = ", ".join(field.name for field in fields(cls))
        raise ConfigError(f"{what}: unknown key {', '.join(unknown)}; valid keys are {valid}")
    return known


def _known(cls: type, what: str, values: Any) -> dict[str, Any]:
    """The values of the fields of a class; others are left out."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what}: expected a dict, got {type(values).__name__}")
    names = [field.name for field in fields(cls)]
    missing = [repr(field.name) for field in fields(cls) if field.default is MISSING and field.name not in values]
    if missing:
        raise ConfigError(f"{what}: missing key {', '.join(missing)}; valid keys are {', '.join(names)}")
    return {name: values[name] for name in names if name in values}


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
"""Genotypes with a name: the vision transformer of the `predefined` split, and two cells found by architecture search
(Liu et al., ICLR 2019; Chen et al., ICCV 2019)."""
