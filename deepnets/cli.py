"""What the command lines share: errors in one line, options that are checked, a clean end on Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from deepnets.errors import DeepNetsError

__all__ = ["Parser", "non_negative", "positive", "run"]


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End the program with what is wrong, and where help is to be had."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def positive(text: str) -> int:
    """An option's value: an integer from 1 on."""
    return _integer(text, least=1)


def non_negative(text: str) -> int:
    """An option's value: an integer from 0 on."""
    return _integer(text, least=0)


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    try:
        command(sys.argv[1:])
        sys.stdout.flush()
        status = 0
    except DeepNetsError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(f"\ninterrupted{after_interrupt and '; '}{after_interrupt}", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
