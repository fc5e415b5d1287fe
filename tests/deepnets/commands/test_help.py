"""The help texts of the command line `deepnets`: complete, with examples and defaults, and without heavy imports."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import deepnets
from deepnets.commands import COMMANDS, DESCRIPTION, commands_of, main
from deepnets.support import build_parser

ROOT = Path(__file__).resolve().parents[3]
HEAVY = (
    "torch",
    "pandas",
    "numba",
    "scipy",
    "sklearn",
    "matplotlib",
    "h5py",
    "torchvision",
    "timm",
    "ray",
    "distributed",
)


def parsers() -> dict[str, argparse.ArgumentParser]:
    parser = build_parser("deepnets", DESCRIPTION, COMMANDS, list(COMMANDS))
    (added,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(added.choices)


PARSERS = parsers()


def shown(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.help is not argparse.SUPPRESS]


def help_of(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return str(parser._get_formatter()._get_help_string(action))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_states_its_default(name: str) -> None:
    for action in shown(PARSERS[name]):
        if action.option_strings and action.nargs != 0 and not action.required:
            text = help_of(PARSERS[name], action)
            assert "default" in text or "(required)" in text, action.option_strings


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_valid(name: str) -> None:
    text = PARSERS[name].format_help()
    examples = text.partition("Examples:\n")[2].replace("\\\n", " ")
    commands = [line.partition("  # ")[0].strip() for line in examples.splitlines() if line.strip()]
    assert commands
    for command in commands:
        command = re.sub(r'^eval "\$\((.*)\)".*', r"\1", command.partition(" > ")[0])
        program, other, *words = shlex.split(command)
        assert program == "deepnets"
        PARSERS[other].parse_args(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    for action in shown(PARSERS[name]):
        assert action.help, action.option_strings or action.dest


def test_no_help_text_needs_heavy_packages() -> None:
    """Importing PyTorch alone takes seconds."""
    program = f"""
import sys
from deepnets.commands import COMMANDS, main
from deepnets.support import build_parser
build_parser("deepnets", "", COMMANDS, list(COMMANDS)).format_help()
import benchmark.__main__, generator.__main__, ghn_model.__main__
sys.exit(", ".join({{*{HEAVY}}} & {{*sys.modules}}) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_the_command_that_is_asked_for_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    program = """
import sys
from deepnets.commands import main
try:
    main(["--help"])
except SystemExit:
    pass
sys.exit(any(name in sys.modules for name in ("benchmark", "ghn_model", "generator")))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n    {name} " in done.stdout


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"deepnets1m {deepnets.__version__}\n"


def test_an_option_has_one_name_in_all_commands() -> None:
    """Former names are accepted, but not shown; names for the same attribute do not differ."""
    former = {"--jobs", "--batch", "--meta-batch", "--learning-rate", "--clip", "--penalty", "--average", "--network"}
    names = defaultdict(set)
    for parser in PARSERS.values():
        for action in shown(parser):
            assert not former & {*action.option_strings}
            if action.option_strings:
                names[action.dest].add(tuple(action.option_strings))
    assert {dest: found for dest, found in names.items() if len(found) > 1} == {}


@pytest.mark.parametrize("package", ["generator", "ghn_model", "benchmark"])
def test_packages_have_the_same_commands(package: str) -> None:
    parser = build_parser(f"python -m {package}", "", commands_of(package), list(commands_of(package)))
    for name, command in commands_of(package).items():
        (same,) = (key for key, other in COMMANDS.items() if other == command and (command.own_name or key) == name)
        own = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices[name]
        assert [action.option_strings for action in own._actions] == [
            action.option_strings for action in PARSERS[same]._actions
        ]
