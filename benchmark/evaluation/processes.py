"""`ProcessServer` and `GuardedProcess`: processes that can be ended with everything that they have started."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["EndedError", "GuardedProcess", "InvalidAnswerError", "ProcessServer"]

MOST_BYTES = 1 << 16
"""Maximum length of an answer.  A process that sends more has ceased to follow the protocol."""

SECONDS_TO_END, SECONDS_TO_SEND = 15.0, 60.0


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
    directory
        Working directory of the processes.
    """

    def __init__(self, threads: int, directory: str) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        self._settings = {"threads": threads, "directory": directory}
        number = str(threads)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-m", "benchmark.evaluation.process_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number},
                cwd=directory,
                start_new_session=True,  # Ctrl-C must reach the supervising process only
            )

    def start(self, role: str, memory: int | None = None) -> GuardedProcess:
        """Start a process.

        Parameters
        ----------
        role
            One of `benchmark.evaluation.process_server.ROLES`.
        memory
            Memory limit in bytes.

        Raises
        ------
        EndedError
            If the server has ended.
        """
        control, theirs = socket.socketpair()
        channel, also_theirs = socket.socketpair()
        request = json.dumps({"role": role, "memory": memory, **self._settings}).encode()
        with theirs, also_theirs:
            try:
                with self._lock:
                    socket.send_fds(self._socket, [request], [theirs.fileno(), also_theirs.fileno()])
                    started = self._socket.recv(16)
            except OSError:
                started = b""
        if not started:
            control.close()
            channel.close()
            raise EndedError("the process server has ended")
        return GuardedProcess(control, channel)

    def close(self) -> None:
        """End the server.  Processes end by themselves when their sockets are closed."""
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


class GuardedProcess:
    """A process that answers requests, both as lines of JSON.

    Parameters
    ----------
    control, channel
        Sockets to its guard, and to the process itself.
    """

    def __init__(self, control: socket.socket, channel: socket.socket) -> None:
        self._control, self._channel = control, channel
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
        while b"\n" not in self._buffer:
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                return None
            try:
                if not select.select([self._channel], [], [], wait)[0]:
                    return None
                received = self._channel.recv(MOST_BYTES)
            except (OSError, ValueError) as error:  # closed by another thread
                raise EndedError from error
            if not received:
                raise EndedError
            self._buffer += received
            if len(self._buffer) > MOST_BYTES and b"\n" not in self._buffer:
                raise InvalidAnswerError
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidAnswerError from error
        if not isinstance(answer, dict):
            raise InvalidAnswerError
        return answer

    def close(self) -> str:
        """End the process and everything that it has started, and return how it ended."""
        ending = b""
        with contextlib.suppress(OSError, ValueError):
            self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(SECONDS_TO_END)
            ending = self._control.recv(MOST_BYTES)
        self._control.close()
        self._channel.close()
        try:
            found = json.loads(ending)
            code, reason = found["code"], found["reason"]
        except (ValueError, TypeError, KeyError):
            return "since the run was stopped"
        if reason == "memory":
            return "because it and the processes that it has started took more memory than allowed"
        if code >= 0:
            return f"with status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"by {name}" + (", possibly because memory ran out" if name == "SIGKILL" else "")
