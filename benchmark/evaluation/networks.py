"""Networks to evaluate: those of a split of DeepNets-1M, models of torchvision and timm, or a family.

"test"                              a split
"torchvision:resnet50,vit_b_16"     models, in this order; "torchvision:all" and "timm:all" for every classifier
"family:resnet-widths/wide"         a split of a family (`deepnets.families`), `test` by default
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from benchmark.choices import LIBRARIES
from benchmark.evaluation.family_networks import DEFAULT_SPLIT, FamilySplitNetworks
from deepnets.architecture import has_cifar_stem
from deepnets.corpus import NETWORK_SPLITS, DeepNets1M
from deepnets.families import PREFIX, split_of
from deepnets.graph import Graph
from deepnets.support import ConfigError, at_least, checked_integer

__all__ = [
    "LIBRARIES",
    "ModelNetworks",
    "Networks",
    "SplitNetworks",
    "default_image_split",
    "open_networks",
    "select_networks",
]

PREDEFINED_NAMES = ("resnet50", "vit")
SELECTION_SPLITS = ("train", "val", "search")


def default_image_split(networks: str) -> str:
    """Return the part of an image set that networks are evaluated on.

    The networks of `train`, `val` and `search`, also of families, are used for model selection, so test images are not
    used for them.

    Parameters
    ----------
    networks
        As for `open_networks`.

    Returns
    -------
    "val" for the splits above, "test" for all other networks.

    Examples
    --------
    >>> default_image_split("search"), default_image_split("wide"), default_image_split("timm:resnet18")
    ('val', 'test', 'test')
    >>> default_image_split("family:resnet-widths"), default_image_split("family:resnet-widths/val")
    ('test', 'val')
    """
    if networks.startswith(PREFIX):
        networks = split_of(networks, DEFAULT_SPLIT)[1]
    return "val" if networks in SELECTION_SPLITS else "test"


class Networks(Protocol):
    """A sequence of networks with their graphs."""

    @property
    def name(self) -> str:
        """Name of the split or of the library."""

    @property
    def identity(self) -> str:
        """Text that changes when the networks change, but not with the number of them that is used."""

    @property
    def total(self) -> int:
        """Number of networks, including those beyond the limit."""

    def __len__(self) -> int: ...

    def name_of(self, index: int) -> str:
        """Return the name of a network, or an empty text."""

    def key_of(self, index: int) -> int:
        """Return a number below 2**63 that seeds the random numbers of a network."""

    def graph(self, index: int, vocabulary: str = "complete") -> Graph:
        """Return the graph of a network, in a vocabulary of `deepnets.trace`."""

    def build(self, index: int) -> nn.Module:
        """Build a network on the current default device."""


class SplitNetworks:
    """The networks of a split of DeepNets-1M.

    Parameters
    ----------
    data
        Folder of the corpus.
    split
        One of `deepnets.corpus.NETWORK_SPLITS`.
    num_classes, image_size
        Number of classes, and height and width of the images, that the networks are built for.
    limit
        Number of networks to use, counted from the first; all by default.

    Raises
    ------
    ConfigError, MissingDataError
        If the split is unknown or has not been built.

    Examples
    --------
    >>> networks = SplitNetworks("data", "predefined", num_classes=10, image_size=32)
    >>> len(networks), networks.name_of(0)
    (2, 'resnet50')
    """

    def __init__(
        self, data: Path | str, split: str, *, num_classes: int, image_size: int, limit: int | None = None
    ) -> None:
        self.name = split
        self.nets = DeepNets1M(data, split, num_classes=num_classes, image_size=image_size, num_nets=limit)

    def __len__(self) -> int:
        return len(self.nets)

    @property
    def identity(self) -> str:
        """Digest of the content of the corpus file."""
        return self.nets.file.content_digest if self.nets.file else self.name

    @property
    def total(self) -> int:
        """Number of networks in the split."""
        return self.nets.file.num_networks if self.nets.file else len(PREDEFINED_NAMES)

    def name_of(self, index: int) -> str:
        """Return the name of a predefined network; the networks of other splits have none."""
        return PREDEFINED_NAMES[index] if self.name == "predefined" else ""

    def key_of(self, index: int) -> int:
        """Return the index."""
        return index

    def graph(self, index: int, vocabulary: str = "complete") -> Graph:
        """Return the graph of a network, which is the same in every vocabulary."""
        return self.nets[index]

    def build(self, index: int) -> nn.Module:
        """Build a network with PyTorch's initialization."""
        return self.nets.network(index)


