"""`TextStream`: batches of training texts by step."""

from __future__ import annotations

import torch
from torch import Tensor

from deepnets.data import TextSet
from deepnets.support import ConfigError
from ghn_model.training.images import order_of_epoch, random_numbers

__all__ = ["TextStream"]


class TextStream:
    """Batches of windows of a text.

    Every pass goes through the whole text in windows that do not overlap, in a new order.  The first window begins at
    another token in every pass.  The batch of a step is a function of the seed and the number of the step.

    Parameters
    ----------
    text : TextSet
        The text.
    batch_size : int
        Sequences per step.  The last windows of a pass are left out if they do not fill a batch.
    seed : int, default 0
        Seed of the order.

    Attributes
    ----------
    name : str
        Name of the text, stored with the hypernetwork.
    num_classes, sequence_length : int
        Size of the vocabulary, and tokens of a sequence.
    per_epoch : int
        Steps in one pass.
    digest : str
        Digest of the tokens.

    Raises
    ------
    ConfigError
        If there are fewer windows than `batch_size`.

    Examples
    --------
    >>> text = TextSet("mine", "train", torch.arange(100), vocabulary_size=100, sequence_length=8)
    >>> stream = TextStream(text, batch_size=2)
    >>> tokens, targets = stream.at(3)
    >>> tokens.shape, torch.equal(tokens[:, 1:], targets[:, :-1])
    (torch.Size([2, 8]), True)
    """

    def __init__(self, text: TextSet, batch_size: int, *, seed: int = 0) -> None:
        self.name, self.num_classes, self.sequence_length = text.name, text.num_classes, text.sequence_length
        self.digest = text.digest
        self._text, self._batch_size, self._seed = text, batch_size, seed
        spare = len(text.tokens) - 1 - text.sequence_length
        self._offsets = max(1, min(text.sequence_length, spare + 1))
        self._windows = (len(text.tokens) - self._offsets) // text.sequence_length
        if self._windows < batch_size:
            raise ConfigError(
                f"batch_size: {text.name} has only {self._windows} sequences of {text.sequence_length} tokens for "
                f"training, fewer than {batch_size}"
            )
        self.per_epoch = self._windows // batch_size
        self._epoch = -1
        self._starts = torch.empty(0)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return tokens and the tokens after them, `(batch_size, sequence_length) int64`, on the device of the text."""
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            offset = int(random_numbers(self._seed, epoch, stream=4).integers(self._offsets))
            order = torch.from_numpy(order_of_epoch(self._windows, self._seed, epoch))
            self._epoch, self._starts = epoch, order * self._text.sequence_length + offset
        return self._text.windows(self._starts[number * self._batch_size : (number + 1) * self._batch_size])
