"""What is evaluated: the networks of a split of DeepNets-1M, or models of torchvision and timm by name.

"test"                              a split
"torchvision:resnet50,vit_b_16"     models, in this order; "torchvision:all" and "timm:all" for every classifier
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from deepnets.corpus import NETWORK_SPLITS, DeepNets1M
from deepnets.graph import Graph
from deepnets.support import ConfigError

__all__ = ["LIBRARIES", "ModelNetworks", "Networks", "SplitNetworks", "open_networks"]

LIBRARIES = ("torchvision", "timm")
PREDEFINED_NAMES = ("resnet50", "vit")

# Networks by whose results something is chosen: test images are not for them.
FOR_CHOOSING = ("train", "val", "search")


class Networks(Protocol):
    """A sequence of networks with their graphs."""

    @property
    def name(self) -> str:
        """Of the split, or of the library."""

    def __len__(self) -> int: ...

    @property
    def identity(self) -> str:
        """A text that changes when the networks do, but not with their number."""

    @property
    def total(self) -> int:
        """How many there are, those left out included."""

    def name_of(self, index: int) -> str:
        """The name of a network, or nothing."""

    def key_of(self, index: int) -> int:
        """A number below 2**63 for the random numbers of a network."""

    def graph(self, index: int) -> Graph:
        """Its graph."""

    def build(self, index: int) -> nn.Module:
        """The network, on the current default device."""


class SplitNetworks:
    """A split of DeepNets-1M.

    Parameters
    ----------
    data
        Folder of the corpus.
    split
        One of `deepnets.corpus.NETWORK_SPLITS`.
    num_classes, image_size
        Of the networks.
    limit
        Use so many, from the first on.
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
        """The digest of the file's content."""
        return self.nets.file.content_digest if self.nets.file else self.name

    @property
    def total(self) -> int:
        """Number of networks of the split."""
        return self.nets.file.num_networks if self.nets.file else len(PREDEFINED_NAMES)

    def name_of(self, index: int) -> str:
        """The name of a predefined network."""
        return PREDEFINED_NAMES[index] if self.name == "predefined" else ""

    def key_of(self, index: int) -> int:
        """Its index."""
        return index

    def graph(self, index: int) -> Graph:
        """Graph number `index`."""
        return self.nets[index]

    def build(self, index: int) -> nn.Module:
        """Network number `index`, with PyTorch's initialisation."""
        return self.nets.network(index)


@dataclass(frozen=True)
class ModelNetworks:
    """Models of a library, by name.

    Parameters
    ----------
    library
        One of `LIBRARIES`.
    names
        Of models; `("all",)` for every classifier that the library has.
    num_classes, image_size
        Of the task.  For 32-pixel images, models whose adaptation is published are adapted
        (`benchmark.training.adaptation`), others are used as they are.
    limit
        Use so many, from the first on.

    Raises
    ------
    ConfigError
        If the library is missing, or has no such model.
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
                import difflib

                near = ", ".join(difflib.get_close_matches(name, known, 3)) or f"one of {len(known)}"
                raise ConfigError(f"networks: {self.library} has no classifier {name!r}; did you mean {near}?")
        if len(set(names)) < len(names):
            raise ConfigError(f"networks: {self.library}: a model is named twice")
        object.__setattr__(self, "names", names)

    @property
    def name(self) -> str:
        """The library's."""
        return self.library

    def __len__(self) -> int:
        return min(len(self.names), self.limit or len(self.names))

    @property
    def identity(self) -> str:
        """Names and version of the library."""
        return f"{self.library} {self._module.__version__}: {','.join(self.names)}"

    @property
    def total(self) -> int:
        """Number of models."""
        return len(self.names)

    def name_of(self, index: int) -> str:
        """The model's."""
        return self.names[index]

    def key_of(self, index: int) -> int:
        """A digest of its name: its place in a list does not matter."""
        return int.from_bytes(hashlib.sha256(self.names[index].encode()).digest()[:8], "little") >> 1

    def graph(self, index: int) -> Graph:
        """The graph of a model, traced without computing anything."""
        from deepnets.tracing import trace

        with torch.device("meta"):
            model = self.build(index).eval()
        size = getattr(model, "expected_input_sz", None) or self.image_size
        return trace(model, torch.empty(1, 3, size, size, device="meta")).replace(index=index)

    def build(self, index: int) -> nn.Module:
        """A model with its own initialisation."""
        from benchmark.training import adapt_to_small_images

        name, options = self.names[index], {"num_classes": self.num_classes}
        if self.library == "timm":
            model: nn.Module = self._module.create_model(name, pretrained=False, **options)
        else:
            if name in ("googlenet", "inception_v3"):
                options |= {"aux_logits": False, "init_weights": True}
            model = self._module.models.get_model(name, weights=None, **options)
        if self.image_size != 32:
            return model
        try:
            return adapt_to_small_images(model)
        except ConfigError:  # nobody has published how
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
    text: str, *, data: Path | str, num_classes: int, image_size: int, limit: int | None = None
) -> SplitNetworks | ModelNetworks:
    """The networks that a text names.

    Parameters
    ----------
    text
        A split, or a library and its models, as in the head of this file.
    data
        Folder of the corpus.
    num_classes, image_size
        Of the task.
    limit
        Use so many, from the first on.

    Raises
    ------
    ConfigError
        If there are none of this name, or the split has not been built.
    """
    library, colon, names = text.partition(":")
    if not colon:
        if text not in NETWORK_SPLITS:
            expected = (
                f"one of {', '.join(NETWORK_SPLITS)}, or models such as torchvision:resnet50,vit_b_16 or timm:resnet18"
            )
            raise ConfigError(f"split: unknown {text!r}; use {expected}")
        return SplitNetworks(data, text, num_classes=num_classes, image_size=image_size, limit=limit)
    if library not in LIBRARIES or not names:
        raise ConfigError(f"networks: expected {' or '.join(LIBRARIES)} and names of models, got {text!r}")
    models = tuple(name.strip() for name in names.split(",") if name.strip())
    return ModelNetworks(library, models, num_classes, image_size, limit)
