"""What the command lines share: errors in one line, options that are checked, a clean end on Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from deepnets.support.errors import DeepNetsError

__all__ = ["Parser", "non_negative", "number", "positive", "positive_number", "run"]


GRACE = 5.0
"""Seconds that a program gets to clean up after Ctrl-C, during which another one does nothing."""


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End the program with what is wrong, and where help is to be had."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def positive(text: str) -> int:
    """An option's value: an integer from 1 on."""
    return _integer(text, least=1)


def non_negative(text: str) -> int:
    """An option's value: an integer from 0 on."""
    return _integer(text, least=0)


def number(text: str) -> float:
    """An option's value: a finite number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number, 0 or more, got {text!r}")
    return value


def positive_number(text: str) -> float:
    """An option's value: a finite number above 0."""
    value = number(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _integer(text: str, least: int) -> int:
    try:
        value = int(text.replace("_", "").replace(",", ""))
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected an integer, {least} or more, got {text!r}")
    return value


def run(command: Callable[[Sequence[str]], None], after_interrupt: str = "") -> NoReturn:
    """Run a command line: one line for every error of the user's, 130 after Ctrl-C.

    Parameters
    ----------
    command
        Takes the arguments behind the program's name.
    after_interrupt
        What the user should know after stopping it, for example how to continue.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    interrupt = _Interrupt()
    sys.unraisablehook = interrupt.was_lost
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)  # a polite kill is a Ctrl-C
    try:
        command(sys.argv[1:])
        sys.stdout.flush()
        status = 0
    except BaseException as error:
        if interrupt.came:  # whatever it has turned into on its way here
            start = "\r" if sys.stderr.isatty() else ""  # over the ^C that the terminal shows
            print(f"{start}interrupted{after_interrupt and '; '}{after_interrupt}", file=sys.stderr)
            status = 130
            _leave_within_grace()
        elif isinstance(error, DeepNetsError):
            print(f"error: {error}", file=sys.stderr)
            status = 1
        elif isinstance(error, MemoryError):
            print("error: there is not enough memory", file=sys.stderr)
            status = 1
        elif isinstance(error, OSError) and error.filename is not None:
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
            status = 1
        elif isinstance(error, BrokenPipeError):  # the reader, say `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
        else:
            raise
    sys.exit(status)


class _Interrupt:
    """Interrupts the program once: an impatient second Ctrl-C must not interrupt its cleaning up, unless that hangs."""

    came = 0.0

    def __call__(self, *_: object) -> None:
        now = time.monotonic()
        if not self.came:
            self.came = now
            raise KeyboardInterrupt
        if now - self.came > GRACE:
            os._exit(130)

    def was_lost(self, event: Any) -> None:
        """Forget an interrupt that struck in a callback, where Python can only report it; the next one counts."""
        if issubclass(event.exc_type, KeyboardInterrupt):
            self.came = 0.0
        else:
            sys.__unraisablehook__(event)


def _leave_within_grace() -> None:
    """Let nothing stop the program from ending: neither another Ctrl-C, nor what runs at its exit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    last = threading.Timer(GRACE, os._exit, (130,))
    last.daemon = True
    last.start()
