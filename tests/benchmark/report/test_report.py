"""Reports: numbers that pandas finds too, everything shown that failed, and pages that nothing in them can break."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.commands import report as report_command
from benchmark.report import leaderboard_text, write_report
from benchmark.results import LEADERBOARD, Column, read_results
from deepnets.support import ConfigError, FormatError, MissingDataError, Parser
from tests.support.made_up_results import HEADER, realistic, row, run, write

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>\'"&\x1b[31m'
VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What is in a page, and whether its elements are nested as they should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{self.getpos()}: </{tag}>")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = realistic(tmp_path_factory.mktemp("results") / "results", scale=0.1)
    write_report(results)
    return results


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def pictures() -> None:
    """For tests that want pictures, too."""
    pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pictures" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)


def one(results: Path, rows: list[dict[str, Any]], runs: dict[str, Any] | None = None, **other: Any) -> Path:
    """A small folder, whose runs all want as many networks as there are rows unless said otherwise."""
    if runs is None:
        runs = {str(r["run"]): run(r["predictor"], r["split"], 0, images=r["images"]) for r in rows}
        for name, about in runs.items():
            about["networks"] = sum(r["run"] == name for r in rows)
    return write(results, rows, runs, **other)


# --- numbers ---


def test_leaderboard_is_what_pandas_finds(folder: Path) -> None:
    table = pd.read_csv(folder / "leaderboard.csv")
    assert tuple(table.columns) == LEADERBOARD
    with (folder / "networks.csv").open(newline="") as file:
        rows = pd.DataFrame([r for r in csv.DictReader(file) if r["status"]])
    expected = 0
    for (predictor, split, noise), group in rows.groupby(["predictor", "split", "noise"]):
        fine = group[group["status"] == "ok"]
        values = dict(zip(fine["index"].astype(int), fine["top1"].astype(float)))
        found = table[(table["method"] == predictor) & (table["split"] == split) & (table["noise"] == float(noise))]
        (line,) = found.itertuples()
        expected += 1
        assert (line.networks, line.failures) == (len(group), len(group) - len(fine))
        if not values:
            assert math.isnan(line.mean)
            assert math.isnan(line.best)
            assert line.best_index == -1
            continue
        numbers = np.array(list(values.values()))
        mean = math.fsum(numbers) / len(numbers)
        deviation = math.sqrt(math.fsum((numbers - mean) ** 2) / len(numbers))
        assert line.mean == pytest.approx(mean)
        assert line.standard_error == pytest.approx(deviation / math.sqrt(len(numbers)))
        assert line.best == max(numbers)
        assert line.best_index == min(index for index, value in values.items() if value == max(numbers))
    assert expected == len(table) > 25


def test_order_is_by_mean_on_test_and_fewer_networks_come_last(tmp_path: Path) -> None:
    rows = [row("a", "low", "test", i, 20 + i) for i in range(4)]
    rows += [row("b", "high", "test", i, 60 + i) for i in range(4)]
    rows += [row("c", "lucky", "test", 2, 99.0)]
    rows += [row("d", "broken", "test", i, None) for i in range(4)]
    (board,) = read_results(one(tmp_path, rows)).boards()
    assert board.predictors == ["high", "low", "lucky", "broken"]
    assert board.winner(Column("test", "test")) == "high"
    assert "only" in leaderboard_text(tmp_path)


def test_win_rates_count_failures_as_losses_and_ties_for_nobody(tmp_path: Path) -> None:
    first = [row("a", "first", "test", i, value) for i, value in enumerate([50, 50, None, None, 70, 80])]
    second = [row("b", "second", "test", i, value) for i, value in enumerate([40, 50, 10, None, 90])]
    (board,) = read_results(one(tmp_path, first + second)).boards()
    rates = board.win_rates(Column("test", "test"))
    assert rates["first", "second"] == (pytest.approx(1 / 5), 5)  # of the five networks that both have
    assert rates["second", "first"] == (pytest.approx(2 / 5), 5)


def test_newest_run_counts_and_so_does_the_last_row_of_a_network(tmp_path: Path) -> None:
    rows = [row("old", "p", "test", i, 10.0) for i in range(3)]
    rows += [row("new", "p", "test", 0, 40.0), row("new", "p", "test", 1, None), row("new", "p", "test", 1, 60.0)]
    rows += [row("unknown", "p", "test", 0, 99.0)]
    runs = {"new": run("p", "test", 2, hour=9), "old": run("p", "test", 3), "later": run("p", "test", 3, hour=10)}
    (board,) = read_results(one(tmp_path, rows, runs)).boards()
    (cell,) = board.cells.values()
    assert (cell.run, list(cell.values)) == ("new", [40.0, 60.0])
    assert cell.complete


@pytest.mark.parametrize(
    ("images", "split", "metric", "expected"),
    [
        ("digits", "test", None, "top1"),
        ("imagenet", "test", None, "top5"),
        ("imagenet", "torchvision", None, "top1"),
        ("imagenet", "test", "top1", "top1"),
    ],
)
def test_metric_is_the_published_one_unless_chosen(
    tmp_path: Path, images: str, split: str, metric: str | None, expected: str
) -> None:
    one(tmp_path, [row("a", "p", split, i, 10.0 + i, images=images) for i in range(2)])
    write_report(tmp_path, metric=metric)
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert list(table["metric"]) == [expected]
    assert float(table["mean"].iloc[0]) == (10.5 if expected == "top1" else 40.5)


def test_number_of_networks_says_if_the_split_has_more(tmp_path: Path) -> None:
    rows = [row("a", "p", "test", i, 50.0) for i in range(3)] + [row("b", "p", "wide", 0, 50.0)]
    runs = {"a": run("p", "test", 3), "b": run("p", "wide", 1, split_size=1)}
    text = Page(write_report(one(tmp_path, rows, runs)).read_text(encoding="utf-8")).text
    assert "test3 of 500 networks" in text
    assert "wide1 network" in text


# --- files as they are found ---


@pytest.mark.parametrize("cut", [1, 2, 5, 20, 60, 90])
def test_torn_last_line_is_left_out(tmp_path: Path, cut: int) -> None:
    one(tmp_path, [row("a", "p", "test", i, 50.0 + i) for i in range(3)])
    path = tmp_path / "networks.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    rows = read_results(tmp_path).rows
    assert len(rows) == (3 if cut <= 1 else 2)
    write_report(tmp_path)


def test_torn_inside_quotes_and_letters(tmp_path: Path) -> None:
    one(tmp_path, [row("a", "p", "test", i, None, reason='a "quoted", reason: \u00e9') for i in range(3)])
    path = tmp_path / "networks.csv"
    path.write_bytes(path.read_bytes()[:-3])
    assert set(read_results(tmp_path).rows["index"]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (None, MissingDataError, "there is no"),
        ("", MissingDataError, "no rows yet"),
        ("run,pred", MissingDataError, "no rows yet"),
        (",".join(HEADER) + "\n", MissingDataError, "no rows yet"),
        ("a,b\n1,2\n", FormatError, "no column"),
        (",".join(HEADER) + "\n1,2\n", FormatError, "row 2: expected 23 fields, got 2"),
        (",".join(HEADER) + "\n" + ",".join(["x"] * 23) + "\n", FormatError, "row 2: noise: expected a number"),
    ],
)
def test_no_results_and_other_files_are_one_line(
    tmp_path: Path, text: str | None, error: type[Exception], match: str
) -> None:
    if text is not None:
        (tmp_path / "networks.csv").write_text(text)
    with pytest.raises(error, match=match) as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        ("top1", "", "top1: expected percent"),
        ("top1", "101", "top1: expected percent"),
        ("top5", "nan", "top5: expected percent"),
        ("status", "fine", "status: expected ok or failed"),
        ("index", "-1", "index: expected an integer"),
        ("num_params", "inf", "num_params: expected a number"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, column: str, value: str, match: str) -> None:
    one(tmp_path, [row("a", "p", "test", 0, 50.0), row("a", "p", "test", 1, 50.0) | {column: value}])
    with pytest.raises(FormatError, match=f"row 3: {match}"):
        read_results(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}', "[" * 100_000])
def test_damaged_runs_are_refused(tmp_path: Path, text: str) -> None:
    one(tmp_path, [row("a", "p", "test", 0, 50.0)])
    (tmp_path / "runs.json").write_text(text)
    with pytest.raises(FormatError, match=r"runs\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize("about", [None, {}, {"predictor": 3, "networks": "x", "versions": [1], "started": 5}])
def test_runs_that_say_little_are_enough(tmp_path: Path, about: dict[str, Any] | None) -> None:
    one(tmp_path, [row("a", "p", "test", 0, 50.0)], {} if about is None else {"a": about})
    if about is None:
        (tmp_path / "runs.json").unlink()
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert not Page(text).faults


# --- the page ---


def test_page_is_nested_named_and_on_its_own(page: Page) -> None:
    assert not page.faults
    assert not page.open
    assert page.elements[0] == ("html", {"lang": "en"})
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "image", "form", "base")
        assert "src" not in attributes
        assert str(attributes.get("href", "#")).startswith("#")
        assert not any(name.startswith("on") for name in attributes)
        if tag == "th":
            assert attributes.get("scope") in ("row", "col", "colgroup")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        if href := attributes.get("href"):
            assert href[1:] in ids
        for name in str(attributes.get("aria-labelledby") or "").split():
            assert name in ids, tag
    assert sum(tag == "h1" for tag, _ in page.elements) == 1


def test_page_names_no_address_and_holds_no_other_resource(folder: Path) -> None:
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


def test_pictures_have_titles_and_descriptions(page: Page) -> None:
    images = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(images) >= 4 * 8
    assert all(len(str(image["aria-labelledby"]).split()) == 2 for image in images)
    assert all("aria-hidden" in a for tag, a in page.elements if tag == "svg" and a.get("role") != "img")


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("pictures")
def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
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
    assert not page.faults
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert "img" not in {tag for tag, _ in page.elements}
    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "\x1b" not in leaderboard_text(tmp_path)


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
    for name in ("report.html", "leaderboard.csv"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_page_without_matplotlib_is_the_same(folder: Path, tmp_path: Path) -> None:
    for name in ("networks.csv", "runs.json"):
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / name).write_bytes((folder / name).read_bytes())
    path = write_report(tmp_path / "results")
    assert path.read_bytes() == (folder / "report.html").read_bytes()
    assert not list(path.parent.glob("*.png"))


@pytest.mark.usefixtures("pictures")
def test_pictures_are_written(folder: Path) -> None:
    write_report(folder)
    for name in ("leaderboard", "distribution", "accuracy_size", "accuracy_depth", "accuracy_speed"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_predictor_that_failed_everywhere_is_there(tmp_path: Path) -> None:
    one(tmp_path, [row("a", "hopeless", split, i, None) for split in ("test", "predefined") for i in range(2)])
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "all 2 failed" in text
    assert "4 of 4 evaluations failed" in text
    assert "failed!" in leaderboard_text(tmp_path)


def test_architectures_are_drawn_or_it_says_why_not(tmp_path: Path) -> None:
    rows = [row("a", "p", "predefined", 1, 30.0, network="vit"), row("a", "p", "test", 0, 30.0)]
    text = write_report(one(tmp_path, rows), data=tmp_path).read_text(encoding="utf-8")
    assert not Page(text).faults
    assert 'id="net-predefined-1-t"' in text
    assert "deepnets1m_test.h5" in text  # which is not there
    assert "Not drawn" in write_report(tmp_path).read_text(encoding="utf-8")


def test_runs_that_disagree_are_named(tmp_path: Path) -> None:
    rows = [row("a", "p", "test", 0, 50.0), row("b", "p", "wide", 0, 50.0), row("c", "q", "test", 0, 50.0)]
    runs = {"a": run("p", "test", 1), "b": run("p", "wide", 1), "c": run("q", "test", 1, corpus="other")}
    runs["b"]["predictor"] |= {"digest": "other"}
    text = Page(write_report(one(tmp_path, rows, runs)).read_text(encoding="utf-8")).text
    assert "p: its runs are of different parameters or code" in text
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


# --- the terminal ---


def test_text_fits_a_terminal_and_says_what_is_missing(folder: Path) -> None:
    text = leaderboard_text(folder)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert text.isprintable() or all(line.isprintable() for line in lines)
    assert "all" not in lines[0]
    assert "10 of 10 failed on deep" in text
    assert "5 of 10 done on dense" in text
    table = pd.read_csv(folder / "leaderboard.csv")
    (best,) = table[
        (table["method"] == "ghn2-digits") & (table["split"] == "test") & (table["noise"] == 0)
    ].itertuples()
    assert f"{best.mean:.1f}\u00b1{best.standard_error:.1f}" in text


def test_command_writes_and_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser()
    report_command.add_arguments(parser.add_subparsers())
    options = parser.parse_args(["report", "--results", str(folder), "--metric", "top5"])
    options.do(options)
    out = capsys.readouterr().out
    assert "top-5 accuracy" in out
    assert str(folder / "report.html") in out
    write_report(folder)  # as it was
    with pytest.raises(SystemExit):
        parser.parse_args(["report", "--metric", "top2"])
    capsys.readouterr()


def test_metric_is_checked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="metric: expected top1 or top5, got 'loss'"):
        write_report(folder, metric="loss")


def test_json_of_another_tool_is_a_run_like_any(tmp_path: Path) -> None:
    one(tmp_path, [row("a", "p", "timm", i, 50.0 + i, network=f"model_{i}", part="val") for i in range(2)])
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "timm (val images)" in text
    assert "best 51.00 (model_1)" in text
    assert json.loads((tmp_path / "runs.json").read_text())["a"]["split"] == "timm"
