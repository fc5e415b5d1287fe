"""The process server, started as `python -m benchmark.evaluation.process_server FD`, forks prepared processes.

Importing PyTorch takes seconds, a fork takes milliseconds.  The server imports everything once and never runs code of
a predictor, so every process starts from the same clean state.

Requests arrive on a socket as JSON, each with the file descriptors of two sockets:

    request   {"role": "predictor", "directory": "/home/me", "threads": 1, "memory": null}, control, channel

Between the server and a process is a guard.  It ends the process and everything that the process has started, also
what is detached from it (on Linux): when the supervisor asks for it or disappears, when the process ends, or when all
of them together take more memory than allowed.  Then it sends the exit code to the supervisor.

    supervisor ── control ── guard
        │                      │
        └────── channel ── process (`predictor_process` or `evaluator_process`)
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["main"]

ROLES = {
    "predictor": "benchmark.evaluation.predictor_process",
    "evaluator": "benchmark.evaluation.evaluator_process",
}
"""Modules whose function `main` runs in a process."""

POLL_SECONDS = 0.25
MESSAGE_BYTES = 1 << 16
SECONDS_TO_END = 10.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of Linux


def main() -> None:
    """Fork processes until the supervisor closes its end of the socket."""
    server = socket.socket(fileno=int(sys.argv[1]))
    for module in ROLES.values():
        importlib.import_module(module)
    _adopt_orphans()
    guards: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(server, MESSAGE_BYTES, 2)
        if not message:
            return
        control, channel = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        pid = os.fork()
        if not pid:
            server.close()
            _run_and_exit(_guard, json.loads(message), control, channel)
        guards.add(pid)
        control.close()
        channel.close()
        server.sendall(b"started\n")
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitpid(-1, os.WNOHANG)[0]:
                guards.discard(ended)
        for orphan in set(_children(os.getpid())) - guards:  # left behind by a predictor that has killed its guard
            _kill(orphan)


def _guard(request: dict[str, Any], control: socket.socket, channel: socket.socket) -> None:
    """Start a process, watch it, and end it with all that it has started."""
    os.setsid()  # Ctrl-C must reach the supervisor only
    _adopt_orphans()
    guard = os.getpid()
    pid = os.fork()
    if not pid:
        control.close()
        os.setpgid(0, 0)
        _end_with(guard)
        _run_and_exit(_play, request, channel)
    channel.close()
    limit = request["memory"]
    status, reason = 0, ""
    ended = 0
    while not ended and not reason:
        if select.select([control], [], [], POLL_SECONDS)[0]:
            reason = "closed"
        ended, status = os.waitpid(pid, os.WNOHANG)
        if limit is not None and not ended and _exceeds(_descendants(guard), limit):
            reason = "memory"
    _kill(pid)
    if not ended:
        status = os.waitpid(pid, 0)[1]
    until = time.monotonic() + SECONDS_TO_END
    while (left := _children(guard)) and time.monotonic() < until:
        for child in left:
            _kill(child)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        control.sendall(json.dumps({"code": os.waitstatus_to_exitcode(status), "reason": reason}).encode())


def _play(request: dict[str, Any], channel: socket.socket) -> None:
    """Run a role in a process of its own."""
    import torch

    os.dup2(2, 1)  # what a predictor prints must not mix with the output of the command
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.chdir(request["directory"])
    sys.path.insert(0, request["directory"])
    torch.set_num_threads(request["threads"])
    _limit_memory(request["memory"])
    importlib.import_module(ROLES[request["role"]]).main(channel)


def _run_and_exit(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function, and end the process without the clean-up that belongs to the server."""
    code = 1
    try:
        function(*arguments)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


# --- operating system ---


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _end_with(parent: int) -> None:
    """Ask the system to kill this process when its parent ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _kill(pid: int) -> None:
    """Kill a process, and the group that it leads."""
    for function in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            function(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Return the parent of every process of this machine; empty where there is no /proc."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return parents


def _children(pid: int) -> list[int]:
    return [child for child, parent in _parents().items() if parent == pid]


def _descendants(pid: int) -> list[int]:
    found, parents = [pid], _parents()
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def _exceeds(pids: Iterable[int], limit: int) -> bool:
    """Whether the memory of processes, without files and without what they share with others, exceeds a limit."""
    pids = list(pids)
    if sum(_kilobytes(pid, "status", ("RssAnon", "RssShmem")) for pid in pids) * 1024 <= limit:
        return False
    # Pages that processes share were counted for each of them.  The precise sum takes longer.
    return sum(_kilobytes(pid, "smaps_rollup", ("Pss_Anon", "Pss_Shmem")) for pid in pids) * 1024 > limit


def _kilobytes(pid: int, file: str, fields: Iterable[str]) -> int:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/{file}").read_text()
        return sum(int(number) for name in fields for number in re.findall(rf"{name}:\s+(\d+) kB", text))
    return 0


def _limit_memory(limit: int | None) -> None:
    """Limit the memory that this process can allocate in addition to what it has, and the size of its files."""
    if limit is None or sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        kilobytes = _kilobytes(os.getpid(), "status", ("VmData",))
        for kind, most in ((resource.RLIMIT_DATA, kilobytes * 1024 + limit), (resource.RLIMIT_FSIZE, limit)):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (most if hard < 0 else min(most, hard), hard))


if __name__ == "__main__":
    main()
