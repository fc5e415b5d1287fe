"""Functions that run in a child process with little memory and time, as a hostile file must leave enough of both."""

from __future__ import annotations

import os
import pickle
import resource
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Outcome", "limited"]


class Outcome(NamedTuple):
    """The type of the exception that a function raised, and its text; "returned" and the type of the result if none."""

    kind: str
    text: str


def limited(function: Callable[[], Any], *, megabytes: int = 600, seconds: int = 10) -> Outcome:
    """Run a function in a forked child, which may take this much more address space, and this much processor time.

    The child takes what the parent has, so that the limit is on what the function adds.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    source, target = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(source)
            resource.setrlimit(resource.RLIMIT_AS, (pages + (megabytes << 20),) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds,) * 2)
            try:
                outcome = "returned", type(function()).__name__
            except Exception as error:
                outcome = type(error).__name__, str(error)
            os.write(target, pickle.dumps(outcome)[:60_000])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(target)
    with os.fdopen(source, "rb") as stream:
        content = stream.read()
    _, status = os.waitpid(child, 0)
    if not content:
        return Outcome("killed", f"status {status}: took more than {seconds} s, or crashed")
    return Outcome(*pickle.loads(content))
