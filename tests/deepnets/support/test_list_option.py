"""Options with several values, separated by spaces or commas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnets.support import ListOption, Parser, deprecated_option, positive, split_list

NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9:.=-]{0,8}", fullmatch=True), min_size=1, max_size=5)


def parsed(*words: str, **options: Any) -> Any:
    parser = Parser(prog="tool")
    parser.add_argument("--values", action=ListOption, **options)
    return parser.parse_args(["--values", *words]).values


@given(NAMES, st.data())
def test_any_separators_give_the_same_list(names: list[str], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.sampled_from([" ", ",", ", ", None]), min_size=len(names), max_size=len(names)))
    words = [""]
    for name, cut in zip(names, cuts):
        words[-1] += name + (cut or "")
        if cut is None:
            words.append("")
    words = [word.strip(", ") for word in words if word]
    assert parsed(*words) == names


def test_items_are_converted() -> None:
    assert parsed("1,2", "3", type=positive) == [1, 2, 3]
    assert parsed("1,2,3", "4", type=positive, count=4) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["1,0"], {"type": positive}, "argument --values: expected an integer, 1 or more, got '0'"),
        (["1,2"], {"type": positive, "count": 3}, "argument --values: expected 3 values, got 2"),
        (["1,,2"], {"type": positive}, "argument --values: expected an integer, 1 or more, got ''"),
        (["a,c"], {"choices": ("a", "b")}, "argument --values: invalid choice: 'c' (choose from 'a', 'b')"),
        (["1,x"], {"type": int}, "argument --values: invalid value: 'x'"),
        ([], {}, "argument --values: expected at least one argument"),
    ],
)
def test_errors(words: list[str], options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*words, **options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_paths_may_contain_spaces_and_commas(tmp_path: Path) -> None:
    odd = tmp_path / "a, b.pt"
    odd.touch()
    assert split_list(str(odd), paths=True) == [str(odd)]
    assert split_list(f"mine={odd}", paths=True) == [f"mine={odd}"]
    assert split_list("my file.pt, random", paths=True) == ["my file.pt", "random"]
    assert split_list("x" * 10_000 + ",\0", paths=True) == ["x" * 10_000, "\0"]


def test_a_former_name(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="tool")
    parser.add_argument("--genotype", action=ListOption, choices=("A", "B"))
    deprecated_option(parser, "--network", "--genotype")
    assert parser.parse_args(["--network", "A,B"]).genotype == ["A", "B"]
    assert capsys.readouterr().err == "tool: --network is deprecated; use --genotype\n"
