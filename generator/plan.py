"""`BuildPlan`, what determines the content of a corpus, and `SplitReport`, what a build reports about a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from deepnets.support import ConfigError, checked_integer
from generator.splits import SPLITS, split_spec

__all__ = ["LARGEST_SIZE", "BuildPlan", "SplitReport"]

LARGEST_SIZE = 10**9
"""Largest number of networks in a split.  In larger splits, different networks would often share a fingerprint."""


@dataclass(frozen=True)
class BuildPlan:
    """The splits of a corpus, their sizes and the seed: everything that determines its content.

    Parameters
    ----------
    splits
        Names from `generator.SPLITS`.  All of them by default.
    seed
        Random seed, 0 or more.  Every split has its own random stream.
    train_size, search_size
        Number of networks in the splits `train` and `search`.  The other splits have their published sizes.

    Raises
    ------
    ConfigError
        If a split is unknown or a number is out of range.

    Examples
    --------
    >>> plan = BuildPlan(splits=("train", "val"), train_size=20_000)
    >>> plan.size("train"), plan.size("val")
    (20000, 500)
    """

    splits: tuple[str, ...] = tuple(SPLITS)
    seed: int = 0
    train_size: int = SPLITS["train"].size
    search_size: int = SPLITS["search"].size

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", tuple(dict.fromkeys(self.splits)))
        if not self.splits:
            raise ConfigError(f"splits: none given; choose from {', '.join(SPLITS)}")
        for name in self.splits:
            split_spec(name)
        for name in ("seed", "train_size", "search_size"):
            value = checked_integer(name, getattr(self, name), range(-sys.maxsize, sys.maxsize))
            object.__setattr__(self, name, value)
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {self.seed}")
        for name, size in (("train_size", self.train_size), ("search_size", self.search_size)):
            if not 1 <= size <= LARGEST_SIZE:
                raise ConfigError(f"{name}: expected 1 to {LARGEST_SIZE:,}, got {size:,}")

    def size(self, split: str) -> int:
        """Return the number of networks of a split.

        Parameters
        ----------
        split
            A name from `generator.SPLITS`.
        """
        return {"train": self.train_size, "search": self.search_size}.get(split, SPLITS[split].size)


@dataclass(frozen=True)
class SplitReport:
    """Summary of the file of a split.

    Attributes
    ----------
    split
        Name of the split.
    path
        The file.
    networks
        Number of networks.
    size_bytes
        Size of the file.
    content_digest
        SHA-256 of the content, in hexadecimal.
    built
        Whether the file was built by this call; False if it was complete before.
    candidates
        Number of candidates that were drawn up to the last network.
    rejected
        Number of candidates that were rejected, by reason.  A candidate can have several reasons.
    duplicates
        Number of candidates that were dropped because they equal an earlier network.

    Examples
    --------
    See `build_corpus`.
    """

    split: str
    path: Path
    networks: int
    size_bytes: int
    content_digest: str
    built: bool
    candidates: int
    rejected: dict[str, int]
    duplicates: int
