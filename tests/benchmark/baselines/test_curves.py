"""Curves of trainings: means over networks, tables as text, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.baselines import curves_text, draw_curves
from benchmark.baselines.curves import mean_curves
from benchmark.baselines.runs import COLUMNS


def test_means_are_over_networks_that_did_not_fail(tmp_path: Path) -> None:
    def row(index: int, epoch: int, top1: float, status: str = "ok") -> dict[str, Any]:
        texts = {"predictor": "a", "split": "test", "network": "", "images": "digits", "status": status, "reason": ""}
        return {**dict.fromkeys(COLUMNS, 1.0), **texts, "index": index, "epoch": epoch, "top1": top1}

    rows = [row(0, 1, 10.0), row(0, 2, np.nan), row(0, 3, 30.0), row(1, 1, 20.0), row(1, 3, 50.0)]
    table = pd.DataFrame([*rows, row(2, 0, np.nan, "failed")])
    means = mean_curves(table)
    assert means["epoch"].tolist() == [1, 3]
    assert means["mean"].tolist() == [15.0, 40.0]
    assert means["standard_error"].tolist() == pytest.approx([5 / 2**0.5, 10 / 2**0.5])
    assert means["networks"].tolist() == [3, 3]
    assert means["failures"].tolist() == [1, 1]
    assert curves_text(table).splitlines()[1:] == [
        "   epoch          a",
        "       1   15.0±3.5",
        "       3   40.0±7.1",
        "networks          3",
        "  failed          1",
    ]
    assert draw_curves(table, tmp_path / "a.png")
    failed = table[table["status"] == "failed"]
    assert curves_text(failed).splitlines()[-1].split() == ["failed", "1"]
    assert not draw_curves(failed, tmp_path / "b.png")
    assert curves_text(table[:0]) == "no network has been trained yet"
