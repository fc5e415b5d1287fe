"""The command `completion`: scripts that complete commands and options in shells."""

from __future__ import annotations

import argparse
from typing import Any

from deepnets.support import ListOption, MissingDependencyError, build_parser, examples, install_command

__all__ = ["add_arguments"]

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(commands: Any) -> None:
    """Add the command to the result of `argparse.ArgumentParser.add_subparsers`.

    Parameters
    ----------
    commands
        The result of `add_subparsers`.
    """
    completion = commands.add_parser(
        "completion",
        help="print a script that completes commands and options in a shell",
        epilog=examples(
            'eval "$(deepnets completion bash)"          # in ~/.bashrc',
            "deepnets completion zsh > ~/.zfunc/_deepnets  # in a folder of $fpath",
        ),
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")
    completion.set_defaults(do=_run)


def _run(options: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError as error:
        raise MissingDependencyError(
            f"shtab is not installed; install it with {install_command('completion')}", name="shtab"
        ) from error
    from deepnets.commands import COMMANDS, DESCRIPTION

    parser = build_parser("deepnets", DESCRIPTION, COMMANDS, list(COMMANDS))
    for command in parser._subparsers._group_actions[0].choices.values():  # type: ignore[union-attr]
        for action in command._actions:
            if isinstance(action, ListOption):
                action.choices = action.item_choices
            elif action.dest in _FILES:
                action.complete = shtab.FILE
            elif action.dest in _FOLDERS:
                action.complete = shtab.DIRECTORY
    print(shtab.complete(parser, options.shell))


_FILES = frozenset({"config", "onnx", "checkpoint", "checkpoints", "tokenizer", "report", "paths", "out"})
_FOLDERS = frozenset({"data", "results", "image_root", "published", "curves", "cache", "corruption_root"})
