"""`TextSet`: a text as a sequence of tokens in memory, cut into windows for next-token prediction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["TextSet"]


@dataclass(frozen=True, eq=False)
class TextSet:
    """One part of a text, as tokens.

    Attributes
    ----------
    name, split : str
        The text, and the part of it.
    tokens : Tensor
        `(n,)` integers of any type, from 0 to `vocabulary_size` - 1; held on the CPU.
    vocabulary_size : int
        Number of different tokens that the tokenizer knows.
    tokenizer : str, default "bytes"
        Name of the tokenizer.
    sequence_length : int, default 64
        Tokens that a network sees at once.
    device : torch.device
        Device of the batches.

    Raises
    ------
    ConfigError
        If the text is shorter than one window, or a token is not in the vocabulary.

    Examples
    --------
    >>> text = TextSet("mine", "train", torch.arange(10), vocabulary_size=10, sequence_length=4)
    >>> len(text)  # the last token of a window is only predicted
    2
    >>> tokens, targets = next(text.batches(2))
    >>> tokens.tolist(), targets.tolist()
    ([[0, 1, 2, 3], [4, 5, 6, 7]], [[1, 2, 3, 4], [5, 6, 7, 8]])
    """

    name: str
    split: str
    tokens: Tensor
    vocabulary_size: int
    tokenizer: str = "bytes"
    sequence_length: int = 64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        checked_integer("vocabulary_size", self.vocabulary_size, at_least(2))
        checked_integer("sequence_length", self.sequence_length, at_least(1))
        if self.tokens.dim() != 1 or self.tokens.is_floating_point():
            raise ConfigError(f"tokens: expected a vector of integers, got {self.tokens.dtype} {self.tokens.shape}")
        if len(self.tokens) <= self.sequence_length:
            raise ConfigError(
                f"texts: {self.name} ({self.split}) has {len(self.tokens)} tokens; a sequence of "
                f"{self.sequence_length} tokens and the token after it need {self.sequence_length + 1}"
            )
        low, high = int(self.tokens.min()), int(self.tokens.max())
        if low < 0 or high >= self.vocabulary_size:
            token = low if low < 0 else high
            raise ConfigError(f"texts: {self.name}: token {token} is not in a vocabulary of {self.vocabulary_size}")

    def __len__(self) -> int:
        """Return the number of windows that do not overlap."""
        return (len(self.tokens) - 1) // self.sequence_length

    @property
    def num_classes(self) -> int:
        """Number of classes of a prediction: the size of the vocabulary."""
        return self.vocabulary_size

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokens, the size of the vocabulary and the name of the part."""
        content = hashlib.sha256(f"{self.split} {self.vocabulary_size} {self.tokens.dtype} ".encode())
        content.update(self.tokens.numpy().tobytes())
        return content.hexdigest()

    def windows(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Return windows of the text, and the token after each of their tokens.

        Parameters
        ----------
        starts : Tensor
            `(B,) int64`, position of the first token of each window, at most `len(tokens) - sequence_length - 1`.

        Returns
        -------
        tokens, targets : Tensor
            `(B, sequence_length) int64`, on the device of the batches.
        """
        places = starts[:, None] + torch.arange(self.sequence_length + 1)
        tokens = self.tokens[places].long().to(self.device)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: bool = False,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over all windows once.

        Parameters
        ----------
        batch_size : int
            Windows per batch.
        shuffle : bool, default False
            Whether to visit them in a random order.
        augment : bool, default False
            Not used: texts are not augmented.
        drop_last : bool, default False
            Whether to leave out a last batch that is smaller.
        generator : torch.Generator, optional
            Random numbers of the order, on the CPU.

        Yields
        ------
        tokens, targets : Tensor
            As for `windows`.
        """
        batch_size = checked_integer("batch_size", batch_size, at_least(1))
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        for rows in torch.split(order, batch_size):
            if not drop_last or len(rows) == batch_size:
                yield self.windows(rows * self.sequence_length)

    def with_options(self, *, sequence_length: int | None = None, device: torch.device | str | None = None) -> TextSet:
        """Return a copy with another length of sequences or another device; the tokens are shared."""
        return replace(
            self,
            sequence_length=self.sequence_length if sequence_length is None else sequence_length,
            device=self.device if device is None else torch.device(device),
        )
