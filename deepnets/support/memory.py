"""Available memory, peak memory, and out-of-memory errors."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

__all__ = ["PeakMemory", "available_memory", "is_out_of_memory"]

_CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", ""),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
"""Limits of containers, in versions 2 and 1: folder, limit, usage, and what the names in `memory.stat` begin with."""

_TEXTS = ("can't allocate memory", "out of memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception reports that the memory of the machine or of a GPU is exhausted.

    Parameters
    ----------
    error
        Any exception.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("CUDA out of memory")), is_out_of_memory(ValueError("no"))
    (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    # PyTorch raises OutOfMemoryError for GPUs, and RuntimeError for CPUs.
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError | OSError) and any(part in text for part in _TEXTS))


def available_memory() -> int | None:
    """Return the memory that can be allocated without swapping, on the machine or in its container.

    Returns
    -------
    int or None
        In bytes; None if it is unknown.

    Examples
    --------
    >>> available = available_memory()
    >>> available is None or available > 0
    True
    """
    figures = []
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found:
            figures.append(int(found[1]) * 1024)
    for folder, limit, used, prefix in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            left = int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text())
            cached = re.findall(rf"^{prefix}(?:in)?active_file (\d+)$", Path(folder, "memory.stat").read_text(), re.M)
            figures.append(left + sum(map(int, cached)))  # files in the cache are dropped when memory is needed
    return max(0, min(figures)) if figures else None


class PeakMemory:
    """Measure the peak memory of this process, relative to the memory at construction.

    Only Linux provides it; on other systems `megabytes` is NaN.

    Examples
    --------
    >>> peak = PeakMemory()
    >>> data = bytearray(10_000_000)
    >>> peak.megabytes < 0
    False
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        self._before = _status("VmRSS")

    @property
    def megabytes(self) -> float:
        """Peak memory since construction, in units of 1,000,000 bytes."""
        peak = _status("VmHWM")
        return max(0.0, peak - self._before) / 1e6


def _status(field: str) -> float:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
            if found:
                return float(found[1]) * 1024
    return float("nan")
