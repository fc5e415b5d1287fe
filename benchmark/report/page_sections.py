"""The middle of the page: distributions, accuracy against size, pairs, noise, failures, architectures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from benchmark.report.figures import Series, key, linear, logarithmic, scatter, strips
from benchmark.report.page_parts import METRIC_NAMES, count, escape, label, number, ranges, scroll
from benchmark.results import Board, Cell, Column, Results

__all__ = ["CHANCE", "MEASURES", "accuracy", "architectures", "distribution", "failures", "noise", "wins"]

Looks = dict[str, int]  # the place of each predictor among all

CHANCE = {("digits", "top1"): 10.0, ("cifar10", "top1"): 10.0, ("imagenet", "top1"): 0.1, ("imagenet", "top5"): 0.5}
"""Percent of images that a network classifies correctly that knows nothing."""

Measure = tuple[str, str, Callable[[Cell], npt.NDArray[np.float64]], bool]
MEASURES: tuple[Measure, ...] = (
    ("size", "parameters", lambda cell: cell.fine["num_params"].to_numpy(float), True),
    ("depth", "depth, nodes", lambda cell: cell.fine["depth"].to_numpy(float), False),
    (
        "speed",
        "seconds to predict and evaluate",
        lambda cell: (cell.fine["predict_seconds"].fillna(0.0) + cell.fine["evaluate_seconds"]).to_numpy(float),
        True,
    ),
)
"""What accuracy is shown against: a name, words, how to get it, and whether ratios matter."""


def distribution(boards: Sequence[Board], looks: Looks) -> str:
    """A panel of strips for each split."""
    parts = []
    for board in boards:
        panels = []
        for column in board.columns:
            metric = board.metric(column)
            series = [
                Series(predictor, looks[predictor], cell.values)
                for predictor in board.predictors
                if (cell := board.cells.get((predictor, column)))
            ]
            same = [cell.values for (_, at), cell in board.cells.items() if board.metric(at) == metric]
            axis = linear(f"{METRIC_NAMES[metric]} accuracy, %", same)
            text = "; ".join(_quartiles(one) for one in series)
            name = f"strip-{_slug(board, column)}"
            panels.append(strips(name, str(column), text, axis, series, CHANCE.get((board.images, metric))))
        parts.append(_heading(board, boards) + f'<div class="grid-of">{"".join(panels)}</div>')
    caption = (
        "Each mark is a network. The bar spans the middle half of the networks, the upright line is the median, the "
        "dotted line the level of chance. All panels have the same scale."
    )
    return f"<figure><figcaption>{caption}</figcaption>{''.join(parts)}</figure>"


def accuracy(boards: Sequence[Board], looks: Looks) -> str:
    """A figure with a panel for each split, for each of the measures; and rank correlations."""
    parts = [_legend(boards, looks)]
    for name, words, values, is_log in MEASURES:
        figures = "".join(_against(board, boards, looks, (name, words, values, is_log)) for board in boards)
        if figures:
            parts.append(f"<figure><h3>{words[0].upper()}{words[1:]}</h3>{figures}</figure>")
    return "".join(parts)


def _against(board: Board, boards: Sequence[Board], looks: Looks, measure: Measure) -> str:
    """The panels of a board for a measure, and how strongly it goes with accuracy."""
    name, words, values, is_log = measure
    known = {}
    for place, cell in board.cells.items():
        xs = values(cell)
        fits = np.isfinite(xs) & (xs > 0)
        if fits.any():
            known[place] = (xs[fits], cell.values[fits])
    if not known:
        return ""
    panels = []
    for column in board.columns:
        metric = board.metric(column)
        series = [
            Series(predictor, looks[predictor], known[predictor, column][1], known[predictor, column][0])
            for predictor in board.predictors
            if (predictor, column) in known
        ]
        if not series:
            continue
        x = logarithmic(words, [s.x for s in series]) if is_log else linear(words, [s.x for s in series])
        y = linear(
            f"{METRIC_NAMES[metric]}, %", [ys for (_, at), (_, ys) in known.items() if board.metric(at) == metric]
        )
        text = f"{METRIC_NAMES[metric]} accuracy in percent, upwards, against {words}, of {_names(series)}."
        line = CHANCE.get((board.images, metric))
        panels.append(scatter(f"{name}-{_slug(board, column)}", str(column), text, x, y, series, line))
    return (
        _heading(board, boards) + f'<div class="grid-of">{"".join(panels)}</div>' + _correlations(board, known, words)
    )


def _correlations(
    board: Board, known: dict[tuple[str, Column], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]], words: str
) -> str:
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in board.columns)
    rows = []
    for predictor in board.predictors:
        cells = (_tau(*known[predictor, c]) if (predictor, c) in known else "\u2013" for c in board.columns)
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{label(predictor)}</th>{body}</tr>')
    head = f'<thead><tr><th scope="col">predictor</th>{heads}</tr></thead>'
    words = f"Rank correlation (Kendall\u2019s \u03c4-b) of accuracy and {words}"
    table = scroll(f"<table>{head}<tbody>{''.join(rows)}</tbody></table>", words)
    return f"<details><summary>{words}</summary>{table}</details>"


def _tau(xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> str:
    if len(xs) < 3:
        return "\u2013"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant has no ranks
        tau = float(kendalltau(xs, ys).statistic)
    return "\u2013" if math.isnan(tau) else f"{tau:+.2f}".replace("-", "\u2212")


def wins(boards: Sequence[Board]) -> str:
    """A table for each split: the share of the networks that the row's predictor beats the column's on."""
    parts = []
    for board in boards:
        grids = []
        for column in board.columns:
            here = [predictor for predictor in board.predictors if (predictor, column) in board.cells]
            if len(here) < 2:
                continue
            rates = board.win_rates(column)
            heads = "".join(f'<th scope="col">{label(predictor)}</th>' for predictor in here)
            rows = []
            for first in here:
                cells = []
                for second in here:
                    rate, networks = rates.get((first, second), (math.nan, 0))
                    known = not math.isnan(rate)
                    style = f' style="--w:{rate:.2f}" title="of {count(networks, "network")}"' if known else ""
                    cells.append(f"<td{style}>{f'{100 * rate:.0f}' if known else ''}</td>")
                rows.append(f'<tr><th scope="row">{label(first)}</th>{"".join(cells)}</tr>')
            head = f"<thead><tr><td></td>{heads}</tr></thead>"
            table = f'<table class="wins">{head}<tbody>{"".join(rows)}</tbody></table>'
            grids.append(f"<div><h4>{escape(column)}</h4>{scroll(table, f'Win rates on {column}')}</div>")
        if grids:
            parts.append(_heading(board, boards) + f'<div class="grid-of wide">{"".join(grids)}</div>')
    text = (
        "Percent of the networks on which the predictor of the row is better than that of the column, of those that "
        "both were evaluated on. One that fails on a network loses to one that does not; equals count for neither."
    )
    return f"<p>{text}</p>{''.join(parts)}" if parts else ""


def noise(boards: Sequence[Board]) -> str:
    """Clean and corrupted images side by side; nothing if there are no corrupted ones."""
    clean = {board.images: board for board in boards if not board.noise}
    parts = []
    for board in boards:
        if not board.noise:
            continue
        rows = []
        for predictor in board.predictors:
            for column in board.columns:
                if cell := board.cells.get((predictor, column)):
                    other = clean[board.images].cells.get((predictor, column)) if board.images in clean else None
                    rows.append(_noise_row(predictor, column, cell, other))
        heads = ("predictor", "split", "clean", f"noise {board.noise:g}", "difference", "networks")
        head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
        caption = f"<caption>{escape(board.title)}: mean accuracy \u00b1 standard error, percent</caption>"
        table = f'<table class="sortable">{caption}<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        parts.append(scroll(table, f"Clean and corrupted images, {board.title}"))
    text = "<p>The difference is the mean over the networks that failed on neither.</p>"
    return text + "".join(parts) if parts else ""


def _noise_row(predictor: str, column: Column, cell: Cell, clean: Cell | None) -> str:
    change, networks = math.nan, 0
    if clean is not None:
        both = cell.fine.merge(clean.fine, on="index", suffixes=("", "_clean"))
        networks = len(both)
        change = float((both[cell.metric] - both[f"{cell.metric}_clean"]).mean())
    signed = "\u2013" if math.isnan(change) else f"{change:+.2f}".replace("-", "\u2212")
    cells = "".join(
        f'<td class="nowrap" data-v="{"" if one is None else one.summary.mean}">{_mean(one)}</td>'
        for one in (clean, cell)
    )
    return (
        f'<tr><th scope="row">{label(predictor)}</th><td>{escape(column)}</td>{cells}'
        f'<td data-v="{change}">{signed}</td><td>{networks:,}</td></tr>'
    )


def _mean(cell: Cell | None) -> str:
    if cell is None:
        return "\u2013"
    mean, error, _, _, networks, failed = cell.summary
    text = f'{mean:.2f} <span class="se">\u00b1\u00a0{error:.2f}</span>' if not math.isnan(mean) else ""
    return text + (f'<small class="bad">{failed:,} of {networks:,} failed</small>' if failed else "")


def failures(results: Results) -> str:
    """A table of reasons with the networks they hit."""
    groups = results.failures()
    if not groups:
        return "<p>None.</p>"
    rows = "".join(
        f'<tr><th scope="row">{label(one.predictor)}</th><td>{escape(one.where)}</td><td>{len(one.networks):,}</td>'
        f'<td class="reason">{escape(one.reason) or "no reason was given"}</td><td>{ranges(one.networks)}</td></tr>'
        for one in groups
    )
    heads = ("predictor", "networks of", "failed", "reason (of the first)", "indices")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    text = "<p>Reasons that differ in nothing but numbers are one line.</p>"
    return text + scroll(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>", "Failures")


def architectures(board: Board, data: Path | None) -> str:
    """The best, the median and the worst network of each split for the best predictor, and the predefined ones."""
    from benchmark.report.architectures import draw_architectures, legend, shapes

    predictor = board.predictors[0]
    if data is None or not data.is_dir():
        where = "no folder of the corpus was given" if data is None else f"there is no folder {data}"
        return f"<p>Not drawn: {escape(where)} (option <code>--data</code>).</p>"
    drawn, problems = draw_architectures(board, predictor, data)
    parts = []
    for split in dict.fromkeys(one.split for one in drawn):
        cards = []
        for one in drawn:
            if one.split == split:
                named = f"{one.role}: #{one.network}" if split != "predefined" else one.role
                value = "failed" if math.isnan(one.value) else f"{one.value:.2f}\u00a0%"
                facts = f"{value}, {number(one.num_params)} parameters"
                cards.append(
                    f"<figure><figcaption><strong>{escape(named)}</strong>, {facts}</figcaption>{one.svg}</figure>"
                )
        parts.append(f'<h3>{escape(split)}</h3><div class="grid-of">{"".join(cards)}</div>')
    types = frozenset().union(*(one.types for one in drawn))
    head = ""
    if drawn:
        head = (
            "<p>Data flows from left to right and row by row; a box is a cell. Best, median and worst are by the "
            f"accuracy of <strong>{escape(predictor)}</strong> on {escape(board.title)}.</p>"
            f"{shapes(types)}{legend(types)}"
        )
    missing = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return head + "".join(parts) + (f"<p>Not drawn:</p><ul>{missing}</ul>" if missing else "")


# --- parts ---


def _legend(boards: Sequence[Board], looks: Looks) -> str:
    shown = {predictor for board in boards for predictor in board.predictors}
    items = (f"<li>{key(look)}{escape(predictor)}</li>" for predictor, look in looks.items() if predictor in shown)
    return f'<ul class="legend">{"".join(items)}</ul>'


def _heading(board: Board, boards: Sequence[Board]) -> str:
    return f"<h4>{escape(board.title)}</h4>" if len(boards) > 1 else ""


def _names(series: Sequence[Series]) -> str:
    return ", ".join(f"{one.label} ({count(len(one.y), 'network')})" for one in series)


def _quartiles(one: Series) -> str:
    if not len(one.y):
        return f"{one.label}: all failed"
    low, median, high = np.quantile(one.y, [0.25, 0.5, 0.75])
    networks = count(len(one.y), "network")
    return f"{one.label}: {networks}, median {median:.1f}, middle half from {low:.1f} to {high:.1f}"


def _slug(board: Board, column: Column) -> str:
    """A part of an id, of plain letters whatever the names are."""
    text = "-".join((board.images, format(board.noise, "g"), column.split, column.part))
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else f"_{ord(c):x}_" for c in text)
