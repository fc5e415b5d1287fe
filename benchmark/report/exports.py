"""Leaderboards as tables for papers and READMEs: LaTeX and Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.metrics import Metric, get_metric
from benchmark.report.text import count, metric_text, predefined_values, visible
from benchmark.results import (
    NAMES,
    SIGNIFICANCE,
    Board,
    Cell,
    Column,
    all_boards,
    leaders,
    read_results,
)

__all__ = ["latex_table", "leaderboard_latex", "leaderboard_markdown", "markdown_table"]

_LATEX = {
    **{letter: f"\\{letter}" for letter in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
    "\u2013": "--",
    "\u00b1": r"$\pm$",
}


class _Entry(NamedTuple):
    """A cell of a table: a mean, with the standard error if it is known, or the values of the predefined networks."""

    values: tuple[str, ...]
    error: str
    is_best: bool
    remark: str


def leaderboard_markdown(results: Path | str, *, metric: str | Metric | None = None) -> str:
    """Return the leaderboard of a folder of results as Markdown (GitHub's dialect), one table per image set.

    Parameters
    ----------
    results, metric
        As for `write_report`, with the same errors.

    Returns
    -------
    The tables.  Means are followed by ± standard error, if there is more than one network.  The best mean of a split,
    and means that cannot be told apart from it (`benchmark.results.leaders`), are bold.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from benchmark.results.store import COLUMNS
    >>> row = dict.fromkeys(COLUMNS, 1) | {"split": "test", "images": "digits", "part": "test", "status": "ok"}
    >>> row |= {"predictor": "my_mine", "top1": 52.5, "network": "", "noise": 0, "index": 0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame([row]).to_csv(Path(folder) / "networks.csv", index=False)
    ...     print(leaderboard_markdown(folder).splitlines()[-1])
    | my\\_mine | 52.5 |
    """
    return "\n".join(map(markdown_table, all_boards(read_results(results), metric)))


def leaderboard_latex(results: Path | str, *, metric: str | Metric | None = None) -> str:
    """Return the leaderboard of a folder of results as LaTeX, one `table` per image set; it needs the package booktabs.

    Parameters
    ----------
    results, metric
        As for `write_report`, with the same errors.

    Returns
    -------
    The tables, with the same contents as those of `leaderboard_markdown`.  Labels are escaped.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from benchmark.results.store import COLUMNS
    >>> row = dict.fromkeys(COLUMNS, 1) | {"split": "test", "images": "digits", "part": "test", "status": "ok"}
    >>> row |= {"predictor": "my_mine", "top1": 52.5, "network": "", "noise": 0, "index": 0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame([row]).to_csv(Path(folder) / "networks.csv", index=False)
    ...     print(leaderboard_latex(folder).splitlines()[-4])
    my\\_mine & $52.5$ \\\\
    """
    return "\n".join(map(latex_table, all_boards(read_results(results), metric)))


def markdown_table(board: Board) -> str:
    """Return one board as a Markdown table with a caption above it."""
    lines = [_markdown(_caption(board)) + ":", ""]
    lines.append(_markdown_row(["predictor", *(_markdown(_heading(board, column)) for column in board.columns)]))
    lines.append(_markdown_row(["---"] * (len(board.columns) + 1)))
    for predictor, entries in _rows(board):
        lines.append(_markdown_row([_markdown(visible(predictor)), *map(_markdown_cell, entries)]))
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(entry: _Entry | None) -> str:
    if entry is None:
        return "\u2013"
    text = " / ".join(entry.values) + (f" \u00b1 {entry.error}" if entry.error else "")
    text = f"**{text}**" if entry.is_best else text
    return f"{text} ({entry.remark})" if entry.remark else text


def _markdown(text: str) -> str:
    """Escape what has a meaning in Markdown."""
    return re.sub(r"([\\`*_\[\]<>|&$~#])", r"\\\1", text)


def latex_table(board: Board) -> str:
    """Return one board as a LaTeX table."""
    headings = [" & ".join(["Predictor", *(_latex(_heading(board, column)) for column in board.columns)])]
    body = [" & ".join([_latex(visible(predictor)), *map(_latex_cell, entries)]) for predictor, entries in _rows(board)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(_caption(board))}.}}",
        rf"\begin{{tabular}}{{l{'r' * len(board.columns)}}}",
        r"\toprule",
        *(rf"{line} \\" for line in headings),
        r"\midrule",
        *(rf"{line} \\" for line in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(entry: _Entry | None) -> str:
    if entry is None:
        return "--"
    values = (rf"\mathbf{{{value}}}" if entry.is_best else value for value in map(_latex_number, entry.values))
    text = f"${' / '.join(values)}" + (rf" \pm {entry.error}$" if entry.error else "$")
    return f"{text} ({_latex(entry.remark)})" if entry.remark else text


def _latex_number(text: str) -> str:
    if text == "\u2013":
        return r"\mbox{--}"
    return text if re.fullmatch(r"-?[\d.]+", text) else rf"\mathrm{{{text}}}"


def _latex(text: str) -> str:
    """Escape what has a meaning in LaTeX."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


# --- contents ---


def _caption(board: Board) -> str:
    metrics = "/".join(dict.fromkeys(metric_text(board.metric(column)) for column in board.columns))
    has_worst = {get_metric(board.metric(column)).worst is not None for column in board.columns}
    how = "count with the worst value of the metric" if True in has_worst else "are left out"
    if len(has_worst) > 1:
        how += ", or are left out if it has none"
    error = f"mean \u00b1 standard error over networks; failed networks {how}"
    best = (
        "bold: the best mean, and those whose paired difference from it is not significant (paired t-test, Holm's "
        f"correction, p < {SIGNIFICANCE:g})"
    )
    return f"{visible(board.title)}, {metrics}, {error}; {best}"


def _heading(board: Board, column: Column) -> str:
    if all(cell.is_predefined for (_, at), cell in board.cells.items() if at == column):
        return f"{column} ({' / '.join(NAMES.values())})"
    return f"{visible(column)} ({count(board.full(column), 'network')})"


def _rows(board: Board) -> list[tuple[str, list[_Entry | None]]]:
    best = {column: leaders(board, column) for column in board.columns}
    rows = []
    for predictor in board.predictors:
        entries: list[_Entry | None] = []
        for column in board.columns:
            cell = board.cells.get((predictor, column))
            is_best = predictor in best[column]
            entries.append(None if cell is None else _entry(cell, board.full(column), is_best=is_best))
        rows.append((predictor, entries))
    return rows


def _entry(cell: Cell, full: int, *, is_best: bool) -> _Entry:
    found, remarks = cell.summary, []
    if found.failures == found.networks:
        return _Entry(("failed",), "", is_best=False, remark="")
    if cell.is_predefined:
        return _Entry(tuple(predefined_values(cell, "\u2013")), "", is_best=False, remark="")
    if found.failures:
        remarks.append(f"{found.failures:,} failed")
    if found.networks < max(full, cell.run_size):
        remarks.append(f"{found.networks:,} of {max(full, cell.run_size):,}")
    error = f"{found.standard_error:.{cell.decimals}f}" if cell.counted > 1 else ""
    return _Entry((f"{found.mean:.{cell.decimals}f}",), error, is_best, ", ".join(remarks))
