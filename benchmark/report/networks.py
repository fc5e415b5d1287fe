"""The section of a report on single networks: all rows of the charts as data for the script of the page.

The data is compact, because a page holds thousands of rows: rows refer to networks and to cells of the leaderboard by
their positions.  Points of the charts refer to rows in the same way.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup

from benchmark.choices import EVALUATION_COMMANDS
from benchmark.evaluation import LIBRARIES, OK
from benchmark.metrics import get_metric
from benchmark.report.text import visible
from benchmark.results import Board, Cell, Column
from benchmark.results.descriptions import stated_options

__all__ = ["MAX_ROWS", "NetworkRows", "as_json", "number_rows", "rerun_command", "row_seconds"]

MAX_ROWS = 20_000
"""Most rows that a page holds; cells of the leaderboard beyond are left out."""

_TIMES = ("graph_seconds", "build_seconds", "predict_seconds", "evaluate_seconds")

# What the command for a single network replaces, or does not need.
_REPLACED = {
    *("--predictors", "--splits", "--index", "--limit", "--noise", "--corruptions", "--corruption-root", "--out"),
    *("--published", "--retry-failed", "--no-report", "--quiet"),
}

_SPECIAL = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})


class NetworkRows(NamedTuple):
    """The rows of a page.

    Attributes
    ----------
    data
        `networks`: split, index, name, nodes, parameters and depth of each network; `cells`: predictor, split with the
        part of the images, image set, metric, its unit and the command of each cell, in which `{index}` and `{name}`
        stand for a network; `rows`: cell, network, value (None without one), seconds, and the reason of a failure.
    first
        Position of the first row of each cell, by position of the board, predictor and column.
    left_out
        Number of rows that exceed `MAX_ROWS`.
    """

    data: dict[str, list[list[Any]]]
    first: dict[tuple[int, str, Column], int]
    left_out: int


def number_rows(boards: Sequence[Board], runs: Mapping[str, Mapping[str, Any]]) -> NetworkRows:
    """Number the rows of boards, and collect what a page shows of them.

    Parameters
    ----------
    boards
        The boards of the page.
    runs
        Descriptions of the runs, by id.
    """
    networks: dict[tuple[str, int], int] = {}
    data: dict[str, list[list[Any]]] = {"networks": [], "cells": [], "rows": []}
    first: dict[tuple[int, str, Column], int] = {}
    left_out = 0
    for place, board in enumerate(boards):
        for predictor in board.predictors:
            for column in board.columns:
                if (cell := board.cells.get((predictor, column))) is None:
                    continue
                if len(data["rows"]) + len(cell.rows) > MAX_ROWS:
                    left_out += len(cell.rows)
                    continue
                first[place, predictor, column] = len(data["rows"])
                metric = get_metric(cell.metric)
                command = rerun_command(runs.get(cell.run, {}), predictor, column.split)
                about = (predictor, column, board.title, metric.label, metric.unit, command)
                _add_rows(data, networks, cell, column.split)
                data["cells"].append([visible(text) for text in about])
    return NetworkRows(data, first, left_out)


def _add_rows(data: dict[str, list[list[Any]]], networks: dict[tuple[str, int], int], cell: Cell, split: str) -> None:
    position = len(data["cells"])
    seconds = row_seconds(cell.rows)
    for row, time in zip(cell.rows.itertuples(), seconds):
        key = split, int(row.index)
        if key not in networks:
            networks[key] = len(networks)
            facts = (_whole(value) for value in (row.num_nodes, row.num_params, row.depth))
            data["networks"].append([visible(split), key[1], visible(row.network), *facts])
        value = float(getattr(row, cell.metric)) if row.status == OK else math.nan
        reason = "" if row.status == OK else visible(row.reason) or "no reason given"
        data["rows"].append([position, networks[key], _rounded(value), _rounded(time), reason])


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None


def _rounded(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


def row_seconds(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the seconds that each network took, from reading its graph to the evaluation; NaN if unknown.

    Examples
    --------
    >>> rows = pd.DataFrame({"predict_seconds": [0.5, None], "evaluate_seconds": [1.5, None]})
    >>> row_seconds(rows).tolist()
    [2.0, nan]
    """
    times = rows[[name for name in _TIMES if name in rows]].to_numpy(float)
    known = np.isfinite(times)
    return np.where(known.any(axis=1), np.where(known, times, 0.0).sum(axis=1), np.nan)


def rerun_command(run: Mapping[str, Any], predictor: str, split: str) -> str:
    """Return the command that evaluates one network of a run again, into a folder of its own.

    Parameters
    ----------
    run
        Description of the run; it may be incomplete, and is not trusted.
    predictor, split
        Label of the predictor, and the split.

    Returns
    -------
    The command, in which `{index}` stands for the index of the network, or `{name}` for its name if it is a model of a
    library.  Options of the run that matter, such as the folder of the images, are kept.

    Examples
    --------
    >>> about = {"command": "python -m benchmark run --predictors a b --limit 9 --seed 3 --out results", "noise": 0.0}
    >>> rerun_command(about | {"predictor": {"label": "a", "spec": "a"}}, "a", "deep")
    'deepnets bench --predictors a --splits deep --index {index} --seed 3 --out rerun'
    """
    about = run.get("predictor")
    spec = str(about.get("spec") or predictor) if isinstance(about, dict) else predictor
    named = spec if spec == predictor else f"{predictor}={spec}"
    which = f"--splits {split}:{{name}}" if split in LIBRARIES else f"--splits {shlex.quote(split)} --index {{index}}"
    noise = run.get("noise")
    words = [f"deepnets bench --predictors {shlex.quote(named)} {which}"]
    if isinstance(noise, int | float) and not isinstance(noise, bool) and noise:
        words.append(f"--noise {noise:g}")
    kept = _kept_options(run.get("command"))
    if kept is None:  # not the command line: the values that the description states
        kept = []
        for name, value in stated_options(run).items():
            kept += [f"--{name.replace('_', '-')}", shlex.quote(str(value))]
        kept += ["--no-class-layers"] if run.get("predict_class_layers") is False else []
    return " ".join([*words, *kept, "--out rerun"])


def _kept_options(command: Any) -> list[str] | None:
    """Return the options of a command line that a single network needs as well; None for another command."""
    try:
        words = shlex.split(" ".join(map(str, command)) if isinstance(command, list) else str(command))
    except ValueError:  # quotes that are not closed
        return None
    start = next((start for start in EVALUATION_COMMANDS if words[: len(start)] == start), None)
    if start is None:
        return None
    kept: list[str] = []
    is_kept = False
    for word in words[len(start) :]:
        if word.startswith("--"):
            name = word.partition("=")[0]  # the parser accepts beginnings of names, too
            is_kept = not any(option.startswith(name) for option in _REPLACED)
        if is_kept:
            kept.append(shlex.quote(word))
    return kept


def as_json(data: Mapping[str, Iterable[Any]]) -> Markup:
    """Return data as JSON for a script element, which no text in it can end.

    Examples
    --------
    >>> print(as_json({"name": ["</script>"]}))
    {"name":["\\u003c/script\\u003e"]}
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.translate(_SPECIAL))  # noqa: S704 - no character of it has a meaning in HTML
