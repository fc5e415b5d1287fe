"""Supervised worker processes: a worker that hangs or dies is replaced, and costs one network.

Every thread has one worker (`evaluate_in_worker`); joblib distributes the networks over threads.
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
from typing import Any

from benchmark.evaluation.jobs import EvaluationJob, Machine
from benchmark.evaluation.rows import empty_row, failed_row
from deepnets.support import ConfigError, errors

__all__ = ["Worker", "allow_workers", "close_workers", "evaluate_in_worker"]

STARTUP_SECONDS = 600.0
"""Time limit for starting a process and opening a job."""


class _InvalidAnswerError(Exception):
    """A process sent an answer that is not one to its request; predictors are arbitrary code in this process."""


class Worker:
    """Evaluates networks in a process of its own, with limits of time and memory.

    Parameters
    ----------
    number
        Number of the worker, from 0, which selects one of the devices.
    """

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._process: subprocess.Popen[bytes] | None = None
        self._payload: str | None = None
        self._buffer = b""

    def evaluate(self, job: EvaluationJob, index: int, machine: Machine) -> dict[str, Any]:
        """Evaluate a network.

        Parameters
        ----------
        job
            What is evaluated.
        index
            Index of the network.
        machine
            Devices, number of threads, and limits.

        Returns
        -------
        The row of the network.  If the process exceeds the time limit, dies or answers for another network, the row is
        that of a failure, whose reason names the phase; the next network is evaluated in a new process.

        Raises
        ------
        DeepNetsError
            If the job cannot be opened, or a file of the corpus or of the images is damaged.
        """
        row: dict[str, Any] = empty_row(index, [metric.name for metric in job.metrics])
        row["batch_size"], phase = job.batch_size, ""
        started = time.monotonic()
        try:
            self._request(job, index, machine)
            while True:
                limit = machine.timeout if phase else STARTUP_SECONDS
                answer = self._receive(None if limit is None else started + limit)
                if answer is None:
                    self.close()
                    where = f"in the phase {phase!r}" if phase else "before it began"
                    return failed_row(row, f"took more than {limit:g} seconds; stopped {where}")
                if "error" in answer:
                    raise getattr(errors, answer["type"], errors.DeepNetsError)(answer["error"])
                row = _checked_row(answer.get("row"), row)
                if answer.get("done"):
                    return row
                if not phase:
                    started = time.monotonic()
                phase = str(answer.get("phase"))
        except _InvalidAnswerError as error:
            self.close()
            return failed_row(row, f"its process {error}, in the phase {phase or 'start'!r}")
        except (EOFError, BrokenPipeError):
            return failed_row(row, f"its process ended {self._how_it_ended()}, in the phase {phase or 'start'!r}")

    def close(self) -> None:
        """Kill the process and all processes that it has started."""
        process, self._process, self._payload = self._process, None, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _request(self, job: EvaluationJob, index: int, machine: Machine) -> None:
        """Ask the process for a network; start it if necessary, and send it the job if it has another one."""
        if self._process is None or self._process.poll() is not None:
            self._start(machine)
        request: dict[str, Any] = {"index": index}
        if self._payload != job.payload:
            device = machine.devices[self._number % len(machine.devices)]
            request |= {"job": job.payload, "device": device, "threads": machine.threads, "memory": machine.memory}
        process = self._process
        if process is None or process.stdin is None:
            raise EOFError
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        self._payload = job.payload

    def _start(self, machine: Machine) -> None:
        self.close()
        if _closed.is_set():
            raise EOFError
        threads = str(machine.threads)
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.evaluation.worker_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            cwd=machine.working_directory,  # joblib may reuse processes that were started in another directory
            start_new_session=True,  # Ctrl-C must reach the supervising process only
        )

    def _receive(self, deadline: float | None) -> dict[str, Any] | None:
        """Return the next answer; None after the deadline."""
        while b"\n" not in self._buffer:
            process = self._process
            if process is None or process.stdout is None:
                raise EOFError
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                return None
            if not select.select([process.stdout], [], [], wait)[0]:
                return None
            received = os.read(process.stdout.fileno(), 1 << 16)
            if not received:
                raise EOFError
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise _InvalidAnswerError("sent an invalid answer")
        return answer

    def _how_it_ended(self) -> str:
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
        return f"by {name}" + (", possibly because memory ran out" if name == "SIGKILL" else "")


def _checked_row(found: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the row of an answer, after checking that it is a row of the network that was asked for."""
    if not isinstance(found, dict) or found.keys() != expected.keys():
        raise _InvalidAnswerError("sent an invalid answer")
    if found["index"] != expected["index"]:
        raise _InvalidAnswerError(f"answered for network {found['index']!r} instead of {expected['index']}")
    return found


_workers: dict[int, Worker] = {}
_lock = threading.Lock()
_closed = threading.Event()  # prevents threads from starting workers while all are being closed


def evaluate_in_worker(job: EvaluationJob, index: int, machine: Machine) -> dict[str, Any]:
    """Evaluate a network in the worker of the current thread; see `Worker.evaluate`."""
    with _lock:
        if _closed.is_set():
            raise ConfigError("workers: are closed")
        worker = _workers.setdefault(threading.get_ident(), Worker(len(_workers)))
    return worker.evaluate(job, index, machine)


def allow_workers() -> None:
    """Permit new workers, after `close_workers`."""
    _closed.clear()


def close_workers() -> None:
    """Kill all workers of this process, and permit no new ones until `allow_workers`."""
    with _lock:
        _closed.set()
        workers = list(_workers.values())
        _workers.clear()
    for worker in workers:
        worker.close()
