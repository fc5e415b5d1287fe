"""Workers: each one evaluates networks with two processes, which it supervises.

The process of the predictor has the networks and returns tensors.  The evaluating process has the images, builds the
networks itself and computes the rows.  So a predictor cannot affect the results of another one, nor its own except by
its parameters.  A process that hangs, dies or takes too much memory is replaced, and costs one network; one that dies
because of what the predictor did for an earlier network costs none.

Every thread has one worker (`evaluate_in_worker`); joblib distributes the networks over threads.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from benchmark.evaluation.devices import DeviceClaim, claim_device
from benchmark.evaluation.jobs import EvaluationJob
from benchmark.evaluation.machine import Machine
from benchmark.evaluation.prediction import PREDICTION_PHASES
from benchmark.evaluation.predictors import PredictorInfo, describe_predictor, find_kind
from benchmark.evaluation.processes import EndedError, GuardedProcess, InvalidAnswerError, ProcessServer
from benchmark.evaluation.rows import failed_row
from benchmark.evaluation.tensor_exchange import new_file, seal
from deepnets.support import ConfigError, errors

__all__ = [
    "Worker",
    "close_workers",
    "describe_all",
    "describe_in_worker",
    "evaluate_in_worker",
    "keep_processes",
]

STARTUP_SECONDS = 600.0
"""Time limit for the start of the evaluating process, which opens the images."""


class Worker:
    """Evaluates networks in two processes of its own, with limits of time and memory.

    Parameters
    ----------
    server
        Starts the processes.
    claim
        The device.
    """

    def __init__(self, server: ProcessServer, claim: DeviceClaim) -> None:
        self._server, self._claim = server, claim
        self._predictor = _Process("predictor")
        self._evaluator = _Process("evaluator")
        self._requests = 0
        self._ending = ""  # of the process that has died last
        self._began = 0.0  # when the prediction began

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
        The row of the network.  If a process exceeds the time limit or dies, the row is that of a failure, whose
        reason names the phase.

        Raises
        ------
        DeepNetsError
            If the networks or images cannot be opened or are damaged.
        """
        device = self._claim.device
        evaluator_job, predictor_job = job.payloads(device)
        owner = job.predictor if isinstance(job.predictor, PredictorInfo) else predictor_job
        if machine.fresh or owner != self._predictor.owner:
            self._predictor.close()
        self._predictor.owner = owner
        file = new_file()
        try:
            was_used = self._predictor.is_running
            prediction = self._predict(predictor_job, index, machine, file)
            if prediction is None and was_used:
                # It may have died of something that the predictor did for an earlier network, such as an alarm.
                prediction = self._predict(predictor_job, index, machine, file)
            prediction = prediction or {**_UNKNOWN, "failure": self._ending}
            left = None if machine.timeout is None else max(1.0, self._began + machine.timeout - time.monotonic())
            files = [] if prediction["failure"] else [file]
            for _ in range(2):  # a process that runs no code of predictors has died: something else has killed it
                row = self._evaluate(job, (evaluator_job, device), {"index": index, **prediction}, files, machine, left)
                if row is not None:
                    return row
            return failed_row(job.empty_row(index), f"the evaluating {self._ending.removeprefix('its ')}")
        finally:
            os.close(file)

    def close(self) -> None:
        """End both processes and everything that they have started."""
        self._predictor.close()
        self._evaluator.close()
        self._claim.release()

    def _predict(self, payload: str, index: int, machine: Machine, file: int) -> dict[str, Any] | None:
        """Have parameters predicted into a file, and return what the evaluating process must know about it.

        Return None, and set `_ending`, if the process has died.
        """
        self._requests += 1
        request: dict[str, Any] = {"request": self._requests, "index": index}
        phase, seconds = "start", math.nan
        self._began = began = time.monotonic()
        deadline = None if machine.timeout is None else began + machine.timeout
        try:
            process = self._predictor.started(self._server, machine.working_directory, machine.memory)
            process.send(request | self._predictor.news(payload), [file])
            while True:
                answer = process.receive(deadline)
                if answer is None:
                    self._predictor.close()
                    where = f"in the phase {phase!r}" if phase != "start" else "before it began"
                    return _UNKNOWN | {"failure": f"took more than {machine.timeout:g} seconds; stopped {where}"}
                if answer.get("request") != self._requests:  # an answer to an earlier request, of a copy of the process
                    continue
                if answer.get("phase") in PREDICTION_PHASES:
                    now = time.monotonic()
                    if phase == "start":
                        self._predictor.job = payload
                        self._began = now
                        deadline = None if machine.timeout is None else now + machine.timeout
                    if phase == "predict":
                        seconds = now - began
                    phase, began = answer["phase"], now
                    continue
                known = _UNKNOWN | {"memory_mb": _number(answer.get("memory_mb"))}
                if "failed" in answer:
                    known["failure"] = str(answer["failed"]) or "the predictor failed"
                elif answer.get("done") is True and phase == PREDICTION_PHASES[-1]:
                    seal(file)
                    known |= {"trained": answer.get("trained") is True, "seconds": seconds}
                else:
                    raise InvalidAnswerError
                if answer.get("reuse") is not True:
                    self._predictor.close()
                return known
        except EndedError:
            self._ending = f"its process ended {self._predictor.close(is_ending=True)}, in the phase {phase!r}"
            return None
        except (InvalidAnswerError, OSError):
            self._predictor.close()
            return _UNKNOWN | {"failure": f"its process sent an invalid answer, in the phase {phase!r}"}

    def _evaluate(
        self,
        job: EvaluationJob,
        payload: tuple[str, str],
        request: dict[str, Any],
        files: list[int],
        machine: Machine,
        seconds: float | None,
    ) -> dict[str, Any] | None:
        """Have a network evaluated, and return its row; None, with `_ending` set, if the process has died."""
        row, phase = job.empty_row(request["index"]), "build"
        text, device = payload
        try:
            process = self._evaluator.started(self._server, machine.working_directory, machine.memory)
            news = self._evaluator.news(text)
            process.send(request | news | ({"device": device} if news else {}), files)
            limit: float | None = STARTUP_SECONDS
            started = time.monotonic()
            while True:
                answer = process.receive(None if limit is None else started + limit)
                if answer is None:
                    self._evaluator.close()
                    most = limit if phase == "build" else machine.timeout  # with the time of the prediction
                    return failed_row(row, f"took more than {most:g} seconds; stopped in the phase {phase!r}")
                if "error" in answer:
                    raise getattr(errors, answer["type"], errors.DeepNetsError)(answer["error"])
                row = _checked_row(answer.get("row"), row)
                if answer.get("done"):
                    self._evaluator.job = text
                    return row
                phase, limit, started = "evaluate", seconds, time.monotonic()
        except (EndedError, InvalidAnswerError):
            self._ending = f"its process ended {self._evaluator.close(is_ending=True)}, in the phase {phase!r}"
            return None


