"""The file that HDF5 writes a file of the original release to; a full disk does not end the process."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

__all__ = ["OutputFile"]


class OutputFile(io.RawIOBase):
    """A new file for `h5py.File(file, "w")`, whose writes never fail for HDF5.

    HDF5 ends the process when it cannot write.  Here the bytes that could not be written stay in memory, so that HDF5
    finds what it wrote, and `check` raises the error outside of HDF5.

    Parameters
    ----------
    path : Path
        The file; replaced if it exists.
    name : Path
        The file to name in error messages.

    Raises
    ------
    OSError
        If the file cannot be created.

    Examples
    --------
    >>> import tempfile
    >>> import h5py
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     output = OutputFile(Path(folder, "a.partial"), Path(folder, "a.hdf5"))
    ...     with h5py.File(output, "w") as file:
    ...         file["x"] = [1, 2]
    ...         output.check()
    ...     output.close()
    """

    def __init__(self, path: Path, name: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        self._name = name
        self._position = self._size = 0
        self._error: OSError | None = None
        self._unwritten: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise the first error of a write.

        Raises
        ------
        OSError
            With the name of the file.
        """
        if self._error is not None:
            raise OSError(self._error.errno, os.strerror(self._error.errno or 0), str(self._name))

    def close(self) -> None:
        """Close the file; errors are those of `check`."""
        self._file.close()
        super().close()

    # --- the interface that h5py needs ---

    def write(self, data: Any) -> int:
        """Write at the position."""
        content = bytes(data)
        try:
            if self._error is None:
                self._file.seek(self._position)
                rest = memoryview(content)
                while len(rest):
                    rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            self._error = error
        if self._error is not None:
            self._unwritten.append((self._position, content))
        self._position += len(content)
        self._size = max(self._size, self._position)
        return len(content)

    def readinto(self, buffer: Any) -> int:
        """Read from the position, also what could not be written."""
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        self._file.seek(self._position)
        done = 0
        while done < len(view) and (read := self._file.readinto(view[done:])):
            done += read
        for start, content in self._unwritten:
            first, last = max(start, self._position), min(start + len(content), self._position + len(view))
            if first < last:
                view[first - self._position : last - self._position] = content[first - start : last - start]
        self._position += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the size."""
        size = self._size = self._position if size is None else size
        try:
            self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
        return size

    def flush(self) -> None:
        """Do nothing, because nothing is buffered here."""
