"""What results say, in numbers: one summary per predictor and split, comparisons, failures in groups.

Labels and reasons are whatever users and their code made of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.evaluation import FAILED, FOR_CHOOSING, OK, Summary, summarize
from benchmark.results.reading import KEY, METRICS, ROWS, read_rows, read_runs
from deepnets.support import ConfigError

__all__ = [
    "IMAGE_NAMES",
    "LEADERBOARD",
    "NAMES",
    "ROWS",
    "SPLITS",
    "Board",
    "Cell",
    "Column",
    "Failures",
    "Results",
    "leaderboard",
    "read_results",
    "usual_metric",
]

LEADERBOARD = (
    *("method", "split", "images", "part", "noise", "metric", "mean", "standard_error", "best", "best_index"),
    *("networks", "failures"),
)
"""Columns of `leaderboard.csv`."""

SPLITS = ("test", "val", "wide", "deep", "dense", "bnfree", "predefined", "search", "train")  # as tables show them

NAMES = {"resnet50": "ResNet-50", "vit": "ViT"}
IMAGE_NAMES = {"digits": "digits", "cifar10": "CIFAR-10", "imagenet": "ImageNet"}


class Column(NamedTuple):
    """The networks of a split, on one part of the images."""

    split: str
    part: str

    @property
    def usual(self) -> bool:
        """Whether the part is the one that the split is usually evaluated on."""
        return self.part == ("val" if self.split in FOR_CHOOSING else "test")

    @property
    def rank(self) -> tuple[int, str, bool, str]:
        """The order of columns."""
        place = SPLITS.index(self.split) if self.split in SPLITS else len(SPLITS)
        return place, self.split, not self.usual, self.part

    def __str__(self) -> str:
        return self.split if self.usual else f"{self.split} ({self.part} images)"


@dataclass(frozen=True)
class Cell:
    """One predictor on one column.

    Attributes
    ----------
    rows
        One row per network, by index.
    metric
        What the summary is of.
    run
        The run that the rows are of.
    wanted
        How many networks the run is of; there are fewer rows if it has not finished.
    asked
        Images in a batch that were asked for; 0 if that is not known.
    split_size
        How many networks the split has; 0 if that is not known.
    """

    rows: pd.DataFrame
    metric: str
    run: str
    wanted: int
    asked: int
    split_size: int

    @cached_property
    def summary(self) -> Summary:
        """Mean, standard error, best and failures."""
        return summarize(self.rows, self.metric)

    @cached_property
    def fine(self) -> pd.DataFrame:
        """The rows of networks that did not fail."""
        return self.rows[self.rows["status"] == OK]

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The metric of the networks that did not fail."""
        return np.asarray(self.fine[self.metric], np.float64)

    @property
    def complete(self) -> bool:
        """Whether the run has a row for every network it is of."""
        return len(self.rows) >= self.wanted

    @property
    def smaller_batches(self) -> int:
        """Networks that were evaluated in smaller batches than asked for."""
        return int((self.fine["batch_size"] < self.asked).sum())

    @property
    def running_statistics(self) -> int:
        """Networks whose batch norms did not use the statistics of the batch."""
        return int((self.fine["batch_norm"] == "running").sum())

    @property
    def is_predefined(self) -> bool:
        """Whether these are the two predefined networks, whose mean says nothing."""
        return bool((self.rows["split"] == "predefined").all()) and len(self.rows) <= len(NAMES)

    def name(self, index: int) -> str:
        """What to call a network: its own name, or its number."""
        own = str(self.rows.loc[self.rows["index"] == index, "network"].iloc[0])
        if not own and self.is_predefined and index < len(NAMES):
            return [*NAMES.values()][index]
        return NAMES.get(own.lower(), own) or f"#{index}"


