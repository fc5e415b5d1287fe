"""Predictors that exceed limits of time or memory: 15 seconds and 700 MB.  They are expensive to test."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.support.misbehaving import ANY, EXPECTED, FOREVER, expect, good, in_copy, note

TOO_LONG, TOO_MUCH = "took more than 15 seconds", "not enough memory|took more memory than allowed"
_OTHERS = dict(EXPECTED)


@expect(TOO_LONG)
def hangs(model: Any, graph: Any) -> Any:
    while True:
        time.sleep(1)


@expect(TOO_LONG)
def hangs_with_all_signals_ignored(model: Any, graph: Any) -> Any:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(FOREVER)


@expect(TOO_LONG)
def stops_itself(model: Any, graph: Any) -> Any:
    os.kill(os.getpid(), signal.SIGSTOP)


@expect(TOO_LONG)
def stops_its_guard(model: Any, graph: Any) -> Any:
    note(os.getpid())
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(FOREVER)


@expect(TOO_LONG)
def prints_without_end(model: Any, graph: Any) -> Any:
    while True:
        os.write(1, b"\x1b[2Jagain\n")
        sys.stderr.write("and again\n")


@expect(TOO_LONG)
def answers_without_end(model: Any, graph: Any) -> Any:
    """Answers to another request, which are ignored."""
    (channel,) = (int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists() and path.is_socket())
    while True:
        os.write(channel, b'{"request": 0}\n' * 1000)


@expect(TOO_LONG)
def returns_without_end(model: Any, graph: Any) -> Any:
    class Endless(dict[str, Tensor]):
        def items(self) -> Any:
            while True:
                yield next(iter(super().items()))

    return Endless(good(model))


@expect(ANY)
def keeps_the_interpreter_busy(model: Any, graph: Any) -> Any:
    def spin() -> None:
        while True:
            pass

    sys.setswitchinterval(100)
    for _ in range(4):
        threading.Thread(target=spin, daemon=True).start()
    return good(model)


@expect(TOO_MUCH)
def takes_memory(model: Any, graph: Any) -> Any:
    return [torch.ones(25_000_000) for _ in range(40)]


@expect(TOO_MUCH)
def takes_memory_in_children(model: Any, graph: Any) -> Any:
    """Each of them takes less than the limit."""

    def take() -> None:
        taken = bytearray(os.urandom(1)) * 200_000_000
        time.sleep(FOREVER + len(taken))

    for _ in range(5):
        in_copy(take)
    time.sleep(FOREVER)


@expect(TOO_MUCH)
def takes_shared_memory(model: Any, graph: Any) -> Any:
    taken = [mmap.mmap(-1, 100_000_000) for _ in range(12)]
    for part in taken:
        for start in range(0, len(part), 4096):
            part[start] = 1
    time.sleep(FOREVER)


@expect(TOO_MUCH)
def takes_files_in_memory(model: Any, graph: Any) -> Any:
    for _ in range(12):
        file = os.memfd_create("taken")
        for _ in range(100):
            os.write(file, bytes(1_000_000))
    time.sleep(FOREVER)


LIMITS = {spec: outcome for spec, outcome in EXPECTED.items() if spec not in _OTHERS}
for _spec in LIMITS:
    del EXPECTED[_spec]
