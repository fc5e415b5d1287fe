"""Standard streams that are closed, full, or shown on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from deepnets.support.errors import printable

__all__ = ["discard", "flush", "open_standard_streams"]


RESET = "\x1b[0m"
"""The sequence that libraries with colours, such as Ray, write when the process ends."""


class _Escaped:
    """A text stream whose control characters are escaped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        self._stream.write(text if text == RESET else printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_standard_streams() -> None:
    """Escape control characters in the output, and replace standard streams that are closed by the null device.

    Python sets a closed stream to None.  Worse, the next file that is opened would get its number, and everything that
    libraries print would be written to that file.

    Examples
    --------
    >>> open_standard_streams()  # doctest: +SKIP
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number, inheritable=True)
                os.close(descriptor)
            else:
                os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    sys.stdout = _Escaped(sys.stdout)


def discard(stream: Any) -> None:
    """Send what is left in the buffer of a stream to the null device, so that the exit of Python does not fail.

    Parameters
    ----------
    stream
        A standard stream.

    Examples
    --------
    >>> discard(None)  # a stream that is closed
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def flush(stream: Any) -> None:
    """Write the buffer of a stream; discard it if that fails.

    Parameters
    ----------
    stream
        A standard stream.

    Examples
    --------
    >>> flush(sys.stdout)
    """
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):  # it was reported above
        discard(stream)
