"""The process server, which `benchmark.evaluation.processes.ProcessServer` starts, forks prepared processes.

Importing PyTorch takes seconds, a fork takes milliseconds.  The server imports everything once and never runs code of
a predictor, so every process starts from the same clean state.

Requests arrive on a socket as JSON, each with the file descriptors of two sockets:

    {"role": "predictor", "directory": "/home/me", "path": ["/usr/lib/python3"], "environment": {"LANG": "C"},
     "scratch": "/tmp/x", "threads": 1, "memory": null}, control, channel

Between the server and a process is a guard (`benchmark.evaluation.guard`):

    supervisor ── control ── guard
        │                      │
        └────── channel ── process (`predictor_process` or `evaluator_process`)
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import select
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmark.evaluation.guard import SECONDS_TO_END, guard_process
from benchmark.evaluation.operating_system import adopt_orphans, children, kill, limit_memory
from deepnets.support import NOTICES

__all__ = ["main"]

ROLES = {
    "predictor": "benchmark.evaluation.predictor_process",
    "evaluator": "benchmark.evaluation.evaluator_process",
}
"""Modules whose function `main` runs in a process."""

MESSAGE_BYTES = 1 << 16
POLL_SECONDS = 1.0


def main(descriptor: int, scratch: str, level: int = logging.WARNING) -> None:
    """Fork processes until the supervisor closes its end of the socket, or is killed; then end all of them.

    Parameters
    ----------
    descriptor
        File descriptor of the socket.
    scratch
        Folder of temporary files of the processes, which is removed at the end.
    level
        Least level of notices that are printed, such as that numeric code is being compiled.
    """
    server = socket.socket(fileno=descriptor)
    for module in ROLES.values():
        importlib.import_module(module)
    with _printed_notices(level):
        _load_everything()
    adopt_orphans()
    guards: set[int] = set()
    while True:
        _end_orphans(guards)
        if not select.select([server], [], [], POLL_SECONDS)[0]:
            continue
        message, descriptors, _, _ = socket.recv_fds(server, MESSAGE_BYTES, 2)
        if not message:
            break
        control, channel = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        pid = os.fork()
        if not pid:
            server.close()
            request = json.loads(message)
            _run_and_exit(guard_process, request, control, channel, partial(_run_and_exit, _play, request, channel))
        guards.add(pid)
        control.close()
        channel.close()
        server.sendall(f"{pid}\n".encode())
    until = time.monotonic() + SECONDS_TO_END
    while guards and time.monotonic() < until:  # guards end by themselves: the supervisor has closed their sockets
        _end_orphans(guards)
        time.sleep(0.01)
    for guard in guards:
        kill(guard)
    _end_orphans(guards)
    shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _printed_notices(level: int) -> Iterator[None]:
    """Print notices on stderr; the processes that are forked afterwards are not affected."""
    logger, handler = logging.getLogger(NOTICES), logging.StreamHandler()
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def _load_everything() -> None:
    """Load what takes seconds at its first use, so that it does not take seconds in every process."""
    import safetensors.torch  # noqa: F401
    import torch

    from deepnets import GENOTYPES, NetworkConfig, build_graph

    graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=2))
    graph.distances()
    assert graph.parameters  # noqa: S101  computed at the first use
    torch.empty(1, device="meta").normal_()  # imports hundreds of modules of PyTorch


def _end_orphans(guards: set[int]) -> None:
    """Forget guards that have ended, and kill processes that a predictor has left behind after it killed its guard."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitpid(-1, os.WNOHANG)[0]:
            guards.discard(ended)
    for orphan in set(children(os.getpid())) - guards:
        kill(orphan)


def _play(request: dict[str, Any], channel: socket.socket) -> None:
    """Run a role in a process of its own."""
    import torch

    directory, path = request["directory"], request["path"]
    os.chdir(directory)
    # The modules of a predictor come first, as usual.  In other processes they come last.
    sys.path[:] = [directory, *path] if request["role"] == "predictor" else [*path, directory]
    importlib.invalidate_caches()  # folders can be newer than the server
    for name, value in request["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    torch.set_num_threads(request["threads"])
    limit_memory(request["memory"])
    importlib.import_module(ROLES[request["role"]]).main(channel)


def _run_and_exit(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function, and end the process without the clean-up that belongs to the server."""
    code = 1
    try:
        function(*arguments)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)
