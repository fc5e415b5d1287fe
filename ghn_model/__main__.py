"""Command line of the hypernetworks: `python -m ghn_model train | predict | export | list | info | profile`."""

from __future__ import annotations

from collections.abc import Sequence

from deepnets.support import Parser, run
from ghn_model.commands import export, info, predict, profile, train


def main(arguments: Sequence[str]) -> None:
    """Parse the arguments and run the command."""
    parser = Parser(prog="python -m ghn_model", description="Train hypernetworks and predict parameters of networks.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    for module in (train, predict, export, info, profile):
        module.add_arguments(commands)
    options = parser.parse_args(arguments)
    options.do(options)


if __name__ == "__main__":
    run(main, "use the same command to resume a training")
