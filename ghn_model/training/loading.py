"""Data loaders whose worker processes can be killed without a traceback."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from typing import TypeVar

from deepnets.support import ConfigError, TrainingError

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
    ConfigError
        If the machine has no semaphores, which worker processes need.

    Examples
    --------
    >>> list(supervised([1, 2]))
    [1, 2]
    """
    if getattr(loader, "num_workers", 0):
        _check_semaphores()
    try:
        yield from loader
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not _lost_worker(loader, error):
            raise
        raise LoaderError("a worker process that prepares data was killed, or memory ran out") from error


def _check_semaphores() -> None:
    try:
        multiprocessing.Lock()
    except (ImportError, OSError) as error:  # the loader would fail, and print a traceback when it is destroyed
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"worker processes need semaphores, which Linux has in /dev/shm ({reason}); use --workers 0"
        ) from error


def _lost_worker(loader: object, error: Exception) -> bool:
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker")
    # A worker that ends while its tensors are fetched breaks their connection before the loader notices.  Errors of
    # the data set itself arrive as "Caught EOFError in DataLoader worker process 0", or come from this process.
    return getattr(loader, "num_workers", 0) > 0 and not str(error).startswith("Caught ")
