"""Data loaders whose worker processes can be killed without a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from deepnets.support import TrainingError

__all__ = ["LoaderError", "supervised"]

T = TypeVar("T")


class LoaderError(TrainingError):
    """A worker process of a data loader has ended: it was killed, or memory ran out."""


def supervised(loader: Iterable[T]) -> Iterator[T]:
    """Iterate over a `torch.utils.data.DataLoader`, which reports lost workers as a `RuntimeError`.

    Parameters
    ----------
    loader : DataLoader
        The loader.

    Yields
    ------
    Its batches.

    Raises
    ------
    LoaderError
        If a worker process has ended.

    Examples
    --------
    >>> list(supervised([1, 2]))
    [1, 2]
    """
    try:
        yield from loader
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise LoaderError("a worker process that prepares data was killed, or memory ran out") from error
