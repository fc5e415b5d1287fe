"""Programs with several commands, of which only the one that is asked for is imported.

A program is a table of commands.  Each names, as text, the module that adds its options, so that `--help` of a program
imports none of these modules, `--help` of a command imports one, and a package can list commands of packages that
import it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deepnets.support.command_line import Parser
from deepnets.support.extras import naming_extras

__all__ = ["Command", "build_parser", "dispatch", "find_user_modules_last", "resume_hint", "started_by"]

PACKAGES = ("deepnets", "generator", "ghn_model", "benchmark")

_TIMES = "%(asctime)s %(name)s: %(message)s"


class Command(NamedTuple):
    """A command of a program.

    Attributes
    ----------
    summary
        What the command does, in one line of the program's help.
    module
        Name of the module whose function ``add_arguments(commands)`` adds the command and its options to the result of
        `argparse.ArgumentParser.add_subparsers`.
    own_name
        The name by which the module adds the command, if the program has another name for it.
    resumes
        Whether the same command continues what was interrupted.

    Examples
    --------
    >>> Command("describe corpus files", "deepnets.commands.corpus").resumes
    False
    """

    summary: str
    module: str
    own_name: str = ""
    resumes: bool = False


class _OneCommand:
    """Stands for the result of `add_subparsers`, and keeps one of the commands that a module adds."""

    def __init__(self, commands: Any, name: str, command: Command) -> None:
        self._commands, self._name, self._command = commands, name, command

    def add_parser(self, name: str, *, help: str, **given: Any) -> argparse.ArgumentParser:
        if name != (self._command.own_name or self._name):
            return Parser(prog=name)
        about = f"{help[0].upper()}{help[1:]}."
        parser: Parser = self._commands.add_parser(
            self._name, **{"help": self._command.summary, "description": about, **given}
        )
        return parser


def build_parser(
    program: str, description: str, commands: Mapping[str, Command], load: Sequence[str] = (), epilog: str = ""
) -> Parser:
    """Return the parser of a program.

    Parameters
    ----------
    program
        What users type, such as ``"deepnets"``.
    description, epilog
        First and last paragraphs of the help text.
    commands
        The commands by name, in the order of the help text.
    load
        Names of the commands whose options are needed; other commands are listed only.

    Returns
    -------
    Parser
        The parsed options have the function of the command, `do`, which takes them.

    Examples
    --------
    >>> table = {"info": Command("describe corpus files", "deepnets.commands.corpus")}
    >>> build_parser("tool", "A tool.", table, ["info"]).parse_args(["info"]).command
    'info'
    """
    parser = Parser(prog=program, description=description, epilog=epilog or None)
    parser.add_argument("--version", action="version", version=f"deepnets1m {_version()}")
    added = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    for name, command in commands.items():
        if name not in load:
            added.add_parser(name, help=command.summary)
            continue
        importlib.import_module(command.module).add_arguments(_OneCommand(added, name, command))
        _add_verbosity(added.choices[name])
    return parser


def dispatch(
    program: str, description: str, commands: Mapping[str, Command], arguments: Sequence[str], epilog: str = ""
) -> None:
    """Parse the arguments of a program, and run the command that they name.

    Parameters
    ----------
    program, description, commands, epilog
        As for `build_parser`.
    arguments
        The arguments after the name of the program.

    Raises
    ------
    SystemExit
        If the arguments ask for help or the version, or are not valid.
    DeepNetsError
        If the command finds something about its input that is not valid.
    MissingDependencyError
        If the command needs an optional package that is not installed.

    Examples
    --------
    >>> table = {"splits": Command("list the splits", "generator.commands")}
    >>> dispatch("tool", "A tool.", table, ["splits"])  # doctest: +ELLIPSIS
    split     networks   cells ...
    train    1,000,000    4-18 ...
    """
    named = [word for word in arguments if word in commands][:1]
    with naming_extras():
        options = build_parser(program, description, commands, named, epilog).parse_args(arguments)
        with _verbosity(options):
            options.do(options)


def resume_hint(commands: Mapping[str, Command], arguments: Sequence[str]) -> str:
    """Return what to print after an interrupt of the command that the arguments name.

    Examples
    --------
    >>> table = {"build": Command("build a corpus", "generator.commands", resumes=True)}
    >>> resume_hint(table, ["build", "--out", "data"])
    'run the same command again to resume'
    """
    named = next((commands[word] for word in arguments if word in commands), None)
    return "run the same command again to resume" if named is not None and named.resumes else ""


def started_by() -> str:
    """Return the command that started this process, to be stored with results; empty for other programs than ours.

    Of several processes that `torchrun` started, it is the command of all of them.

    Examples
    --------
    >>> started_by()
    ''
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    package = "" if spec is None else spec.name.removesuffix(".__main__")
    is_script = package not in PACKAGES
    if is_script and not (sys.argv and Path(sys.argv[0]).name == "deepnets"):
        return ""
    processes = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    world_size, per_node = (int(value) if value.isdecimal() else 1 for value in processes.values())
    if world_size > 1 and "TORCHELASTIC_RUN_ID" in os.environ:  # SLURM and others set WORLD_SIZE, too
        nodes = world_size // max(1, per_node)
        start = ["torchrun", *(["--nnodes", str(nodes)] if nodes > 1 else []), "--nproc-per-node", str(per_node), "-m"]
    else:
        start = [] if is_script else ["python", "-m"]
    return shlex.join([*start, "deepnets" if is_script else package, *sys.argv[1:]])


def find_user_modules_last() -> None:
    """Let modules of the working directory be found after installed ones.

    A folder `benchmark` or a file `generator.py` of the user must not replace a package of the toolkit.  In a checkout
    that is not installed, the packages themselves are in the working directory, which then stays first.

    Examples
    --------
    >>> before = list(sys.path)
    >>> find_user_modules_last()
    >>> str(Path.cwd()) in sys.path
    True
    >>> sys.path[:] = before
    """
    try:
        here = Path.cwd()
    except OSError:  # the folder has been removed
        return
    if Path(__file__).parents[2] == here:
        return
    sys.path[:] = [entry for entry in sys.path if entry and entry != str(here)] + [str(here)]


def _version() -> str:
    package = sys.modules[__name__.partition(".")[0]]
    return f"{vars(package)['__version__']}"


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    known = parser._option_string_actions
    if "--quiet" not in known:
        parser.add_argument("-q", "--quiet", action="store_true", help="show no progress and no notes")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="show what the program does; -vv for times, too"
    )


@contextlib.contextmanager
def _verbosity(options: argparse.Namespace) -> Iterator[None]:
    """Show messages of the packages as `--verbose` and `--quiet` ask for."""
    from deepnets.support.progress import NOTICES

    levels = {NOTICES: logging.WARNING if options.quiet else logging.INFO}
    if options.verbose:
        levels |= dict.fromkeys(PACKAGES, logging.DEBUG if options.verbose > 1 else logging.INFO)
    before = {name: logging.getLogger(name).level for name in levels}
    formatters = {handler: handler.formatter for handler in logging.root.handlers}
    if options.verbose > 1:
        for handler in formatters:
            handler.setFormatter(logging.Formatter(_TIMES))
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        for handler, formatter in formatters.items():
            handler.setFormatter(formatter)
