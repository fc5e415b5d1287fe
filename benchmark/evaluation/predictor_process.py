"""The process of a predictor: it predicts parameters, and has neither images nor results.

The supervisor (`benchmark.evaluation.workers`) sends requests:

    {"request": 1, "index": 3, "job": "..."} with the descriptor of an empty file; "job" only if it is a new one
    {"request": 1, "describe": "my_module:predict"}

and receives answers:

    {"request": 1, "phase": "predict"} before each phase,
    then {"request": 1, "done": true, "trained": false, "memory_mb": 3.1}, with the tensors in the file,
    or {"request": 1, "failed": "ValueError: ...", "memory_mb": 3.1}

A predictor is arbitrary code that can send anything, so an answer affects nothing but the row of the network that the
predictor was asked for.
"""

from __future__ import annotations

import base64
import json
import os
import pickle  # only of jobs that the supervisor has pickled
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmark.evaluation.jobs import OpenedPrediction, PredictionJob
from benchmark.evaluation.prediction import failure_of, predict_one
from benchmark.evaluation.predictors import describe_predictor
from benchmark.evaluation.requests import receive_requests
from benchmark.evaluation.tensor_exchange import write_parameters

__all__ = ["main"]

_MAX_TEXT = 1000


def main(channel: socket.socket) -> None:
    """Answer requests."""
    process = os.getpid()

    def answer(**message: Any) -> None:
        if os.getpid() != process:  # a predictor has forked and has returned twice
            os._exit(0)
        channel.sendall(json.dumps(message).encode() + b"\n")

    opened: OpenedPrediction | None = None
    for request, descriptors in receive_requests(channel):
        number = request["request"]
        try:
            if "describe" in request:
                answer(request=number, done=True, info=asdict(describe_predictor(request["describe"])))
                continue
            if "job" in request:
                opened = None
                job: PredictionJob = pickle.loads(base64.b64decode(request["job"]))  # noqa: S301
                opened = job.open()
        except Exception as error:
            answer(request=number, failed=failure_of(error)[:_MAX_TEXT])
            continue
        assert opened is not None  # noqa: S101  the first request has a job
        (file,) = descriptors
        answer(
            request=number, **_predict(opened, request["index"], file, lambda p, n=number: answer(request=n, phase=p))
        )
        os.close(file)


def _predict(opened: OpenedPrediction, index: int, file: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Predict the parameters of a network, write them into a file, and return the answer."""
    prediction = predict_one(
        opened.networks,
        index,
        opened.predictor,
        device=opened.device,
        seed=opened.seed,
        vocabulary=opened.vocabulary,
        on_phase=report,
    )
    answer: dict[str, Any] = {"memory_mb": prediction.memory_mb}
    if prediction.failure:
        return answer | {"failed": prediction.failure[:_MAX_TEXT]}
    try:
        write_parameters(prediction.parameters, file)
    except Exception as error:
        return answer | {"failed": f"parameters: cannot be stored: {failure_of(error)}"[:_MAX_TEXT]}
    return answer | {"done": True, "trained": prediction.trained}
