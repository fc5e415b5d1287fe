"""The option `--out` of commands that write one file or folder, which may also be given without its name."""

from __future__ import annotations

import argparse
from pathlib import Path

from deepnets.support import ConfigError, output_path

__all__ = ["add_out", "chosen_out"]


def add_out(parser: argparse.ArgumentParser, what: str, metavar: str) -> None:
    """Add the option to a parser.

    Parameters
    ----------
    parser
        The parser of a command without other positional arguments.
    what
        What is written, for the help text.
    metavar
        ``"FILE"`` or ``"DIR"``.

    Examples
    --------
    >>> parser = argparse.ArgumentParser(prog="tool")
    >>> add_out(parser, "the picture", "FILE")
    >>> chosen_out(parser.parse_args(["--out", "a.png"])) == chosen_out(parser.parse_args(["a.png"]))
    True
    """
    parser.add_argument("--out", type=output_path, metavar=metavar, help=f"{what} (required)")
    parser.add_argument("given_out", nargs="?", type=output_path, help=argparse.SUPPRESS)


def chosen_out(options: argparse.Namespace) -> Path:
    """Return the value of the option, or of the positional argument.

    Parameters
    ----------
    options
        The parsed options.

    Raises
    ------
    ConfigError
        If neither or both are given.
    """
    if (options.out is None) == (options.given_out is None):
        raise ConfigError("--out: " + ("is needed" if options.out is None else "is given twice"))
    return Path(options.out or options.given_out)
