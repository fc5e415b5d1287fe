"""What the sections of a report on noisy and corrupted images show, as plain values for the templates of the page."""

from __future__ import annotations

import math

from benchmark.report.sections import ReportInputs, Values, mean_values
from benchmark.report.text import signed
from benchmark.results import Cell, Column
from deepnets.data import image_set_info

__all__ = ["corruptions", "noise"]


def noise(inputs: ReportInputs) -> Values:
    """Return clean and noisy accuracies side by side, one table per noisy board."""
    clean = _clean(inputs)
    tables = []
    for board in inputs.boards:
        if not board.noise:
            continue
        rows = []
        for predictor in board.predictors:
            for column in board.columns:
                if cell := board.cells.get((predictor, column)):
                    other = clean.get((board.images, board.setting, predictor, column))
                    rows.append({"name": predictor, "column": column, **_noise_row(cell, other)})
        tables.append({"title": board.title, "noise": f"{board.noise:g}", "rows": rows})
    return {"tables": tables} if tables else {}


def corruptions(inputs: ReportInputs) -> Values:
    """Return clean accuracies, their means over corruptions, and those of each corruption, one table per image set."""
    clean = _clean(inputs)
    tables = []
    for key in dict.fromkeys((board.images, board.setting) for board in inputs.corrupted):
        boards = [board for board in inputs.corrupted if (board.images, board.setting) == key]
        mean = next((board for board in inputs.mean_corruption if (board.images, board.setting) == key), None)
        rows = []
        for predictor, column in dict.fromkeys(place for board in boards for place in board.cells):
            other = clean.get((*key, predictor, column))
            whole = mean.cells.get((predictor, column)) if mean else None
            unknown: Values = {"means": [None, None], "networks": 0, "change": "", "change_key": ""}
            summary = _noise_row(whole, other) if whole else unknown
            cells = [board.cells.get((predictor, column)) for board in boards]
            values = [_text_and_key(cell) for cell in cells]
            rows.append({"name": predictor, "column": column, "values": values, **summary})
        title = mean.title if mean else image_set_info(key[0]).title
        tables.append({"title": title, "names": [board.corruption for board in boards], "rows": rows})
    return {"tables": tables} if tables else {}


def _clean(inputs: ReportInputs) -> dict[tuple[str, str, str, Column], Cell]:
    """The cells without noise, by images, setting, predictor and column."""
    boards = [board for board in inputs.boards if not board.noise]
    return {(board.images, board.setting, *place): cell for board in boards for place, cell in board.cells.items()}


def _noise_row(cell: Cell, clean: Cell | None) -> Values:
    change, networks = math.nan, 0
    if clean is not None:
        both = cell.fine.merge(clean.fine, on="index", suffixes=("", "_clean"))
        networks = len(both)
        change = float((both[cell.metric] - both[f"{cell.metric}_clean"]).mean())
    means: list[Values | None] = []
    for one in (clean, cell):
        if one is None:
            means.append(None)
            continue
        found = one.summary
        failed = f"{found.failures:,} of {found.networks:,} failed" if found.failures else ""
        means.append({**mean_values(found.mean, found.standard_error, one.counted, one.decimals + 1), "failed": failed})
    known = math.isfinite(change)
    shown = {"change": signed(change) if known else "\u2013", "change_key": f"{change:.6f}" if known else ""}
    return {"means": means, "networks": networks, **shown}


def _text_and_key(cell: Cell | None) -> tuple[str, str]:
    """A mean as text, and the key that its column is sorted by; an empty key if there is none."""
    if cell is None or not math.isfinite(mean := cell.summary.mean):
        return "\u2013", ""
    return f"{mean:.{cell.decimals + 1}f}", f"{mean:.6f}"
