"""The process that evaluates networks: it has the images, and never runs code of a predictor.

The supervisor (`benchmark.evaluation.workers`) sends requests:

    {"index": 3, "trained": false, "seconds": 0.1, "memory_mb": 3.1, "failure": "", "job": "...", "device": "cpu"}

with the descriptor of a file of parameters unless there is a failure; "job" and "device" only if the job is a new one.
It receives answers:

    {"row": {...}} before the network is evaluated, then {"row": {...}, "done": true},
    or {"error": "...", "type": "ConfigError"}, for an error that concerns all networks
"""

from __future__ import annotations

import base64
import json
import os
import pickle  # only of jobs that the supervisor has pickled; they hold no predictor
import socket
from typing import Any

from torch import nn

from benchmark.evaluation.jobs import EvaluationJob
from benchmark.evaluation.prediction import Prediction
from benchmark.evaluation.requests import receive_requests
from benchmark.evaluation.rows import evaluate_prediction
from benchmark.evaluation.tensor_exchange import read_parameters
from deepnets.support import DeepNetsError

__all__ = ["main"]


def main(channel: socket.socket) -> None:
    """Answer requests."""

    def answer(**message: Any) -> None:
        channel.sendall(json.dumps(message).encode() + b"\n")

    job: Any = None
    networks: Any = None
    images: Any = None
    for request, descriptors in receive_requests(channel):

        def read(model: nn.Module, request: Any = request, descriptors: Any = descriptors) -> Prediction:
            known = {name: request[name] for name in ("trained", "failure", "seconds", "memory_mb")}
            return Prediction(read_parameters(descriptors[0], model) if descriptors else {}, **known)

        try:
            if "job" in request:
                job = None
                job = pickle.loads(base64.b64decode(request["job"]))  # noqa: S301
                images = job.open_images(request["device"])
                networks = job.open_networks(images)
            assert isinstance(job, EvaluationJob)  # noqa: S101
            row = evaluate_prediction(
                networks,
                request["index"],
                read,
                images,
                batch_size=job.batch_size,
                seed=job.seed,
                metrics=job.metrics,
                vocabulary=job.graph_vocabulary,
                on_evaluate=lambda row: answer(row=row),
                task=job.task,
            )
            answer(row=row, done=True)
        except DeepNetsError as error:  # an error of the job, which concerns all of its networks
            answer(error=str(error), type=type(error).__name__)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