@dataclass(frozen=True)
class Board:
    """Everything that was evaluated on the same images.

    Attributes
    ----------
    images, noise
        The set, and the standard deviation of what was added to it.
    columns, predictors
        In the order of tables: splits as published; predictors by their mean on the first column, those that were
        evaluated on fewer of its networks, or failed on all, behind the others.
    cells
        By predictor and column, where there is one.
    """

    images: str
    noise: float
    columns: list[Column]
    predictors: list[str]
    cells: dict[tuple[str, Column], Cell]

    @property
    def title(self) -> str:
        """The images in words."""
        name = IMAGE_NAMES.get(self.images, self.images)
        return f"{name} with noise ({self.noise:g})" if self.noise else name

    def full(self, column: Column) -> int:
        """The largest number of networks of a column that a predictor was evaluated on."""
        return max(len(cell.rows) for (_, at), cell in self.cells.items() if at == column)

    def split_size(self, column: Column) -> int:
        """How many networks the split has, or 0 if that is not known."""
        return max(cell.split_size for (_, at), cell in self.cells.items() if at == column)

    def metric(self, column: Column) -> str:
        """The metric of a column."""
        return next(cell.metric for (_, at), cell in self.cells.items() if at == column)

    def winner(self, column: Column) -> str | None:
        """Who has the highest mean of those that were evaluated on all networks of a column and failed on none."""
        full = self.full(column)
        means = {
            predictor: cell.summary.mean
            for (predictor, at), cell in self.cells.items()
            if at == column and len(cell.rows) == full and cell.complete and not cell.summary.failures
        }
        return max(means, key=means.__getitem__) if len(means) > 1 else None

    def win_rates(self, column: Column) -> dict[tuple[str, str], tuple[float, int]]:
        """For pairs of predictors, on how many of the networks that both were given the first one is better.

        Returns
        -------
        The share, and the number of these networks.  A predictor that fails on a network is worse there than one that
        does not; of equals, none is better.
        """
        scores = {}
        for predictor in self.predictors:
            if cell := self.cells.get((predictor, column)):
                values = np.where(cell.rows["status"] == OK, cell.rows[cell.metric].to_numpy(float), -math.inf)
                scores[predictor] = pd.Series(values, cell.rows["index"].to_numpy())
        rates = {}
        for first in scores:
            for second in scores:
                if first != second:
                    a, b = scores[first].align(scores[second], join="inner")
                    rates[first, second] = (float((a > b).mean()) if len(a) else math.nan), len(a)
        return rates


class Failures(NamedTuple):
    """Networks that a predictor failed on for the same reason, but for numbers in it.

    Attributes
    ----------
    predictor, where
        Who failed; the split and the images in words.
    reason
        That of the first of the networks.
    networks
        Their indices.
    """

    predictor: str
    where: str
    reason: str
    networks: list[int]


