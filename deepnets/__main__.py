"""The command line `deepnets`, also as `python -m deepnets`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from deepnets.commands import COMMANDS
from deepnets.commands import main as run_command
from deepnets.support import find_user_modules_last, resume_hint, run


def main(arguments: Sequence[str]) -> None:
    """Run the command line as ``python -m deepnets``.

    Parameters
    ----------
    arguments
        The arguments after the name of the program.

    Raises
    ------
    DeepNetsError
        If an argument or a file is not valid.
    """
    run_command(arguments, "python -m deepnets")


def console() -> NoReturn:
    """Run the installed program `deepnets`, and end the process."""
    find_user_modules_last()
    run(run_command, resume_hint(COMMANDS, sys.argv[1:]))


if __name__ == "__main__":
    find_user_modules_last()
    run(main, resume_hint(COMMANDS, sys.argv[1:]))
