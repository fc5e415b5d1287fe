"""Builds as users run them: processes in separate sessions or on a terminal, which tests can interrupt."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from deepnets.corpus import CorpusFile
from generator import BuildPlan, SplitReport

__all__ = [
    "PATIENCE",
    "ROOT",
    "Corpus",
    "Terminal",
    "build",
    "command",
    "digests",
    "family",
    "members",
    "one_error",
    "running",
    "shards",
    "start",
    "until",
    "without_notices",
    "workers_of",
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0  # seconds; on a busy machine, starting processes can take minutes


class Corpus(NamedTuple):
    """A finished corpus: its folder, its plan, and the report of every split."""

    out: Path
    plan: BuildPlan
    reports: dict[str, SplitReport]

    @property
    def digests(self) -> dict[str, str]:
        """The content digest of every split."""
        return {name: report.content_digest for name, report in self.reports.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """The command-line options for an equal corpus."""
        return {"train_size": self.plan.train_size, "search_size": self.plan.search_size}


def command(out: Path | str, **options: object) -> list[str]:
    """Return the command line of a build; `train_size=3` becomes `--train-size 3`, and `quiet=True` is `--quiet`."""
    words = [sys.executable, "-m", "generator", "build", "--out", str(out)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def build(out: Path | str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a build until it succeeds or fails; that it compiles, at the first time, is left out of its messages."""
    done = subprocess.run(command(out, **options), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    done.stderr = without_notices(done.stderr)
    return done


def without_notices(errors: str) -> str:
    """Return what a program wrote to stderr without the notice that it compiles, which depends on earlier programs."""
    return "".join(line for line in errors.splitlines(keepends=True) if not line.startswith("compiling "))


_PROGRESS = re.compile(r"[a-z ]+: +[0-9]+% \(")
"""Lines about the progress, which builds of more than half a minute print on a busy machine."""


def one_error(status: int, output: str, errors: str) -> str:
    """Return the error message of a failed build; check that it is one line and that the exit status is 1."""
    assert status == 1, (status, output, errors)
    assert output == ""
    (line,) = (line for line in errors.splitlines() if not _PROGRESS.match(line))
    assert line.startswith("error: ")
    return line


@contextlib.contextmanager
def start(
    out: Path | str, *, before: Callable[[], None] | None = None, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """Start a build as the leader of a session; all its processes are killed when the block ends."""
    process = subprocess.Popen(
        command(out, **options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=before,
    )
    try:
        yield process
    finally:
        kill_session(process.pid)
        process.communicate(timeout=PATIENCE)


def kill_session(leader: int) -> None:
    """Kill all processes of a session, as in a power failure."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    for process in members(leader):  # processes in other groups
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for folder in Path("/dev/shm").glob(f"joblib_memmapping_folder_{leader}_*"):  # left by joblib
        with contextlib.suppress(OSError):
            folder.rmdir()


def members(leader: int) -> list[psutil.Process]:
    """Return the running processes of a session."""
    living = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def workers_of(leader: int) -> list[psutil.Process]:
    """Return the loky workers of a session."""
    found = []
    for process in members(leader):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("popen_loky" in word for word in process.cmdline()):
                found.append(process)
    return found


def shards(out: Path | str) -> dict[str, int]:
    """Return the finished shards of a build and their inodes, which differ if a file was written again."""
    return {path.name: path.stat().st_ino for path in Path(out).glob(".partial/*/[!.]*.h5")}


def digests(out: Path | str) -> dict[str, str]:
    """Return the content digests of the files of a corpus."""
    found = {}
    for path in sorted(Path(out).glob("*.h5")):
        with CorpusFile(path) as file:
            found[file.split] = file.content_digest
    return found


def family(pid: int) -> dict[int, psutil.Process]:
    """Return the descendants of a process, in any session."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return {process.pid: process for process in psutil.Process(pid).children(recursive=True)}
    return {}


def running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited for {seconds} s in vain"
        time.sleep(0.01)


class Terminal:
    """A command in the foreground of a pseudo-terminal, where Ctrl-C reaches all its processes."""

    def __init__(self, words: list[str]) -> None:
        self.text = ""
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
            os.chdir(ROOT)
            os.execv(words[0], words)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        kill_session(self.pid)
        os.close(self._master)

    def press(self, keys: bytes) -> None:
        """Send keys to the terminal."""
        os.write(self._master, keys)

    def wait(self) -> int:
        """Read the output to its end; return the exit status as a shell reports it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    data = os.read(self._master, 65_536)
                except OSError:  # the last process of the terminal has ended
                    break
                if not data:
                    break
                self.text += data.decode(errors="replace")
        else:
            raise AssertionError(f"still running after {PATIENCE} s, having said {self.text!r}")
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return status if status >= 0 else 128 - status

    @property
    def lines(self) -> list[str]:
        """Return the final lines on the screen; text after a carriage return overwrites the line."""
        screen = []
        for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.text.replace("^C", "")).replace("\r\n", "\n").split("\n"):
            shown = ""
            for layer in line.split("\r"):
                shown = layer + shown[len(layer) :]
            screen.append(shown.rstrip())
        return [line for line in screen if line]
