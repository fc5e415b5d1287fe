"""Lanes: each has a process of its own that evaluates networks, and is replaced when it hangs or dies.

A lane belongs to the thread that asks it; what runs in parallel decides joblib.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from deepnets.support import errors

__all__ = ["Lane", "close_lanes", "evaluate_in_lane", "open_lanes"]

STARTUP_SECONDS = 600.0
"""Within which a process must be there and have opened what it needs."""


class Lane:
    """A process that evaluates networks, and the wish that it answers in time.

    Parameters
    ----------
    number
        Of the lane: which of a task's devices is its own.
    """

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._process: subprocess.Popen[bytes] | None = None
        self._task: Mapping[str, Any] | None = None
        self._rest = b""

    def ask(self, task: Mapping[str, Any], index: int) -> dict[str, Any]:
        """The row of a network.

        Parameters
        ----------
        task
            What is evaluated, and how: see `benchmark.evaluation.worker_process.open_task`; and `threads`, `memory`
            (bytes, or None), `timeout` (seconds per network, or None), `folder` (the current one), `devices` (to
            choose from).
        index
            Of the network.

        Raises
        ------
        DeepNetsError
            If the task cannot be done for any network.
        """
        from benchmark.evaluation.rows import empty_row, failed_row

        new = self._process is None or self._process.poll() is not None or self._task is not task
        if self._process is None or self._process.poll() is not None:
            self._start(task)
        row: dict[str, Any]
        row, phase = empty_row(index) | {"batch_size": task["batch_size"]}, ""
        begun = time.monotonic()
        try:
            device = task["devices"][self._number % len(task["devices"])]
            self._send({"task": {**task, "device": device} if new else None, "index": index})
            self._task = task
            while True:
                patience = task["timeout"] if phase else STARTUP_SECONDS
                answer = self._receive(None if patience is None else begun + patience)
                if answer is None:
                    self.close()
                    what = f"in the phase {phase!r}" if phase else "before it began"
                    return failed_row(row, f"took more than {patience:g} seconds; stopped {what}")
                if "error" in answer:
                    raise getattr(errors, answer["type"], errors.DeepNetsError)(answer["error"])
                row = answer["row"]
                if answer.get("done"):
                    return row
                if not phase:
                    begun = time.monotonic()
                phase = answer["phase"]
        except (EOFError, BrokenPipeError):
            return failed_row(row, f"its process ended {self._end()}, in the phase {phase or 'start'!r}")

    def close(self) -> None:
        """End the process, and all that it has started."""
        process, self._process, self._task = self._process, None, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _start(self, task: Mapping[str, Any]) -> None:
        self.close()
        if _closed.is_set():
            raise EOFError
        threads = str(task["threads"])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self._rest = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.evaluation.worker_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=task["folder"],  # workers of joblib may have been started elsewhere, by another run
            start_new_session=True,  # Ctrl-C is for the process that asks
        )

    def _send(self, request: Mapping[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise EOFError
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()

    def _receive(self, deadline: float | None) -> dict[str, Any] | None:
        """The next answer; None if it does not come in time."""
        while b"\n" not in self._rest:
            process = self._process
            if process is None or process.stdout is None:
                raise EOFError
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                return None
            if not select.select([process.stdout], [], [], wait)[0]:
                return None
            new = os.read(process.stdout.fileno(), 1 << 16)
            if not new:
                raise EOFError
            self._rest += new
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> str:
        """How the process ended, in words."""
        process = self._process
        if process is None:
            return "since the run was stopped"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        code = process.returncode
        self.close()
        if code is None or code >= 0:
            return f"with status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"by {name}" + (", as it does when memory runs out" if name == "SIGKILL" else "")


_lanes: dict[int, Lane] = {}
_lock = threading.Lock()
_closed = threading.Event()  # so that no thread opens another lane while all are being closed


def evaluate_in_lane(task: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The row of a network, from the lane of this thread; errors as of `Lane.ask`."""
    with _lock:
        if _closed.is_set():
            raise errors.ConfigError("lanes: are closed")
        lane = _lanes.setdefault(threading.get_ident(), Lane(len(_lanes)))
    return lane.ask(task, index)


def open_lanes() -> None:
    """Let threads have lanes."""
    _closed.clear()


def close_lanes() -> None:
    """End the processes of all lanes; there are no others until `open_lanes`."""
    with _lock:
        _closed.set()
        lanes = list(_lanes.values())
        _lanes.clear()
    for lane in lanes:
        lane.close()
