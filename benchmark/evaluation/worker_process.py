"""A worker process, started as `python -m benchmark.evaluation.worker_process`.

It evaluates networks for the process that started it.  Requests arrive on stdin, answers leave on stdout; both are
lines of JSON.

    request   {"index": 3}, with "job", "device", "threads" and "memory" when the job changes
    answers   {"phase": "predict", "row": {...}} before each phase,
              then {"row": {...}, "done": true}, or {"error": "...", "type": "ConfigError", "done": true}

A predictor is arbitrary code, so everything that it prints goes to stderr, and the process ends when stdin is closed,
whatever it is doing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle  # only of jobs that the process that started this one has pickled
import queue
import re
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

__all__ = ["main"]


def main() -> None:
    """Answer requests until stdin is closed."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_receive, args=(sys.stdin, requests), daemon=True).start()

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    sys.path.insert(0, str(Path.cwd()))
    try:
        _serve(requests, answer)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # a regular exit would wait for the thread that reads stdin


def _receive(lines: IO[str], requests: queue.Queue[str]) -> None:
    """Queue requests; end the process when stdin is closed."""
    for line in lines:
        requests.put(line)
    os._exit(0)


def _serve(requests: queue.Queue[str], answer: Callable[..., None]) -> None:
    import torch

    from benchmark.evaluation.rows import evaluate_one
    from deepnets.support import DeepNetsError

    job: Any = None
    opened: Any = None
    device: str | None = None
    while True:
        request = json.loads(requests.get())
        try:
            if "job" in request:
                torch.set_num_threads(request["threads"])
                _limit_memory(request["memory"])
                job, opened, device = None, None, request["device"]
                job = pickle.loads(base64.b64decode(request["job"]))  # noqa: S301
            opened = opened or job.open(device)
            row = evaluate_one(
                opened.networks,
                request["index"],
                opened.predictor,
                opened.images,
                batch_size=job.batch_size,
                seed=job.seed,
                metrics=job.metrics,
                vocabulary=job.vocabulary,
                on_phase=lambda phase, row: answer(phase=phase, row=row),
            )
            answer(row=row, done=True)
        except DeepNetsError as error:  # an error of the job, which concerns all of its networks
            answer(error=str(error), type=type(error).__name__, done=True)


def _limit_memory(limit: int | None) -> None:
    """Limit the memory that this process can allocate in addition to what it has; on Linux only."""
    if limit is None or sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            soft = int(found[1]) * 1024 + limit
            resource.setrlimit(resource.RLIMIT_DATA, (soft if hard < 0 else min(soft, hard), hard))


if __name__ == "__main__":
    main()