@dataclass(frozen=True)
class Results:
    """A folder of results.

    Attributes
    ----------
    rows
        The rows that count, sorted: for each predictor, split and images, those of the newest run that has any.
    runs
        What there is to say about each run, by its id, the oldest first.
    folder
        Where they are from.
    """

    rows: pd.DataFrame
    runs: dict[str, dict[str, Any]]
    folder: Path

    def boards(self, metric: str | None = None) -> list[Board]:
        """One board per set of images and noise, clean ones first; `metric` as for `benchmark.report.write_report`."""
        if metric not in (None, *METRICS):
            raise ConfigError(f"metric: expected {' or '.join(METRICS)}, got {metric!r}")
        grouped: dict[tuple[str, float], dict[tuple[str, Column], Cell]] = {}
        for (predictor, split, images, part, noise), rows in self.rows.groupby(KEY, sort=True):
            run = str(rows["run"].iloc[0])
            about = self.runs.get(run, {})
            cells = grouped.setdefault((images, noise), {})
            cells[predictor, Column(split, part)] = Cell(
                rows=rows.reset_index(drop=True),
                metric=metric or usual_metric(images, split),
                run=run,
                wanted=_count(about.get("networks")),
                asked=_count(about.get("batch_size")),
                split_size=_count(about.get("split_size")),
            )
        sizes = self.rows.groupby("images").size()
        order = sorted(grouped, key=lambda key: (-sizes[key[0]], key))
        return [_board(images, noise, grouped[images, noise]) for images, noise in order]

    @property
    def counted(self) -> set[str]:
        """The runs that rows that count are of."""
        return set(self.rows["run"])

    def disagreements(self) -> list[str]:
        """Sentences on runs that should have had something in common, and had not."""
        found = []
        digests: dict[str, set[str]] = {}
        corpora: dict[str, set[str]] = {}
        for name, run in self.runs.items():
            if name in self.counted:
                predictor = run.get("predictor")
                if isinstance(predictor, dict) and predictor.get("digest"):
                    digests.setdefault(str(predictor.get("label")), set()).add(str(predictor["digest"]))
                if run.get("corpus"):
                    corpora.setdefault(str(run.get("split")), set()).add(str(run["corpus"]))
        for label in sorted(label for label, them in digests.items() if len(them) > 1):
            found.append(f"{label}: its runs are of different parameters or code (their digests differ).")
        for split in sorted(split for split, them in corpora.items() if len(them) > 1):
            found.append(
                f"{split}: predictors were evaluated on different networks (the digests of the corpora differ)."
            )
        return found

    def failures(self) -> list[Failures]:
        """Failed networks in groups, those of a predictor and its most frequent failure first."""
        groups: dict[tuple[str, str, str], tuple[str, list[int]]] = {}
        for row in self.rows[self.rows["status"] == FAILED].itertuples():
            noise = f", noise {row.noise:g}" if row.noise else ""
            where = f"{Column(row.split, row.part)}, {IMAGE_NAMES.get(row.images, row.images)}{noise}"
            pattern = re.sub(r"0x[0-9a-f]+|\d+", "#", row.reason)
            groups.setdefault((row.predictor, where, pattern), (row.reason, []))[1].append(row.index)
        found = [Failures(predictor, where, *group) for (predictor, where, _), group in groups.items()]
        return sorted(found, key=lambda group: (group.predictor, -len(group.networks), group.where, group.reason))


def usual_metric(images: str, split: str) -> str:
    """Top-5 for the networks of DeepNets-1M on ImageNet, as published; top-1 for everything else."""
    return "top5" if images == "imagenet" and split in SPLITS else "top1"


def leaderboard(boards: Iterable[Board]) -> pd.DataFrame:
    """The summaries as a table with the columns of `LEADERBOARD`."""
    lines = []
    for board in boards:
        for predictor in board.predictors:
            for column in board.columns:
                if cell := board.cells.get((predictor, column)):
                    where = predictor, column.split, board.images, column.part, board.noise, cell.metric
                    lines.append((*where, *cell.summary))
    return pd.DataFrame(lines, columns=list(LEADERBOARD))


def _board(images: str, noise: float, cells: dict[tuple[str, Column], Cell]) -> Board:
    columns = sorted({column for _, column in cells}, key=lambda column: column.rank)
    board = Board(images, noise, columns, [], cells)
    full = {column: board.full(column) for column in columns}

    def rank(predictor: str) -> tuple[Any, ...]:
        for i, column in enumerate(columns):  # the first that it was evaluated on
            if cell := cells.get((predictor, column)):
                mean = cell.summary.mean
                return i, math.isnan(mean), len(cell.rows) < full[column], -mean, predictor
        raise AssertionError("a predictor without a cell")

    board.predictors.extend(sorted({predictor for predictor, _ in cells}, key=rank))
    return board


def read_results(folder: Path | str) -> Results:
    """Read `networks.csv` and `runs.json`.

    Parameters
    ----------
    folder
        Of results of `python -m benchmark run`.  A last line that is torn is left out; of two rows of a network and a
        run, the later one counts.

    Raises
    ------
    ConfigError
        If there are no results.
    FormatError
        If a file is not what it should be.
    """
    folder = Path(folder)
    runs, rows = read_runs(folder), read_rows(folder)
    age = {run: i for i, run in enumerate(runs)}
    rows["age"] = rows["run"].map(age).fillna(-1).astype(int)  # a run that nothing is known about is the oldest
    newest = rows.groupby(KEY)["age"].transform("max")
    rows = rows[rows["age"] == newest]
    rows = rows.drop_duplicates([*KEY, "index"], keep="last").drop(columns="age")
    return Results(rows.sort_values([*KEY, "index"], kind="stable").reset_index(drop=True), runs, folder)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
