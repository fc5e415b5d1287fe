"""The leaderboard of a folder of results, and comparisons of predictors, as text for a terminal."""

from __future__ import annotations

import math
from pathlib import Path

from benchmark.metrics import Metric
from benchmark.report.text import clipped, metric_text, predefined_values, visible, with_error
from benchmark.results import Board, Cell, all_boards, compare, read_results
from deepnets.support import ConfigError

__all__ = ["comparison_text", "leaderboard_text"]

WIDTH = 100
"""Most characters per line."""

LABEL = 22
"""Most characters of a predictor's label."""


def leaderboard_text(results: Path | str, *, metric: str | Metric | None = None) -> str:
    """Return the leaderboard as lines of at most 100 characters.

    Parameters
    ----------
    results, metric
        As for `write_report`, with the same errors.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from benchmark.results.store import COLUMNS
    >>> row = dict.fromkeys(COLUMNS, 1) | {"split": "test", "images": "digits", "part": "test", "status": "ok"}
    >>> row |= {"predictor": "mine", "top1": 52.5, "network": "", "noise": 0, "index": 0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame([row]).to_csv(Path(folder) / "networks.csv", index=False)
    ...     print(leaderboard_text(folder), end="")
    digits: top-1 accuracy, %; mean±standard error, best network below
             test
    mine     52.5
          52.5 #0
    """
    parts = []
    found = read_results(results)
    for board in all_boards(found, metric):
        metrics = dict.fromkeys(board.metric(column) for column in board.columns)
        names = "/".join(map(metric_text, metrics))
        parts.append(f"{visible(board.title)}: {names}; mean\u00b1standard error, best network below")
        parts += _blocks(board)
        parts += _remarks(board)
        parts.append("")
    parts += [f"! {clipped(visible(remark), WIDTH - 2)}" for remark in found.unregistered()]
    return "\n".join(parts).rstrip() + "\n"


def comparison_text(results: Path | str, first: str, second: str, *, metric: str | Metric | None = None) -> str:
    """Return paired comparisons of two predictors as lines, one for each split and image set.

    Parameters
    ----------
    results, metric
        As for `write_report`, with the same errors.
    first, second
        Labels of the predictors.

    Raises
    ------
    ConfigError
        If there are no results of a predictor, or no network with values of both.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from benchmark.results.store import COLUMNS
    >>> row = dict.fromkeys(COLUMNS, 1) | {"split": "test", "images": "digits", "part": "test", "status": "ok"}
    >>> rows = [row | {"predictor": "ab"[i // 8], "run": i // 8, "index": i % 8, "top1": 50 + i} for i in range(16)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame(rows).assign(noise=0, network="").to_csv(Path(folder) / "networks.csv", index=False)
    ...     print(comparison_text(folder, "b", "a").splitlines()[1])
    test: +8.00 (95 % interval +8.00 to +8.00), p = 0, 8 networks: 8 better, 0 equal, 0 worse
    """
    found = read_results(results)
    known = list(dict.fromkeys(found.rows["predictor"]))
    for label in (first, second):
        if label not in known:
            raise ConfigError(f"--compare: there are no results of {label!r}; the predictors are {', '.join(known)}")
    lines = []
    for board in found.boards(metric):
        own: list[str] = []
        metrics: dict[str, None] = {}
        for column in board.columns:
            cells = [board.cells[label, column] for label in (first, second) if (label, column) in board.cells]
            if len(cells) == 2 and not cells[0].is_predefined and cells[0].corpus == cells[1].corpus:
                comparison = compare(cells[0].rows, cells[1].rows, board.metric(column))
                if comparison.networks:
                    metrics[metric_text(board.metric(column))] = None
                    own.append(f"{visible(column)}: {comparison}")
        if own:
            title = f"{visible(board.title)}: {'/'.join(metrics)}"
            lines += [f"{title}; {visible(first)} minus {visible(second)}, paired t-test", *own, ""]
    if not lines:
        raise ConfigError(f"--compare: {first} and {second} have no values for the same networks")
    return "\n".join(lines[:-1]) + "\n"


def _blocks(board: Board) -> list[str]:
    """Return the table, divided into blocks of columns that fit the terminal."""
    labels = ["", *(clipped(visible(predictor), LABEL) for predictor in board.predictors)]
    width = max(map(len, labels))
    columns: list[list[tuple[str, str]]] = []
    for column in board.columns:
        heads = [(clipped(visible(column), 20), "")]
        columns.append(heads + [_short(board.cells.get((predictor, column))) for predictor in board.predictors])
    widths = [max(len(text) for pair in column for text in pair) + 2 for column in columns]
    lines, first = [], 0
    while first < len(columns):
        last = first + 1
        while last < len(columns) and width + sum(widths[first : last + 1]) <= WIDTH:
            last += 1
        for i, label in enumerate(labels):
            for part in (0, 1):
                cells = [columns[c][i][part].rjust(widths[c]) for c in range(first, last)]
                if line := ((label if part == 0 else "").ljust(width) + "".join(cells)).rstrip():
                    lines.append(line)
        first = last
        lines += [""] * (first < len(columns))
    return lines


def _short(cell: Cell | None) -> tuple[str, str]:
    """Return two lines: the mean with its standard error, and the best network; "!" marks a remark below."""
    if cell is None:
        return "-", ""
    summary = cell.summary
    mark = "!" if summary.failures or not cell.complete else ""
    mean = (
        "failed"
        if math.isnan(summary.mean)
        else with_error(summary.mean, summary.standard_error, cell.counted, cell.decimals)
    )
    if summary.failures == summary.networks:
        return mean + mark, "failed"
    if cell.is_predefined:
        return "/".join(predefined_values(cell, "-")) + mark, ""
    best = visible(cell.name(summary.best_index))
    return mean + mark, f"{summary.best:.{cell.decimals}f} {clipped(best, 16)}"


def _remarks(board: Board) -> list[str]:
    """Return what limits the comparison of predictors, one line or more per predictor."""
    lines = []
    for predictor in board.predictors:
        found = []
        for column in board.columns:
            if cell := board.cells.get((predictor, column)):
                networks, summary = len(cell.rows), cell.summary
                if summary.failures:
                    text = f"{summary.failures:,} of {networks:,} failed on {column}"
                    others = with_error(summary.successful_mean, summary.successful_standard_error, len(cell.values))
                    single = cell.is_predefined or summary.failures == networks
                    found.append(text if single else f"{text} ({others} without them)")
                if not cell.complete:
                    found.append(f"{networks:,} of {cell.run_size:,} done on {column}")
                elif networks < board.full(column):
                    found.append(f"only {networks:,} on {column}")
        line = f"! {clipped(visible(predictor), LABEL)}:"
        for i, remark in enumerate(found):
            text = f" {visible(remark)}{',' * (i + 1 < len(found))}"
            if len(line) + len(text) > WIDTH:
                lines.append(line)
                line = " " * 3
            line += clipped(text, WIDTH - 4)
        if found:
            lines.append(line)
    return lines
