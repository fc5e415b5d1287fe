"""Command line of the generator: `python -m generator build` and `python -m generator splits`."""

from __future__ import annotations

from collections.abc import Sequence

from deepnets.commands import commands_of
from deepnets.support import dispatch, run

COMMANDS = commands_of("generator")


def main(arguments: Sequence[str]) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments
        Arguments without the program name.

    Examples
    --------
    >>> main(["splits"])  # doctest: +ELLIPSIS
    split     networks   cells  steps  deep networks                    rules
    train    1,000,000    4-18    1-4  above 7 to 10 cells: 1-2 steps  batch norm in most networks; ...
    """
    dispatch("python -m generator", "Generate the DeepNets-1M corpus.", COMMANDS, arguments)


if __name__ == "__main__":
    run(main, after_interrupt="finished shards are kept: run the same command again to resume")
