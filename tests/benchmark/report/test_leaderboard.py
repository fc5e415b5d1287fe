"""Leaderboards: statistics as pandas computes them, damaged files, and the text for a terminal."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark import METRICS, Metric, register_metric, summarize
from benchmark.commands import report as report_command
from benchmark.report import leaderboard_markdown, leaderboard_text, write_report
from benchmark.results import LEADERBOARD, Column, read_results
from deepnets.support import ConfigError, FormatError, MissingDataError, Parser
from tests.benchmark.report.pages import Page, one
from tests.support import made_up_results as made
from tests.support.made_up_results import HEADER, row, run

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
        everything = np.array([*values.values(), *[0.0] * line.failures])  # a failure is an accuracy of 0
        mean = math.fsum(everything) / len(everything)
        deviation = math.sqrt(math.fsum((everything - mean) ** 2) / len(everything))
        assert line.mean == pytest.approx(mean)
        assert line.standard_error == pytest.approx(deviation / math.sqrt(len(everything)))
        if not values:
            assert math.isnan(line.successful_mean)
            assert math.isnan(line.best)
            assert line.best_index == -1
            continue
        numbers = np.array(list(values.values()))
        mean = math.fsum(numbers) / len(numbers)
        deviation = math.sqrt(math.fsum((numbers - mean) ** 2) / len(numbers))
        assert line.successful_mean == pytest.approx(mean)
        assert line.successful_standard_error == pytest.approx(deviation / math.sqrt(len(numbers)))
        assert line.best == pytest.approx(max(numbers), rel=1e-12)
        assert line.best_index == min(index for index, value in values.items() if value == max(numbers))
    assert expected == len(table) > 25


def test_order_is_by_mean_on_test_and_fewer_networks_come_last(tmp_path: Path) -> None:
    rows = [row("a", "low", "test", i, 20 + i) for i in range(4)]
    rows += [row("b", "high", "test", i, 60 + i) for i in range(4)]
    rows += [row("c", "lucky", "test", 2, 99.0)]
    rows += [row("d", "broken", "test", i, None) for i in range(4)]
    (board,) = read_results(one(tmp_path, rows)).boards()
    assert board.predictors == ["high", "low", "broken", "lucky"]
    assert board.winner(Column("test", "test")) == "high"
    assert "only" in leaderboard_text(tmp_path)


def test_failing_on_the_hardest_network_does_not_pay(tmp_path: Path) -> None:
    """Without its failure, the second predictor would have the higher mean; so there is an order, but no best."""
    honest = [row("a", "honest", "test", i, value) for i, value in enumerate([60.0, 60.0, 60.0, 12.0])]
    evasive = [row("b", "evasive", "test", i, value) for i, value in enumerate([61.0, 61.0, 61.0, None])]
    (board,) = read_results(one(tmp_path, honest + evasive)).boards()
    column = Column("test", "test")
    assert board.predictors == ["honest", "evasive"]
    assert board.winner(column) is None
    found = board.cells["evasive", column].summary
    assert (found.mean, found.successful_mean, found.failures) == (45.75, 61.0, 1)
    path = write_report(tmp_path)
    text = Page(path.read_text(encoding="utf-8")).text
    assert "1 of 4 failed, 61.00 \u00b1 0.00 without them" in text
    assert "45.75" in text
    assert "45.8\u00b113.2!" in leaderboard_text(tmp_path)
    assert "! evasive: 1 of 4 failed on test (61.0\u00b10.0 without them)" in leaderboard_text(tmp_path)


def test_metrics_without_a_worst_value_leave_failures_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of 0 would be the best, so predictors with failures have no mean that competes."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    register_metric(Metric("loss", "cross-entropy", "nats", METRICS["top1"].score, higher_is_better=False))
    rows = [row("a", "whole", "test", i, 50.0) for i in range(3)]
    rows += [row("b", "partial", "test", i, None if i == 2 else 50.0) for i in range(3)]
    rows += [row("c", "infinite", "test", i, 50.0) for i in range(3)]
    one(tmp_path, rows)
    table = pd.read_csv(tmp_path / "networks.csv")
    table["loss"] = [2.0, 2.0, 2.0, 1.0, 1.0, math.nan, 1.0, 1.0, math.nan]
    table.to_csv(tmp_path / "networks.csv", index=False)
    (board,) = read_results(tmp_path).boards("loss")
    column = Column("test", "test")
    for name in ("partial", "infinite"):
        found = board.cells[name, column].summary
        assert (found.mean, found.successful_mean, found.failures, found.networks) == (1.0, 1.0, 1, 3)
    assert board.predictors == ["whole", "infinite", "partial"]
    assert board.winner(column) is None  # only one has a mean of all networks
    assert board.win_rates(column)["whole", "partial"] == (pytest.approx(1 / 3), 3)
    text = Page(write_report(tmp_path, metric="loss").read_text(encoding="utf-8")).text
    assert "left out of the mean because the metric has no worst value: infinite on test (1 network)" in text


def test_networks_without_a_value_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older run has no values of a metric, and another one lacks the value of one network that did not fail."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    register_metric(Metric("other", "other", "%", METRICS["top1"].score))
    rows = [row(name[0], name, "test", i, 50.0) for name in ("better", "half", "old", "worse") for i in range(2)]
    one(tmp_path, rows)
    table = pd.read_csv(tmp_path / "networks.csv")
    table["other"] = [60.0, 60.0, 90.0, math.nan, math.nan, math.nan, 50.0, 50.0]
    table.to_csv(tmp_path / "networks.csv", index=False)
    (board,) = read_results(tmp_path).boards("other")
    assert board.predictors[:2] == ["better", "worse"]
    assert board.winner(Column("test", "test")) == "better"


def test_predictors_on_different_networks_have_no_winner(tmp_path: Path) -> None:
    rows = [row("a", "first", "test", i, 50.0) for i in (0, 1)] + [row("b", "second", "test", i, 60.0) for i in (0, 7)]
    (board,) = read_results(one(tmp_path, rows)).boards()
    assert board.winner(Column("test", "test")) is None


def test_labels_that_spreadsheets_would_execute(tmp_path: Path) -> None:
    label = "=HYPERLINK(A1)"
    one(tmp_path, [row("a", label, "test", 0, 50.0)])
    write_report(tmp_path)
    assert (tmp_path / "leaderboard.csv").read_text().splitlines()[1].startswith("'=HYPERLINK(A1),test,")
    assert read_results(tmp_path).rows["predictor"].tolist() == [label]


def test_win_rates_with_failures_and_ties(tmp_path: Path) -> None:
    first = [row("a", "first", "test", i, value) for i, value in enumerate([50, 50, None, None, 70, 80])]
    second = [row("b", "second", "test", i, value) for i, value in enumerate([40, 50, 10, None, 90])]
    (board,) = read_results(one(tmp_path, first + second)).boards()
    rates = board.win_rates(Column("test", "test"))
    assert rates["first", "second"] == (pytest.approx(1 / 5), 5)  # of the five networks that both have
    assert rates["second", "first"] == (pytest.approx(2 / 5), 5)


def test_newest_run_and_last_row_count(tmp_path: Path) -> None:
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
def test_incomplete_last_line_is_ignored(tmp_path: Path, cut: int) -> None:
    one(tmp_path, [row("a", "p", "test", i, 50.0 + i) for i in range(3)])
    path = tmp_path / "networks.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    rows = read_results(tmp_path).rows
    assert len(rows) == 2
    write_report(tmp_path)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_value_that_was_cut_is_no_value(tmp_path: Path, cut: int) -> None:
    """The last columns are those of the latest versions; a corruption that was cut would be other images."""
    one(tmp_path, [row("a", "p", "test", i, 50.0) for i in range(2)])
    path = tmp_path / "networks.csv"
    header, first, second = path.read_text().splitlines()
    lines = f"{header},nonfinite_images,corruption", f"{first},0,fog:3", f"{second},0,"
    path.write_text("\n".join((lines[0], lines[2], lines[1])) + "\n")
    path.write_bytes(path.read_bytes()[:-cut])
    found = read_results(tmp_path)
    assert found.rows["index"].tolist() == [1]
    assert found.corrupted.empty


def test_lines_cut_inside_quotes_and_characters(tmp_path: Path) -> None:
    one(tmp_path, [row("a", "p", "test", i, None, reason='a "quoted", reason: \u00e9') for i in range(3)])
    path = tmp_path / "networks.csv"
    path.write_bytes(path.read_bytes()[:-3])
    assert set(read_results(tmp_path).rows["index"]) == {0, 1}


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
def test_incomplete_descriptions_of_runs(tmp_path: Path, about: dict[str, Any] | None) -> None:
    one(tmp_path, [row("a", "p", "test", 0, 50.0)], {} if about is None else {"a": about})
    if about is None:
        (tmp_path / "runs.json").unlink()
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert not Page(text).errors


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


@pytest.mark.slow
def test_command_writes_and_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser()
    report_command.add_arguments(parser.add_subparsers())
    options = parser.parse_args(["report", "--results", str(folder), "--metric", "top5"])
    options.do(options)
    out = capsys.readouterr().out
    assert "top-5 accuracy" in out
    assert str(folder / "report.html") in out
    write_report(folder)  # as it was


def test_metric_is_checked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="metric: unknown 'loss'; use one of top1, top5"):
        write_report(folder, metric="loss")


def test_descriptions_of_runs_by_other_programs(tmp_path: Path) -> None:
    one(tmp_path, [row("a", "p", "timm", i, 50.0 + i, network=f"model_{i}", part="val") for i in range(2)])
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "timm (val images)" in text
    assert "best 51.00 (model_1)" in text
    assert json.loads((tmp_path / "runs.json").read_text())["a"]["split"] == "timm"


ERROR = Metric("error_rate", "error", "%", lambda logits, labels: 100.0 * (logits.argmax(1) != labels),
               higher_is_better=False, minimum=0.0, maximum=100.0, decimals=3)  # fmt: skip


def test_runs_that_have_not_computed_a_metric_are_left_out(tmp_path: Path) -> None:
    """They are no failures, which would count with the worst value."""
    rows = [made.row("a", "p", "test", 0, 80.0), made.row("a", "p", "test", 1, None)]
    rows += [made.row("b", "q", "test", index, 90.0) for index in range(2)]
    folder = made.write(tmp_path, rows, {"a": made.run("p", "test", 2), "b": made.run("q", "test", 2)})
    lines = (folder / "networks.csv").read_text().splitlines()
    values = ["error_rate", "19.98765", "", "", ""]
    (folder / "networks.csv").write_text("".join(f"{line},{value}\n" for line, value in zip(lines, values)))
    text = leaderboard_markdown(folder, metric=ERROR)
    assert "| p | 59.994 ± 28.289 (1 failed) |" in text
    assert "| q |" not in text
    assert summarize(read_results(folder).rows[:2], "error_rate").text(3).startswith("59.994±28.289, best 19.988")
    assert "59.9938" in write_report(folder, metric=ERROR).read_text(encoding="utf-8")
    other = Metric("unseen", "unseen", "", ERROR.score)
    with pytest.raises(ConfigError, match="has no values of unseen; evaluate with --metrics unseen"):
        leaderboard_markdown(folder, metric=other)
