"""Command line of the benchmark: `python -m benchmark run | report | sgd | finetune | properties | search | ...`."""

from __future__ import annotations

from collections.abc import Sequence

from deepnets.commands import commands_of
from deepnets.support import dispatch
from deepnets.support import run as run_main

COMMANDS = commands_of("benchmark")


def main(arguments: Sequence[str]) -> None:
    """Run a command.

    Parameters
    ----------
    arguments
        The arguments of the command line, such as `["run", "--limit", "10"]`.
    """
    dispatch("python -m benchmark", "Evaluate predicted parameters, and report results.", COMMANDS, arguments)


if __name__ == "__main__":
    run_main(main, "completed evaluations are kept; run the same command to resume")
