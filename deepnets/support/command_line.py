"""Argument parsing and error reporting of the command lines.

Errors about the input are printed in one line, Ctrl-C ends a program with exit status 130, and old names of options
are accepted with a deprecation note.
"""

from __future__ import annotations

import argparse
import errno
import logging
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from deepnets.support.errors import DeepNetsError, in_one_line, printable
from deepnets.support.help_text import HelpFormatter
from deepnets.support.standard_streams import discard, flush, open_standard_streams

__all__ = [
    "Parser",
    "deprecated_option",
    "non_negative",
    "number",
    "output_path",
    "positive",
    "positive_number",
    "run",
    "seed",
]


GRACE = 5.0
"""Seconds for cleaning up after Ctrl-C, during which further signals are ignored."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line.

    Parameters are those of `argparse.ArgumentParser`; the formatter of help texts is `HelpFormatter`.

    Examples
    --------
    >>> parser = Parser(prog="tool")
    >>> _ = parser.add_argument("--workers", type=positive, default=1)
    >>> parser.parse_args(["--workers", "2"])
    Namespace(workers=2)
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **{"formatter_class": HelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        """Print the error and how to get help, and exit with status 2.

        Parameters
        ----------
        message
            Description of the error; line breaks become spaces.
        """
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


class _DeprecatedOption(argparse.Action):
    """An alias that prints a note and otherwise acts as another option."""

    def __init__(self, option_strings: Sequence[str], dest: str, replacement: argparse.Action, new: str) -> None:
        super().__init__(
            option_strings,
            dest,
            nargs=replacement.nargs,
            const=replacement.const,
            default=argparse.SUPPRESS,
            type=replacement.type,  # type: ignore[arg-type]
            choices=replacement.choices,
            help=argparse.SUPPRESS,
            metavar=replacement.metavar,
        )
        self.replacement = replacement
        self.new = new

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        print(f"{parser.prog}: {self.option_strings[0]} is deprecated; use {self.new}", file=sys.stderr)
        self.replacement(parser, namespace, values, self.new)
        self.replacement.required = False  # it was given under its old name


def deprecated_option(parser: Any, old: str, new: str) -> None:
    """Accept the old name of an option, with a deprecation note on stderr.

    Parameters
    ----------
    parser
        A parser, or an argument group of one, that has the option `new`.
    old
        The old name, such as `"--jobs"`.  It is not listed in the help text.
    new
        The name of the existing option, such as `"--workers"`.

    Raises
    ------
    KeyError
        If the parser has no option `new`.

    Examples
    --------
    >>> parser = Parser(prog="tool")
    >>> _ = parser.add_argument("--workers", type=positive, default=1)
    >>> deprecated_option(parser, "--jobs", "--workers")
    >>> parser.parse_args(["--jobs", "2"])
    Namespace(workers=2)
    """
    replacement = parser._option_string_actions[new]
    parser.add_argument(old, dest=replacement.dest, action=_DeprecatedOption, replacement=replacement, new=new)


def positive(text: str) -> int:
    """Parse an integer of 1 or more; underscores and commas may separate its digits.

    Parameters
    ----------
    text
        The value of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        For any other text.

    Examples
    --------
    >>> positive("10,000")
    10000
    """
    return _integer(text, least=1)


def non_negative(text: str) -> int:
    """Parse an integer of 0 or more; underscores and commas may separate its digits.

    Parameters
    ----------
    text
        The value of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        For any other text.

    Examples
    --------
    >>> non_negative("0")
    0
    """
    return _integer(text, least=0)


def number(text: str) -> float:
    """Parse a finite number of 0 or more.

    Parameters
    ----------
    text
        The value of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        For any other text.

    Examples
    --------
    >>> number("1e-3")
    0.001
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number, 0 or more, got {text!r}")
    return value


