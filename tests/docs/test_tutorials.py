"""The tutorials run as they are, in order, in a folder outside the package, and print what they say."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.evaluation import close_workers

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
NEEDS = {"predict": "torchvision", "properties": "torch_geometric", "cluster": "distributed"}
MARKS = {"cluster": [pytest.mark.slow, pytest.mark.cluster]}


def run(script: str, name: str) -> int:
    """Execute a script statement by statement; what a call of `print` prints is compared with the comment behind it.

    Returns the number of compared outputs.
    """
    tokens = tokenize.generate_tokens(io.StringIO(script).readline)
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    namespace: dict[str, Any] = {"__name__": "__main__"}
    compared = 0
    for top in ast.parse(script).body:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(ast.Module([top], []), name, "exec"), namespace)
        prints = [node for node in ast.walk(top) if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"]
        expected = [comments[node.end_lineno][2:] for node in prints if node.end_lineno in comments]
        if expected:
            assert output.getvalue().splitlines() == expected, f"{name}, line {top.lineno}"
            compared += len(expected)
    return compared


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{TUTORIALS.parents[1]}")
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield tmp_path
    close_workers()
    sys.modules.pop("mine", None)


def test_every_tutorial_is_tested() -> None:
    assert len(list(TUTORIALS.glob("*.py"))) == 7


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=MARKS.get(path.stem, [pytest.mark.slow]))
        for path in sorted(TUTORIALS.glob("*.py"))
    ],
)
def test_tutorials_run(name: str, corpus: Path, folder: Path) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}")
    if name != "corpus":
        (folder / "data").symlink_to(corpus)
    assert run((TUTORIALS / f"{name}.py").read_text(), f"{name}.py") >= 1


def test_wrong_comments_are_found() -> None:
    assert run("print(1 + 1)  # 2\nfor i in range(1):\n    print(i)  # 0\n", "x") == 2
    with pytest.raises(AssertionError):
        run("print(1 + 1)  # 3\n", "x")
