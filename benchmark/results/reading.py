"""Reading a folder of results: `networks.csv`, which may still be growing, and `runs.json`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.evaluation import FAILED, OK
from benchmark.metrics import DEFAULT_METRICS, METRICS
from benchmark.results.spreadsheets import unescape_formula
from deepnets.support import FormatError, MissingDataError, parse_csv, parse_json, read_whole

__all__ = ["CORRUPTION", "KEY", "metric_columns", "moment", "read_rows", "read_runs"]

KEY = ["predictor", "split", "images", "part", "noise"]
"""The columns that identify what was evaluated on which images."""

CORRUPTION = "corruption"
"""Column of the corruption of the images, such as "fog" or "fog:3"; files without corrupted images do not have it."""

ROWS, RUNS = "networks.csv", "runs.json"
TEXTS = ("run", "predictor", "split", "images", "part", "network", "batch_norm", "status", "reason")
INTEGERS = ("index",)
NUMBERS = (
    *("noise", "num_nodes", "num_params", "depth", *DEFAULT_METRICS, "num_images", "batch_size"),
    *("graph_seconds", "build_seconds", "predict_seconds", "evaluate_seconds", "memory_mb"),
)
ADDED = ("nonfinite_images",)
"""Counts that files of earlier versions lack, where they are 0."""

_KNOWN = {*TEXTS, *INTEGERS, *NUMBERS, *ADDED, CORRUPTION}

EARLIEST = datetime.min.replace(tzinfo=timezone.utc)


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Read `runs.json`, the descriptions of the runs.

    Parameters
    ----------
    folder
        Folder of results.

    Returns
    -------
    The description of each run by its id, in the order in which they were asked for last; an empty dict if there is no
    file.

    Raises
    ------
    FormatError
        If the file has another format.

    Examples
    --------
    >>> read_runs(Path("no-such-folder"))
    {}
    """
    path = folder / RUNS
    if not path.is_file():
        return {}
    try:
        runs = parse_json(read_whole(path).decode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: expected JSON: {error}; restore it, or start again in another folder") from error
    if not isinstance(runs, dict) or not all(isinstance(run, dict) for run in runs.values()):
        raise FormatError(f"{path}: expected an object with an object for each run; start again in another folder")
    return dict(sorted(runs.items(), key=lambda run: _asked(run[1])))


def _asked(about: Mapping[str, Any]) -> datetime:
    """When a run was asked for last; in files of earlier versions, when it was started."""
    return moment(about.get("asked")) or moment(about.get("started")) or EARLIEST


def moment(text: Any) -> datetime | None:
    """Parse a time in ISO format.

    Parameters
    ----------
    text
        The time; without a time zone, it is UTC.

    Returns
    -------
    The time; None if the text is no time.

    Examples
    --------
    >>> moment("2024-05-01T12:00:00").isoformat()
    '2024-05-01T12:00:00+00:00'
    """
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def read_rows(folder: Path) -> pd.DataFrame:
    """Read all rows of `networks.csv`, without a last line that has no line break, because it may be incomplete.

    Parameters
    ----------
    folder
        Folder of results.

    Returns
    -------
    One row per network and run, with the columns `run` and `KEY`, and those of `benchmark.evaluate`.  A network that
    was evaluated again has several rows, of which the last one counts.  Columns that files of earlier versions lack are
    filled.  Columns of metrics are numbers, registered or not.  The column `corruption` is empty for images that are
    not corrupted.

    Raises
    ------
    MissingDataError
        If there are no rows.
    FormatError
        If the file has another format.

    Examples
    --------
    >>> read_rows(Path("no-such-folder"))
    Traceback (most recent call last):
        ...
    deepnets.support.errors.MissingDataError: results: there is no no-such-folder/networks.csv; \
create it with deepnets bench, or give another --results
    """
    path = folder / ROWS
    if not path.is_file():
        hint = "create it with deepnets bench, or give another --results"
        raise MissingDataError(f"results: there is no {path}; {hint}")
    empty = f"results: {path} has no rows yet; evaluate networks with deepnets bench"
    try:
        text = read_whole(path).decode("utf-8-sig", "replace").replace("\0", "\ufffd")
        header, body = _parsed(text)
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from error
    if not body:
        raise MissingDataError(empty)
    table = pd.DataFrame([map(unescape_formula, line) for line in body], columns=header, dtype=str)
    return _typed(table.assign(**{name: "" for name in (*ADDED, CORRUPTION) if name not in header}), path)


def metric_columns(rows: pd.DataFrame) -> list[str]:
    """Return the columns of rows that hold metrics, also of those that this process has not registered.

    Examples
    --------
    >>> metric_columns(pd.DataFrame({"index": [0], "top1": 52.5, "mine": 0.5, "note": "a text"}))
    ['top1', 'mine']
    """
    others = set(rows.select_dtypes("number")) - _KNOWN
    return [name for name in rows if name in DEFAULT_METRICS or name in others]


def _parsed(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows, without an incomplete last line; raise a `ValueError` at the first wrong row."""
    lines = parse_csv(text)
    header = next(lines, [])
    whole = text.endswith("\n")
    if missing := [name for name in (*TEXTS, *INTEGERS, *NUMBERS) if name not in header]:
        if not whole and next(lines, None) is None:  # killed while the header was written
            return header, []
        raise ValueError(f"has no column {missing[0]!r}; expected a file of deepnets bench")
    body: list[list[str]] = []
    for number, line in enumerate(lines, 2):
        if len(line) == len(header):
            body.append(line)
        elif not whole and next(lines, None) is None:
            return header, body
        else:
            raise ValueError(f"row {number}: expected {len(header)} fields, got {len(line)}")
    return header, body if whole else body[:-1]


def _is_numeric(column: pd.Series) -> bool:
    """Whether a column has numbers only, such as that of a metric which this process has not registered."""
    empty = column.str.strip().str.lower().isin(("", "nan"))
    return not bool(empty.all()) and bool(pd.to_numeric(column[~empty], errors="coerce").map(np.isfinite).all())


def _typed(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Convert columns to numbers, and check all values."""

    def check(bad: npt.NDArray[np.bool_], name: str, expected: str) -> None:
        if bad.any():
            at = int(np.argmax(bad))
            got = str(texts[name].iloc[at])
            raise FormatError(f"{path}: row {at + 2}: {name}: expected {expected}, got {got[:40]!r}")

    texts = rows.copy()
    others = [name for name in METRICS if name in rows and name not in _KNOWN]
    others += [name for name in rows if name not in _KNOWN | {*METRICS} and _is_numeric(rows[name])]
    for name in (*NUMBERS, *INTEGERS, *ADDED, *others):
        values = pd.to_numeric(texts[name], errors="coerce").to_numpy(float)
        empty = texts[name].str.strip().str.lower().isin(("", "nan")).to_numpy(bool)
        check(~np.isfinite(values) & ~empty, name, "a number")
        rows[name] = values
    for name in INTEGERS:
        values = rows[name].to_numpy()
        check(~(values >= 0) | (values != np.floor(values)), name, "an integer, 0 or more")
        rows[name] = values.astype(np.int64)
    rows["noise"] = rows["noise"].fillna(0.0)
    rows[list(ADDED)] = rows[list(ADDED)].fillna(0).astype(np.int64)
    status = rows["status"].to_numpy()
    check(~np.isin(status, (OK, FAILED)), "status", f"{OK} or {FAILED}")
    for name in DEFAULT_METRICS:
        values, metric = rows[name].to_numpy(), METRICS[name]
        check(
            (status == OK) & ~((values >= metric.minimum) & (values <= metric.maximum)),
            name,
            "percent, since its status is ok",
        )
    return rows
