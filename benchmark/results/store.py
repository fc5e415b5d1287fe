"""CSV tables that survive crashes, and the folder of results with `networks.csv` and `runs.json`.

Rows are appended and flushed to the disk one by one, so a killed process loses at most the row that it was writing.  A
run is identified by a digest of everything that can change its rows; the same run again evaluates only what is missing.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmark.evaluation import FAILED, row_columns
from benchmark.evaluation.rows import RUN_COLUMNS
from benchmark.metrics import DEFAULT_METRICS
from benchmark.results.reading import ADDED, CORRUPTION, read_runs
from benchmark.results.spreadsheets import escape_formula, unescape_formula
from deepnets.support import FormatError, check_regular, exclusive, in_one_line, parse_csv, read_whole, replace_file

__all__ = ["COLUMNS", "CsvTable", "ResultStore", "run_id"]

COLUMNS = (*RUN_COLUMNS, *row_columns())
"""Columns of `networks.csv`, followed by those of metrics beside the default ones."""


class CsvTable:
    """A CSV file to which rows are appended, one process at a time.

    Parameters
    ----------
    path
        The file, which is created with the first row.
    columns
        The expected columns.
    optional
        Columns that may follow; they are added to an existing file with the next row.

    Notes
    -----
    Texts that spreadsheet programs would execute are escaped in the file (`benchmark.results.spreadsheets`).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = CsvTable(Path(folder) / "table.csv", ("name", "value"))
    ...     table.append([{"name": "a", "value": 1.5}, {"name": "b", "value": math.nan}])
    ...     table.rows()
    [{'name': 'a', 'value': '1.5'}, {'name': 'b', 'value': ''}]
    """

    def __init__(self, path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.optional = tuple(optional)

    def rows(self) -> list[dict[str, str]]:
        """Return all rows, as texts by column; without a file, none.

        Raises
        ------
        FormatError
            If the file has other columns, or a row of another length.
        """
        if not self.path.exists():
            return []
        lines = parse_csv(self._content().decode("utf-8", "replace"))
        rows: list[dict[str, str]] = []
        try:
            header = tuple(next(lines, ()))
            if header[: len(self.columns)] != self.columns:
                raise self._other_columns()
            for line in lines:
                if len(line) != len(header):
                    raise self._other_columns()
                rows.append(dict(zip(header, map(unescape_formula, line), strict=True)))
        except ValueError as error:
            raise FormatError(f"{self.path}: {error}; choose another folder") from error
        return rows

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows in one write, and flush them to the disk."""
        header = self._header()
        if missing := [name for name in self.optional if header and name not in header]:
            self.rewrite([{**row, **dict.fromkeys(missing, "")} for row in self.rows()])
            header = self._header()
        names = header or (*self.columns, *self.optional)
        text = "" if header else _line(names)
        text += "".join(_line([_text(row.get(name, math.nan)) for name in names]) for row in rows)
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace all rows, atomically."""
        names = tuple(rows[0]) if rows else (*self.columns, *self.optional)
        body = "".join(_line([_text(row[name]) for name in names]) for row in rows)
        replace_file(self.path, _line(names) + body)

    def check(self) -> None:
        """Check that an existing file is a table with these columns, before anything is written.

        Raises
        ------
        FormatError
            If it is another file, which is not changed.
        """
        if not self.path.exists():
            return
        with self._located():
            check_regular(self.path)
            with self.path.open("rb") as file:
                begin = file.readline()
        header = _line(self.columns).encode().rstrip(b"\n")
        whole = begin.startswith(header) and begin[len(header) :][:1] in (b"", b",", b"\n", b"\r")
        torn = header.startswith(begin)  # a killed process has not finished writing it
        if not (whole or torn):
            raise self._other_columns()

    def _other_columns(self) -> FormatError:
        columns = ", ".join(self.columns)
        return FormatError(
            f"{self.path}: is no table of this version; expected the columns {columns}; choose another folder"
        )

    def repair(self) -> None:
        """Remove a last line that a killed process has not finished writing.

        Raises
        ------
        FormatError
            As `check`.
        """
        if not self.path.exists():
            return
        self.check()
        content = self._content()
        complete = content[: content.rfind(b"\n") + 1]
        if not complete:
            self.path.unlink()  # not even the header is complete
        elif len(complete) < len(content):
            replace_file(self.path, complete)

    def _content(self) -> bytes:
        with self._located():
            return read_whole(self.path)

    @contextlib.contextmanager
    def _located(self) -> Iterator[None]:
        """Name the file in errors of the operating system."""
        try:
            yield
        except OSError as error:
            raise FormatError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _header(self) -> tuple[str, ...]:
        if not self.path.exists():
            return ()
        with self.path.open(encoding="utf-8", errors="replace", newline="") as file:
            return tuple(next(csv.reader(file), ()))


def run_id(settings: Mapping[str, Any]) -> str:
    """Return a short digest of the settings that determine the rows of a run.

    Examples
    --------
    >>> run_id({"seed": 0}) == run_id({"seed": 0}) != run_id({"seed": 1})
    True
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class ResultStore:
    """A folder of results for writing, which is locked while it is open.

    Parameters
    ----------
    folder
        Created if it does not exist.
    metrics
        Names of metrics beside the default ones, which get columns of their own.
    corrupted
        Whether rows of corrupted images are added, which have a column `corruption`.

    Attributes
    ----------
    path
        The file `networks.csv`.
    runs
        Descriptions of the runs by id, as stored in `runs.json`.

    Raises
    ------
    FormatError
        If the files in the folder have another format.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, ResultStore(folder).opened() as store:
    ...     store.begin("a1", {"split": "test"})
    ...     store.append({"run": "a1", "index": 0, "status": "ok"})
    ...     store.finished("a1")
    {0}
    """

    def __init__(self, folder: Path | str, metrics: Iterable[str] = (), *, corrupted: bool = False) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "networks.csv"
        self.runs: dict[str, dict[str, Any]] = {}
        others = [name for name in metrics if name not in DEFAULT_METRICS]
        required = [name for name in COLUMNS if name not in ADDED]
        self._table = CsvTable(self.path, required, [*ADDED, *others, *([CORRUPTION] if corrupted else [])])

    @contextlib.contextmanager
    def opened(self) -> Iterator[ResultStore]:
        """Lock the folder, and remove a row that a killed process has not finished writing.

        Raises
        ------
        BusyError
            If another process has locked the folder.
        FormatError
            If the folder has files of these names that are not those of a folder of results; nothing is changed.
        """
        self._check()
        with exclusive(self.folder):
            self.runs = self._check()
            self._table.repair()
            yield self

    def _check(self) -> dict[str, dict[str, Any]]:
        """Return the descriptions of the runs, after checking that all existing files are those of a run."""
        self._table.check()
        runs = read_runs(self.folder)
        if any("started" not in about for about in runs.values()):
            raise FormatError(f"{self.folder / 'runs.json'}: was not written by this command; choose another folder")
        return runs

    def rows(self) -> list[dict[str, str]]:
        """Return all rows, as texts by column."""
        return self._table.rows()

    def finished(self, run: str) -> set[int]:
        """Return the indices of the networks that have a row in a run, failed ones included."""
        try:
            indices = [(row["run"], int(row["index"])) for row in self._table.rows()]
        except ValueError as error:
            text = in_one_line(error, 200)
            raise FormatError(f"{self.path}: an index is not a number: {text}; choose another folder") from error
        return {index for name, index in indices if name == run}

    def begin(self, run: str, about: Mapping[str, Any]) -> None:
        """Store the description of a run; a run that is resumed keeps its time of start."""
        started = self.runs.get(run, {}).get("started") or _now()
        self.runs[run] = {**about, "started": started, "finished": None, "asked": _now("microseconds")}
        self._write_runs()

    def ask(self, run: str) -> None:
        """Store that a run was asked for again of which all rows exist: it is the newest now."""
        about = self.runs[run]
        self.runs[run] = {**about, "finished": about.get("finished") or _now(), "asked": _now("microseconds")}
        self._write_runs()

    def end(self, run: str) -> None:
        """Store that a run is complete."""
        self.runs[run]["finished"] = _now()
        self._write_runs()

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row, and flush it to the disk."""
        self._table.append([row])

    def remove_failed(self, run: str, indices: Iterable[int]) -> set[int]:
        """Remove the rows of those networks that failed in a run, to evaluate them again, and return their indices."""
        asked = {str(index) for index in indices}

        def again(row: Mapping[str, str]) -> bool:
            return row["run"] == run and row["status"] == FAILED and row["index"] in asked

        rows = self._table.rows()
        removed = {int(row["index"]) for row in rows if again(row)}
        if removed:
            self._table.rewrite([row for row in rows if not again(row)])
        return removed

    def sort(self) -> None:
        """Sort rows by run and index of the network."""
        position = {run: number for number, run in enumerate(self.runs)}
        rows = self._table.rows()
        ordered = sorted(rows, key=lambda row: (position.get(row["run"], len(position)), int(row["index"])))
        if ordered != rows:
            self._table.rewrite(ordered)

    def _write_runs(self) -> None:
        replace_file(self.folder / "runs.json", json.dumps(self.runs, indent=1) + "\n")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    return escape_formula(str(value))


def _line(fields: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)
    return buffer.getvalue()


def _now(precision: str = "seconds") -> str:
    return datetime.now(timezone.utc).isoformat(timespec=precision)
