"""Deprecated names of options."""

from __future__ import annotations

import pytest

from deepnets.support import Parser, deprecated_option, positive


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="tool")
    parser.add_argument("--workers", type=positive, required=True)
    parser.add_argument("--resume", action="store_true")
    deprecated_option(parser, "--jobs", "--workers")
    deprecated_option(parser.add_argument_group("more"), "--continue", "--resume")
    return parser


def test_an_old_name_acts_as_the_new_one_and_prints_one_line(
    parser: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    options = parser.parse_args(["--jobs", "3", "--continue"])
    assert vars(options) == {"workers": 3, "resume": True}
    assert capsys.readouterr() == (
        "",
        "tool: --jobs is deprecated; use --workers\ntool: --continue is deprecated; use --resume\n",
    )
    assert "--jobs" not in parser.format_help()


def test_the_new_name_prints_nothing_and_is_still_required(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    assert vars(parser.parse_args(["--workers", "3"])) == {"workers": 3, "resume": False}
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "required: --workers" in capsys.readouterr().err


def test_an_old_name_checks_its_value(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--jobs", "0"])
    assert "argument --jobs: expected an integer, 1 or more, got '0'" in capsys.readouterr().err
