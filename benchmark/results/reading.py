"""Reading a folder of results: `networks.csv`, which may still be growing, and `runs.json`."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.evaluation import FAILED, OK
from deepnets.support import ConfigError, FormatError

__all__ = ["KEY", "METRICS", "moment", "read_rows", "read_runs"]

METRICS = ("top1", "top5")
KEY = ["predictor", "split", "images", "part", "noise"]
"""The columns that say what was evaluated, on what."""

ROWS, RUNS = "networks.csv", "runs.json"
TEXTS = ("run", "predictor", "split", "images", "part", "network", "batch_norm", "status", "reason")
INTEGERS = ("index",)
NUMBERS = (
    *("noise", "num_nodes", "num_params", "depth", "top1", "top5", "num_images", "batch_size"),
    *("graph_seconds", "build_seconds", "predict_seconds", "evaluate_seconds", "memory_mb"),
)
EARLIEST = datetime.min.replace(tzinfo=timezone.utc)


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """What there is to say about each run, by its id, the oldest first; nothing if there is no `runs.json`."""
    path = folder / RUNS
    if not path.is_file():
        return {}
    try:
        runs = json.loads(path.read_bytes().decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: expected JSON: {error}; restore it, or start again in another folder") from error
    if not isinstance(runs, dict) or not all(isinstance(run, dict) for run in runs.values()):
        raise FormatError(f"{path}: expected an object with an object for each run; start again in another folder")
    return dict(sorted(runs.items(), key=lambda run: moment(run[1].get("started")) or EARLIEST))


def moment(text: Any) -> datetime | None:
    """A time in ISO format; `None` if it is none.  One without a time zone is taken as UTC."""
    try:
        time = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def read_rows(folder: Path) -> pd.DataFrame:
    """All rows of `networks.csv`, but for a last line that is torn: one row per network and run, or more.

    Raises
    ------
    ConfigError
        If there are none.
    FormatError
        If the file is not what it should be.
    """
    path = folder / ROWS
    if not path.is_file():
        raise ConfigError(f"results: there is no {path}; python -m benchmark run makes it, or give another --results")
    empty = f"results: {path} has no rows yet; evaluate something with python -m benchmark run"
    data = path.read_bytes()
    text = data.decode("utf-8-sig", "replace").replace("\0", "\ufffd")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = list(reader)
    except csv.Error as error:
        raise FormatError(f"{path}: line {reader.line_num}: {error}") from error
    header = lines[0] if lines else []
    if missing := [name for name in (*TEXTS, *INTEGERS, *NUMBERS) if name not in header]:
        if len(lines) <= 1 and not text.endswith("\n"):  # killed before the header was whole
            raise ConfigError(empty)
        raise FormatError(f"{path}: has no column {missing[0]!r}; expected what python -m benchmark run writes")
    body = lines[1:]
    if body and not text.endswith("\n") and not _whole(body[-1], header):
        body = body[:-1]
    if not body:
        raise ConfigError(empty)
    for number, line in enumerate(body, 2):
        if len(line) != len(header):
            raise FormatError(f"{path}: row {number}: expected {len(header)} fields, got {len(line)}")
    return _typed(pd.DataFrame(body, columns=header, dtype=str), path)


def _whole(line: list[str], header: list[str]) -> bool:
    """Whether a line without an end has everything but, perhaps, the end of its reason."""
    return len(line) == len(header) and line[header.index("status")] in (OK, FAILED)


def _typed(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    def complain(bad: npt.NDArray[np.bool_], name: str, expected: str) -> None:
        if bad.any():
            at = int(np.argmax(bad))
            got = str(texts[name].iloc[at])
            raise FormatError(f"{path}: row {at + 2}: {name}: expected {expected}, got {got[:40]!r}")

    texts = rows.copy()
    for name in (*NUMBERS, *INTEGERS):
        values = pd.to_numeric(texts[name], errors="coerce").to_numpy(float)
        empty = texts[name].str.strip().str.lower().isin(("", "nan")).to_numpy(bool)
        complain(~np.isfinite(values) & ~empty, name, "a number")
        rows[name] = values
    for name in INTEGERS:
        values = rows[name].to_numpy()
        complain(~(values >= 0) | (values != np.floor(values)), name, "an integer, 0 or more")
        rows[name] = values.astype(np.int64)
    rows["noise"] = rows["noise"].fillna(0.0)
    status = rows["status"].to_numpy()
    complain(~np.isin(status, (OK, FAILED)), "status", f"{OK} or {FAILED}")
    for name in METRICS:
        values = rows[name].to_numpy()
        complain((status == OK) & ~((values >= 0) & (values <= 100)), name, "percent, since its status is ok")
    return rows
