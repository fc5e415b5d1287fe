"""What the small models of the tests of tracing are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Case", "Parts", "ids", "image", "parameter", "tokens"]


@dataclass(frozen=True)
class Case:
    """A model, what to give it, and what is known of its graph.

    Attributes
    ----------
    make
        Makes the model; the seed of torch is set before.
    inputs
        Makes the input: a tensor, a tuple of arguments, or a dictionary of keyword arguments.
    types
        The node types, worked out by hand, in the order of execution, with blanks between them; or None.
    edges
        The edges, as "source>target", with blanks between them; or None.
    unused
        Names of the parameters that must be listed as unused.
    by_autograd
        Whether the autograd graph can tell the ancestry.
    training
        Whether the model is left in training mode.
    error
        If the model cannot be traced, a pattern that the message of the error matches.
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
        """A model with the same random values every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make().train(self.training)

    def input(self) -> Any:
        """The same random input every time."""
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
    """A parameter of random values."""
    return nn.Parameter(0.5 * torch.randn(*shape))


def image(channels: int = 3, size: int = 16, batch: int = 2) -> Callable[[], Tensor]:
    """Makes a batch of images."""
    return lambda: torch.randn(batch, channels, size, size)


def tokens(width: int = 8, length: int = 6, batch: int = 2) -> Callable[[], Tensor]:
    """Makes a batch of sequences of vectors."""
    return lambda: torch.randn(batch, length, width)


def ids(words: int = 11, length: int = 6, batch: int = 2) -> Callable[[], Tensor]:
    """Makes a batch of sequences of word indices."""
    return lambda: torch.randint(words, (batch, length))
