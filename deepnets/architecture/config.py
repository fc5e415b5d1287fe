"""`NetworkConfig`: the description of a DeepNets-1M network, as validated, immutable values.

A network is a stack of cells in the style of DARTS.  A `Genotype` describes the operations inside the two kinds of
cell; a `NetworkConfig` adds the stem, the depth, the width and the head.  The computational graph, the PyTorch network
and the record in a file are functions of a `NetworkConfig`.

Names of fields are those of the original release (Knyazev et al., NeurIPS 2021).  This module imports neither torch nor
NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from deepnets.architecture.genotype import Genotype, fields_of, known_fields_of
from deepnets.architecture.vocabulary import MAX_CELLS, MAX_IMAGE_SIZE, MAX_WIDTH, MIN_IMAGE_SIZE, NORMS
from deepnets.support import ConfigError, abbreviated, checked_integer

__all__ = ["NetworkConfig", "checked_task"]


@dataclass(frozen=True)
class NetworkConfig:
    """Description of an architecture.

    Parameters
    ----------
    genotype
        Operations of the cells, as a `Genotype` or its dictionary.
    n_cells
        Number of cells, 1 to 200.  The cells at one third and two thirds of the depth are reduction cells.
    C
        Initial number of channels, an even number; a multiple of 8 for networks with attention.
    C_mult
        Factor by which every reduction cell multiplies the number of channels, 1 or 2.
    ks
        Kernel size of the first convolution of the stem: 3, 5 or 7.
    stem_type
        0: the stem is one convolution.  1: the stem has three convolutions, of which the last halves the resolution.
        Networks with attention always have a stem of patches.
    stem_pool
        Whether max pooling follows the stem of type 0.
    norm
        One of `deepnets.architecture.NORMS`.
    preproc
        Whether 1x1 convolutions convert the two inputs of every cell to its number of channels.
    glob_avg
        Whether global average pooling precedes the classifier.  Without it, the feature map is flattened.
    fc_layers
        Number of linear layers of the classifier, 1 to 4.
    fc_dim
        Width of the hidden layers of the classifier.
    imagenet_stride
        Stride of the stem of type 0 for 224-pixel images, 2 or 4.  GHN-3 uses 2 for some training networks.

    Raises
    ------
    ConfigError
        If a value is not allowed, or a combination of values is not possible.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> config = NetworkConfig(GENOTYPES["DARTS"], n_cells=6, C=48)
    >>> config.reduction_cells
    (2, 4)
    >>> config.replace(C=64).C
    64
    >>> NetworkConfig.from_dict(config.to_dict()) == config
    True
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
            raise ConfigError(f"C: must be even (strided skip connections split it into two halves), got {self.C}")
        if self.is_vit and self.C % 8:
            raise ConfigError(f"C: networks with msa need a multiple of 8 (8 attention heads), got {self.C}")
        if not self.preproc and (len(self.genotype.normal_concat) > 1 or self.C_mult > 1):
            raise ConfigError(
                "preproc: must be true if a cell concatenates several states or C_mult is 2, because only "
                "preprocessing converts the inputs of a cell to its number of channels"
            )
        if not self.preproc and len(self.genotype.reduce_concat) > 1:
            raise ConfigError("preproc: must be true if reduce_concat has several states")
        if not self.glob_avg and (self.is_vit or self.n_cells < 3):
            raise ConfigError(
                "glob_avg: must be true for networks with msa and for fewer than 3 cells (flattening needs feature "
                "maps that two reduction cells have made small)"
            )

    @property
    def is_vit(self) -> bool:
        """Whether a cell has the primitive `msa`.  Such networks have a stem of patches and constant resolution."""
        return "msa" in self.genotype.primitives

    @property
    def reduction_cells(self) -> tuple[int, ...]:
        """Indices of the cells that multiply the width by `C_mult` and, without attention, halve the resolution."""
        return tuple(sorted({self.n_cells // 3, 2 * self.n_cells // 3} - {0}))

    def replace(self, **changes: Any) -> NetworkConfig:
        """Return a validated copy with changed fields.

        Parameters
        ----------
        changes
            New values by field name.
        """
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Convert to values that JSON can represent."""
        return {**asdict(self), "genotype": self.genotype.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Make a configuration from the result of `to_dict`.

        Parameters
        ----------
        values
            Values by field name.  All but `genotype` and `n_cells` have defaults.

        Raises
        ------
        ConfigError
            If a key is unknown or missing, or a value is invalid.
        """
        return cls(**fields_of(cls, "network config", values))

    def to_official(self) -> dict[str, Any]:
        """Convert to a metadata entry of the original release, without the number of nodes and parameters.

        The entry has no `imagenet_stride`, which the original release draws when a network is loaded.
        """
        entry = self.to_dict()
        del entry["imagenet_stride"]
        return entry

    @classmethod
    def from_official(cls, entry: Mapping[str, Any]) -> NetworkConfig:
        """Make a configuration from a metadata entry of the original release.

        Parameters
        ----------
        entry
            The JSON object.  Unknown keys are ignored.  `C` and `fc_dim` can be missing, as in the training split,
            where they are drawn when a network is loaded.

        Raises
        ------
        ConfigError
            If a key is missing or a value is invalid.
        """
        values = known_fields_of(cls, "official metadata entry", entry)
        genotype = known_fields_of(Genotype, "official metadata entry: genotype", values["genotype"])
        values["genotype"] = Genotype(**genotype)
        if values.get("fc_layers") == 0:  # the original release writes 0 for one linear layer
            values["fc_layers"] = 1
        if values.get("fc_dim") == 0:
            del values["fc_dim"]
        return cls(**values)


def checked_task(num_classes: int, image_size: int) -> tuple[int, int]:
    """Check the number of classes and the image size of a network, and convert them to `int`.

    Parameters
    ----------
    num_classes
        1 or more.
    image_size
        16 to 512.

    Raises
    ------
    ConfigError
        If a value is not allowed.

    Examples
    --------
    >>> checked_task(10, 32)
    (10, 32)
    """
    return (
        checked_integer("num_classes", num_classes, range(1, 2**31)),
        checked_integer("image_size", image_size, range(MIN_IMAGE_SIZE, MAX_IMAGE_SIZE + 1)),
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


def _flag(name: str, value: Any) -> bool:
    if value in (True, False):  # 0 and 1, too: metadata of the original release was written by several tools
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
