"""Paired comparisons: published examples, enumeration of all signs, and failures."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark import METRICS, Metric, register_metric
from benchmark.report.terminal import comparison_text
from benchmark.results import (
    COMPARISONS,
    Column,
    compare,
    compare_pairs,
    comparison_table,
    leaderboard,
    leaders,
    read_results,
)
from benchmark.results.comparisons import _holm
from deepnets.support import ConfigError
from tests.benchmark.report.pages import one
from tests.support.made_up_results import row, write
from tests.support.made_up_results import run as made_run

TEST = Column("test", "test")


def table(values: list[float | None], **columns: Any) -> pd.DataFrame:
    status = ["ok" if value is not None else "failed" for value in values]
    return pd.DataFrame({"index": range(len(values)), "top1": values, "status": status, **columns})


# Student (1908): hours of additional sleep with two drugs; interval and p-value as R's t.test gives them.
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)


def test_published_example() -> None:
    found = compare(*map(table, SLEEP))
    assert found.difference == pytest.approx(-1.58)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)
    assert found.p_value == pytest.approx(0.002833, abs=1e-6)
    assert (found.better, found.equal, found.worse, found.networks) == (0, 1, 9, 10)
    wider = compare(*map(table, SLEEP), confidence=0.99)
    assert wider.low < found.low < found.high < wider.high


def enumerated(differences: list[float]) -> float:
    """The two-sided p-value of the signed-rank test, from all 2^n signs, with mean ranks of ties."""
    nonzero = [d for d in differences if d]
    sizes = sorted(map(abs, nonzero))
    ranks = [np.mean([i + 1 for i, size in enumerate(sizes) if size == abs(d)]) for d in nonzero]
    observed = sum(rank * math.copysign(1, d) for rank, d in zip(ranks, nonzero))
    sums = [sum(r * s for r, s in zip(ranks, signs)) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    upper, lower = (np.mean([sign * s >= sign * observed - 1e-9 for s in sums]) for sign in (1, -1))
    return min(1.0, 2 * min(upper, lower))


@pytest.mark.parametrize("seed", range(4))
def test_signed_rank_test_of_few_networks_is_exact_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    differences = rng.integers(-3, 6, 9).astype(float).tolist()
    found = compare(table(differences), table([0.0] * 9))
    assert found.signed_rank_p_value == pytest.approx(enumerated(differences))


def test_many_networks() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(50, 10, 400)
    same, better = compare(table([*first]), table([*first + rng.normal(0, 5, 400)])), None
    better = compare(table([*first + 2]), table([*first + rng.normal(0, 5, 400)]))
    assert same.p_value > 0.05
    assert same.low < 0 < same.high
    assert max(better.p_value, better.signed_rank_p_value) < 1e-6
    assert better.low > 0


def test_order_of_predictors_only_changes_signs() -> None:
    first, second = (table(values) for values in ([50.0, 60, 70, None, 40], [51.0, 55, None, 20, 44]))
    one_way, other_way = compare(first, second), compare(second, first)
    assert one_way.difference == -other_way.difference
    assert (one_way.low, one_way.high) == (-other_way.high, -other_way.low)
    assert one_way.p_value == other_way.p_value
    assert one_way.signed_rank_p_value == other_way.signed_rank_p_value
    assert (one_way.better, one_way.worse) == (other_way.worse, other_way.better) == (1, 2)
    assert (one_way.networks, one_way.failures, one_way.other_failures) == (3, 1, 1)
    assert (other_way.failures, other_way.other_failures) == (1, 1)


@pytest.mark.filterwarnings("error")
def test_a_single_difference_that_is_not_zero() -> None:
    first = table([50.0, 60.0])
    found = compare(first, table([50.0, 55.0]))
    assert (found.difference, found.signed_rank_p_value) == (2.5, 1.0)


def test_differences_without_variance() -> None:
    base = [50.0, 60.0, 70.0]
    same, shifted = compare(table(base), table(base)), compare(table([v + 1 for v in base]), table(base))
    assert (same.difference, same.low, same.high, same.p_value, same.signed_rank_p_value) == (0, 0, 0, 1, 1)
    assert (shifted.low, shifted.high, shifted.p_value) == (1, 1, 0)
    single, none = compare(table([50.0]), table([40.0])), compare(table([None]), table([40.0]))
    assert (single.networks, single.difference) == (1, 10)
    assert math.isnan(single.p_value)
    assert not single.is_significant
    assert (none.networks, none.failures) == (0, 1)
    assert math.isnan(none.difference)


def test_smaller_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    register_metric(Metric("loss", "cross-entropy", "nats", METRICS["top1"].score, higher_is_better=False))
    first, second = (table([1.0] * 3).assign(loss=values) for values in ([1.0, 2, 3], [2.0, 2, 9]))
    found = compare(first, second, "loss")
    assert (found.better, found.equal, found.worse) == (2, 1, 0)
    assert found.difference < 0


def test_holm() -> None:
    """The example of the R function p.adjust; NaN does not count as a comparison."""
    assert _holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = _holm([0.01, math.nan, 0.5])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("first", "second", "options", "match"),
    [
        (table([1.0]).drop(columns="status"), table([1.0]), {}, "no column 'status'"),
        (table([1.0]), table([1.0]), {"metric": "top7"}, "no column 'top7'"),
        (pd.concat([table([1.0])] * 2), table([1.0]), {}, "several rows"),
        (table([1.0], split="test"), table([1.0], split="deep"), {}, "different splits: test, deep"),
        (table([1.0]), table([1.0]), {"confidence": 95}, "confidence"),
    ],
)
def test_wrong_tables_are_refused(
    first: pd.DataFrame, second: pd.DataFrame, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        compare(first, second, **options)


# --- boards ---


def test_close_means_are_no_ranking(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    hardness = rng.normal(0, 8, 12)
    rows = [row("a", "first", "test", i, 60 + h + rng.normal(0, 6)) for i, h in enumerate(hardness)]
    rows += [row("b", "second", "test", i, 59 + h + rng.normal(0, 6)) for i, h in enumerate(hardness)]
    rows += [row("c", "lower", "test", i, 40 + h + rng.normal(0, 6)) for i, h in enumerate(hardness)]
    (board,) = read_results(one(tmp_path, rows)).boards()
    assert set(leaders(board, TEST)) == {"first", "second"}
    assert leaders(board, TEST)[0] == board.winner(TEST)
    pairs = compare_pairs(board, TEST)
    assert len(pairs) == 3
    assert all(found.p_adjusted >= found.p_value for found in pairs.values())
    few = [row("d", "few", "test", i, 60 + hardness[i]) for i in range(2)]
    (board,) = read_results(one(tmp_path / "few", rows + few)).boards()
    assert set(leaders(board, TEST)) == {"first", "second"}, "means over fewer networks are not comparable"


def test_best_is_never_the_one_that_failed_least(tmp_path: Path) -> None:
    """The second predictor is better wherever both have a value, and behind in the mean only because of its failure."""
    rows = [row("a", "first", "test", i, value) for i, value in enumerate([60.0, 60, 60, 12])]
    rows += [row("b", "second", "test", i, value) for i, value in enumerate([61.0, 61, 61, None])]
    (board,) = read_results(one(tmp_path / "a", rows)).boards()
    assert board.predictors == ["first", "second"]
    assert board.winner(TEST) is None
    assert leaders(board, TEST) == ()
    rows[4:7] = [row("b", "second", "test", i, 50.0) for i in range(3)]
    (board,) = read_results(one(tmp_path / "b", rows)).boards()
    assert board.winner(TEST) == "first"
    rows[4:] = [row("b", "second", "test", i, 99.0 if i == 3 else None) for i in range(4)]
    rows[3] = row("a", "first", "test", 3, None)
    (board,) = read_results(one(tmp_path / "c", rows)).boards()
    assert board.winner(TEST) is None, "they have no network in common"


@pytest.mark.parametrize("others", [[None, None], None])
def test_nothing_to_rank(tmp_path: Path, others: list[float | None] | None) -> None:
    rows = [row("a", "first", "test", i, 60.0) for i in range(2 if others else 1)]
    rows += [row("b", "second", "test", i, value) for i, value in enumerate(others or [50.0])]
    (board,) = read_results(one(tmp_path, rows)).boards()
    assert board.winner(TEST) is None


def test_failures_of_a_rival_alone_are_no_tie(tmp_path: Path) -> None:
    """Two common networks show no significant difference, but the rival failed on all others."""
    rows = [row("a", "best", "test", i, 60.0 + i % 3) for i in range(20)]
    rows += [row("b", "rival", "test", i, {3: 55.0, 7: 30.0}.get(i)) for i in range(20)]
    rows += [row("c", "equal", "test", i, 60.0 + (i + 1) % 3) for i in range(20)]
    (board,) = read_results(one(tmp_path, rows)).boards()
    assert compare_pairs(board, TEST)["best", "rival"].p_adjusted > 0.05
    assert leaders(board, TEST)[0] in ("best", "equal")
    assert set(leaders(board, TEST)) == {"best", "equal"}


def test_table_of_all_pairs(tmp_path: Path) -> None:
    rows = [
        row(name, name, split, i, 50.0 + i * len(name))
        for name in ("=a", "bb")
        for split in ("test", "predefined")
        for i in range(2)
    ]
    for one_row in rows:
        one_row["run"] += one_row["split"]
    found = comparison_table(read_results(one(tmp_path, rows)).boards())
    assert tuple(found.columns) == COMPARISONS
    assert found["split"].tolist() == ["test"]
    assert found[["method", "other"]].to_numpy().tolist() == [["'=a", "bb"]]
    assert found["difference"].tolist() == [0.0]


def test_different_tasks_have_boards_of_their_own(tmp_path: Path) -> None:
    """Values of another task or other options of its data are no rivals, nor those on other data of the same name."""
    rows = [row(run, run, "test", i, 30.0 + i + shift) for shift, run in enumerate("abcd") for i in range(4)]
    stated: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"task": "sure", "metric": "top5", "data_digest": "1"},
        "c": {"task": "sure", "metric": "top5", "data_digest": "2"},
        "d": {"task": "sure", "metric": "top5", "data_digest": "1", "data_options": {"sequence_length": 32}},
    }
    runs = {name: made_run(name, "test", 4, **about) for name, about in stated.items()}
    results = read_results(write(tmp_path, rows, runs))
    boards = results.boards()
    assert [(board.title, board.predictors, board.metric(TEST)) for board in boards] == [
        ("digits, task classification", ["a"], "top1"),
        ("digits, task sure, metric top5", ["c", "b"], "top5"),
        ("digits, task sure, metric top5, sequence_length 32", ["d"], "top5"),
    ]
    assert boards[1].winner(TEST) is None
    assert compare_pairs(boards[1], TEST) == {}
    assert results.disagreements() == [
        "digits: predictors were evaluated on different data (the numbers or digests differ)."
    ]
    assert leaderboard(boards)["setting"].tolist() == [board.setting for board in boards for _ in board.predictors]
    runs["c"]["data_digest"] = "1"
    boards = read_results(write(tmp_path, rows, runs)).boards()
    assert comparison_table(boards)["setting"].tolist() == ["task sure, metric top5"]
    assert boards[1].winner(TEST) == "c"
    del runs["a"], runs["d"]
    (board,) = read_results(write(tmp_path, rows[4:12], runs)).boards()
    assert board.title == "digits"
    assert "setting" not in leaderboard([board])


def test_networks_of_different_corpora_are_not_compared(tmp_path: Path) -> None:
    rows = [row(run, label, "test", i, 30.0 + i + shift) for run, label, shift in AS_MANY for i in range(4)]
    for corpus, pairs in (("x", 1), ("y", 0)):
        runs = {"a": made_run("a", "test", 4, corpus="x"), "b": made_run("b", "test", 4, corpus=corpus)}
        (board,) = read_results(write(tmp_path / corpus, rows, runs)).boards()
        assert len(compare_pairs(board, TEST)) == pairs
        assert (board.winner(TEST) is None) == (pairs == 0)
        assert {found[1] for found in board.win_rates(TEST).values()} == {4 * pairs}
        if not pairs:
            with pytest.raises(ConfigError, match="a and b have no values for the same networks"):
                comparison_text(tmp_path / corpus, "a", "b")


AS_MANY = (("a", "a", 0.0), ("b", "b", 1.0))


@pytest.mark.parametrize("attrs", [{"split": "val"}, {"images": "cifar10"}, {"image_split": "val"}])
def test_tables_of_other_networks_or_images_are_not_paired(attrs: dict[str, str]) -> None:
    """Tables of `evaluate` state in their attributes what columns of a folder of results state."""
    first, second = table([50.0, 60.0]), table([51.0, 62.0])
    first.attrs = {"split": "test", "images": "digits", "image_split": "test"}
    second.attrs = first.attrs | attrs
    with pytest.raises(
        ConfigError, match=f"compare: the tables are about different .*: .*, {next(iter(attrs.values()))}"
    ):
        compare(first, second)
    with pytest.raises(ConfigError, match="different"):
        compare(first.assign(split="test", images="digits", part="test"), second)
    second.attrs = dict(first.attrs)
    assert compare(first, second).networks == 2
