"""The guard of a process: it ends the process together with everything that the process has started.

On Linux this includes processes that are detached from their parents.  The guard acts when the supervisor asks for it
or disappears, when the process ends, or when the process and its descendants together take more memory than allowed.
Then it removes their temporary files and sends the exit code to the supervisor.

What the process prints is passed on to the standard error of the command, up to a limit, without control characters.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.evaluation.operating_system import (
    adopt_orphans,
    children,
    descendants,
    end_with,
    exceeds,
    kill,
    private_bytes,
)

__all__ = ["IS_ENDING", "MAX_OUTPUT", "SECONDS_TO_END", "guard_process"]

POLL_SECONDS = 0.25

SECONDS_TO_END = 10.0
"""Time limit for ending all descendants."""

IS_ENDING = b"ending"
"""What the supervisor sends before it closes its socket if the process has closed its own."""

SECONDS_TO_EXIT = 1.0

MAX_OUTPUT = 1 << 16
"""Maximum number of bytes that are passed on of what a process prints."""


def guard_process(
    request: dict[str, Any], control: socket.socket, channel: socket.socket, play: Callable[[], None]
) -> None:
    """Start a process, watch it, and end it with all that it has started.

    Parameters
    ----------
    request
        The request of the supervisor, with the keys "memory" and "scratch" (see `process_server`).
    control, channel
        Sockets to the supervisor, of the guard and of the process.
    play
        Runs in the process, and does not return.
    """
    os.setsid()  # Ctrl-C must reach the supervisor only
    adopt_orphans()
    guard, folder = os.getpid(), Path(tempfile.mkdtemp(dir=request["scratch"]))
    limit, before = request["memory"], private_bytes(guard)
    output, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        control.close()
        os.close(output)
        os.setpgid(0, 0)
        end_with(guard)
        _redirect(theirs, folder)
        play()
    channel.close()
    os.close(theirs)
    os.set_blocking(output, False)
    printed = _Printed(output)
    status, reason, ended = 0, "", 0
    watched = [control.fileno(), output]
    checked = time.monotonic()
    while not ended and not reason:
        ready = select.select(watched if printed.open else watched[:1], [], [], POLL_SECONDS)[0]
        if watched[0] in ready:
            reason = "closed"
            if control.recv(len(IS_ENDING)) == IS_ENDING:
                ended, status = _wait(pid)
                break
        if output in ready:
            printed.pass_on()
        ended, status = os.waitpid(pid, os.WNOHANG)
        if limit is not None and not ended and time.monotonic() >= checked + POLL_SECONDS:
            checked = time.monotonic()
            reason = "memory" if exceeds(descendants(guard), limit + before) else reason
    kill(pid)
    if not ended:
        status = os.waitpid(pid, 0)[1]
    elif reason == "closed":
        reason = ""
    _end_children(guard)
    printed.pass_on()
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        control.sendall(json.dumps({"code": os.waitstatus_to_exitcode(status), "reason": reason}).encode())


def _redirect(output: int, folder: Path) -> None:
    """Give this process its own output, an empty input and a folder of temporary files."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _wait(pid: int) -> tuple[int, int]:
    """Wait for a moment for a process, and return its id and status; zeros if it has not ended."""
    until = time.monotonic() + SECONDS_TO_EXIT
    while not (found := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < until:
        time.sleep(0.005)
    return found


def _end_children(guard: int) -> None:
    """Kill the children of the guard until there are none: orphans become its children."""
    until = time.monotonic() + SECONDS_TO_END
    while (left := children(guard)) and time.monotonic() < until:
        for child in left:
            kill(child)
        for child in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


class _Printed:
    """What a process prints, read from a pipe that does not block."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._left, self.open = pipe, MAX_OUTPUT, True

    def pass_on(self) -> None:
        """Pass on what is there; what exceeds the limit is read and forgotten, so that the process need not wait."""
        for _ in range(16):
            try:
                data = os.read(self._pipe, MAX_OUTPUT)
            except OSError:  # nothing is there
                return
            if not data:
                self.open = False
                return
            if self._left <= 0:
                continue
            text = data[: self._left].decode("utf-8", "replace")
            self._left -= len(data)
            text = "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in text)
            if self._left <= 0:
                text += "\n[further output is omitted]\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())
