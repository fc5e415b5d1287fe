"""The folder of results of trainings: `curves.csv`, a row per epoch, and `settings.json`.

The rows of a training are appended together at its end.  Incomplete rows of a killed process are removed when the
folder is opened again.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.evaluation import FAILED
from benchmark.metrics import DEFAULT_METRICS
from benchmark.results import CsvTable
from benchmark.training import SGDRecipe
from benchmark.training.recipe import current_names
from benchmark.training.start import UNFINISHED
from deepnets.support import (
    ConfigError,
    FormatError,
    abbreviated,
    exclusive,
    in_one_line,
    parse_json,
    read_whole,
    replace_file,
)

__all__ = ["COLUMNS", "TEXT_COLUMNS", "Curves", "group_of"]

COLUMNS = (
    *("predictor", "split", "index", "network", "images", "epoch", "train_loss", "train_top1", *DEFAULT_METRICS),
    *("seconds", "learning_rate", "num_params", "status", "reason"),
)
"""Columns of `curves.csv`."""

TEXT_COLUMNS = (*COLUMNS[: COLUMNS.index("seconds")], "perplexity", *COLUMNS[COLUMNS.index("seconds") :])
"""Columns of `curves.csv` of language models."""

_INTEGERS = ("index", "epoch", "num_params")
_TEXTS = ("predictor", "split", "network", "images", "status", "reason")
_ADDED = {"image_fingerprints"}  # settings that results of earlier versions do not have
_MOST_DIFFERENCES = 10  # settings that an error message lists

Key = tuple[str, str, str, str]
"""Identity of a training: predictor, split, name or index of the network, images."""


class Curves:
    """The file `curves.csv` of a folder, which is locked while it is open.

    Parameters
    ----------
    folder
        Created if it does not exist.
    columns
        Columns of the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Curves(Path(folder)).opened() as curves:
    ...     len(curves.table())
    0
    """

    def __init__(self, folder: Path, columns: Sequence[str] = COLUMNS) -> None:
        self.folder = folder
        self.columns = tuple(columns)
        self.path = folder / "curves.csv"
        self._table = CsvTable(self.path, self.columns)
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Curves]:
        """Lock the folder, and remove incomplete trainings of a killed process.

        Raises
        ------
        BusyError
            If another process has locked the folder.
        FormatError
            If the files have another format.
        """
        self._table.check()
        with exclusive(self.folder):
            self._repair()
            yield self

    def table(self) -> pd.DataFrame:
        """Return all rows.

        Raises
        ------
        FormatError
            If the file has another format.
        """
        return self._typed(self._table.rows())

    def _typed(self, rows: Sequence[Mapping[str, str]]) -> pd.DataFrame:
        """Convert rows to a table with numbers, after checking them."""
        table = pd.DataFrame(rows, columns=list(self.columns))
        try:
            for column in self.columns:
                if column in _TEXTS:
                    continue
                numbers = table[column].map(int if column in _INTEGERS else _float)
                table[column] = numbers.astype("int64" if column in _INTEGERS else "float64")
        except (ValueError, OverflowError) as error:
            text = in_one_line(error, 200)
            raise FormatError(f"{self.path}: is no table of training curves: {text}; choose another folder") from error
        return table

    def finished(self) -> set[Key]:
        """Return the trainings that have rows, failed ones included."""
        return {_key(row) for row in self._table.rows()}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append the rows of a training, and flush them to the disk."""
        self._table.append(rows)

    def remove_failed(self, trainings: Container[Key]) -> None:
        """Remove the rows of those of these trainings that failed, so that they are repeated."""
        rows = self._table.rows()
        kept = [row for row in rows if row["status"] != FAILED or _key(row) not in trainings]
        if len(kept) < len(rows):
            self._table.rewrite(kept)

    def check_images(self, label: str, split: str, images: str) -> None:
        """Check that there are no trainings of the same networks on other images, whose files would be replaced.

        Raises
        ------
        ConfigError
            If there are some.
        """
        start = group_of(label, split, "")
        rows = self._table.rows()
        trained = [row["images"] for row in rows if (row["predictor"], row["split"]) == (label, split)]
        others = trained or [name.removeprefix(start) for name in self._settings() if name.startswith(start)]
        if others and images not in others:
            raise ConfigError(
                f"{self.folder}: has networks of {split} trained from {label} on {others[0]}, whose files those for "
                f"{images} would replace; choose another folder, or another label of the initial parameters"
            )

    def check_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        """Check that new trainings have the settings of the existing ones, and store these settings.

        Parameters
        ----------
        name
            Name of the group of trainings.
        settings
            Values that JSON can represent.

        Raises
        ------
        ConfigError
            If the group has trainings with other settings.
        """
        known = self._settings()
        settings = json.loads(json.dumps(settings))
        before = _current(known[name]) if name in known else settings
        before = {**{key: settings[key] for key in _ADDED & settings.keys()}, **before}
        if differing := [key for key in {**before, **settings} if before.get(key) != settings.get(key)]:
            parts = [
                f"{key[:40]} {abbreviated(before.get(key))}, not {abbreviated(settings.get(key))}"
                for key in differing[:_MOST_DIFFERENCES]
            ]
            parts += ["..."] * (len(differing) > _MOST_DIFFERENCES)
            raise ConfigError(
                f"{self.folder}: has trainings from {name} with other settings ({'; '.join(parts)}); choose another "
                "folder, or another label of the initial parameters"
            )
        self._write_settings({**known, name: settings})

    def _repair(self) -> None:
        self._table.repair()
        rows = self._table.rows()
        self._typed(rows)
        settings = self._settings()
        groups = [group_of(row["predictor"], row["split"], row["images"]) for row in rows]
        epochs = {group: _current(settings[group])["epochs"] for group in settings.keys() & set(groups)}
        complete = {
            _key(row)
            for row, group in zip(rows, groups, strict=True)
            if row["status"] == FAILED or int(row["epoch"]) >= epochs.get(group, 0)
        }
        kept = [row for row in rows if _key(row) in complete]
        if len(kept) < len(rows):
            self._table.rewrite(kept)
        begun = {path.parent.name for path in self.folder.glob(f"*/*{UNFINISHED}")}
        used = {name: found for name, found in settings.items() if name in groups or label_of(name) in begun}
        if len(used) < len(settings):  # those of a command that was interrupted before its first training
            self._write_settings(used)

    def _write_settings(self, settings: Mapping[str, Any]) -> None:
        replace_file(self.folder / "settings.json", json.dumps(settings, indent=1) + "\n")

    def _settings(self) -> dict[str, Any]:
        path = self.folder / "settings.json"
        try:
            known = parse_json(read_whole(path)) if path.is_file() else {}
        except (OSError, ValueError) as error:
            raise FormatError(f"{path}: is damaged: {error}; remove it, or choose another folder") from error
        if not isinstance(known, dict) or not all(map(_are_settings, known.values())):
            raise FormatError(f"{path}: does not contain settings; remove it, or choose another folder")
        return known


def _are_settings(values: Any) -> bool:
    return isinstance(values, dict) and isinstance(values.get("epochs", 0), int | float)


def _current(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the fields and names of this version."""
    return {**SGDRecipe().to_dict(), **current_names(values)}


def _key(row: Mapping[str, str]) -> Key:
    return row["predictor"], row["split"], row["network"] or row["index"], row["images"]


def _float(text: str) -> float:
    return float(text) if text else math.nan


def group_of(label: str, split: str, images: str) -> str:
    """The name of trainings that must have equal settings."""
    return f"{label} on {split} with {images}"


def label_of(group: str) -> str:
    """The label in the result of `group_of`; it contains no spaces."""
    return group.partition(" ")[0]