@dataclass(frozen=True)
class ModelNetworks:
    """Models of a library, by name.

    Parameters
    ----------
    library
        One of `LIBRARIES`.
    names
        Names of models; ``("all",)`` for every classifier of the library.
    num_classes, image_size
        Number of classes, and height and width of the images.  For images of up to 64 pixels, models with a published
        adaptation are adapted (`benchmark.training.adapt_to_small_images`); other models are used unchanged.
    limit
        Number of models to use, counted from the first; all by default.

    Raises
    ------
    ConfigError
        If the library is not installed, has no such model, or a model is named twice.
    """

    library: str
    names: tuple[str, ...]
    num_classes: int
    image_size: int
    limit: int | None = None

    def __post_init__(self) -> None:
        known = self._known
        names = tuple(known) if self.names == ("all",) else self.names
        for name in names:
            if name not in known:
                near = ", ".join(difflib.get_close_matches(name, known, 3)) or f"one of {len(known)}"
                raise ConfigError(f"networks: {self.library} has no classifier {name!r}; did you mean {near}?")
        if len(set(names)) < len(names):
            raise ConfigError(f"networks: {self.library}: a model is named twice")
        object.__setattr__(self, "names", names)

    @property
    def name(self) -> str:
        """Name of the library."""
        return self.library

    def __len__(self) -> int:
        return min(len(self.names), self.limit or len(self.names))

    @property
    def identity(self) -> str:
        """Names of the models and version of the library."""
        return f"{self.library} {self._module.__version__}: {','.join(self.names)}"

    @property
    def total(self) -> int:
        """Number of models."""
        return len(self.names)

    def name_of(self, index: int) -> str:
        """Return the name of a model."""
        return self.names[index]

    def key_of(self, index: int) -> int:
        """Return a digest of the name, so that the position in the list does not matter."""
        return int.from_bytes(hashlib.sha256(self.names[index].encode()).digest()[:8], "little") >> 1

    def graph(self, index: int, vocabulary: str = "complete") -> Graph:
        """Trace a model on the meta device."""
        from deepnets.tracing import trace

        with torch.device("meta"):
            model = self.build(index).eval()
        size = getattr(model, "expected_input_sz", None) or self.image_size
        example = torch.empty(1, 3, size, size, device="meta")
        return trace(model, example, vocabulary=vocabulary).replace(index=index)

    def build(self, index: int) -> nn.Module:
        """Build a model with its own initialization."""
        from benchmark.training import adapt_to_small_images

        name, options = self.names[index], {"num_classes": self.num_classes}
        if self.library == "timm":
            model: nn.Module = self._module.create_model(name, pretrained=False, **options)
        else:
            if name in ("googlenet", "inception_v3"):
                options |= {"aux_logits": False, "init_weights": True}
            model = self._module.models.get_model(name, weights=None, **options)
        if not has_cifar_stem(self.image_size):
            return model
        try:
            return adapt_to_small_images(model, self.image_size)
        except ConfigError:  # there is no published adaptation of this model
            return model

    @cached_property
    def _module(self) -> Any:
        from deepnets.support import import_timm, import_torchvision

        try:
            return import_timm() if self.library == "timm" else import_torchvision()
        except ImportError as error:
            raise ConfigError(f"networks: {error}") from error

    @cached_property
    def _known(self) -> list[str]:
        module = self._module
        names = module.list_models() if self.library == "timm" else module.models.list_models(module=module.models)
        return sorted(names)