def positive_number(text: str) -> float:
    """Parse a finite number above 0.

    Parameters
    ----------
    text
        The value of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        For any other text.

    Examples
    --------
    >>> positive_number("0.5")
    0.5
    """
    value = number(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def output_path(text: str) -> Path:
    """Parse the path of a file or folder to write to.

    Parameters
    ----------
    text
        The value of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is empty; the current folder is ``.``.

    Examples
    --------
    >>> output_path("results").name
    'results'
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(
            "expected the name of a file or folder, got an empty text; . is the current folder"
        )
    return Path(text)


def seed(text: str) -> int:
    """Parse a seed of random numbers: an integer from 0 to 2**63 - 1.

    Parameters
    ----------
    text
        The value of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        For any other text.

    Examples
    --------
    >>> seed("1111")
    1111
    """
    value = non_negative(text)
    if value >= 2**63:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2**63 - 1, got {text!r}")
    return value


_GROUPED = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")


def _integer(text: str, least: int) -> int:
    plain = text.replace(",", "") if _GROUPED.fullmatch(text) else text
    try:
        value = int(plain)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected an integer, {least} or more, got {text!r}")
    return value


def run(command: Callable[[Sequence[str]], None], after_interrupt: str = "") -> NoReturn:
    """Run a command line and end the process.

    The exit status is 0 after success, 1 after an error about the input, which is printed in one line, and 130 after
    Ctrl-C or SIGTERM.  Other exceptions are raised: they are bugs, and their traceback is needed.

    Parameters
    ----------
    command
        Called with the arguments of the process, without the program name.
    after_interrupt
        Message to print after Ctrl-C, for example how to resume.

    Examples
    --------
    The last lines of a `__main__.py`:

        if __name__ == "__main__":
            run(main, after_interrupt="run the same command again to resume")
    """
    open_standard_streams()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    interrupt = _Interrupt()
    sys.unraisablehook = interrupt.was_lost
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        command(sys.argv[1:])
        sys.stdout.flush()
        status = 0
    except BaseException as error:
        if interrupt.came:  # the exception may have been converted to another one
            start = "\r" if sys.stderr.isatty() else ""  # overwrites the ^C that the terminal shows
            print(f"{start}interrupted{after_interrupt and '; '}{after_interrupt}", file=sys.stderr)
            status = 130
            _leave_within_grace()
        elif isinstance(error, BrokenPipeError) and error.filename is None:  # the reader of the output has ended
            discard(sys.stdout)
            status = 0
        elif (reason := _reason(error)) is not None:
            print(f"error: {printable(reason)}", file=sys.stderr)
            status = 1
        else:
            raise
    flush(sys.stdout)
    sys.exit(status)


def _reason(error: BaseException) -> str | None:
    """Return the message for an error about the input or the machine; None for a bug."""
    if isinstance(error, DeepNetsError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    shared = Path("/dev/shm")  # noqa: S108
    if isinstance(error, OSError | RuntimeError) and sys.platform == "linux" and not os.access(shared, os.W_OK):
        return f"{shared}: is missing or not writable, and processes share memory there ({in_one_line(error, 200)})"
    if isinstance(error, OSError) and error.errno in _MACHINE:  # of a file that is open already, or of the output
        return f"cannot write or allocate: {error.strerror}"
    return None


_MACHINE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN")
    if hasattr(errno, name)
}


class _Interrupt:
    """A signal handler that interrupts the program once, so that a second Ctrl-C does not interrupt the cleanup.

    A signal that comes after `GRACE` seconds ends the process at once.
    """

    came = 0.0

    def __call__(self, *_: object) -> None:
        now = time.monotonic()
        if not self.came:
            self.came = now
            raise KeyboardInterrupt
        if now - self.came > GRACE:
            os._exit(130)

    def was_lost(self, event: Any) -> None:
        """Forget an interrupt that was raised in a callback, where Python only reports it; the next one counts."""
        if issubclass(event.exc_type, KeyboardInterrupt):
            self.came = 0.0
        else:
            sys.__unraisablehook__(event)


def _leave_within_grace() -> None:
    """Ignore further signals, and end the process after `GRACE` seconds even if an exit handler hangs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    last = threading.Timer(GRACE, os._exit, (130,))
    last.daemon = True
    last.start()
