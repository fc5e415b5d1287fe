"""What the sections of a report that compare predictors show, as plain values for the templates of the page."""

from __future__ import annotations

import math

from benchmark.report.sections import ReportInputs, Values
from benchmark.report.text import count, signed
from benchmark.results import SIGNIFICANCE, Column, Comparison, compare_pairs

__all__ = ["comparisons", "wins"]


def comparisons(inputs: ReportInputs) -> Values:
    """Return paired comparisons of all predictors, one table per image set."""
    tables = []
    for board in inputs.clean:
        rows = []
        for column in board.columns:
            pairs = compare_pairs(board, column).items()
            rows += [_row(column, *pair, found) for pair, found in pairs if found.networks > 1]
        if rows:
            tables.append({"title": board.title, "rows": rows})
    return {"tables": tables, "level": f"{SIGNIFICANCE:g}"} if tables else {}


def _row(column: Column, first: str, second: str, found: Comparison) -> Values:
    failures = [
        f"{failed:,} failed only with {name}" for name, failed in _failures(first, second, found).items() if failed
    ]
    return {
        "column": column,
        "first": first,
        "second": second,
        "difference": signed(found.difference),
        "sort_key": f"{found.difference:.6f}",
        "interval": f"{signed(found.low)} to {signed(found.high)}",
        "low_key": f"{found.low:.6f}",
        "p": _p_value(found.p_adjusted),
        "p_key": f"{found.p_adjusted:.9f}",
        "is_significant": found.is_significant,
        "counts": f"{found.better:,} / {found.equal:,} / {found.worse:,}",
        "better": found.better,
        "networks": found.networks,
        "failures": failures,
    }


def _failures(first: str, second: str, found: Comparison) -> dict[str, int]:
    return {first: found.failures, second: found.other_failures}


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def wins(inputs: ReportInputs) -> Values:
    """Return a table of win rates between predictors for each split with two predictors or more."""
    tables = []
    for board in inputs.clean:
        for column in board.columns:
            here = [predictor for predictor in board.predictors if (predictor, column) in board.cells]
            if len(here) < 2:
                continue
            rates = board.win_rates(column)
            rows = []
            for first in here:
                cells = []
                for second in here:
                    rate, networks = rates.get((first, second), (math.nan, 0))
                    facts = {
                        "rate": f"{rate:.2f}",
                        "percent": f"{100 * rate:.0f}",
                        "networks": count(networks, "network"),
                    }
                    cells.append(None if math.isnan(rate) else facts)
                rows.append({"name": first, "cells": cells})
            title = f"{column}, {board.title}" if len(inputs.clean) > 1 else str(column)
            tables.append({"title": title, "columns": here, "rows": rows})
    return {"tables": tables} if tables else {}
