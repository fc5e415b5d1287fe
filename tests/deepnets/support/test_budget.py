"""The limit on what readers create, and small files that are read whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepnets.support import Budget, check_regular, parse_json, read_whole
from tests.support.limits import limited


def test_a_budget_is_proportional_to_the_size_of_the_file() -> None:
    small, large = Budget(0), Budget(10**9)
    assert large.limit - small.limit == 32 * 10**9
    small.spend(small.limit)
    small.spend(0)
    for size in (1, -1, 1 << 80):
        with pytest.raises(ValueError, match="describes more data than a file of its size can hold"):
            small.spend(size)
    assert small.left == 0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '{"a":' * 1_000_000,
        "[" + "9" * 1_000_000 + "]",
        "-" + "1" * 5_000,
        b"\xff\xfe\xfd",
        "",
        "[1, 2",
        b"\x00" * 100,
    ],
)
def test_json_that_is_not_data(text: str | bytes) -> None:
    assert limited(lambda: parse_json(text)).kind in {"ValueError", "JSONDecodeError", "UnicodeDecodeError"}
    with pytest.raises(ValueError):
        parse_json(text)


def test_files_that_are_not_regular_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, Path("/dev/zero")):
        for read in (check_regular, read_whole):
            outcome = limited(lambda read=read, path=path: read(path))  # type: ignore[misc]
            assert outcome == ("OSError", "not a regular file")
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "missing")
    (tmp_path / "text").write_bytes(b"12345")
    assert read_whole(tmp_path / "text", most=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_whole(tmp_path / "text", most=4)
