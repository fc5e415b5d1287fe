"""Deprecated names of options."""

from __future__ import annotations

import argparse
import errno
import os
import sys

import pytest

from deepnets.support import ConfigError, Parser, command_line, deprecated_option, non_negative, positive


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="tool")
    parser.add_argument("--workers", type=positive, required=True)
    parser.add_argument("--resume", action="store_true")
    deprecated_option(parser, "--jobs", "--workers")
    deprecated_option(parser.add_argument_group("more"), "--continue", "--resume")
    return parser


def test_an_old_name_acts_as_the_new_one_and_prints_one_line(
    parser: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    options = parser.parse_args(["--jobs", "3", "--continue"])
    assert vars(options) == {"workers": 3, "resume": True}
    assert capsys.readouterr() == (
        "",
        "tool: --jobs is deprecated; use --workers\ntool: --continue is deprecated; use --resume\n",
    )
    assert "--jobs" not in parser.format_help()


def test_the_new_name_prints_nothing_and_is_still_required(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    assert vars(parser.parse_args(["--workers", "3"])) == {"workers": 3, "resume": False}
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "required: --workers" in capsys.readouterr().err


def test_an_old_name_checks_its_value(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--jobs", "0"])
    assert "argument --jobs: expected an integer, 1 or more, got '0'" in capsys.readouterr().err


SHARED = "/dev/shm: is missing or not writable, and processes share memory there "


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm is a folder of Linux")
@pytest.mark.parametrize(
    ("error", "writable", "reason"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file"),
            False,
            SHARED + "(FileNotFoundError: [Errno 2] No such file)",
        ),
        (OSError(errno.ENOSPC, "No space"), False, SHARED + "(OSError: [Errno 28] No space)"),
        (RuntimeError("unable to\nopen"), False, SHARED + "(RuntimeError: unable to open)"),
        (OSError(errno.ENOENT, "No such file", "data"), False, "data: No such file"),  # has a reason of its own
        (ConfigError("workers: too many"), False, "workers: too many"),
        (MemoryError(), False, "there is not enough memory"),
        (ValueError("a bug"), False, None),
        (FileNotFoundError(errno.ENOENT, "No such file"), True, None),
        (RuntimeError("a bug"), True, None),
        (OSError(errno.ENOSPC, "No space"), True, "cannot write or allocate: No space"),
    ],
)
def test_missing_shared_memory_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, error: Exception, writable: bool, reason: str | None
) -> None:
    """Only of errors of the system and of its libraries, which do not say it."""
    monkeypatch.setattr(os, "access", lambda path, mode: (str(path), mode) != ("/dev/shm", os.W_OK) or writable)
    assert command_line._reason(error) == reason


@pytest.mark.parametrize(("text", "value"), [("1,000,000", 1_000_000), ("1_000", 1000), ("12", 12), ("0", 0)])
def test_integers_with_separators(text: str, value: int) -> None:
    assert non_negative(text) == value


@pytest.mark.parametrize("text", ["1,5", "1,0000", ",1", "1,", "1,000_0,0", "-1", "1.0", ""])
def test_lists_are_no_integers(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected an integer, 0 or more"):
        non_negative(text)
