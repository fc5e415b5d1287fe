"""A worker process, which evaluates networks for the process that started it.

It is started as `python -m benchmark.evaluation.worker_process`.

Predictors are anybody's code: they can hang, take all memory, or end their process.  Requests and answers are lines of
JSON; a request says what to evaluate (`task`, if it is not the one before) and which network, answers are phases, then
a row or what is wrong with the task.  What a predictor prints goes to stderr.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle  # of what the process that started this one has made itself
import queue
import re
import sys
import threading
import traceback
from pathlib import Path
from typing import IO, Any

__all__ = ["main", "open_task"]


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")

    sys.path.insert(0, str(Path.cwd()))
    try:
        _serve(requests, answer)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # to end in an orderly way would mean to wait for the thread that waits for requests


def _listen(lines: IO[str], requests: queue.Queue[str]) -> None:
    """Take requests; when there will be none any more, end the process, whatever it is doing."""
    for line in lines:
        requests.put(line)
    os._exit(0)


def _serve(requests: queue.Queue[str], answer: Any) -> None:
    import torch

    from benchmark.evaluation.rows import evaluate_one
    from deepnets.support import errors

    task: dict[str, Any] = {}
    opened: Any = None
    while True:
        request = json.loads(requests.get())
        try:
            if request.get("task"):
                task, opened = request["task"], None
                torch.set_num_threads(task["threads"])
                _limit_memory(task["memory"])
            if opened is None:
                opened = open_task(task)
            networks, predictor, images = opened
            row = evaluate_one(
                networks,
                request["index"],
                predictor,
                images,
                batch_size=task["batch_size"],
                seed=task["seed"],
                phase_begins=lambda phase, row: answer(phase=phase, row=row),
            )
            answer(row=row, done=True)
        except errors.DeepNetsError as error:  # about the task, not about a network
            answer(error=str(error), type=type(error).__name__, done=True)


def open_task(task: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Networks, predictor and images of a task.

    Parameters
    ----------
    task
        `networks`, `data`, `limit` and `predictor` as texts, or `predictor_pickled`; `images`, `part`, `image_root` and
        `noise`, or `images_pickled`; `device`, `seed`.
    """
    from benchmark.evaluation.networks import open_networks
    from benchmark.evaluation.predictors import open_predictor
    from deepnets.data import open_images

    if pickled := task.get("images_pickled"):
        images = _unpickled(pickled)
    else:
        images = open_images(
            task["images"], task["part"], root=task["image_root"], device=task["device"], noise=task["noise"]
        )
    networks = open_networks(
        task["networks"],
        data=task["data"],
        num_classes=images.num_classes,
        image_size=images.image_size,
        limit=task["limit"],
    )
    if pickled := task.get("predictor_pickled"):
        predictor = _unpickled(pickled)
    else:
        predictor = open_predictor(
            task["predictor"],
            networks,
            images,
            image_root=task["image_root"],
            device=task["device"],
            seed=task["seed"],
        )
    return networks, predictor, images


def _unpickled(text: str) -> Any:
    return pickle.loads(base64.b64decode(text))  # noqa: S301


def _limit_memory(limit: int | None) -> None:
    """Let this process take so many bytes more than it has, so that the machine keeps some."""
    if limit is None or sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            most = resource.getrlimit(resource.RLIMIT_DATA)[1]
            wanted = int(found[1]) * 1024 + limit
            resource.setrlimit(resource.RLIMIT_DATA, (wanted if most < 0 else min(wanted, most), most))


if __name__ == "__main__":
    main()