def open_networks(
    text: str, *, data: Path | str, num_classes: int, image_size: int | None, limit: int | None = None
) -> SplitNetworks | ModelNetworks | FamilySplitNetworks:
    """Open the networks that a text names.

    Parameters
    ----------
    text
        A split, a library and names of its models, or a family: "test", "timm:resnet18,vit_tiny_patch16_224",
        "torchvision:all", "family:resnet-widths", "family:specs/narrow.json/val".
    data
        Folder of the corpus.  Graphs of families are stored in its folder `families`.
    num_classes, image_size
        Number of classes, and height and width of the images; for texts, size of the vocabulary, and None.
    limit
        Number of networks to use, counted from the first; all by default.

    Raises
    ------
    ConfigError, MissingDataError
        If there are no such networks, the limit is no positive integer, or the split has not been built.

    Examples
    --------
    >>> open_networks("predefined", data="data", num_classes=10, image_size=32).name_of(1)
    'vit'
    """
    if limit is not None:
        limit = checked_integer("limit", limit, at_least(1))
    if text.startswith(PREFIX):
        return FamilySplitNetworks(text, data or None, num_classes=num_classes, image_size=image_size, limit=limit)
    if image_size is None:
        raise ConfigError(f"networks: texts need language models, such as family:gpt2-widths, got {text!r}")
    library, colon, names = text.partition(":")
    if not colon:
        if text not in NETWORK_SPLITS:
            known = ", ".join(NETWORK_SPLITS)
            raise ConfigError(
                f"split: unknown {text!r}; use one of {known}, models such as torchvision:resnet50, or family:NAME"
            )
        return SplitNetworks(data, text, num_classes=num_classes, image_size=image_size, limit=limit)
    if library not in LIBRARIES or not names:
        raise ConfigError(
            f"networks: expected {' or '.join(LIBRARIES)} and names of models, or family:NAME, got {text!r}"
        )
    models = tuple(name.strip() for name in names.split(",") if name.strip())
    return ModelNetworks(library, models, num_classes, image_size, limit)


def select_networks(networks: Networks, index: int | str | Iterable[int | str]) -> list[int]:
    """Return the indices of networks that are given by index or by name.

    Parameters
    ----------
    networks
        The networks.
    index
        An index, a name, or several of them.  A text may list indices, ranges and names, separated by commas, such as
        "7", "0:10", "0:5,20,30:" or "resnet50,vit"; ranges end before their second number or at the last network.
        Names are those of the predefined networks and of models of libraries.

    Returns
    -------
    The indices in the given order, each once.

    Raises
    ------
    ConfigError
        If there is no such network, or nothing is selected.

    Examples
    --------
    >>> networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    >>> select_networks(networks, "vit"), select_networks(networks, [1, 0]), select_networks(networks, "0:")
    ([1], [1, 0], [0, 1])
    """
    total, found = len(networks), []
    items: Iterable[Any] = index if isinstance(index, Iterable) and not isinstance(index, str) else [index]
    for item in items:
        for piece in item.split(",") if isinstance(item, str) else [item]:
            if isinstance(piece, str):
                found += _indices(networks, piece.strip())
            elif not _is_index(piece, total):
                raise ConfigError(f"index: {networks.name} has networks 0 to {total - 1}, there is no {piece!r}")
            else:
                found.append(int(piece))
    if not found:
        raise ConfigError(f"index: {index!r} selects none of the {total} networks of {networks.name}")
    return list(dict.fromkeys(found))


def _is_index(value: Any, total: int) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and 0 <= int(value) < total


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 20  # Python converts no texts of more than 4,300 digits


def _indices(networks: Networks, text: str) -> list[int]:
    """Return the indices that a text without commas names: an index, a range or a name."""
    total = len(networks)
    ends = text.split(":")
    if len(ends) == 2 and all(end == "" or _is_number(end) for end in ends):
        return list(range(int(ends[0] or 0), min(int(ends[1] or total), total)))
    if _is_number(text):
        return select_networks(networks, int(text))
    names = [networks.name_of(i) for i in range(total)] if total and networks.name_of(0) else []
    if text in names:
        return [names.index(text)]
    if not names:
        raise ConfigError(
            f"index: the networks of {networks.name} have no names; expected 3, 0:10 or 3,17, got {text!r}"
        )
    known = ", ".join(difflib.get_close_matches(text, names, 3) or names[:3])
    raise ConfigError(f"index: {networks.name} has no network {text!r}; did you mean {known}?")