class _Process:
    """A process of a worker, which is started when it is needed, and the job that it has."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._process: GuardedProcess | None = None
        self.job = ""
        self.owner: Any = None

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def started(self, server: ProcessServer, directory: str, memory: int | None) -> GuardedProcess:
        """Return the process, after starting it if necessary."""
        if self._process is None:
            self._process = server.start(self._role, directory, memory)
        return self._process

    def news(self, job: str) -> dict[str, Any]:
        """Return the part of a request that tells the process its job, if it has another one."""
        return {} if job == self.job else {"job": job}

    def close(self, *, is_ending: bool = False) -> str:
        """End the process, and return how it ended; see `GuardedProcess.close`."""
        process, self._process, self.job = self._process, None, ""
        return process.close(is_ending=is_ending) if process else "since the run was stopped"


_UNKNOWN: dict[str, Any] = {"failure": "", "trained": False, "seconds": math.nan, "memory_mb": math.nan}
"""What the evaluating process is told about a prediction that did not succeed."""


def _checked_row(found: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the row of an answer, after checking that it is a row of the network that was asked for."""
    if not isinstance(found, dict) or found.keys() != expected.keys() or found["index"] != expected["index"]:
        raise InvalidAnswerError
    return found


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else math.nan


_workers: dict[str, dict[int, Worker]] = {}  # by run and thread
_servers: dict[int, ProcessServer] = {}  # by number of threads
_kept = 0  # blocks of `keep_processes` that have not ended
_lock = threading.Lock()
_closed: set[str] = set()  # prevents threads from starting workers of runs that have ended
_busy: Counter[str] = Counter()  # networks that are being evaluated, by run
_timers: dict[str, threading.Timer] = {}  # that end idle workers, by run


