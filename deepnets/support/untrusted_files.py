"""Reading small untrusted files whole: JSON, CSV tables and other texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["MOST_BYTES", "check_regular", "parse_json", "read_whole"]

MOST_BYTES = 1 << 30
"""Largest file that is read whole, unless a reader has a smaller limit."""


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
        If it is not valid JSON, is nested too deeply, or has an integer of thousands of digits.  `json.loads` raises
        RecursionError for the second.

    Examples
    --------
    >>> parse_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: JSON that is nested too deeply
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
