"""The page of a report: valid and self-contained HTML, complete, and safe for hostile labels."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from benchmark.report import leaderboard_text, write_report
from benchmark.report.architectures import Drawing, Pictures, _selected, _wanted
from benchmark.report.sections import architectures
from benchmark.results import Cell, read_results
from deepnets.support import ConfigError
from tests.benchmark.report.pages import Page, one
from tests.support.made_up_results import row, run, write

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>\'"&\x1b[31m'


# --- the page ---


def test_page_is_valid_and_self_contained(page: Page) -> None:
    page.check()


def test_page_has_no_external_resources(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import|//cdn", text)


def test_page_shows_what_failed_and_what_is_not_finished(page: Page) -> None:
    text = page.text
    assert "all 10 failed" in text
    assert "unfinished: 5 of 10" in text
    assert "1 network only" in text
    assert "3 of 412 are missing" in text
    assert "0\u20139" in text  # the indices
    assert "digits with noise (0.08)" in text
    assert "ResNet-50" in text
    assert "python -m benchmark run --predictor ghn2-digits" in text


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("charts")
def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    rows = [row("a", HOSTILE, "test", i, 40.0 + i) for i in range(6)]
    rows += [row("b", HOSTILE + "2", HOSTILE, 1, None, reason=HOSTILE, network=HOSTILE, images=HOSTILE, part=HOSTILE)]
    rows += [row("c", "$x_$", HOSTILE, 0, 50.0, network=HOSTILE, images=HOSTILE, part=HOSTILE)]
    rows += [row("c", "_", HOSTILE, 0, 50.0, network=HOSTILE, images=HOSTILE, part=HOSTILE, noise=0.1)]
    everything: dict[str, Any] = dict.fromkeys(run("p", "test", 1), HOSTILE)
    about = {"label": HOSTILE, "spec": HOSTILE, "kind": HOSTILE, "digest": HOSTILE, "about": HOSTILE}
    runs = {"a": everything, "b": {**everything, "predictor": about}, HOSTILE: everything}
    runs["c"] = {
        **everything,
        "versions": {HOSTILE: HOSTILE},
        "command": [HOSTILE],
        "predictor": {**about, "digest": "x"},
    }
    write(tmp_path, rows, runs)
    text = write_report(tmp_path, title=HOSTILE).read_text(encoding="utf-8")
    page = Page(text)
    assert not page.errors
    assert [a.get("type") for tag, a in page.elements if tag == "script"] == ["application/json", None]
    assert "img" not in {tag for tag, _ in page.elements}
    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "\x1b" not in leaderboard_text(tmp_path)


def test_declared_data_of_predictors(tmp_path: Path) -> None:
    runs = {name: run("p", "test", 1) for name in ("a", "b")}
    runs["a"]["predictor"] = {"label": "p", "data": "digits, training images"}
    runs["b"]["predictor"] = {"label": "q"}
    write(tmp_path, [row("a", "p", "test", 0, 40.0), row("b", "q", "test", 0, 41.0)], runs)
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "training data" in text
    assert text.count("digits, training images") == text.count("not declared") == 1


def test_scripts_of_others_are_not_allowed(page: Page) -> None:
    (policy,) = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy)


def test_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "results"
    again.mkdir()
    lines = (folder / "networks.csv").read_text().splitlines(keepends=True)
    order = np.random.default_rng(1).permutation(np.arange(1, len(lines) - 1))  # rows come as workers finish
    (again / "networks.csv").write_text("".join([lines[0], *(lines[i] for i in order), lines[-1]]))
    (again / "runs.json").write_bytes((folder / "runs.json").read_bytes())
    write_report(again)
    for name in ("report.html", "leaderboard.csv", "leaderboard.md", "leaderboard.tex", "comparisons.csv"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_page_without_matplotlib_says_how_to_install_it(folder: Path, page: Page) -> None:
    assert page.text.count('pip install "deepnets1m[plotting]"') == 2
    assert "Rank correlation" in page.text
    assert not any("data-r" in attributes for _, attributes in page.elements)
    assert not list(folder.glob("*.png"))


def test_predictor_that_failed_everywhere_is_listed(tmp_path: Path) -> None:
    one(tmp_path, [row("a", "hopeless", split, i, None) for split in ("test", "predefined") for i in range(2)])
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "all 2 failed" in text
    assert "4 of 4 evaluations failed" in text
    text = leaderboard_text(tmp_path)
    assert "0.0\u00b10.0!" in text
    assert "2 of 2 failed on test" in text


def test_architectures_are_drawn_if_possible(tmp_path: Path) -> None:
    rows = [row("a", "p", "predefined", 1, 30.0, network="vit"), row("a", "p", "test", 0, 30.0)]
    text = write_report(one(tmp_path, rows), data=tmp_path).read_text(encoding="utf-8")
    assert not Page(text).errors
    assert 'id="net-predefined-1-t"' in text
    assert "deepnets1m_test.h5" in text  # which is not there
    assert "Not drawn" in write_report(tmp_path).read_text(encoding="utf-8")


def test_networks_to_look_up_are_failed_ones_then_some_of_each_split(tmp_path: Path) -> None:
    rows = [row("a", "p", "test", i, None if i == 4 else 30.0) for i in range(6)]
    rows += [row("b", "p", "deep", i, 30.0) for i in range(6)]
    boards = read_results(one(tmp_path, rows)).boards()
    assert _wanted(boards, 0) == {}
    assert _wanted(boards, 1) == {"test": [4]}
    assert _wanted(boards, 4) == {"test": [0, 4], "deep": [0, 1]}
    assert _wanted(boards, 99) == {"test": [0, 1, 2, 3, 4, 5], "deep": [0, 1, 2, 3, 4, 5]}


def test_selected_networks_are_drawn_once(tmp_path: Path) -> None:
    rows = [row(str(n), "p", f"split{n}", i, 30.0 + i) for n in (1, 2, 3, 4) for i in range(n)]
    (board,) = read_results(one(tmp_path, rows)).boards()
    found = [list(_selected(board.cells["p", column], column.split)) for column in board.columns]
    worst_to_best = [("best", 3), ("median", 1), ("worst", 0)]
    assert found == [[("best", 0)], [("best", 1)], [("best", 2), ("median", 1), ("worst", 0)], worst_to_best]


def test_the_best_network_has_the_smallest_perplexity(tmp_path: Path) -> None:
    """As in the leaderboard, and without the percent sign of accuracies."""
    rows = pd.DataFrame([row("a", "p", "test", i, 50.0, perplexity=10.0 + i) for i in range(3)])
    cell = Cell(rows, "perplexity", "a", 3, 64, 500)
    assert list(_selected(cell, "test")) == [("best", 0), ("median", 1), ("worst", 2)]
    assert cell.summary.best_index == 0
    shown = Pictures([Drawing("test", 0, "best", 10.0, "", 1e6, Markup(""), frozenset())], [], [], [])
    inputs: Any = SimpleNamespace(pictures=shown, clean=[SimpleNamespace(predictors=["p"], title="text")])
    assert architectures(inputs)["splits"]["test"][0]["facts"].startswith("10.00, ")


def test_single_networks_have_no_standard_error(tmp_path: Path) -> None:
    rows = [row("a", "p", "test", 0, 40.0), row("b", "q", "test", 0, 50.0), row("c", "p", "wide", 0, None)]
    text = Page(write_report(one(tmp_path, rows)).read_text(encoding="utf-8")).text
    assert "40.00 " in text
    assert "40.00 \u00b1" not in text
    assert "\u00b1 0.00" not in text
    assert "\u00b10.0" not in leaderboard_text(tmp_path)


def test_time_of_runs_is_per_network(tmp_path: Path) -> None:
    """Runs of several predictors share a machine, so the time from the start to the end says little."""
    rows = [row("a", "p", "test", i, 40.0, evaluate_seconds=seconds) for i, seconds in enumerate([2.0, 3.0, 90.0])]
    text = Page(write_report(one(tmp_path, rows)).read_text(encoding="utf-8")).text
    assert "seconds per network" in text
    assert "3.26" in text
    assert "42 min" not in text


def test_runs_with_different_settings_are_listed(tmp_path: Path) -> None:
    rows = [row("a", "p", "test", 0, 50.0), row("b", "p", "wide", 0, 50.0), row("c", "q", "test", 0, 50.0)]
    runs = {"a": run("p", "test", 1), "b": run("p", "wide", 1), "c": run("q", "test", 1, corpus="other")}
    runs["b"]["predictor"] |= {"digest": "other"}
    text = Page(write_report(one(tmp_path, rows, runs)).read_text(encoding="utf-8")).text
    assert "p: its runs used different parameters or code" in text
    assert "test: predictors were evaluated on different networks" in text


def test_published_rows_are_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark import literature

    lines = [("GHN-2", "test", 66.88, 0.35, 77.12, 210, 500), ("GHN-2", "predefined", 35.015, 16.7, 58.62, 0, 2)]
    columns = ["method", "split", "mean", "standard_error", "best", "best_index", "networks"]

    def leaderboard(folder: Path, images: str) -> pd.DataFrame:
        return pd.DataFrame(lines if images == "cifar10" else [], columns=columns)

    monkeypatch.setattr(literature, "leaderboard", leaderboard)
    rows = [row("a", "p", split, i, 50.0, images="cifar10") for split in ("test", "predefined") for i in range(2)]
    text = write_report(one(tmp_path / "a", rows), published=tmp_path).read_text(encoding="utf-8")
    assert "66.88" in text
    assert "58.62" in text
    assert "11.41" in text  # the other of the two, from their mean
    assert 'id="published"' not in text
    other = [{**line, "images": "digits"} for line in rows]
    text = write_report(one(tmp_path / "b", other), published=tmp_path).read_text(encoding="utf-8")
    assert 'id="published"' in text
    with pytest.raises(ConfigError, match="published"):
        write_report(tmp_path / "b", published=tmp_path / "nowhere")