def evaluate_in_worker(
    job: EvaluationJob, index: int, machine: Machine, *, idle_seconds: float | None = None
) -> dict[str, Any]:
    """Evaluate a network in the worker of the current thread.

    Parameters
    ----------
    job, index, machine
        As in `Worker.evaluate`.
    idle_seconds
        Time without a network of the run after which its workers in this process end; by default, they end when
        `close_workers` is called, or with this process.

    Returns
    -------
    The row of the network.
    """
    session = machine.session
    with _lock:
        if session in _closed:
            raise ConfigError("workers: are closed")
        workers = _workers.setdefault(session, {})
        worker = workers.get(threading.get_ident())
        if worker is None:
            claim = claim_device(machine.devices, session)
            worker = workers[threading.get_ident()] = Worker(_shared_server(machine), claim)
        _busy[session] += 1
        if timer := _timers.pop(session, None):
            timer.cancel()
    try:
        return worker.evaluate(job, index, machine)
    finally:
        with _lock:
            _busy[session] -= 1
            if not _busy[session]:
                del _busy[session]
                if idle_seconds is not None and session in _workers:
                    timer = _timers[session] = threading.Timer(idle_seconds, _end_idle, [session])
                    timer.daemon = True
                    timer.start()


def _end_idle(session: str) -> None:
    """End the workers of a run unless they are busy; they are started again if there is another network."""
    with _lock:
        if not _busy[session]:
            _timers.pop(session, None)
            _end(session)


def _shared_server(machine: Machine) -> ProcessServer:
    if machine.threads not in _servers:
        _servers[machine.threads] = ProcessServer(machine.threads)
    return _servers[machine.threads]


def describe_in_worker(spec: str, machine: Machine) -> PredictorInfo:
    """Describe a predictor as `describe_predictor` does, in a process of its own if its code must run.

    Parameters
    ----------
    spec
        As for `describe_predictor`.
    machine
        Limits of time and memory.

    Raises
    ------
    ConfigError
        If there is no such predictor, or its code fails or exceeds a limit.
    """
    label, name, kind = find_kind(spec)
    if not kind.describing_runs_code:
        return describe_predictor(spec)
    with _lock:
        server = _shared_server(machine)
    limit = STARTUP_SECONDS if machine.timeout is None else min(machine.timeout, STARTUP_SECONDS)
    process = None
    try:
        process = server.start("predictor", machine.working_directory, machine.memory)
        process.send({"request": 0, "describe": spec})
        answer = process.receive(time.monotonic() + limit)
        if answer is None:
            raise ConfigError(f"predictor: {spec}: took more than {limit:g} seconds to be imported and created")
        if "failed" in answer:
            failed = str(answer["failed"])
            raise ConfigError(failed if failed.startswith("predictor") else f"predictor: {spec}: {failed}")
        info = PredictorInfo.from_dict(answer.get("info"))
        return replace(info, label=label or kind.label(name), spec=name, kind=kind.name)  # its code may change these
    except EndedError as error:
        how = process.close(is_ending=True) if process else "at once"
        raise ConfigError(f"predictor: {spec}: its process ended {how} while it was imported and created") from error
    except (InvalidAnswerError, TypeError) as error:
        raise ConfigError(f"predictor: {spec}: its process sent an invalid answer while it was imported") from error
    finally:
        if process:
            process.close()


def describe_all(specs: Sequence[str], machine: Machine) -> list[PredictorInfo]:
    """Describe predictors as `describe_in_worker` does; after an error, no process is left."""
    try:
        return [describe_in_worker(spec, machine) for spec in specs]
    except BaseException:
        close_workers()
        raise


def close_workers(session: str = "") -> None:
    """End the workers of a run in this process, and permit no new ones; without others, also the process servers."""
    with _lock:
        if session:
            _closed.add(session)
        if timer := _timers.pop(session, None):
            timer.cancel()
        _end(session)


def _end(session: str) -> None:
    for worker in _workers.pop(session, {}).values():
        worker.close()
    while _servers and not _workers and not _kept:
        _servers.popitem()[1].close()


@contextlib.contextmanager
def keep_processes() -> Iterator[None]:
    """Keep the processes that start workers until the end of the block, so that further runs start seconds faster.

    They take some hundred megabytes of memory.  They never run code of a predictor, so runs cannot affect each other.

    Examples
    --------
    >>> with keep_processes():
    ...     [info.kind for info in describe_all(["random", "untrained:ghn2"], Machine(workers=1))]
    ['random', 'untrained']
    """
    global _kept
    with _lock:
        _kept += 1
    try:
        yield
    finally:
        with _lock:
            _kept -= 1
        close_workers()
