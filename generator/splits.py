"""The splits of DeepNets-1M, one frozen description each: sizes, ranges and rules.

The constants are those of the original release (Knyazev et al., NeurIPS 2021, section 3 and table 1).  What differs, on
purpose, is where the random numbers come from: every split has its own stream, whereas the original draws its training
and test networks from the same seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deepnets.support import ConfigError

__all__ = ["EVALUATION", "SPLITS", "Rules", "SplitSpec", "split_spec"]

NORM_SAMPLED, NORM_NEVER, NORM_ALWAYS = range(3)


class Rules(NamedTuple):
    """What the sampler's compiled code needs to know about a split, as numbers."""

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
    """How the networks of one split are drawn.

    Attributes
    ----------
    name, size
        The split, and its published number of networks.
    cells
        Smallest and largest number of cells, uniform.
    deep
        Range of the threshold, uniform, above which a network counts as deep: it then has medium rather than many
        steps per cell, and global pooling.
    steps
        Smallest, medium and largest number of steps per cell: uniform up to the largest, for deep networks up to the
        medium.
    max_parameters
        Larger networks (at width 32) are rejected, for either image size.
    norm
        Whether batch norm is sampled (left out in a few shallow networks), never or always there.
    free_preproc
        Whether networks without attention, too, may go without preprocessing (`search` only).
    sized
        Whether the file states a width for every network, by the rule of 2.5 million parameters; training networks get
        theirs when they are loaded.
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

    @property
    def about(self) -> str:
        """The rest of the rules in words."""
        if self.name == "wide":
            return "the first networks of test, 4 times as wide (twice on 224-pixel images)"
        norm = ("batch norm in most", "no batch norm", "batch norm in all")[self.norm]
        width = "C as wide as 2.5 M parameters need" if self.sized else "C is drawn when a network is loaded"
        return f"{norm}; at most {self.max_parameters // 10**6} M parameters at width 32; {width}"

    @property
    def rules(self) -> Rules:
        """The same as plain numbers, for compiled code."""
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
"""Splits that networks are evaluated on, in the order in which they are made.  `wide`, the sixth, is the first 100
networks of `test`, at a larger width."""

WIDE = SplitSpec("wide", 100)

SPLITS: dict[str, SplitSpec] = {
    "train": SplitSpec("train", 1_000_000, sized=False),
    **EVALUATION,
    "wide": WIDE,
    "search": SplitSpec(
        "search", 100_000, cells=(6, 20), deep=(10, 10), steps=(1, 3, 6), norm=NORM_ALWAYS, free_preproc=True
    ),
}
"""Every split that is kept in a file.  `predefined` is not: its networks are made when they are loaded."""


def split_spec(name: str) -> SplitSpec:
    """The description of a split; `ConfigError` with the valid names if there is none of that name."""
    if name not in SPLITS:
        raise ConfigError(f"split: unknown {name!r}; use one of {', '.join(SPLITS)}")
    return SPLITS[name]
