"""Processes, their descendants and their memory, as the operating system sees them.

Most of it needs Linux; on other systems, functions that find processes return none, and memory is not limited.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "adopt_orphans",
    "children",
    "descendants",
    "end_with",
    "exceeds",
    "kill",
    "limit_memory",
    "private_bytes",
]

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of Linux

_IN_MEMORY = ("/memfd:", "/dev/shm/")  # noqa: S108  files that are compared, not written
_ANONYMOUS, _SHARED = ("RssAnon", "Pss_Anon"), ("RssShmem", "Pss_Shmem")


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int) -> None:
    """Ask the system to kill this process when its parent ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def kill(pid: int) -> None:
    """Kill a process, and the group that it leads."""
    for function in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            function(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the children of a process.

    Examples
    --------
    >>> children(0x7FFFFFFF)
    []
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  called several times per second
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
            found += map(int, text.split())
    except OSError:  # the process has ended, or the kernel does not list children
        if not Path(f"/proc/{pid}/task/{pid}/children").exists():
            return [child for child, parent in _parents().items() if parent == pid]
    return found


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    found = [pid]
    for ancestor in found:
        found += children(ancestor)
    return found[1:]


def private_bytes(pid: int) -> int:
    """Return the resident memory of a process that is not that of files; 0 if it is not known."""
    return 1024 * _kilobytes(pid, "status", _ANONYMOUS)


def exceeds(pids: Iterable[int], limit: int) -> bool:
    """Return whether the memory of processes exceeds a limit in bytes.

    Memory that several of them share counts once, and so do files in memory that one of them has open.  Other files do
    not count.
    """
    pids = list(pids)
    files = _files_in_memory(pids)
    if sum(_kilobytes(pid, "status", (*_ANONYMOUS, *_SHARED)) for pid in pids) * 1024 + files <= limit:
        return False
    # Pages that processes share were counted for each of them.  The precise sum takes longer.
    anonymous = sum(_proportional(pid, _ANONYMOUS) for pid in pids) * 1024
    shared = sum(_proportional(pid, _SHARED) for pid in pids) * 1024
    return anonymous + max(shared, files) > limit


def limit_memory(limit: int | None) -> None:
    """Limit the memory that this process can allocate in addition to what it has, and the size of its files."""
    if limit is None or sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        kilobytes = _kilobytes(os.getpid(), "status", ("VmData",))
        for kind, most in ((resource.RLIMIT_DATA, kilobytes * 1024 + limit), (resource.RLIMIT_FSIZE, limit)):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (most if hard < 0 else min(most, hard), hard))


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _parents() -> dict[int, int]:
    """Return the parent of every process of this machine; empty where there is no /proc."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return parents


def _proportional(pid: int, fields: Iterable[str]) -> int:
    """Return memory in kB, each page divided by the number of processes that have it; without permission, undivided."""
    return _kilobytes(pid, "smaps_rollup", fields) or _kilobytes(pid, "status", fields)


def _kilobytes(pid: int, file: str, fields: Iterable[str]) -> int:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/{file}").read_text()
        return sum(int(number) for name in fields for number in re.findall(rf"{name}:\s+(\d+) kB", text))
    return 0


def _files_in_memory(pids: Iterable[int]) -> int:
    """Return the size of the files in memory that processes have open, in bytes."""
    sizes: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
                path = f"/proc/{pid}/fd/{name}"
                with contextlib.suppress(OSError):
                    if os.readlink(path).startswith(_IN_MEMORY):  # noqa: PTH115
                        stat = os.stat(path)  # noqa: PTH116
                        sizes[stat.st_dev, stat.st_ino] = 512 * stat.st_blocks
    return sum(sizes.values())
