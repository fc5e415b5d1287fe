"""The splits of DeepNets-1M: their sizes and the rules by which their networks are drawn.

The constants are those of the original release (Knyazev et al., NeurIPS 2021, section 3 and table 1).  Unlike the
original, which draws training and test networks from the same seed, every split has its own random stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deepnets.architecture import MAX_CELLS, MAX_STEPS
from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["EVALUATION", "SPLITS", "Rules", "SplitSpec", "split_spec"]

NORM_SAMPLED, NORM_NEVER, NORM_ALWAYS = range(3)


class Rules(NamedTuple):
    """Rules of a split as numbers, for compiled code.

    Attributes
    ----------
    min_cells, max_cells
        Range of the number of cells.
    min_deep, max_deep
        Range of the threshold above which a network is deep.
    min_steps, medium_steps, max_steps
        Range of the number of steps per cell; the largest for deep networks is `medium_steps`.
    max_parameters
        Largest number of parameters at width 32.
    norm
        `NORM_SAMPLED`, `NORM_NEVER` or `NORM_ALWAYS`.
    free_preproc
        As in `SplitSpec`.
    sized
        As in `SplitSpec`.

    Examples
    --------
    See `SplitSpec`.
    """

    min_cells: int
    max_cells: int
    min_deep: int
    max_deep: int
    min_steps: int
    medium_steps: int
    max_steps: int
    max_parameters: int
    norm: int
    free_preproc: bool
    sized: bool


@dataclass(frozen=True)
class SplitSpec:
    """Rules by which the networks of one split are drawn.

    Parameters
    ----------
    name
        Name of the split.
    size
        Published number of networks.
    cells
        Smallest and largest number of cells.  The distribution is uniform.
    deep
        Smallest and largest value of a threshold, uniform.  Networks with more cells are *deep*: they have global
        pooling and at most the medium number of steps.
    steps
        Smallest, medium and largest number of steps per cell.  The distribution is uniform up to the largest number,
        or up to the medium number for deep networks.
    max_parameters
        Networks with more parameters at width 32, for either image size, are rejected.
    norm
        `NORM_SAMPLED`: batch norm is omitted in some shallow networks.  `NORM_NEVER`: no batch norm.  `NORM_ALWAYS`:
        batch norm in all networks.
    free_preproc
        Whether networks without attention can have no preprocessing (`search` only).
    sized
        Whether the file states the width of every network, chosen for 2.5 million parameters.  The widths of training
        networks are drawn when they are loaded.

    Raises
    ------
    ConfigError
        If a range is not ordered, or a number is not possible: networks have up to 200 cells of up to 10 steps.

    Examples
    --------
    >>> SplitSpec("val", 500).rules.max_cells
    18
    >>> SplitSpec("mine", 500, cells=(18, 4))
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: cells: expected ordered numbers, got (18, 4)
    """

    name: str
    size: int
    cells: tuple[int, int] = (4, 18)
    deep: tuple[int, int] = (7, 10)
    steps: tuple[int, int, int] = (1, 2, 4)
    max_parameters: int = 10_000_000
    norm: int = NORM_SAMPLED
    free_preproc: bool = False
    sized: bool = True

    def __post_init__(self) -> None:
        ranges = {"cells": range(1, MAX_CELLS + 1), "deep": at_least(0), "steps": range(1, MAX_STEPS + 1)}
        for name, allowed in ranges.items():
            numbers = getattr(self, name)
            for number in numbers:
                checked_integer(name, number, allowed)
            if list(numbers) != sorted(numbers):
                raise ConfigError(f"{name}: expected ordered numbers, got {numbers}")
        checked_integer("max_parameters", self.max_parameters, at_least(1))
        checked_integer("norm", self.norm, (NORM_SAMPLED, NORM_NEVER, NORM_ALWAYS))

    @property
    def about(self) -> str:
        """The rules on norms, sizes and widths in words."""
        if self.name == "wide":
            return "the first networks of test, 4 times as wide (2 times for 224-pixel images)"
        norm = ("batch norm in most networks", "no batch norm", "batch norm in all networks")[self.norm]
        width = "width for 2.5 M parameters" if self.sized else "width drawn when a network is loaded"
        return f"{norm}; at most {self.max_parameters // 10**6} M parameters at width 32; {width}"

    @property
    def rules(self) -> Rules:
        """The rules as numbers, for compiled code."""
        return Rules(
            *self.cells, *self.deep, *self.steps, self.max_parameters, self.norm, self.free_preproc, self.sized
        )


EVALUATION: dict[str, SplitSpec] = {
    spec.name: spec
    for spec in (
        SplitSpec("val", 500),
        SplitSpec("test", 500),
        SplitSpec("deep", 100, cells=(10, 36), deep=(18, 18), max_parameters=100_000_000),
        SplitSpec("dense", 100, steps=(2, 6, 10), max_parameters=100_000_000),
        SplitSpec("bnfree", 100, norm=NORM_NEVER),
    )
}
"""Evaluation splits with networks of their own, by name, in the order in which they are made.

The sixth evaluation split, `wide`, consists of the first 100 networks of `test` at a larger width."""

WIDE = SplitSpec("wide", 100)

SPLITS: dict[str, SplitSpec] = {
    "train": SplitSpec("train", 1_000_000, sized=False),
    **EVALUATION,
    "wide": WIDE,
    "search": SplitSpec(
        "search", 100_000, cells=(6, 20), deep=(10, 10), steps=(1, 3, 6), norm=NORM_ALWAYS, free_preproc=True
    ),
}
"""Splits that are stored in a file, by name.  The split `predefined` is not: its networks are built when loaded."""


def split_spec(name: str) -> SplitSpec:
    """Return the rules of a split.

    Parameters
    ----------
    name
        Name of the split.

    Raises
    ------
    ConfigError
        If there is no such split; the message lists the valid names.

    Examples
    --------
    >>> split_spec("deep").cells
    (10, 36)
    """
    if name not in SPLITS:
        raise ConfigError(f"split: unknown {name!r}; use one of {', '.join(SPLITS)}")
    return SPLITS[name]
