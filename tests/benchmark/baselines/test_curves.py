"""Curves of trainings: means over networks, tables as text, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.baselines import curves_text, draw_curves
from benchmark.baselines.curves import mean_curves
from benchmark.baselines.store import COLUMNS


def test_failed_trainings_count_as_zero(tmp_path: Path) -> None:
    def row(index: int, epoch: int, top1: float, status: str = "ok") -> dict[str, Any]:
        texts = {"predictor": "a", "split": "test", "network": "", "images": "digits", "status": status, "reason": ""}
        return {**dict.fromkeys(COLUMNS, 1.0), **texts, "index": index, "epoch": epoch, "top1": top1}

    rows = [row(0, 1, 10.0), row(0, 2, np.nan), row(0, 3, 30.0), row(1, 1, 20.0), row(1, 3, 50.0)]
    table = pd.DataFrame([*rows, row(2, 0, np.nan, "failed")])
    means = mean_curves(table)
    assert means["epoch"].tolist() == [1, 3]
    assert means["mean"].tolist() == pytest.approx([10.0, 80 / 3])
    expected = [np.std([10, 20, 0]) / 3**0.5, np.std([30, 50, 0]) / 3**0.5]
    assert means["standard_error"].tolist() == pytest.approx(expected)
    assert means["successful_mean"].tolist() == [15.0, 40.0]
    assert means["networks"].tolist() == [3, 3]
    assert means["failures"].tolist() == [1, 1]
    assert curves_text(table).splitlines()[1:] == [
        "       epoch           a",
        "           1    10.0±4.7",
        "           3   26.7±11.9",
        "    networks           3",
        "      failed           1",
        "without them        40.0",
    ]
    detection = table.rename(columns={"top1": "ap"}).assign(split="models")
    assert mean_curves(detection, "ap")["mean"].tolist() == pytest.approx([10.0, 80 / 3])
    losses = mean_curves(table, "train_loss")
    assert losses["mean"].tolist() == [1.0, 1.0, 1.0]  # a loss of 0 would be the best
    assert draw_curves(table, tmp_path / "a.png")
    failed = table[table["status"] == "failed"]
    assert curves_text(failed).splitlines()[-1].split() == ["failed", "1"]
    assert not draw_curves(failed, tmp_path / "b.png")
    assert curves_text(table[:0]) == "no network has been trained yet"
