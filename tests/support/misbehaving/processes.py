"""Predictors that start, end or change processes."""

from __future__ import annotations

import contextlib
import ctypes
import locale
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.misbehaving import ANY, FOREVER, SAME, expect, good, in_copy, note


@expect(SAME)
def forks_and_returns_twice(model: Any, graph: Any) -> Any:
    values = good(model)
    if pid := os.fork():
        note(pid)
    return values


@expect(SAME)
def leaves_a_child(model: Any, graph: Any) -> Any:
    in_copy(lambda: time.sleep(FOREVER))
    return good(model)


@expect(SAME)
def leaves_a_daemon(model: Any, graph: Any) -> Any:
    def detach() -> None:
        os.setsid()
        in_copy(stubborn)

    def stubborn() -> None:
        os.setsid()
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        time.sleep(FOREVER)

    os.waitpid(in_copy(detach), 0)
    return good(model)


@expect(SAME)
def leaves_a_command(model: Any, graph: Any) -> Any:
    note(subprocess.Popen(["sleep", str(FOREVER)], start_new_session=True, pass_fds=range(3, 5)).pid)
    return good(model)


@expect(SAME)
def leaves_zombies(model: Any, graph: Any) -> Any:
    for _ in range(20):
        in_copy(lambda: None)
    return good(model)


@expect("its process ended")
def outlives_its_guard(model: Any, graph: Any) -> Any:
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # no signal when the parent ends
    note(os.getpid())
    in_copy(lambda: time.sleep(FOREVER))
    os.setsid() if os.getpgrp() != os.getpid() else None
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(FOREVER)


@expect("its process ended")
def kills_its_server(model: Any, graph: Any) -> Any:
    with Path(f"/proc/{os.getppid()}/stat").open() as file:
        server = int(file.read().rpartition(")")[2].split()[1])
    os.kill(server, signal.SIGKILL)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(FOREVER)


@expect("its process ended by SIGKILL")
def kills_its_group(model: Any, graph: Any) -> Any:
    os.killpg(0, signal.SIGKILL)


@expect(SAME)
def kills_the_evaluation_once(model: Any, graph: Any) -> Any:
    """Kill the evaluating process a moment later, when it evaluates this network."""

    def others() -> list[int]:
        with Path(f"/proc/{os.getppid()}/stat").open() as file:
            server = int(file.read().rpartition(")")[2].split()[1])
        with Path(f"/proc/{server}/task/{server}/children").open() as file:
            guards = set(map(int, file.read().split())) - {os.getppid()}
        found = []
        for guard in guards:
            with Path(f"/proc/{guard}/task/{guard}/children").open() as file:
                found += list(map(int, file.read().split()))
        return found

    for pid in others():
        os.kill(pid, signal.SIGKILL)
    return good(model)


@expect("its process ended by SIGSEGV")
def crashes(model: Any, graph: Any) -> Any:
    return ctypes.string_at(0)


@expect("its process ended by SIGABRT")
def aborts(model: Any, graph: Any) -> Any:
    os.abort()


@expect("its process ended with status 0")
def leaves_without_an_error(model: Any, graph: Any) -> Any:
    os._exit(0)


@expect("its process ended with status 0")
def becomes_another_program(model: Any, graph: Any) -> Any:
    os.execv("/bin/true", ["true"])


@expect(SAME)
def sets_an_alarm(model: Any, graph: Any) -> Any:
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    return good(model)


@expect(ANY)
def sets_a_profiling_timer(model: Any, graph: Any) -> Any:
    signal.setitimer(signal.ITIMER_PROF, 0.05)
    return good(model)


@expect(SAME)
def lowers_limits(model: Any, graph: Any) -> Any:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return good(model)


@expect("File too large")
def forbids_files(model: Any, graph: Any) -> Any:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return good(model)


@expect(SAME)
def opens_many_files(model: Any, graph: Any) -> Any:
    kept.append([os.open(os.devnull, os.O_RDONLY) for _ in range(200)])
    return good(model)


kept: list[Any] = []


@expect(SAME)
def changes_the_surroundings(model: Any, graph: Any) -> Any:
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    sys.path.clear()
    sys.argv.clear()
    sys.setrecursionlimit(150)
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "C")
    os.nice(5)
    return good(model)


@expect(SAME)
def shadows_modules(model: Any, graph: Any) -> Any:
    """Files with the names of modules that are imported only later, in any process."""
    for name in ("csv", "timm", "torchvision", "email", "decimal", "sqlite3", "antigravity"):
        with Path(f"{name}.py").open("w") as file:
            file.write("raise SystemExit('a file of a predictor was imported')\n")
    return good(model)


@expect("RecursionError")
def recurses(model: Any, graph: Any) -> Any:
    return recurses(model, graph)


@expect("its process ended by SIG|RecursionError")
def recurses_deeply(model: Any, graph: Any) -> Any:
    sys.setrecursionlimit(10**8)
    repr_of: Any = []
    for _ in range(10**5):
        repr_of = [repr_of]
    return recurses(model, graph) if sys.version_info >= (3, 12) else repr(repr_of)


@expect(SAME)
def prints_megabytes(model: Any, graph: Any) -> Any:
    sys.stdout.write("\x1b[2J\x07 cleared" * 100_000)
    os.write(2, b"\x1b]0;title\x07\xff" * 100_000)
    return good(model)
