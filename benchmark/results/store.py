"""The folder of results: `networks.csv`, a row per network, and `runs.json`, what was evaluated.

Rows are added as they come, each waited for until it is on the disk, so whoever is killed loses one row at most: the
torn end of the last line, which is cut off.  A run is known by a digest of everything that could change its rows; the
same run again has nothing to do but what is missing.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmark.evaluation import FAILED, ROW
from benchmark.results.reading import read_runs
from deepnets.support import FormatError, exclusive, replace_file

__all__ = ["COLUMNS", "Results", "run_id"]

COLUMNS = ("run", "predictor", "split", "images", "part", "noise", *ROW)
"""Of `networks.csv`."""


def run_id(settings: Mapping[str, Any]) -> str:
    """A short digest of what decides the rows of a run."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Results:
    """A folder of results, which no other process may write to at the same time (`opened`).

    Parameters
    ----------
    folder
        Made if missing.

    Attributes
    ----------
    path
        The file of rows.
    runs
        What there is to say about each run, by its id.

    Raises
    ------
    FormatError
        If the files in it are not what they should be.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "networks.csv"
        self.runs: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[Results]:
        """Keep other processes out, and cut off what a killed process has not finished writing."""
        with exclusive(self.folder):
            self.runs = read_runs(self.folder)
            self._repair()
            yield self

    def rows(self) -> list[dict[str, str]]:
        """All rows, as texts by column."""
        if not self.path.exists():
            return []
        reader = csv.reader(io.StringIO(self.path.read_bytes().decode("utf-8", "replace"), newline=""))
        try:
            lines = list(reader)
        except csv.Error as error:
            raise FormatError(f"{self.path}: line {reader.line_num}: {error}; choose another folder") from error
        if not lines or tuple(lines[0]) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
            raise FormatError(
                f"{self.path}: is no table of results of this version; expected the columns {', '.join(COLUMNS)}; "
                "choose another folder"
            )
        return [dict(zip(COLUMNS, line, strict=True)) for line in lines[1:]]

    def finished(self, run: str) -> set[int]:
        """Networks that have a row in a run, failed ones included."""
        try:
            return {int(row["index"]) for row in self.rows() if row["run"] == run}
        except ValueError as error:
            raise FormatError(f"{self.path}: an index is not a number: {error}; choose another folder") from error

    def begin(self, run: str, about: Mapping[str, Any]) -> None:
        """Remember what a run is; one that is continued keeps the time at which it began."""
        started = self.runs.get(run, {}).get("started") or _now()
        self.runs[run] = {**about, "started": started, "finished": None}
        self._write_runs()

    def end(self, run: str) -> None:
        """Remember that a run has all its rows."""
        self.runs[run]["finished"] = _now()
        self._write_runs()

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row, and wait for the disk."""
        text = _line([_text(row[column]) for column in COLUMNS])
        if not self.path.exists():
            text = _line(list(COLUMNS)) + text
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def forget_failed(self, run: str) -> None:
        """Drop the rows of networks that failed in a run, so that they are tried again."""
        self._rewrite([row for row in self.rows() if not (row["run"] == run and row["status"] == FAILED)])

    def sort(self) -> None:
        """Bring rows into the order of runs and networks, whatever was ready first."""
        place = {run: number for number, run in enumerate(self.runs)}
        rows = self.rows()
        ordered = sorted(rows, key=lambda row: (place.get(row["run"], len(place)), int(row["index"])))
        if ordered != rows:
            self._rewrite(ordered)

    def _repair(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            self.path.unlink()  # not even the heading was written
        elif len(whole) < len(content):
            replace_file(self.path, whole)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = _line(list(COLUMNS)) + "".join(_line(list(row.values())) for row in rows)
        replace_file(self.path, text)

    def _write_runs(self) -> None:
        replace_file(self.folder / "runs.json", (json.dumps(self.runs, indent=1) + "\n"))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value)


def _line(fields: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)
    return buffer.getvalue()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
