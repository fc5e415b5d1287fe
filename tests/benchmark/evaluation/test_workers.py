"""Answers of processes: only those to the current request count, and only rows of the network that was asked for."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from typing import Any

import pytest

from benchmark.evaluation import FAILED, EvaluationJob, Machine, close_workers, describe_predictor, workers
from benchmark.evaluation.devices import claim_device
from benchmark.evaluation.processes import EndedError, GuardedProcess
from benchmark.evaluation.rows import empty_row
from benchmark.evaluation.workers import Worker, evaluate_in_worker
from deepnets import ConfigError
from tests.support.processes import until

CLAIM = claim_device(["cpu"], "a run")
JOB = EvaluationJob(describe_predictor("random"), "predefined", "digits")
DIES = None


class ScriptedServer:
    """Starts processes that answer what the test says: of each role, one script after the other."""

    def __init__(self, predictor: list[list[Any]], evaluator: list[list[Any]]) -> None:
        self.scripts = {"predictor": predictor, "evaluator": evaluator}
        self.peers: list[socket.socket] = []

    def start(self, role: str, directory: str, memory: int | None = None) -> GuardedProcess:
        if not self.scripts[role]:
            raise EndedError
        (control, guard), (channel, process) = socket.socketpair(), socket.socketpair()
        answers = self.scripts[role].pop(0)
        guard.sendall(json.dumps({"code": 3, "reason": ""}).encode())
        for answer in answers:
            if answer is DIES:
                process.shutdown(socket.SHUT_WR)
            else:
                process.sendall((answer if isinstance(answer, str) else json.dumps(answer)).encode() + b"\n")
        self.peers += [guard, process]
        return GuardedProcess(control, channel, guard=2**31 - 1)


def predicted(request: int = 1, **more: Any) -> list[dict[str, Any]]:
    phases = [{"request": request, "phase": phase} for phase in ("graph", "build", "predict", "store")]
    return [*phases, {"request": request, "done": True, "trained": False, "memory_mb": 1.0, "reuse": True, **more}]


def evaluated(index: int = 3, top1: float = 50.0) -> list[dict[str, Any]]:
    return [{"row": empty_row(index)}, {"row": {**empty_row(index), "top1": top1}, "done": True}]


def rows_of(
    predictor: list[list[Any]], evaluator: list[list[Any]], machine: Machine | None = None
) -> list[dict[str, Any]]:
    """Evaluate network 3, and then network 4 if there are answers for it."""
    server = ScriptedServer(predictor, evaluator)
    worker = Worker(server, CLAIM)  # type: ignore[arg-type]
    text = json.dumps(evaluator)
    rows = [worker.evaluate(JOB, 3, machine or Machine())]
    if '"index": 4' in text:
        rows.append(worker.evaluate(JOB, 4, machine or Machine()))
    worker.close()
    return rows


def test_the_row_of_the_network_is_returned() -> None:
    (row,) = rows_of([predicted()], [evaluated()])
    assert (row["index"], row["top1"], row["status"]) == (3, 50.0, "ok")


def test_answers_to_other_requests_are_ignored() -> None:
    """Those of a process that has forked and returned twice."""
    late = {"request": 1, "failed": "late"}
    rows = rows_of(
        [[{"request": 7, "done": True}, *predicted(), late, *predicted(2)]], [[*evaluated(), *evaluated(4, 25.0)]]
    )
    assert [(row["index"], row["top1"], row["status"]) for row in rows] == [(3, 50.0, "ok"), (4, 25.0, "ok")]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (["not JSON"], "its process sent an invalid answer, in the phase 'start'"),
        (["[]"], "its process sent an invalid answer, in the phase 'start'"),
        (["[" * 50_000], "its process sent an invalid answer, in the phase 'start'"),
        (["x" * 100_000], "its process sent an invalid answer, in the phase 'start'"),
        ([{"request": 1}], "its process sent an invalid answer, in the phase 'start'"),
        ([{"request": 1, "done": True}], "its process sent an invalid answer, in the phase 'start'"),
        ([*predicted()[:4], {"request": 1, "done": 1}], "its process sent an invalid answer, in the phase 'store'"),
        ([*predicted()[:3], predicted()[-1]], "its process sent an invalid answer, in the phase 'predict'"),
        ([{"request": 1, "row": {"top1": 100.0}, "done": True}], "its process sent an invalid answer"),
        ([*predicted()[:2], DIES], "its process ended with status 3, in the phase 'build'"),
        ([{"request": 1, "failed": ""}], "the predictor failed"),
        ([{"request": 1, "failed": ["a", 1]}], "['a', 1]"),
    ],
)
def test_other_answers_of_a_predictor_are_failures(answers: list[Any], reason: str) -> None:
    """The evaluating process is told the reason, and returns the row."""
    told: dict[str, Any] = {}

    class Listening(ScriptedServer):
        def start(self, role: str, directory: str, memory: int | None = None) -> GuardedProcess:
            process = super().start(role, directory, memory)
            if role == "evaluator":
                send = process.send
                process.send = lambda request, files=(): (told.update(request, files=files), send(request, files))  # type: ignore[assignment,func-returns-value]
            return process

    worker = Worker(Listening([answers], [evaluated()]), CLAIM)  # type: ignore[arg-type]
    worker.evaluate(JOB, 3, Machine())
    worker.close()
    assert told["failure"].startswith(reason)
    assert (told["index"], told["trained"], told["files"]) == (3, False, [])
    assert math.isnan(told["seconds"])


@pytest.mark.parametrize(
    "answers",
    [
        [{"row": empty_row(5), "done": True}],
        [{"row": empty_row(3)}, {"row": {**empty_row(3), "index": "3"}, "done": True}],
        [{"row": {"index": 3, "top1": 100.0}, "done": True}],
        [{"row": [], "done": True}],
        [{"done": True}],
        ["not JSON"],
        [DIES],
    ],
)
def test_an_evaluating_process_is_replaced_once(answers: list[Any]) -> None:
    (row,) = rows_of([predicted()], [answers, evaluated()])
    assert (row["index"], row["top1"], row["status"]) == (3, 50.0, "ok")
    (row,) = rows_of([predicted()], [answers, answers])
    assert (row["index"], row["status"]) == (3, FAILED)
    assert row["reason"].startswith("the evaluating process ended with status 3, in the phase")


def test_a_process_that_was_used_before_is_replaced_if_it_dies() -> None:
    """The predictor may have set an alarm in an earlier network."""
    rows = rows_of([[*predicted(), DIES], predicted(3)], [[*evaluated(), *evaluated(4, 25.0)]])
    assert [(row["index"], row["top1"], row["status"]) for row in rows] == [(3, 50.0, "ok"), (4, 25.0, "ok")]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_process_is_replaced_if_asked_for(fresh: bool) -> None:
    """By `Machine.fresh`, or by the process itself."""
    first = predicted() if fresh else predicted(reuse=False)
    rows = rows_of([first, predicted(2)], [[*evaluated(), *evaluated(4)]], Machine(fresh=fresh))
    assert [row["index"] for row in rows] == [3, 4]


def test_answers_without_end_exceed_the_time_limit() -> None:
    server = ScriptedServer([[*predicted()[:3]]], [evaluated()])
    worker = Worker(server, CLAIM)  # type: ignore[arg-type]
    process = worker._predictor.started(server, ".", None)  # type: ignore[arg-type]
    process._buffer = b'{"request": 0}\n' * 3_000_000
    started = time.monotonic()
    row = worker.evaluate(JOB, 3, Machine(timeout=0.5))
    worker.close()
    assert row["index"] == 3
    assert time.monotonic() - started < 60


# --- workers of runs ---


class FakeWorker:
    """Takes as many seconds for a network as its index."""

    made: list[FakeWorker]
    closed = False

    def __init__(self, server: Any, claim: Any) -> None:
        self.made.append(self)
        self.claim = claim

    def evaluate(self, job: Any, index: float, machine: Machine) -> dict[str, Any]:
        time.sleep(index)
        return {"closed": self.closed}

    def close(self) -> None:
        self.closed = True
        self.claim.release()


class FakeServer:
    made: list[FakeServer]
    closed = False

    def __init__(self, *_: Any) -> None:
        self.made.append(self)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeWorker]:
    monkeypatch.setattr(FakeWorker, "made", [], raising=False)
    monkeypatch.setattr(FakeServer, "made", [], raising=False)
    monkeypatch.setattr(workers, "Worker", FakeWorker)
    monkeypatch.setattr(workers, "ProcessServer", FakeServer)
    monkeypatch.setattr(workers, "_servers", {})
    monkeypatch.setattr(workers, "_kept", 0)  # other tests keep their processes
    return FakeWorker.made


def test_idle_workers_end(made: list[FakeWorker]) -> None:
    """After the time without networks, with the process server; they are started again for another network."""
    machine = Machine(session="idle")
    for number in (1, 2):
        assert evaluate_in_worker(JOB, 0, machine, idle_seconds=0.05) == {"closed": False}
        until(lambda: FakeServer.made[-1].closed, seconds=60)
        assert [worker.closed for worker in made] == [True] * number
        assert len(FakeServer.made) == number
    assert not workers._timers
    assert not workers._busy
    assert "idle" not in workers._workers


def test_busy_workers_do_not_end(made: list[FakeWorker]) -> None:
    """Not even if another thread of the run has nothing to do."""
    machine = Machine(session="busy")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(evaluate_in_worker(JOB, 1, machine, idle_seconds=0.05)))  # type: ignore[arg-type]
    thread.start()
    until(lambda: made, seconds=60)
    for _ in range(10):
        evaluate_in_worker(JOB, 0.02, machine, idle_seconds=0.05)  # type: ignore[arg-type]
    time.sleep(0.2)
    thread.join()
    assert found == [{"closed": False}]
    until(lambda: all(worker.closed for worker in made), seconds=60)
    assert len(made) == 2


def test_workers_stay_by_default(made: list[FakeWorker]) -> None:
    machine = Machine(session="stays")
    evaluate_in_worker(JOB, 0, machine)
    assert not workers._timers
    close_workers("stays")
    assert [worker.closed for worker in made] == [True]
    with pytest.raises(ConfigError, match="workers: are closed"):
        evaluate_in_worker(JOB, 0, machine, idle_seconds=0.05)
