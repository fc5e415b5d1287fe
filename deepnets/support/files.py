"""What is written into folders that others may look into: files appear whole, and one process writes at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from deepnets.support.errors import ConfigError

__all__ = ["exclusive", "replace_file"]


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder; a lock does not outlive its process.

    Raises
    ------
    ConfigError
        If another one has it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"{folder}: is in use by another process; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def replace_file(path: Path, content: bytes | str) -> None:
    """Write a file that is there whole, and on the disk, or as it was before; a text is written in UTF-8 as it is."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # where nothing can be written, there is nothing to remove either
            temporary.unlink()
