"""Command line of the benchmark: `python -m benchmark run | report | sgd | finetune | properties | search | ...`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.commands import card, properties, published, report, run, search, sgd
from deepnets.support import Parser
from deepnets.support import run as run_main

COMMANDS = (run, report, sgd, properties, search, published, card)


def main(arguments: Sequence[str]) -> None:
    """Run a command.

    Parameters
    ----------
    arguments
        The arguments of the command line, such as `["run", "--limit", "10"]`.
    """
    parser = Parser(
        prog="python -m benchmark",
        description="Evaluate predicted parameters, and report results.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    for command in COMMANDS:
        command.add_arguments(commands)
    options = parser.parse_args(arguments)
    options.do(options)


if __name__ == "__main__":
    run_main(main, "completed evaluations are kept; run the same command to resume")
