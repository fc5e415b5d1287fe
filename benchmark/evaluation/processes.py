"""`ProcessServer` and `GuardedProcess`: processes that can be ended with everything that they have started."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.evaluation.guard import IS_ENDING
from deepnets.support import NOTICES

__all__ = ["EndedError", "GuardedProcess", "InvalidAnswerError", "ProcessServer"]

MAX_ANSWER = 1 << 16
"""Maximum number of bytes of an answer."""

SECONDS_TO_END = 15.0
"""Time limit for a guard or a server to end its processes, after which it is killed itself."""

SECONDS_TO_SEND = 60.0


_PROGRAM = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import json
sys.path[:] = json.loads(sys.argv[2])
from benchmark.evaluation.process_server import main
main(int(sys.argv[1]), sys.argv[3], int(sys.argv[4]))
"""


class EndedError(Exception):
    """The process has ended."""


class InvalidAnswerError(Exception):
    """The process has sent something that is not an answer."""


class ProcessServer:
    """Starts processes by forking one in which everything is imported (`benchmark.evaluation.process_server`).

    It can be shared by threads.

    Parameters
    ----------
    threads
        Number of threads of PyTorch in the processes.
    """

    def __init__(self, threads: int) -> None:
        self._lock = threading.Lock()
        self._threads = threads
        self._environment: dict[str, str] = {}
        self._launch()

    def start(self, role: str, directory: str, memory: int | None = None) -> GuardedProcess:
        """Start a process, with the environment and the module path of this one.  A server that has ended is replaced.

        Parameters
        ----------
        role
            One of `benchmark.evaluation.process_server.ROLES`.
        directory
            Working directory of the process.
        memory
            Memory limit in bytes.

        Raises
        ------
        EndedError
            If the process cannot be started.
        """
        with self._lock:
            for _ in range(2):
                request = json.dumps(
                    {
                        "role": role,
                        "directory": directory,
                        "path": _module_path(directory),
                        "environment": _difference(self._environment, {**os.environ}),
                        "scratch": self._scratch,
                        "threads": self._threads,
                        "memory": memory,
                    }
                )
                control, theirs = socket.socketpair()
                channel, also_theirs = socket.socketpair()
                with theirs, also_theirs, contextlib.suppress(OSError, ValueError):
                    socket.send_fds(self._socket, [request.encode()], [theirs.fileno(), also_theirs.fileno()])
                    return GuardedProcess(control, channel, int(self._socket.recv(16)))
                control.close()
                channel.close()
                if self._closed:
                    break
                self._end()
                self._launch()
        raise EndedError

    def close(self) -> None:
        """End the server and all processes that it has started."""
        self._closed = True
        self._end()

    _closed = False

    def _launch(self) -> None:
        self._scratch = tempfile.mkdtemp(prefix="benchmark-")
        mine, theirs = socket.socketpair()
        number, directory = str(self._threads), str(Path.cwd())
        self._environment = {**os.environ}
        # The working directory comes last, because predictors can write modules of any name into it.
        path = json.dumps([*_module_path(directory), directory])
        level = logging.getLogger(NOTICES).getEffectiveLevel()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), path, self._scratch, str(level)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                env={**self._environment, "OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number},
                cwd=directory,
                start_new_session=True,  # Ctrl-C must reach the supervising process only
            )
        self._socket = mine

    def _end(self) -> None:
        self._socket.close()  # the server ends
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_END)
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)  # if the server could not do it


def _module_path(directory: str) -> list[str]:
    """Return the entries of `sys.path` without the working directory."""
    return [entry for entry in sys.path if entry and Path(entry).absolute() != Path(directory)]


def _difference(old: dict[str, str], new: dict[str, str]) -> dict[str, str | None]:
    """Return the environment variables that have changed; None for those that are gone."""
    return {name: new.get(name) for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


class GuardedProcess:
    """A process that answers requests, both as lines of JSON.

    Parameters
    ----------
    control, channel
        Sockets to its guard, and to the process itself.
    guard
        Process id of the guard.
    """

    def __init__(self, control: socket.socket, channel: socket.socket, guard: int) -> None:
        self._control, self._channel, self._guard = control, channel, guard
        self._channel.settimeout(SECONDS_TO_SEND)
        self._buffer = b""

    def send(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a request, and copies of file descriptors.

        Raises
        ------
        EndedError
            If the process has ended.
        """
        line = json.dumps(request).encode() + b"\n"
        try:
            sent = socket.send_fds(self._channel, [line], descriptors) if descriptors else 0
            self._channel.sendall(line[sent:])
        except OSError as error:
            raise EndedError from error

    def receive(self, deadline: float | None) -> dict[str, Any] | None:
        """Return the next answer; None after a point in time, in seconds of `time.monotonic`.

        Raises
        ------
        EndedError, InvalidAnswerError
            If the process has ended, or has sent something else.
        """
        while True:  # the time is checked for each answer, since a predictor can send them without end
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                return None
            if b"\n" in self._buffer:
                break
            try:
                if not select.select([self._channel], [], [], wait)[0]:
                    return None
                received = self._channel.recv(MAX_ANSWER)
            except (OSError, ValueError) as error:  # closed by another thread
                raise EndedError from error
            if not received:
                raise EndedError
            self._buffer += received
            if len(self._buffer) > MAX_ANSWER and b"\n" not in self._buffer:
                raise InvalidAnswerError
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidAnswerError from error
        if not isinstance(answer, dict):
            raise InvalidAnswerError
        return answer

    def close(self, *, is_ending: bool = False) -> str:
        """End the process and everything that it has started, and return how it ended.

        Parameters
        ----------
        is_ending
            Whether the process has closed its connection, so that it has probably ended by itself.
        """
        ending = b""
        with contextlib.suppress(OSError, ValueError):
            if is_ending:
                self._control.sendall(IS_ENDING)
            self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(SECONDS_TO_END)
            ending = self._control.recv(MAX_ANSWER)
        self._control.close()
        self._channel.close()
        try:
            found = json.loads(ending)
            code, reason = found["code"], found["reason"]
        except (ValueError, TypeError, KeyError):  # a predictor has stopped or killed the guard
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._guard, signal.SIGKILL)  # the process ends with it
            return "together with its guard"
        if reason == "memory":
            return "because it and the processes that it has started took more memory than allowed"
        if reason == "closed":
            return "because it closed its connection"
        if code >= 0:
            return f"with status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"by {name}" + (", possibly because memory ran out" if name == "SIGKILL" else "")
