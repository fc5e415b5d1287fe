"""Workers: each one evaluates networks with two processes, which it supervises.

The process of the predictor has the networks and returns tensors.  The evaluating process has the images, builds the
networks itself and computes the rows.  So a predictor cannot affect the results of another one, nor its own except by
its parameters.  A process that hangs, dies or takes too much memory is replaced, and costs one network.

Every thread has one worker (`evaluate_in_worker`); joblib distributes the networks over threads.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from benchmark.evaluation.jobs import EvaluationJob, Machine
from benchmark.evaluation.prediction import PREDICTION_PHASES
from benchmark.evaluation.predictors import PredictorInfo, describe_predictor, find_kind
from benchmark.evaluation.processes import EndedError, GuardedProcess, InvalidAnswerError, ProcessServer
from benchmark.evaluation.rows import empty_row, failed_row
from benchmark.evaluation.tensor_exchange import new_file, seal
from deepnets.support import ConfigError, errors

__all__ = ["Worker", "allow_workers", "close_workers", "describe_in_worker", "evaluate_in_worker"]

STARTUP_SECONDS = 600.0
"""Time limit for the start of the evaluating process, which opens the images."""


class Worker:
    """Evaluates networks in two processes of its own, with limits of time and memory.

    Parameters
    ----------
    server
        Starts the processes.
    number
        Number of the worker, from 0, which selects one of the devices.
    """

    def __init__(self, server: ProcessServer, number: int = 0) -> None:
        self._server, self._number = server, number
        self._evaluator: GuardedProcess | None = None
        self._evaluator_job = ""
        self._predictor: GuardedProcess | None = None
        self._predictor_job = ""
        self._predictor_key: Any = None
        self._requests = 0

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
        device = machine.devices[self._number % len(machine.devices)]
        evaluator_job, predictor_job = job.payloads(device)
        file = new_file()
        try:
            started = time.monotonic()
            prediction = self._predict(job, predictor_job, index, machine, file)
            left = None if machine.timeout is None else max(1.0, machine.timeout - (time.monotonic() - started))
            request = {"index": index, **prediction}
            if evaluator_job != self._evaluator_job:
                request |= {"job": evaluator_job, "device": device}
            row = empty_row(index, [metric.name for metric in job.metrics]) | {"batch_size": job.batch_size}
            row = self._evaluate(request, row, machine, left, [] if prediction["failure"] else [file])
            if evaluator_job != self._evaluator_job and self._evaluator is not None:
                self._evaluator_job = evaluator_job
            return row
        finally:
            os.close(file)

    def close(self) -> None:
        """End both processes and everything that they have started."""
        self._close_predictor()
        self._close_evaluator()

    def _predict(self, job: EvaluationJob, payload: str, index: int, machine: Machine, file: int) -> dict[str, Any]:
        """Have parameters predicted into a file, and return what the evaluating process must know about it."""
        key = job.predictor if isinstance(job.predictor, PredictorInfo) else payload
        if machine.fresh or key != self._predictor_key:
            self._close_predictor()
        known: dict[str, Any] = {"failure": "", "trained": False, "seconds": float("nan"), "memory_mb": float("nan")}
        self._requests += 1
        request: dict[str, Any] = {"request": self._requests, "index": index}
        phase = "start"
        started = began = time.monotonic()
        try:
            if self._predictor is None:
                self._predictor, self._predictor_job = self._server.start("predictor", machine.memory), ""
                self._predictor_key = key
            if payload != self._predictor_job:
                request["job"] = payload
            self._predictor.send(request, [file])
            while True:
                deadline = None if machine.timeout is None else started + machine.timeout
                answer = self._predictor.receive(deadline)
                if answer is None:
                    self._close_predictor()
                    where = f"in the phase {phase!r}" if phase != "start" else "before it began"
                    return known | {"failure": f"took more than {machine.timeout:g} seconds; stopped {where}"}
                if answer.get("request") != self._requests:  # of a copy of the process
                    continue
                if "phase" in answer and answer["phase"] in PREDICTION_PHASES:
                    began = time.monotonic()
                    phase, started = answer["phase"], began if phase == "start" else started
                    continue
                known["memory_mb"] = _number(answer.get("memory_mb"))
                if "failed" in answer:
                    return known | {"failure": str(answer["failed"]) or "the predictor failed"}
                if answer.get("done") is not True:
                    raise InvalidAnswerError
                self._predictor_job = payload
                seal(file)
                return known | {"trained": answer.get("trained") is True, "seconds": time.monotonic() - began}
        except EndedError:
            return known | {"failure": f"its process ended {self._close_predictor()}, in the phase {phase!r}"}
        except (InvalidAnswerError, OSError):
            self._close_predictor()
            return known | {"failure": f"its process broke the protocol, in the phase {phase!r}"}

    def _evaluate(
        self, request: dict[str, Any], row: dict[str, Any], machine: Machine, seconds: float | None, files: list[int]
    ) -> dict[str, Any]:
        """Have a network evaluated, and return its row."""
        phase = "build"
        try:
            if self._evaluator is None:
                self._evaluator = self._server.start("evaluator", machine.memory)
            self._evaluator.send(request, files)
            limit: float | None = STARTUP_SECONDS
            started = time.monotonic()
            while True:
                answer = self._evaluator.receive(None if limit is None else started + limit)
                if answer is None:
                    self._close_evaluator()
                    return failed_row(
                        row, f"took more than {machine.timeout:g} seconds; stopped in the phase {phase!r}"
                    )
                if "error" in answer:
                    raise getattr(errors, answer["type"], errors.DeepNetsError)(answer["error"])
                row = answer["row"]
                if answer.get("done"):
                    return row
                phase, limit, started = "evaluate", seconds, time.monotonic()
        except (EndedError, InvalidAnswerError):
            return failed_row(row, f"the evaluating process ended {self._close_evaluator()}, in the phase {phase!r}")

    def _close_predictor(self) -> str:
        process, self._predictor = self._predictor, None
        self._predictor_job, self._predictor_key = "", None
        return process.close() if process else "since the run was stopped"

    def _close_evaluator(self) -> str:
        process, self._evaluator, self._evaluator_job = self._evaluator, None, ""
        return process.close() if process else "since the run was stopped"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else float("nan")


_workers: dict[int, Worker] = {}
_servers: dict[tuple[int, str], ProcessServer] = {}
_lock = threading.Lock()
_closed = threading.Event()  # prevents threads from starting workers while all are being closed


def evaluate_in_worker(job: EvaluationJob, index: int, machine: Machine) -> dict[str, Any]:
    """Evaluate a network in the worker of the current thread; see `Worker.evaluate`."""
    with _lock:
        if _closed.is_set():
            raise ConfigError("workers: are closed")
        worker = _workers.get(threading.get_ident())
        if worker is None:
            worker = _workers[threading.get_ident()] = Worker(_shared_server(machine), len(_workers))
    return worker.evaluate(job, index, machine)


def _shared_server(machine: Machine) -> ProcessServer:
    key = machine.threads, machine.working_directory
    if key not in _servers:
        _servers[key] = ProcessServer(*key)
    return _servers[key]


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
    if not find_kind(spec)[2].describing_runs_code:
        return describe_predictor(spec)
    with _lock:
        server = _shared_server(machine)
    process = server.start("predictor", machine.memory)
    limit = STARTUP_SECONDS if machine.timeout is None else min(machine.timeout, STARTUP_SECONDS)
    reason = "broke the protocol"
    try:
        process.send({"request": 0, "describe": spec})
        answer = process.receive(time.monotonic() + limit)
        if answer is None:
            reason = f"took more than {limit:g} seconds to import and to create"
        elif "failed" in answer:
            raise ConfigError(str(answer["failed"]))
        else:
            return PredictorInfo.from_dict(answer.get("info"))
    except EndedError:
        reason = f"ended its process {process.close()}"
    except (InvalidAnswerError, TypeError):
        pass
    finally:
        process.close()
    raise ConfigError(f"predictor: {spec}: {reason}")


def allow_workers() -> None:
    """Permit new workers, after `close_workers`."""
    _closed.clear()


def close_workers() -> None:
    """End all workers of this process, and permit no new ones until `allow_workers`."""
    with _lock:
        _closed.set()
        workers = list(_workers.values())
        _workers.clear()
        for worker in workers:
            worker.close()
        while _servers:
            _servers.popitem()[1].close()
