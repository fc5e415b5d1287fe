"""Leaderboards as Markdown and LaTeX: the numbers of the CSV file, and labels that mean something in these formats."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.commands import report as report_command
from benchmark.report import (
    comparison_text,
    leaderboard_latex,
    leaderboard_markdown,
    leaderboard_text,
    write_report,
)
from benchmark.report.exports import _latex, _markdown
from deepnets.support import ConfigError, Parser
from tests.benchmark.report.pages import one
from tests.support.made_up_results import row, write
from tests.support.made_up_results import run as made_run

HOSTILE = r"a_b|c*d & $x$ 5% #1 {z} \input{y} ~^<b>`"


def small(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    rows = [row("a", HOSTILE, "test", i, 60 + v) for i, v in enumerate(rng.normal(0, 3, 8))]
    rows += [row("b", "low", "test", i, None if i == 7 else 30 + v) for i, v in enumerate(rng.normal(0, 3, 8))]
    rows += [
        row("c", "low", "wide", 0, 12.5),
        row("e", "few", "test", 0, 61.0),
        row("d", HOSTILE, "predefined", 0, 20.0, network="resnet50"),
    ]
    rows += [row("d", HOSTILE, "predefined", 1, None, network="vit")]
    return one(folder, rows)


def test_one_of_the_predefined_networks(tmp_path: Path) -> None:
    """Its name follows from its place."""
    write_report(one(tmp_path, [row("a", "p", "predefined", 1, 12.5, network="vit")]))
    assert "| p | – / 12.5 |" in leaderboard_markdown(tmp_path)
    assert r"p & $\mbox{--} / 12.5$ \\" in leaderboard_latex(tmp_path)
    assert "-/12.5" in leaderboard_text(tmp_path)


def test_other_batch_sizes_are_noted(tmp_path: Path) -> None:
    rows = [row(run, run, "test", i, 40.0 + i) for run in "ab" for i in range(2)]
    runs = {"a": made_run("a", "test", 2), "b": {**made_run("b", "test", 2), "batch_size": 8}}
    page = write_report(write(tmp_path, rows, runs)).read_text(encoding="utf-8")
    assert "Evaluated with another batch size than 64: b on test (8)." in page
    runs["a"]["batch_size"] = 8
    page = write_report(write(tmp_path, rows, runs)).read_text(encoding="utf-8")
    assert "Evaluated with another batch size than 64: all of them." in page


def test_markdown(tmp_path: Path) -> None:
    write_report(small(tmp_path))
    text = leaderboard_markdown(tmp_path)
    assert text == (tmp_path / "leaderboard.md").read_text()
    caption, _, head, rule, *body = text.splitlines()
    assert caption.startswith("digits, top-1 accuracy, %, mean ± standard error")
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in (head, rule, *body)]
    assert {len(line) for line in cells} == {4}
    assert cells[0] == ["predictor", "test (8 networks)", "wide (1 network)", "predefined (ResNet-50 / ViT)"]
    found = pd.read_csv(tmp_path / "leaderboard.csv").set_index(["method", "split"])
    high, low = found.loc[(HOSTILE, "test")], found.loc[("low", "test")]
    assert cells[2] == [
        _markdown(HOSTILE),
        f"**{high['mean']:.1f} ± {high['standard_error']:.1f}**",
        "–",
        "20.0 / failed",
    ]
    assert cells[4] == ["few", "61.0 (1 of 8)", "–", "–"]
    assert cells[3] == ["low", f"{low['mean']:.1f} ± {low['standard_error']:.1f} (1 failed)", "12.5", "–"]


def test_latex(tmp_path: Path) -> None:
    write_report(small(tmp_path))
    text = leaderboard_latex(tmp_path)
    assert text == (tmp_path / "leaderboard.tex").read_text()
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 3
    assert all(line.endswith(r" \\") and len(re.findall(r"(?<!\\)&", line)) == 3 for line in body)
    assert re.search(r"\$\\mathbf\{\d\d\.\d\} \\pm \d\.\d\$", body[0])
    assert r"$20.0 / \mathrm{failed}$" in body[0]
    assert r"\mathbf" not in body[1]
    assert "(1 failed)" in body[1]
    assert text.count("$") % 2 == (1 if r"\$" not in text else text.count(r"\$") % 2)
    plain = re.sub(r"\\[{}$&#_%\\]", "", text)
    assert plain.count("{") == plain.count("}")


def test_escaped_labels() -> None:
    assert _latex(HOSTILE) == (
        r"a\_b\textbar{}c*d \& \$x\$ 5\% \#1 \{z\} \textbackslash{}input\{y\} "
        r"\textasciitilde{}\textasciicircum{}\textless{}b\textgreater{}`"
    )
    assert _markdown("[a](b)|<i>") == r"\[a\](b)\|\<i\>"


@pytest.mark.slow
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small(tmp_path)
    parser = Parser()
    report_command.add_arguments(parser.add_subparsers())

    def printed(*options: str) -> str:
        parsed = parser.parse_args(["report", "--results", str(tmp_path), "--data", str(tmp_path), *options])
        parsed.do(parsed)
        return capsys.readouterr().out

    assert printed("--format", "latex") == leaderboard_latex(tmp_path)
    assert printed("--format", "markdown") == leaderboard_markdown(tmp_path)
    assert comparison_text(tmp_path, "low", HOSTILE) in printed("--compare", "low", HOSTILE)
    text = comparison_text(tmp_path, "low", HOSTILE)
    assert re.search(
        r"^test: -\d\d\.\d\d \(95 % interval -.* to -.*\), p = .*, 7 networks: 0 better", text, re.MULTILINE
    )
    with pytest.raises(ConfigError, match="no results of 'other'; the predictors are"):
        printed("--compare", "low", "other")
