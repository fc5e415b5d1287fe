"""Rows of compressed datasets, compared with those that h5py reads."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deepnets.support import ChunkedRows, FormatError, IntegrityError

DTYPE = np.dtype([("a", "u1"), ("b", "<u2"), ("c", "<i4")])
ALL = {"shuffle": True, "compression": "gzip", "fletcher32": True}


def some_rows(count: int) -> Any:
    generator = np.random.default_rng(count)
    return np.frombuffer(generator.integers(0, 9, count * DTYPE.itemsize, np.uint8).tobytes(), DTYPE)


@pytest.mark.parametrize(
    "options", [ALL, {"chunks": None}, {"compression": "gzip"}, {"fletcher32": True}, {**ALL, "shuffle": False}]
)
@pytest.mark.parametrize("count", [1, 99, 100, 101, 1050])
def test_rows_are_those_of_h5py(tmp_path: Path, options: dict[str, Any], count: int) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=some_rows(count), **{"chunks": (min(100, count),), **options})
        rows = ChunkedRows(dataset)
        for start, stop in (
            (0, count),
            (0, 1),
            (95, 105),
            (100, 200),
            (count - 1, count),
            (count - 1, count + 99),
            (5, 5),
        ):
            assert np.array_equal(rows.read(start, stop, "x"), dataset[start:stop]), (start, stop)
        assert rows.read(count, count + 9, "x").shape == (0,)


@pytest.mark.parametrize(
    ("chunk", "mask", "error"),
    [
        (zlib.compress(bytes(701)) + b"abcd", 0, "holds more than the 700 bytes"),
        (zlib.compress(bytes(699)) + b"abcd", 0, "holds 699 bytes of 700"),
        (zlib.compress(bytes(700))[:-4] + b"abcd", 0, "its end is missing"),
        (zlib.compress(bytes(700))[:-4] + bytes(8), 0, "incorrect data check"),
        (bytes(700), 0b111, "without some filters"),
    ],
)
def test_damaged_chunks(tmp_path: Path, chunk: bytes, mask: int, error: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=some_rows(300), chunks=(100,), **ALL)
        dataset.id.write_direct_chunk((100,), chunk, mask)
        rows = ChunkedRows(dataset)
        assert np.array_equal(rows.read(0, 100, "x"), dataset[:100])
        for _ in range(2):
            with pytest.raises((FormatError, IntegrityError), match=rf"^network 7: the chunk at \(100,\) .*{error}"):
                rows.read(90, 210, "network 7")


def test_a_missing_chunk(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", shape=(300,), dtype=DTYPE, chunks=(100,), **ALL)
        dataset[:100] = some_rows(100)
        with pytest.raises(IntegrityError, match=r"the chunk at \(200,\) is damaged"):
            ChunkedRows(dataset).read(200, 210, "x")
