"""`Case`, a small model with its expected graph, and the building blocks of these models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Case", "Parts", "ids", "image", "parameter", "tokens"]


@dataclass(frozen=True)
class Case:
    """A model, its input, and the expected properties of its graph.

    Attributes
    ----------
    make
        Builds the model; the seed of torch is set before.
    inputs
        Builds the input: a tensor, a tuple of arguments, or a dictionary of keyword arguments.
    types
        The expected node types in the order of execution, separated by blanks; or None.
    edges
        The expected edges as "source>target", separated by blanks; or None.
    unused
        Names of the parameters that are expected to be unused.
    by_autograd
        Whether the ancestors of nodes can be compared with the autograd graph.
    training
        Whether the model is in training mode.
    error
        For a model that cannot be traced, a pattern of the error message.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    types: str | None = None
    edges: str | None = None
    unused: tuple[str, ...] = ()
    by_autograd: bool = True
    training: bool = False
    error: str | None = None

    def model(self) -> nn.Module:
        """Build the model with fixed random values."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make().train(self.training)

    def input(self) -> Any:
        """Build the input with fixed random values."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return self.inputs()


class Parts(nn.Module):
    """A module of named parts (modules, parameters, tensors as buffers) whose forward pass is the given function."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


def parameter(*shape: int) -> nn.Parameter:
    """Return a parameter with random values."""
    return nn.Parameter(0.5 * torch.randn(*shape))


def image(channels: int = 3, size: int = 16, batch: int = 2) -> Callable[[], Tensor]:
    """Return a function that creates a batch of images."""
    return lambda: torch.randn(batch, channels, size, size)


def tokens(width: int = 8, length: int = 6, batch: int = 2) -> Callable[[], Tensor]:
    """Return a function that creates a batch of sequences of vectors."""
    return lambda: torch.randn(batch, length, width)


def ids(words: int = 11, length: int = 6, batch: int = 2) -> Callable[[], Tensor]:
    """Return a function that creates a batch of sequences of word indices."""
    return lambda: torch.randint(words, (batch, length))
