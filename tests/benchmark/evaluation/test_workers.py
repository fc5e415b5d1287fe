"""Answers of worker processes: a row counts only if it is one of the network that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.evaluation import FAILED, EvaluationJob, Machine, describe_predictor
from benchmark.evaluation.rows import empty_row
from benchmark.evaluation.workers import Worker


class Told(Worker):
    """A worker whose process answers what the test says."""

    def __init__(self, *lines: str) -> None:
        super().__init__()
        self.closed = False
        self._buffer = "".join(f"{line}\n" for line in lines).encode()

    def _request(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def answered(row: dict[str, Any], **more: Any) -> str:
    import json

    return json.dumps({"row": row, **more})


JOB = EvaluationJob(describe_predictor("random"), "predefined", "digits")


def test_the_row_of_the_network_is_returned() -> None:
    worker = Told(answered(empty_row(3), phase="predict"), answered({**empty_row(3), "top1": 50.0}, done=True))
    row = worker.evaluate(JOB, 3, Machine())
    assert (row["index"], row["top1"], row["status"]) == (3, 50.0, "ok")
    assert not worker.closed


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([answered(empty_row(5), done=True)], "its process answered for network 5 instead of 3, in the phase 'start'"),
        (
            [answered(empty_row(3), phase="predict"), answered({**empty_row(3), "index": "3"}, done=True)],
            "its process answered for network '3' instead of 3, in the phase 'predict'",
        ),
        (
            [answered({"index": 3, "top1": 100.0}, done=True)],
            "its process sent an invalid answer, in the phase 'start'",
        ),
        (['{"row": {"top1": 100}, "done": true}'], "its process sent an invalid answer"),
        (['{"done": true}'], "its process sent an invalid answer"),
        (["[]"], "its process sent an invalid answer"),
        (["not JSON"], "its process sent an invalid answer"),
    ],
)
def test_other_answers_are_failures_of_the_network(lines: list[str], reason: str) -> None:
    """The process is ended, because its next answers cannot be trusted."""
    worker = Told(*lines)
    row = worker.evaluate(JOB, 3, Machine())
    assert (row["index"], row["status"]) == (3, FAILED)
    assert row["reason"].startswith(reason)
    assert worker.closed
