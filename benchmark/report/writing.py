"""Reports: a folder of results as a table, a page and pictures, or as lines for a terminal."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from benchmark.report.page import page
from benchmark.report.page_parts import clipped
from benchmark.results import LEADERBOARD, Board, Cell, leaderboard, read_results
from deepnets.support import ConfigError, replace_file

__all__ = ["LEADERBOARD", "leaderboard_text", "write_report"]

TITLE = "DeepNets-1M benchmark"
TERMINAL = 100
LABEL = 22  # letters of a predictor in a terminal
PUBLISHED_IMAGES = ("cifar10", "imagenet")


def write_report(
    results: Path | str,
    *,
    metric: str | None = None,
    published: Path | str | None = None,
    data: Path | str | None = None,
    title: str = TITLE,
) -> Path:
    """Write `leaderboard.csv`, `report.html` and, if matplotlib is installed, pictures into a folder of results.

    Parameters
    ----------
    results
        The folder, with `networks.csv` and `runs.json`.  It may be that of a run that is not finished.
    metric
        "top1" or "top5"; by default top-5 for the networks of DeepNets-1M on ImageNet, as published, else top-1.
    published
        A folder of published result files, to show beside ours.
    data
        The folder of the corpus, to draw architectures from; without it, there are none.
    title
        Of the page.

    Returns
    -------
    The file of the page.  The same files give the same bytes.

    Raises
    ------
    ConfigError
        If there are no results, or for another metric.
    FormatError
        If a file is not what it should be.
    """
    found = read_results(results)
    boards = found.boards(metric)
    text = page(found, boards, title=title, published=_published(published), data=None if data is None else Path(data))
    out = found.folder / "report.html"
    replace_file(found.folder / "leaderboard.csv", leaderboard(boards).to_csv(index=False, lineterminator="\n"))
    replace_file(out, text)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return out
    from benchmark.report.pictures import draw_pictures

    draw_pictures(boards, found.folder)
    return out


def leaderboard_text(results: Path | str, *, metric: str | None = None) -> str:
    """The leaderboard for a terminal, at most 100 columns wide.

    Parameters
    ----------
    results, metric
        As for `write_report`, with the same errors.
    """
    parts = []
    for board in read_results(results).boards(metric):
        metrics = dict.fromkeys(board.metric(column).replace("top", "top-") for column in board.columns)
        parts.append(
            f"{_plain(board.title)}: {'/'.join(metrics)} accuracy, percent; mean\u00b1standard error, best below"
        )
        parts += _blocks(board)
        parts += _remarks(board)
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _blocks(board: Board) -> list[str]:
    """The table, in as many blocks of columns as it takes."""
    labels = ["", *(clipped(_plain(predictor), LABEL) for predictor in board.predictors)]
    width = max(map(len, labels))
    columns: list[list[tuple[str, str]]] = []
    for column in board.columns:
        heads = [(clipped(_plain(str(column)), 20), "")]
        columns.append(heads + [_short(board.cells.get((predictor, column))) for predictor in board.predictors])
    widths = [max(len(text) for pair in column for text in pair) + 2 for column in columns]
    lines, first = [], 0
    while first < len(columns):
        last = first + 1
        while last < len(columns) and width + sum(widths[first : last + 1]) <= TERMINAL:
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
    """Two lines: the mean with its error, and the best; `!` if there is a remark."""
    if cell is None:
        return "-", ""
    summary = cell.summary
    mark = "!" if summary.failures or not cell.complete else ""
    if math.isnan(summary.mean):
        return "failed" + mark, ""
    if cell.is_predefined:
        values = (
            f"{getattr(row, cell.metric):.1f}" if row.status == "ok" else "failed" for row in cell.rows.itertuples()
        )
        return "/".join(values) + mark, ""
    best = _plain(cell.name(summary.best_index))
    return f"{summary.mean:.1f}\u00b1{summary.standard_error:.1f}{mark}", f"{summary.best:.1f} {clipped(best, 16)}"


def _remarks(board: Board) -> list[str]:
    lines = []
    for predictor in board.predictors:
        found = []
        for column in board.columns:
            if cell := board.cells.get((predictor, column)):
                networks, failed = len(cell.rows), cell.summary.failures
                if failed:
                    found.append(f"{failed:,} of {networks:,} failed on {column}")
                if not cell.complete:
                    found.append(f"{networks:,} of {cell.wanted:,} done on {column}")
                elif networks < board.full(column):
                    found.append(f"only {networks:,} on {column}")
        label = clipped(_plain(predictor), LABEL)
        line = f"! {label}:"
        for i, remark in enumerate(found):
            text = f" {_plain(remark)}{',' * (i + 1 < len(found))}"
            if len(line) + len(text) > TERMINAL:
                lines.append(line)
                line = " " * 3
            line += clipped(text, TERMINAL - 4)
        if found:
            lines.append(line)
    return lines


def _plain(text: str) -> str:
    """A text that does nothing to a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _published(folder: Path | str | None) -> dict[str, pd.DataFrame]:
    """Published leaderboards by images: those that the folder has files for."""
    if folder is None:
        return {}
    from benchmark import literature

    if not Path(folder).is_dir():
        raise ConfigError(f"--published: there is no folder {folder}; give that of the published result files")
    return {images: literature.leaderboard(Path(folder), images) for images in PUBLISHED_IMAGES}
