"""Command line of the hypernetworks: `python -m ghn_model train | predict | export | list | info | profile`."""

from __future__ import annotations

from collections.abc import Sequence

from deepnets.commands import commands_of
from deepnets.support import Command, dispatch, run

COMMANDS = commands_of("ghn_model") | {"info": Command("describe checkpoints", "ghn_model.commands.info")}


def main(arguments: Sequence[str]) -> None:
    """Parse the arguments and run the command."""
    dispatch("python -m ghn_model", "Train hypernetworks and predict parameters of networks.", COMMANDS, arguments)


if __name__ == "__main__":
    run(main, "use the same command to resume a training")
