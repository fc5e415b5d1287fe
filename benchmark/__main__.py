"""Command line of the benchmark: `python -m benchmark run | report | sgd | finetune | properties | search | ...`."""

from __future__ import annotations

from collections.abc import Sequence

import benchmark.cards.command
import benchmark.published.command
import benchmark.report.command
import benchmark.runs.command
import benchmark.sgd.command
from benchmark.analyses import properties_command, search_command
from deepnets.cli import Parser, run

COMMANDS = (
    benchmark.runs.command,
    benchmark.report.command,
    benchmark.sgd.command,
    properties_command,
    search_command,
    benchmark.published.command,
    benchmark.cards.command,
)


def main(arguments: Sequence[str]) -> None:
    """Parse the arguments and do what they say."""
    parser = Parser(prog="python -m benchmark", description="Evaluate predicted parameters, and report on them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    for command in COMMANDS:
        command.add_arguments(commands)
    options = parser.parse_args(arguments)
    options.do(options)


if __name__ == "__main__":
    run(main, "what was evaluated is kept, and the same command goes on")
