"""How much memory there is, and whether an error means that there was too little."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

__all__ = ["PeakMemory", "available_memory", "is_out_of_memory"]

_LIMITS = (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),)  # a container's, if it has one
_TEXTS = ("can't allocate memory", "out of memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the machine or of a GPU."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    # PyTorch has a type of error for GPUs only; its allocator for CPUs raises a RuntimeError.
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError | OSError) and any(part in text for part in _TEXTS))


def available_memory() -> int | None:
    """Bytes that can still be had without swapping, on the machine or in its container; None if nobody says."""
    figures = []
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found:
            figures.append(int(found[1]) * 1024)
    for limit, used in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            figures.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, min(figures)) if figures else None


class PeakMemory:
    """The largest memory of this process since a moment, beyond what it had then.

    Only Linux tells; elsewhere `megabytes` is NaN.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        self._before = _status("VmRSS")

    @property
    def megabytes(self) -> float:
        """The peak until now, in units of 1,000,000 bytes."""
        peak = _status("VmHWM")
        return max(0.0, peak - self._before) / 1e6


def _status(field: str) -> float:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
            if found:
                return float(found[1]) * 1024
    return float("nan")
