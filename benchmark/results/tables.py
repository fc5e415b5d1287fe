"""Tables of results: a summary per predictor and split, comparisons, and failures in groups.

Labels and reasons are arbitrary texts of users and their code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.evaluation import FAILED, OK
from benchmark.metrics import DEFAULT_METRICS, METRICS, Metric, get_metric, register_metric
from benchmark.results.boards import LEADERBOARD, Board, Cell, Column, build_board, usual_metric
from benchmark.results.reading import CORRUPTION, KEY, read_rows, read_runs
from benchmark.results.selection import corpus_of, current_rows
from benchmark.results.spreadsheets import escape_formula
from deepnets.data import image_set_info
from deepnets.support import ConfigError, MissingDataError

__all__ = ["Failures", "Results", "has_metric", "leaderboard", "read_results"]


_DEFAULT_OPTIONS = {"tokenizer": "bytes", "sequence_length": 64}
"""Options of texts that commands state, and Python programs need not."""


class Failures(NamedTuple):
    """Networks for which a predictor failed with the same reason, up to numbers in it.

    Attributes
    ----------
    predictor
        Label of the predictor.
    where
        The split and the images, as text.
    reason
        Reason of the first of the networks.
    networks
        Indices of the networks.
    """

    predictor: str
    where: str
    reason: str
    networks: list[int]


@dataclass(frozen=True)
class Results:
    """A folder of results, as `read_results` reads it.

    Attributes
    ----------
    rows
        The current rows, sorted: for each predictor, split and images, those of the newest run with any rows; for
        models of a library also those of earlier runs on other models.
    runs
        Descriptions of the runs by id, the oldest first.
    folder
        The folder.
    corrupted
        The current rows of corrupted images, which `rows` does not contain.
    done
        Number of networks with a row by id of the run.
    """

    rows: pd.DataFrame
    runs: dict[str, dict[str, Any]]
    folder: Path
    corrupted: pd.DataFrame = field(default_factory=pd.DataFrame)
    done: dict[str, int] = field(default_factory=dict)

    def boards(self, metric: str | Metric | None = None) -> list[Board]:
        """Group the results by images, setting and noise, images without noise first.

        Parameters
        ----------
        metric
            A metric or its name, as for `benchmark.metrics.get_metric`; by default `usual_metric`.  Networks of runs
            that have not computed it are left out.

        Raises
        ------
        ConfigError
            If the metric is unknown, or the results do not have it.
        """
        metric = self.metric_name(metric)
        grouped: dict[tuple[str, float, str], dict[tuple[str, Column], Cell]] = {}
        for (predictor, split, images, part, noise), rows in self.rows.groupby(KEY, sort=True):
            if metric is None or has_metric(rows, metric):
                cells = grouped.setdefault((images, noise, self.settings[rows["run"].iloc[0]]), {})
                cells[predictor, Column(split, part)] = self.cell(rows, metric or self.metric_of(rows))
        sizes = self.rows.groupby("images").size()
        order = sorted(grouped, key=lambda key: (-sizes[key[0]], key))
        return [build_board(*key[:2], grouped[key], setting=key[2]) for key in order]

    @cached_property
    def settings(self) -> dict[str, str]:
        """What distinguishes each run of the current rows from others on the same images; empty texts if nothing does.

        These are the task, the options of its data, and its metric.  Values of runs that differ in them cannot be
        compared.
        """
        parts = (self.rows, self.corrupted) if len(self.corrupted) else (self.rows,)
        found: dict[str, str] = {}
        for _, ids in pd.concat([rows[["run", "images"]] for rows in parts]).drop_duplicates().groupby("images")["run"]:
            stated = {run: _setting(self.runs.get(str(run), {})) for run in ids}
            names = dict.fromkeys(name for values in stated.values() for name in values)
            differ = [name for name in names if len({values.get(name) for values in stated.values()}) > 1]
            for run, values in stated.items():
                found[run] = ", ".join(f"{name} {values[name]}" for name in differ if name in values)
        return found

    def metric_of(self, rows: pd.DataFrame) -> str:
        """Return the metric that the run of these rows states, or that of published results on its images."""
        first = rows.iloc[0]
        about = self.runs.get(str(first["run"]), {})
        return _metric_of(about, rows) or usual_metric(str(first["images"]), str(first["split"]))

    def metric_name(self, metric: str | Metric | None) -> str | None:
        """Return the name of a metric that the results have values of, as for `boards`; None for None.

        A metric that is not registered is registered.

        Raises
        ------
        ConfigError
            If the metric is unknown, or the results do not have it.
        """
        if metric is None:
            return None
        found = get_metric(metric)
        if METRICS.get(found.name) != found:
            register_metric(found)
        name = found.name
        parts = (self.rows, self.corrupted) if len(self.corrupted) else (self.rows,)
        if name not in self.rows or not any(has_metric(rows, name) for rows in parts):
            raise ConfigError(f"metric: {self.folder} has no values of {name}; evaluate with --metrics {name}")
        return name

    def cell(self, rows: pd.DataFrame, metric: str) -> Cell:
        """Return the cell of rows of one run, or of several on models of a library."""
        ids = set(rows["run"])
        found = [run for run in self.runs if run in ids]  # the newest is the last
        run = found[-1] if found else str(rows["run"].iloc[0])
        about = self.runs.get(run, {})
        missing = sum(max(0, _count(self.runs[name].get("networks")) - self.done.get(name, 0)) for name in found)
        split_size = _count(about.get("split_size"))
        return Cell(
            rows=rows.reset_index(drop=True),
            metric=metric,
            run=run,
            run_size=len(rows) + missing if found else 0,
            batch_size=_count(about.get("batch_size")),
            split_size=max(split_size, len(rows)) if len(found) > 1 else split_size,
            corpus=corpus_of(about),
            data=str(about.get("data_digest") or ""),
        )

    @property
    def counted(self) -> set[str]:
        """Ids of the runs that the current rows belong to."""
        return {*self.rows["run"], *(self.corrupted["run"] if len(self.corrupted) else ())}

    def disagreements(self) -> list[str]:
        """Return sentences about runs that used different files under the same name."""
        found = []
        digests: dict[str, set[str]] = {}
        corpora: dict[str, set[str]] = {}
        contents: dict[tuple[str, ...], set[str]] = {}
        for name, run in self.runs.items():
            if name in self.counted:
                predictor = run.get("predictor")
                if isinstance(predictor, dict) and predictor.get("digest"):
                    digests.setdefault(str(predictor.get("label")), set()).add(str(predictor["digest"]))
                for value in (_count(run.get("num_images")), run.get("data_digest")):
                    if value:  # runs of earlier versions do not state both
                        data = run.get("images"), run.get("part"), run.get(CORRUPTION), self.settings[name], type(value)
                        contents.setdefault(tuple(map(str, data)), set()).add(str(value))
                if corpus := corpus_of(run):
                    corpora.setdefault(str(run.get("split")), set()).add(corpus)
        for images in sorted({images for (images, *_), them in contents.items() if len(them) > 1}):
            found.append(f"{images}: predictors were evaluated on different data (the numbers or digests differ).")
        for label in sorted(label for label, them in digests.items() if len(them) > 1):
            found.append(f"{label}: its runs used different parameters or code (the digests differ).")
        for split in sorted(split for split, them in corpora.items() if len(them) > 1):
            found.append(
                f"{split}: predictors were evaluated on different networks (the corpus files or versions differ)."
            )
        return found

    def unregistered(self) -> list[str]:
        """Return sentences about metrics that runs state and this process does not know, so that others are shown."""
        stated = [about.get("metric") for run, about in self.runs.items() if run in self.counted]
        names = [name for name in stated if isinstance(name, str) and name in self.rows and name not in METRICS]
        return [
            f"Runs state the metric {name}, which is not registered here; show it with --metric module:attribute."
            for name in dict.fromkeys(names)
        ]

    def failures(self) -> list[Failures]:
        """Group the failures by predictor and reason, the most frequent failures of each predictor first."""
        groups: dict[tuple[str, str, str], tuple[str, list[int]]] = {}
        rows = pd.concat([self.rows, self.corrupted]) if len(self.corrupted) else self.rows
        for row in rows[rows["status"] == FAILED].itertuples():
            corruption = getattr(row, CORRUPTION, "")
            noise = f", noise {row.noise:g}" if row.noise else f", {corruption}" if corruption else ""
            where = f"{Column(row.split, row.part)}, {image_set_info(row.images).title}{noise}"
            pattern = re.sub(r"0x[0-9a-f]+|\d+", "#", row.reason)
            groups.setdefault((row.predictor, where, pattern), (row.reason, []))[1].append(row.index)
        found = [Failures(predictor, where, *group) for (predictor, where, _), group in groups.items()]
        return sorted(found, key=lambda group: (group.predictor, -len(group.networks), group.where, group.reason))


def has_metric(rows: pd.DataFrame, metric: str) -> bool:
    """Whether rows are of runs that computed a metric, which has a value for every network with finite outputs."""
    evaluated = rows[rows["status"] == OK]
    if not len(evaluated):
        return metric in DEFAULT_METRICS or metric in rows
    return bool(evaluated[metric].notna().any() or (evaluated["nonfinite_images"] > 0).all())


def leaderboard(boards: Iterable[Board], corrupted: Iterable[Board] = ()) -> pd.DataFrame:
    """Return the summaries of all cells as a table with the columns `LEADERBOARD`.

    Boards of corrupted images follow; the table then has the column `corruption`.  It has the column `setting` if
    boards differ in it (`Board.setting`).

    Labels that spreadsheet programs would execute are escaped (`benchmark.results.spreadsheets`).
    """
    lines, others = [], []
    for board in (*boards, *corrupted):
        for predictor in board.predictors:
            for column in board.columns:
                if cell := board.cells.get((predictor, column)):
                    names = map(escape_formula, (predictor, column.split, board.images, column.part))
                    where = *names, board.noise, cell.metric
                    lines.append((*where, *cell.summary))
                    others.append((board.corruption, escape_formula(board.setting)))
    table = pd.DataFrame(lines, columns=list(LEADERBOARD))
    added = pd.DataFrame(others, columns=[CORRUPTION, "setting"])
    return pd.concat([table, added[[name for name in added if added[name].any()]]], axis=1)


def read_results(folder: Path | str) -> Results:
    """Read a folder of results of `python -m benchmark run`.

    Parameters
    ----------
    folder
        The folder with `networks.csv` and `runs.json`.  An incomplete last line is skipped; if a network has several
        rows in a run, the last one is current.

    Raises
    ------
    MissingDataError
        If there are no results, or only those of corrupted images.
    FormatError
        If a file has another format.
    """
    folder = Path(folder)
    runs, every = read_runs(folder), read_rows(folder)
    rows = current_rows(every, runs)
    is_corrupted = rows[CORRUPTION] != ""
    if is_corrupted.all():
        raise MissingDataError(f"results: {folder} has no rows of images that are not corrupted; evaluate them, too")
    clean = rows[~is_corrupted].drop(columns=CORRUPTION).reset_index(drop=True)
    done = every.drop_duplicates(["run", "index"]).groupby("run").size().to_dict()
    return Results(clean, runs, folder, rows[is_corrupted].reset_index(drop=True), done)


def _metric_of(about: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """Return the metric that a run of another task than classification states; empty without it.

    The file of the runs is not trusted: only names of registered metrics are used.
    """
    name = about.get("metric")
    return name if isinstance(name, str) and name in METRICS and name in rows else ""


def _setting(about: Mapping[str, Any]) -> dict[str, str]:
    """Return what a run states about its task, as texts; the file of the runs is not trusted."""
    options = about.get("data_options")
    if isinstance(options, dict):
        options = {name: value for name, value in options.items() if value != _DEFAULT_OPTIONS.get(name)}
    stated = {"task": about.get("task") or "classification", "metric": about.get("metric")}
    stated |= options if isinstance(options, dict) else {}
    return {str(name): str(value) for name, value in stated.items() if value not in (None, "")}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
