"""Compressed files as streams."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any

__all__ = ["decompressed"]


def decompressed(path: Path, kind: str) -> Any:
    """Open a compressed file as a stream of its content.

    Parameters
    ----------
    path
        The file.
    kind
        One of "zlib", "gzip", "bz2", "xz", "lzma", and "pickle" for a file that is not compressed.

    Returns
    -------
    binary file
        Buffered, to be closed by the caller.  It raises various exceptions if the file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "file")
    ...     _ = path.write_bytes(zlib.compress(b"content"))
    ...     with decompressed(path, "zlib") as stream:
    ...         stream.read()
    b'content'
    """
    if kind == "zlib":
        # The buffer makes small reads cheap: each read of the raw stream copies compressed data that is not yet used.
        return io.BufferedReader(_Inflated(path), 1 << 20)
    openers: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open, "lzma": lzma.open, "pickle": open}
    return openers[kind](path, "rb")


class _Inflated(io.RawIOBase):
    """A zlib-compressed file as a raw stream."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._inflate = zlib.decompressobj()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the beginning of a buffer and return the number of bytes; 0 means the end of the stream."""
        while len(buffer) and not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._file.read(1 << 16)
            if part := self._inflate.decompress(data, len(buffer)):
                buffer[: len(part)] = part
                return len(part)
            if not data:
                raise EOFError
        return 0
