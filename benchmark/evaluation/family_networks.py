"""`FamilySplitNetworks`: the networks of a family, to be evaluated on images or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from deepnets.families import PREFIX, FamilyNetworks, find_family, split_of
from deepnets.graph import Graph
from deepnets.support import ConfigError

__all__ = ["DEFAULT_SPLIT", "FamilySplitNetworks"]

DEFAULT_SPLIT = "test"
"""Split of a family that is evaluated if none is named."""


class FamilySplitNetworks:
    """The networks of a split of a family.

    Parameters
    ----------
    text
        The family and its split: "family:resnet-widths" (split `test`), "family:resnet-widths/wide".
    data
        Folder of the corpus, where graphs of families are stored.
    num_classes, image_size
        Number of classes, and height and width of the images; for texts, size of the vocabulary, and None.
    limit
        Number of networks to use, counted from the first; all by default.

    Raises
    ------
    ConfigError, MissingDataError, FormatError
        If there is no such family or split, or its networks process other data.
    MissingDependencyError
        If its networks need a package that is not installed.

    Examples
    --------
    >>> networks = FamilySplitNetworks("family:vits-1k/published", None, num_classes=10, image_size=32)
    >>> networks.name, [networks.name_of(i) for i in range(len(networks))]
    ('family:vits-1k/published', ['vit-s', 'vit-b', 'vit-l'])
    """

    def __init__(
        self,
        text: str,
        data: Path | str | None,
        *,
        num_classes: int,
        image_size: int | None,
        limit: int | None = None,
    ) -> None:
        family, split = split_of(text, DEFAULT_SPLIT)
        given: dict[str, Any] = {"num_classes": num_classes, "image_size": image_size}
        if image_size is None:
            given = {"vocab_size": num_classes} if "vocab_size" in find_family(family).arguments else {}
        self.nets = FamilyNetworks(family, split, root=data, num_nets=limit, **given)
        read = "text" if image_size is None else "images"
        if self.nets.task != read:
            raise ConfigError(f"{text}: its networks process {self.nets.task}, and cannot be evaluated on {read}")
        self.nets.check_packages()
        self.name = f"{PREFIX}{family}/{split}"

    def __len__(self) -> int:
        return len(self.nets)

    @property
    def identity(self) -> str:
        """Name, split and digest of the family."""
        return self.nets.identity

    @property
    def total(self) -> int:
        """Number of networks in the split."""
        return self.nets.total

    def name_of(self, index: int) -> str:
        """Return the name of a network, an empty text for most."""
        return self.nets.name_of(index)

    def key_of(self, index: int) -> int:
        """Return the index."""
        return index

    def graph(self, index: int, vocabulary: str = "complete") -> Graph:
        """Return the graph of a network, traced once per topology."""
        return self.nets.graph(index, vocabulary)

    def build(self, index: int) -> nn.Module:
        """Build a network with the initial values of its model."""
        return self.nets.build(index)
