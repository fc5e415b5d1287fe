"""Programs whose output is closed or full, or that print texts of untrusted files."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from deepnets.support import in_one_line, printable

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import os, sys
from deepnets.support import DeepNetsError, run
def command(arguments):
    {body}
run(command)
"""


def started(
    body: str, *, before: Callable[[], None] | None = None, stdout: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line whose `command` has this body."""
    words = [sys.executable, "-c", PROGRAM.format(body=body)]
    with open(stdout or os.devnull, "w") as file:  # noqa: PTH123
        return subprocess.run(
            words,
            cwd=ROOT,
            stdout=file if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            preexec_fn=before,
        )


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_streams_do_not_become_files(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """The next file that is opened would be the output, and what libraries print would be written to it."""
    body = (
        f"file = open({str(tmp_path / 'file')!r}, 'w'); assert file.fileno() > 2; file.write('content'); "
        "print('text'); print('note', file=sys.stderr); os.write(1, b'raw'); os.write(2, b'raw'); sys.stdin.read()"
    )
    done = started(body, before=lambda: [os.close(number) for number in closed] and None)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "content"
    if 1 not in closed:
        assert "text" in done.stdout
    if 2 not in closed:
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("body", ["print('text')", "print('text' * 100_000)", "print('text', flush=True)"])
def test_a_full_disk_under_the_output(body: str) -> None:
    done = started(body, stdout="/dev/full")
    assert done.returncode == 1
    assert done.stderr == "error: cannot write or allocate: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_a_file() -> None:
    done = started("file = open('/dev/full', 'w'); file.write('text'); file.flush()")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "error: cannot write or allocate: No space left on device"
    assert "Traceback" not in done.stderr.split("Exception ignored")[0]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "FileNotFoundError(2, 'No such file or directory', 'a\\x1b[31mfile')",
            "a\\x1b[31mfile: No such file or directory",
        ),
        ("DeepNetsError('two\\x07 and \\x1b]0;title\\x07 and \\x9b2J')", "two\\x07 and \\x1b]0;title\\x07 and \\x9b2J"),
        ("DeepNetsError('a name \\udcff of bytes')", "a name \\udcff of bytes"),
        ("MemoryError()", "there is not enough memory"),
        ("OSError(24, 'Too many open files')", "cannot write or allocate: Too many open files"),
        ("OSError(5, 'Input/output error')", "cannot write or allocate: Input/output error"),
    ],
)
def test_errors_are_one_line_without_control_characters(error: str, line: str) -> None:
    done = started(f"raise {error}")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {line}\n")


@pytest.mark.parametrize("error", ["ValueError('a bug')", "OSError(22, 'Invalid argument')", "KeyError(3)"])
def test_bugs_keep_their_traceback(error: str) -> None:
    done = started(f"raise {error}")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_libraries_can_reset_colours() -> None:
    """Ray's packages do this when the process ends."""
    assert started("sys.stdout.write('\\x1b[0m')").stdout == "\x1b[0m"


def test_texts_of_files_do_not_control_the_terminal() -> None:
    done = started("print('a\\x1b[2J', 'b\\tc\\n', '\\u202etxt', '\\x00', 'ä\\r')")
    assert done.stdout == "a\\x1b[2J b\tc\n \\u202etxt \\x00 ä\\r\n"
    everything = "".join(map(chr, range(0x3000)))
    assert {char for char in printable(everything) if unicodedata.category(char) == "Cc"} == {"\n", "\t"}
    assert printable("Σ ± µ – plain\n\ttext") == "Σ ± µ – plain\n\ttext"
    assert in_one_line(ValueError("a\nb")) == "ValueError: a b"
