"""The process of a predictor: it predicts parameters, and has neither images nor results.

The supervisor (`benchmark.evaluation.workers`) sends requests:

    {"request": 1, "index": 3, "job": "..."} with the descriptor of an empty file; "job" only if it is a new one
    {"request": 1, "describe": "my_module:predict"}

and receives answers:

    {"request": 1, "phase": "predict"} before each phase,
    then {"request": 1, "done": true, "trained": false, "memory_mb": 3.1, "reuse": true}, with the tensors in the file,
    or {"request": 1, "failed": "ValueError: ...", "memory_mb": 3.1, "reuse": true}

"reuse" is false if the predictor has changed something that would affect the next network and cannot be restored.

A predictor is arbitrary code that can send anything, so an answer affects nothing but the row of the network that the
predictor was asked for.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle  # only of jobs that the supervisor has pickled
import resource
import socket
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmark.evaluation.jobs import OpenedPrediction, PredictionJob
from benchmark.evaluation.prediction import Prediction, failure_of, predict_one
from benchmark.evaluation.predictors import describe_predictor
from benchmark.evaluation.requests import receive_requests
from benchmark.evaluation.tensor_exchange import write_parameters

__all__ = ["main"]

_MAX_TEXT = 1000


def main(channel: socket.socket) -> None:
    """Answer requests."""
    process = os.getpid()

    def answer(number: int, **message: Any) -> None:
        if os.getpid() != process:  # a predictor has forked and has returned twice
            os._exit(0)
        channel.sendall(json.dumps({"request": number, **message}).encode() + b"\n")

    def report(number: int, phase: str) -> None:
        answer(number, phase=phase)

    opened: OpenedPrediction | None = None
    for request, descriptors in receive_requests(channel):
        number: int = request["request"]
        try:
            if "describe" in request:
                answer(number, done=True, info=asdict(describe_predictor(request["describe"])))
                continue
            if "job" in request:
                opened = None
                job: PredictionJob = pickle.loads(base64.b64decode(request["job"]))  # noqa: S301
                opened = job.open()
            assert opened is not None  # noqa: S101  the first request has a job
            limits = _hard_limits()
            prediction = _predict(opened, request["index"], partial(report, number))
            known = {"memory_mb": prediction.memory_mb, "reuse": limits == _hard_limits()}
            if not prediction.failure and os.getpid() == process:
                write_parameters(prediction.parameters, *descriptors)
            if prediction.failure:
                answer(number, failed=prediction.failure[:_MAX_TEXT], **known)
            else:
                answer(number, done=True, trained=prediction.trained, **known)
        except Exception as error:
            answer(number, failed=failure_of(error)[:_MAX_TEXT])
        finally:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):  # the predictor has closed it
                    os.close(descriptor)


def _predict(opened: OpenedPrediction, index: int, report: Callable[[str], None]) -> Prediction:
    return predict_one(
        opened.networks,
        index,
        opened.predictor,
        device=opened.device,
        seed=opened.seed,
        vocabulary=opened.vocabulary,
        predict_class_layers=opened.predict_class_layers,
        on_phase=report,
    )


def _hard_limits() -> list[int]:
    """Return the limits that a process can lower but not raise again."""
    kinds = (value for name, value in vars(resource).items() if name.startswith("RLIMIT_"))
    return [resource.getrlimit(kind)[1] for kind in kinds]
