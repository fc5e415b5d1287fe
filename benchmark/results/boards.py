"""Boards: summaries of all predictors on the same images, by split."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.evaluation import OK, Summary, default_image_split, summarize
from benchmark.metrics import get_metric
from deepnets.data import image_set_info

__all__ = ["LEADERBOARD", "NAMES", "SPLITS", "Board", "Cell", "Column", "build_board", "usual_metric"]

LEADERBOARD = (
    *("method", "split", "images", "part", "noise", "metric", "mean", "standard_error", "best", "best_index"),
    *("networks", "failures", "successful_mean", "successful_standard_error"),
)
"""Columns of `leaderboard.csv`."""

SPLITS = ("test", "val", "wide", "deep", "dense", "bnfree", "predefined", "search", "train")
"""Splits in the order of tables."""

NAMES = {"resnet50": "ResNet-50", "vit": "ViT"}


class Column(NamedTuple):
    """A column of tables: the networks of a split, evaluated on one part of the images.

    Attributes
    ----------
    split
        The split of the networks.
    part
        The part of the image set, "test" or "val".

    Examples
    --------
    >>> str(Column("wide", "test")), str(Column("wide", "val"))
    ('wide', 'wide (val images)')
    """

    split: str
    part: str

    @property
    def usual(self) -> bool:
        """Whether the split is evaluated on this part by default."""
        return self.part == default_image_split(self.split)

    @property
    def rank(self) -> tuple[int, str, bool, str]:
        """Sort key of columns."""
        place = SPLITS.index(self.split) if self.split in SPLITS else len(SPLITS)
        return place, self.split, not self.usual, self.part

    def __str__(self) -> str:
        return self.split if self.usual else f"{self.split} ({self.part} images)"


@dataclass(frozen=True)
class Cell:
    """The results of one predictor in one column.

    Attributes
    ----------
    rows
        One row per network, sorted by index.
    metric
        Name of the metric that is summarized.
    run
        Id of the run of the rows.
    run_size
        Number of networks of the run; a run that is not complete has fewer rows.
    batch_size
        Requested batch size; 0 if it is not known.
    split_size
        Number of networks of the split; 0 if it is not known.
    corpus
        Digest of the corpus file, or version of the library; empty if it is not known.
    data
        Digest of the data, if the run states one.
    """

    rows: pd.DataFrame
    metric: str
    run: str
    run_size: int
    batch_size: int
    split_size: int
    corpus: str = ""
    data: str = ""

    def is_comparable(self, other: Cell) -> bool:
        """Return whether networks and data are the same, as far as both cells state them."""
        return self.corpus == other.corpus and (self.data == other.data or not (self.data and other.data))

    @cached_property
    def summary(self) -> Summary:
        """Mean, standard error, best and failures; networks that failed count with the worst value of the metric."""
        return summarize(self.rows, self.metric)

    @cached_property
    def fine(self) -> pd.DataFrame:
        """Rows of the networks with a value of the metric: they did not fail, and the value is finite."""
        return self.rows[(self.rows["status"] == OK) & np.isfinite(self.rows[self.metric])]

    @property
    def decimals(self) -> int:
        """Decimals of the metric in tables of text."""
        return get_metric(self.metric).decimals

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """Values of the metric, for the networks that have one."""
        return np.asarray(self.fine[self.metric], np.float64)

    @property
    def nonfinite(self) -> int:
        """Number of networks whose outputs are not finite for some images, which are wrong answers."""
        return int((self.rows["nonfinite_images"] > 0).sum())

    @property
    def is_mean_of_all(self) -> bool:
        """Whether the mean is over all networks: each has a value, or counts with the worst value of the metric."""
        return self.counted == len(self.rows)

    @property
    def counted(self) -> int:
        """Number of networks that the mean is over: those with a value, or all if the others count as the worst."""
        return len(self.values) if get_metric(self.metric).worst is None else len(self.rows)

    @property
    def complete(self) -> bool:
        """Whether the run has a row for each of its networks."""
        return len(self.rows) >= self.run_size

    @property
    def smaller_batches(self) -> int:
        """Number of networks that were evaluated with a smaller batch size than requested."""
        return int((self.fine["batch_size"] < self.batch_size).sum())

    @property
    def running_statistics(self) -> int:
        """Number of networks whose batch norms used running statistics."""
        return int((self.fine["batch_norm"] == "running").sum())

    @property
    def is_predefined(self) -> bool:
        """Whether the rows are those of the two predefined networks, whose mean is not meaningful."""
        return bool((self.rows["split"] == "predefined").all()) and len(self.rows) <= len(NAMES)

    def name(self, index: int) -> str:
        """Return the name of a network, or its index as text."""
        own = str(self.rows.loc[self.rows["index"] == index, "network"].iloc[0])
        if not own and self.is_predefined and index < len(NAMES):
            return [*NAMES.values()][index]
        return NAMES.get(own.lower(), own) or f"#{index}"


@dataclass(frozen=True)
class Board:
    """All results on the same images, with the same task.

    Attributes
    ----------
    images, noise
        Name of the image set, and standard deviation of the noise that was added to it.
    columns
        Columns, in the order of published tables.
    predictors
        Labels of the predictors, the best mean in the first column first.  Predictors whose mean is not over all of its
        networks follow: those that were evaluated on fewer, or failed on some and have no value for them.
    cells
        Results by predictor and column, as far as there are any.
    corruption
        Corruption of the images, such as "fog" or "fog:3", or "mean" for the mean over corruptions; empty for none.
    num_corruptions
        Number of corruptions that a mean is over.
    setting
        What distinguishes the runs from others on the same images, such as "task mine" or "sequence_length 64"; empty
        if there are no others.
    """

    images: str
    noise: float
    columns: list[Column]
    predictors: list[str]
    cells: dict[tuple[str, Column], Cell]
    corruption: str = ""
    num_corruptions: int = 0
    setting: str = ""
    _comparisons: dict[Column, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def title(self) -> str:
        """The images, as text, and what distinguishes the runs from others on the same images."""
        name = ", ".join(filter(None, (image_set_info(self.images).title, self.setting)))
        if self.num_corruptions:
            return f"{name}, mean over {self.num_corruptions} corruption{'s' * (self.num_corruptions > 1)}"
        if self.corruption:
            return f"{name} with {self.corruption}"
        return f"{name} with noise ({self.noise:g})" if self.noise else name

    def full(self, column: Column) -> int:
        """Return the largest number of networks that a predictor was evaluated on in a column."""
        return max(len(cell.rows) for (_, at), cell in self.cells.items() if at == column)

    def split_size(self, column: Column) -> int:
        """Return the number of networks of the split of a column; 0 if it is not known."""
        return max(cell.split_size for (_, at), cell in self.cells.items() if at == column)

    def metric(self, column: Column) -> str:
        """Return the name of the metric of a column."""
        return next(cell.metric for (_, at), cell in self.cells.items() if at == column)

    def winner(self, column: Column) -> str | None:
        """Return the predictor with the best mean in a column.

        Only predictors whose mean is over all of its networks are compared, failures included as far as the metric has
        a worst value.  None if fewer than two of them have values, there is only one network, or they were evaluated on
        different networks.  None also if the best mean is due to fewer failures: another predictor has an equal or
        better mean over the networks for which both have a value, or they have no such network in common.
        """
        full = self.full(column)
        cells = {
            predictor: cell
            for (predictor, at), cell in self.cells.items()
            if at == column and len(cell.rows) == full and cell.complete and cell.is_mean_of_all
        }
        if len({(cell.corpus, frozenset(cell.rows["index"])) for cell in cells.values()}) > 1:
            return None
        if len({cell.data for cell in cells.values() if cell.data}) > 1:
            return None
        cells = {predictor: cell for predictor, cell in cells.items() if len(cell.values)}
        if len(cells) < 2 or full < 2:
            return None
        best = max(cells, key=lambda predictor: _sign(cells[predictor].metric) * cells[predictor].summary.mean)
        own = cells.pop(best)
        return best if all(_is_better(own, other) for other in cells.values()) else None

    def win_rates(self, column: Column) -> dict[tuple[str, str], tuple[float, int]]:
        """Compare all pairs of predictors, network by network.

        Returns
        -------
        For each ordered pair of predictors, the share of the networks that both were evaluated on for which the first
        one is strictly better, and the number of these networks: none if they are of different corpora.  A predictor
        that fails for a network is worse than one that does not.
        """
        scores = {}
        for predictor in self.predictors:
            if cell := self.cells.get((predictor, column)):
                values = _sign(cell.metric) * cell.rows[cell.metric].to_numpy(float)
                values = np.where((cell.rows["status"] == OK) & np.isfinite(values), values, -math.inf)
                scores[predictor] = pd.Series(values, cell.rows["index"].to_numpy())
        rates = {}
        for first in scores:
            for second in scores:
                if first != second:
                    a, b = scores[first].align(scores[second], join="inner")
                    same = len(a) if self.cells[first, column].is_comparable(self.cells[second, column]) else 0
                    rates[first, second] = (float((a > b).mean()) if same else math.nan), same
        return rates


def usual_metric(images: str, split: str) -> str:
    """Return the metric of published results: top-5 for DeepNets-1M on ImageNet, else top-1 accuracy.

    Examples
    --------
    >>> usual_metric("imagenet", "test"), usual_metric("imagenet", "timm"), usual_metric("cifar10", "test")
    ('top5', 'top1', 'top1')
    """
    return "top5" if images == "imagenet" and split in SPLITS else "top1"


def build_board(
    images: str,
    noise: float,
    cells: dict[tuple[str, Column], Cell],
    corruption: str = "",
    num_corruptions: int = 0,
    setting: str = "",
) -> Board:
    """Return a board with columns and predictors in the order of tables."""
    columns = sorted({column for _, column in cells}, key=lambda column: column.rank)
    board = Board(images, noise, columns, [], cells, corruption, num_corruptions, setting)
    full = {column: board.full(column) for column in columns}

    def rank(predictor: str) -> tuple[Any, ...]:
        for i, column in enumerate(columns):  # the first column with results of the predictor
            if cell := cells.get((predictor, column)):
                mean, fewer = cell.summary.mean, len(cell.rows) < full[column]
                return i, math.isnan(mean), fewer, not cell.is_mean_of_all, -_sign(cell.metric) * mean, predictor
        raise AssertionError("a predictor without a cell")

    board.predictors.extend(sorted({predictor for predictor, _ in cells}, key=rank))
    return board


def _is_better(cell: Cell, other: Cell) -> bool:
    """Return whether a cell is better than another one also without the networks for which one of them failed."""
    if len(cell.values) == len(cell.rows) and len(other.values) == len(other.rows):
        return True  # the means are over the same networks
    both = cell.fine.merge(other.fine, on="index", suffixes=("", "_other"))
    gains = _sign(cell.metric) * (both[cell.metric] - both[f"{cell.metric}_other"])
    return len(both) > 0 and float(gains.mean()) > 0


def _sign(metric: str) -> int:
    """1 for a metric whose larger values are better, else -1."""
    return 1 if get_metric(metric).higher_is_better else -1
