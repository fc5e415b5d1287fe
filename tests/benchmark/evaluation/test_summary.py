"""Summaries of tables: means, standard errors, failures, and metrics of other ranges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import METRICS, Metric, register_metric, summarize
from deepnets import ConfigError


def results(values: list[float], failures: int = 0) -> pd.DataFrame:
    n = len(values)
    table = pd.DataFrame({"index": range(n), "top1": values, "top5": [100 - value for value in values], "status": "ok"})
    failed = pd.DataFrame({"index": range(n, n + failures), "top1": math.nan, "top5": math.nan, "status": "failed"})
    return pd.concat([failed, table], ignore_index=True) if failures else table


def test_summary() -> None:
    """Failures count as 0; the error is that of the population: divided by n, not by n - 1."""
    summary = summarize(results([60.0, 70.0, 65.0, 61.0], failures=2))
    assert summary.mean == pytest.approx(256 / 6)
    values = [60, 70, 65, 61, 0, 0]
    squares = sum((value - 256 / 6) ** 2 for value in values)
    assert summary.standard_error == pytest.approx(math.sqrt(squares / 6) / math.sqrt(6))
    assert summary.successful_mean == 64
    assert summary.successful_standard_error == pytest.approx(math.sqrt((16 + 36 + 1 + 9) / 4) / math.sqrt(4))
    assert (summary.best, summary.best_index, summary.networks, summary.failures) == (70, 1, 6, 2)
    assert str(summary) == "42.7±12.4, best 70.0 (network 1), 6 networks, 2 failed (64.0±2.0 without them)"
    assert summarize(results([60.0, 70.0]), "top5").best_index == 0


def test_a_worst_value_counts_for_every_network_without_a_value() -> None:
    """Those that failed, and those whose value is not a number."""
    summary = summarize(results([1.0, 2.0, math.nan], failures=1).rename(columns={"top1": "loss"}), "loss", worst=10)
    assert (summary.mean, summary.failures) == (23 / 4, 2)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.integers(0, 19))
def test_a_failure_never_raises_a_mean(values: list[float], place: int) -> None:
    table = results(values)
    before = summarize(table)
    place %= len(values)
    table.loc[place, ["status", "top1"]] = ["failed", math.nan]
    after = summarize(table)
    assert after.mean <= before.mean + 1e-9
    assert after.mean == pytest.approx(before.mean - values[place] / len(values), abs=1e-9)
    assert (after.networks, after.failures) == (before.networks, 1)


@pytest.mark.parametrize(
    ("bounds", "mean"),
    [
        ({}, 2.0),  # without a bound, failures have no value
        ({"minimum": 0.0}, 2.0),  # 0 would be the best value
        ({"maximum": 10.0}, 14 / 3),
        ({"higher_is_better": True}, 2.0),
        ({"higher_is_better": True, "minimum": -1.0}, 1.0),
    ],
)
def test_failures_and_other_metrics(bounds: dict[str, Any], mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    settings = {"higher_is_better": False, **bounds}
    register_metric(Metric("other", "other", "", METRICS["top1"].score, **settings))
    table = results([1.0, 3.0], failures=1).assign(other=lambda table: table["top1"])
    summary = summarize(table, "other")
    assert (summary.mean, summary.failures) == (pytest.approx(mean), 1)
    assert summary.successful_mean == 2.0
    assert summary.best == (3.0 if settings["higher_is_better"] else 1.0)


def test_values_that_are_not_finite_have_no_mean() -> None:
    table = results([1.0, 3.0, math.inf, math.nan])
    table["loss"] = table["top1"]
    summary = summarize(table, "loss")
    assert (summary.mean, summary.best, summary.networks, summary.failures) == (2.0, 3.0, 4, 2)


def test_summary_without_results() -> None:
    summary = summarize(results([], failures=3))
    assert summary.mean == summary.standard_error == 0
    assert math.isnan(summary.successful_mean)
    assert math.isnan(summary.best)
    assert (summary.best_index, summary.networks, summary.failures) == (-1, 3, 3)
    with pytest.raises(ConfigError, match="metric: the table has no column 'top3'; it has index, top1"):
        summarize(results([1.0]), "top3")


def test_summary_of_the_published_results() -> None:
    """66.9±0.3 for GHN-2 on CIFAR-10: with n - 1 the error would be 0.34826."""
    file = Path(__file__).parents[4] / "shared" / "data" / "published" / "results_cifar10.json"
    if not file.exists():
        pytest.skip("the published results are not here")
    import json

    rows = json.loads(file.read_text())["test"]
    summary = summarize(results([rows[str(i)]["ghn2_test_acc"] for i in range(len(rows))]))
    assert (round(summary.mean, 4), round(summary.standard_error, 5)) == (66.878, 0.34792)
    assert (round(summary.best, 2), summary.best_index) == (77.12, 210)
