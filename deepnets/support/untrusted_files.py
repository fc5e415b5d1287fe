"""Reading small untrusted files whole: JSON, CSV tables and other texts."""

from __future__ import annotations

import csv
import gc
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "MOST_BYTES",
    "MOST_COLUMNS",
    "MOST_LEVELS",
    "check_regular",
    "collection_paused",
    "parse_csv",
    "parse_json",
    "read_whole",
]

MOST_BYTES = 1 << 30
"""Largest file that is read whole, unless a reader has a smaller limit."""

MOST_COLUMNS = 1000
"""Largest number of columns of a CSV table; ours have fewer than 30."""

MOST_LEVELS = 100
"""Largest depth of lists and objects in JSON; ours have fewer than 10 levels."""


def check_regular(path: Path) -> None:
    """Check that a path is a regular file or a link to one.

    A named pipe in the place of a file would block the reader for ever, and a device may never end.

    Parameters
    ----------
    path
        The path.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    OSError
        If it is a folder, a named pipe, a socket or a device, or cannot be accessed.

    Examples
    --------
    >>> check_regular(Path("/dev/zero"))
    Traceback (most recent call last):
    OSError: not a regular file
    """
    path.stat()  # raises FileNotFoundError or PermissionError
    if not path.is_file():
        raise OSError("not a regular file")


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a regular file of limited size.

    Parameters
    ----------
    path
        The file.
    most
        Largest allowed size in bytes.

    Returns
    -------
    bytes
        Its content.

    Raises
    ------
    OSError
        If it cannot be read, is not a regular file, or is larger.

    Examples
    --------
    >>> read_whole(Path(__file__), most=10)
    Traceback (most recent call last):
    OSError: larger than 10 bytes
    """
    check_regular(path)
    if path.stat().st_size > most:
        raise OSError(f"larger than {most:,} bytes")
    return path.read_bytes()


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause Python's search for reference cycles while a file is read into objects that have none.

    Looking for cycles among millions of new lists takes up to ten times as long as parsing the JSON that holds them.

    Examples
    --------
    >>> with collection_paused():
    ...     gc.isenabled()
    False
    >>> gc.isenabled()
    True
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def parse_json(text: str | bytes) -> Any:
    """Parse untrusted JSON.

    Parameters
    ----------
    text
        The text, in UTF-8 if it is bytes.

    Returns
    -------
    object
        The value.

    Raises
    ------
    ValueError
        If it is not valid JSON, has an integer of thousands of digits, or more than `MOST_LEVELS` levels.  `json.loads`
        raises RecursionError for most of the last, and code that writes, prints or compares the others can do so, too.

    Examples
    --------
    >>> parse_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: JSON that is nested too deeply
    """
    try:
        with collection_paused():
            value = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if _levels(text) > MOST_LEVELS:
        raise ValueError("JSON that is nested too deeply")
    return value


_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1


def _levels(text: str | bytes) -> int:
    """Return how deeply lists and objects are nested in valid JSON."""
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    brackets = np.frombuffer(_STRINGS.sub("", text).encode(), np.uint8)
    return int(np.cumsum(_STEPS[brackets], dtype=np.int32).max(initial=0))


def parse_csv(text: str) -> Iterator[list[str]]:
    """Parse an untrusted CSV table row by row, the header first.

    Rows are not kept, so a caller that checks each one before it takes the next stops at the first wrong row, however
    many follow.

    Parameters
    ----------
    text
        The table.

    Yields
    ------
    list of str
        The cells of the header, and of each row.  Rows need not have the length of the header; empty lines are rows
        without cells.

    Raises
    ------
    ValueError
        If a cell has more than 131,072 characters, a row more than `MOST_COLUMNS` cells, or the header a name twice.

    Examples
    --------
    >>> list(parse_csv("name,value\\na,1\\n"))
    [['name', 'value'], ['a', '1']]
    >>> list(parse_csv("name,name\\n"))
    Traceback (most recent call last):
    ValueError: line 1: the column 'name' occurs twice
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    header: list[str] | None = None
    try:
        for row in reader:
            if len(row) > MOST_COLUMNS:
                raise ValueError(f"line {reader.line_num}: has {len(row):,} columns, more than {MOST_COLUMNS:,}")
            if header is None:
                header = row
                if repeated := next((name for name in header if name and header.count(name) > 1), ""):
                    raise ValueError(f"line 1: the column {repeated[:40]!r} occurs twice")
            yield row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
