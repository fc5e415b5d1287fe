"""Which errors of a data loader mean that one of its workers has ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch.utils.data import DataLoader, Dataset

from ghn_model.training.loading import LoaderError, supervised


class Failing:
    """A loader that fails after its first batch."""

    def __init__(self, error: Exception, num_workers: int) -> None:
        self.error = error
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[int]:
        yield 1
        raise self.error


class Empty(Dataset[int]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        raise EOFError("an image ends early")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated."),
        RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
        ConnectionResetError(104, "Connection reset by peer"),
        ConnectionRefusedError(111, "Connection refused"),
        BrokenPipeError(32, "Broken pipe"),
        EOFError(),
    ],
    ids=repr,
)
def test_a_lost_worker(error: Exception) -> None:
    batches = supervised(Failing(error, num_workers=2))
    assert next(batches) == 1
    with pytest.raises(LoaderError, match="was killed, or memory ran out") as raised:
        next(batches)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "workers"),
    [(RuntimeError("other"), 2), (EOFError(), 0), (ConnectionResetError(), 0), (ValueError(), 2)],
    ids=repr,
)
def test_other_errors(error: Exception, workers: int) -> None:
    with pytest.raises(type(error)) as raised:
        list(supervised(Failing(error, workers)))
    assert raised.value is error


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_the_data_set(workers: int) -> None:
    with pytest.raises(EOFError, match="an image ends early"):
        list(supervised(DataLoader(Empty(), num_workers=workers)))
