"""Runs of `python -m benchmark`, and the tables of results that they write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
VARYING = ["graph_seconds", "build_seconds", "predict_seconds", "evaluate_seconds", "memory_mb"]


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "networks.csv", keep_default_na=False, dtype=str)


def lasting(folder: Path) -> str:
    """Return the rows without times and memory, which vary."""
    return str(table_of(folder).drop(columns=VARYING).to_csv(index=False))


def reasons(folder: Path, predictor: str) -> list[str]:
    table = table_of(folder)
    return list(table.loc[table["predictor"] == predictor, "reason"])


def command(*words: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
