"""The top of the page: what there is, the leaderboard by split, what to know before comparing, published results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.evaluation import FAILED, OK
from benchmark.report.page_parts import METRIC_NAMES, count, escape, label, scroll
from benchmark.results import IMAGE_NAMES, NAMES, Board, Cell, Column, Results, usual_metric

__all__ = ["lede", "notes", "others", "tables"]

Published = Mapping[str, pd.DataFrame]  # by images; the columns of `benchmark.literature.leaderboard`

NOTHING = '<td data-v="">\u2013</td>'
EXPLAINED = (
    "Mean accuracy in percent \u00b1 standard error, over the networks that did not fail, and the best network. "
    "Predictors are in the order of their mean on the first split; one that was evaluated on fewer of its networks "
    "comes behind the others, since means over different networks do not compare. Underlined: the highest mean of "
    "those with all networks of a split and no failure."
)


def lede(results: Results, boards: Sequence[Board]) -> str:
    """What there is, who leads, and what failed, in three sentences."""
    board, rows = boards[0], results.rows
    column = board.columns[0]
    images = ", ".join(dict.fromkeys(IMAGE_NAMES.get(name, name) for name in rows["images"]))
    text = (
        f"{count(rows['predictor'].nunique(), 'predictor')} of parameters on "
        f"{count(len(rows.drop_duplicates(['split', 'index'])), 'network')} of "
        f"{count(rows['split'].nunique(), 'split')}, with images of {escape(images)}. "
    )
    if winner := board.winner(column):
        summary = board.cells[winner, column].summary
        text += (
            f"On {escape(column)}, <strong>{escape(winner)}</strong> has the highest mean "
            f"{METRIC_NAMES[board.metric(column)]} accuracy, {summary.mean:.2f}\u00a0\u00b1\u00a0"
            f"{summary.standard_error:.2f}\u00a0%. "
        )
    if failed := int((rows["status"] == FAILED).sum()):
        evaluations = f"{failed:,} of {len(rows):,} evaluations failed"
        text += f'<a href="#failures">{evaluations}</a>; they are counted wherever a mean is shown.'
    else:
        text += f"None of {len(rows):,} evaluations failed."
    return f'<p class="lede">{text}</p>'


def tables(boards: Sequence[Board], published: Published) -> str:
    """A table for each set of images, with published rows below ours where there are some."""
    parts = []
    for board in boards:
        heading = f"<h3>{escape(board.title)}</h3>" if len(boards) > 1 else ""
        parts.append(heading + _table(board, _published_rows(board, published)))
    return "".join(parts) + f'<p class="soft">{EXPLAINED}</p>'


def _table(board: Board, theirs: str) -> str:
    full = {column: board.full(column) for column in board.columns}
    winners = {column: board.winner(column) for column in board.columns}
    metrics = {column: METRIC_NAMES[board.metric(column)] for column in board.columns}
    differ = len({*metrics.values()}) > 1
    heads = "".join(
        f'<th scope="col">{escape(column)}'
        f"<small>{f'{metrics[column]}, ' * differ}{_networks(board, column)}</small></th>"
        for column in board.columns
    )
    rows = []
    for predictor in board.predictors:
        cells = (
            _cell(board.cells[predictor, column], full[column], winners[column] == predictor)
            if (predictor, column) in board.cells
            else NOTHING
            for column in board.columns
        )
        rows.append(f'<tr><th scope="row">{label(predictor)}</th>{"".join(cells)}</tr>')
    bodies = f"<tbody>{''.join(rows)}</tbody>"
    if theirs:
        group = f'<tr class="group"><th scope="colgroup" colspan="{1 + len(board.columns)}">Published</th></tr>'
        bodies += f"<tbody>{group}{theirs}</tbody>"
    kind = "" if differ else f"{metrics[board.columns[0]]} "
    caption = f"<caption>{kind.capitalize()}accuracy on {escape(board.title)}, percent</caption>"
    head = f'<thead><tr><th scope="col">predictor</th>{heads}</tr></thead>'
    return scroll(f'<table class="board sortable">{caption}{head}{bodies}</table>', f"Leaderboard, {board.title}")


def _networks(board: Board, column: Column) -> str:
    """How many networks of a split there are results of, and of how many."""
    full, size = board.full(column), board.split_size(column)
    return f"{full:,} of {count(size, 'network')}" if full < size else count(full, "network")


def _cell(cell: Cell, full: int, is_best: bool) -> str:
    mean, error, best, best_index, networks, failures = cell.summary
    parts = []
    if math.isnan(mean):
        parts.append(f'<span class="bad">{f"all {networks:,} failed" if networks > 1 else "failed"}</span>')
    elif cell.is_predefined:
        for row in cell.rows.itertuples():
            value = f"{getattr(row, cell.metric):.2f}" if row.status == OK else '<span class="bad">failed</span>'
            parts.append(f'<div class="pair"><span>{escape(cell.name(row.index))}</span> {value}</div>')
    else:
        style = ' class="best"' if is_best else ""
        parts.append(f'<span{style}>{mean:.2f}</span> <span class="se">\u00b1\u00a0{error:.2f}</span>')
        parts.append(f"<small>best {best:.2f} ({escape(cell.name(best_index))})</small>")
    if failures and not math.isnan(mean):
        parts.append(f'<small class="bad">{failures:,} of {networks:,} failed</small>')
    if not cell.complete:
        parts.append(f'<small class="bad">unfinished: {networks:,} of {cell.wanted:,}</small>')
    elif networks < full:
        parts.append(f'<small class="bad">{count(networks, "network")} only</small>')
    return f'<td data-v="{"" if math.isnan(mean) else format(mean, ".6f")}">{"".join(parts)}</td>'


def notes(results: Results, boards: Sequence[Board]) -> str:
    """What a reader should know before comparing, one line for each kind; nothing if there is nothing."""
    unfinished, smaller, running = [], [], []
    for board in boards:
        for predictor in board.predictors:
            for column in board.columns:
                cell = board.cells.get((predictor, column))
                if cell is None:
                    continue
                where = f"{predictor} on {column}" + (f", {board.title}" if len(boards) > 1 else "")
                if not cell.complete:
                    unfinished.append(f"{where} ({len(cell.rows):,} of {count(cell.wanted, 'network')})")
                if cell.smaller_batches:
                    smaller.append(f"{where} ({count(cell.smaller_batches, 'network')})")
                if cell.running_statistics:
                    running.append(f"{where} ({count(cell.running_statistics, 'network')})")
    found = [
        f"{what}: {'; '.join(places)}."
        for what, places in (
            ("Not finished", unfinished),
            ("In smaller batches than asked for, since memory ran out", smaller),
            ("Batch norms with running statistics, not with those of the batch", running),
        )
        if places
    ]
    found += results.disagreements()
    shown = "".join(f"<li>{escape(note)}</li>" for note in found)
    return f'<div class="notes"><h3>Before comparing</h3><ul>{shown}</ul></div>' if found else ""


# --- published results ---


def others(boards: Sequence[Board], published: Published) -> str:
    """Published results that do not fit beside any of ours: on other images, or by another metric."""
    beside = {board.images for board in boards if _published_rows(board, published)}
    parts = []
    for images, table in published.items():
        if images in beside or table.empty:
            continue
        splits = {str(split) for split in table["split"]}
        columns = sorted((Column(split, "val" if split == "val" else "test") for split in splits), key=lambda c: c.rank)
        heads = "".join(f'<th scope="col">{escape(column.split)}</th>' for column in columns)
        name = IMAGE_NAMES.get(images, images)
        caption = f"{escape(name)}, {METRIC_NAMES[usual_metric(images, 'test')]} accuracy, percent"
        head = f'<thead><tr><th scope="col">method</th>{heads}</tr></thead>'
        body = "".join(_published_row(method, lines, columns) for method, lines in table.groupby("method", sort=False))
        text = f'<table class="board sortable"><caption>{caption}</caption>{head}<tbody>{body}</tbody></table>'
        parts.append(scroll(text, f"Published results on {name}"))
    return (
        "<p>Measured on other images than ours, or by another metric: not to be compared with them.</p>"
        + "".join(parts)
        if parts
        else ""
    )


def _published_rows(board: Board, published: Published) -> str:
    """Rows in the columns of ours; nothing if no column has any."""
    table = published.get(board.images)
    if table is None or board.noise:
        return ""
    metric = usual_metric(board.images, "test")
    columns = [column if column.usual and board.metric(column) == metric else None for column in board.columns]
    return "".join(_published_row(method, lines, columns) for method, lines in table.groupby("method", sort=False))


def _published_row(method: Any, lines: pd.DataFrame, columns: Sequence[Column | None]) -> str:
    by_split = {str(line.split): line for line in lines.itertuples()}
    if not any(column and column.split in by_split for column in columns):
        return ""
    cells = (
        _published_cell(by_split[column.split]) if column and column.split in by_split else NOTHING
        for column in columns
    )
    return f'<tr><th scope="row">{escape(method)}</th>{"".join(cells)}</tr>'


def _published_cell(line: Any) -> str:
    mean, error, best, index = float(line.mean), float(line.standard_error), float(line.best), int(line.best_index)
    if line.split == "predefined" and line.networks == 2 and index in (0, 1):
        values = (best, 2 * mean - best)  # the mean and the larger one of two numbers say what both are
        pairs = zip(NAMES.values(), values if index == 0 else values[::-1])
        text = "".join(f'<div class="pair"><span>{name}</span> {value:.2f}</div>' for name, value in pairs)
    else:
        text = f'{mean:.2f} <span class="se">\u00b1\u00a0{error:.2f}</span><small>best {best:.2f} (#{index})</small>'
    return f'<td data-v="{mean:.6f}">{text}</td>'
