"""Text for pages, charts and terminals: numbers, counts, index ranges, and untrusted labels made visible."""

from __future__ import annotations

import math
from collections.abc import Iterable

from benchmark.evaluation import OK
from benchmark.metrics import get_metric
from benchmark.results import NAMES, Cell

__all__ = [
    "clipped",
    "count",
    "metric_text",
    "number",
    "predefined_values",
    "ranges",
    "signed",
    "visible",
    "with_error",
]

MAX_RANGES = 24
"""Most index ranges that `ranges` lists."""


def visible(text: object) -> str:
    """Replace characters that are not printable, such as control sequences, by the replacement character.

    Examples
    --------
    >>> visible("red: \\x1b[31m")
    'red: \ufffd[31m'
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in str(text))


def clipped(text: str, length: int) -> str:
    """Shorten a text to at most `length` characters.

    Examples
    --------
    >>> clipped("predictor", 5)
    'pred…'
    """
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def count(value: int, noun: str) -> str:
    """Format a number of things.

    Examples
    --------
    >>> count(1, "network"), count(1200, "network")
    ('1 network', '1,200 networks')
    """
    return f"{value:,} {noun}{'s' * (value != 1)}"


def predefined_values(cell: Cell, missing: str) -> list[str]:
    """Format the values of the predefined networks in the order of their names, with a text for those without a row."""
    rows = {int(row.index): row for row in cell.rows.itertuples()}
    values = {}
    for at, row in rows.items():
        value = float(getattr(row, cell.metric))
        text = f"{value:.{cell.decimals}f}" if math.isfinite(value) else missing
        values[at] = text if row.status == OK else "failed"
    return [values.get(place, missing) for place in range(len(NAMES))]


def number(value: float, digits: int = 3) -> str:
    """Format a number with three significant digits, or another number of them, and a unit prefix.

    Examples
    --------
    >>> number(1500), number(2.5e6), number(0.25), number(2_501_000, digits=4), number(999_600)
    ('1.5k', '2.5M', '0.25', '2.501M', '1M')
    """
    value = float(f"{value:.{digits}g}")  # 999,600 is 1M
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.{digits}g}{sign}"
    return f"{value:.{digits}g}"


def metric_text(name: str) -> str:
    """Return the label and the unit of a metric.

    Examples
    --------
    >>> metric_text("top1")
    'top-1 accuracy, %'
    """
    return get_metric(name).title


def signed(value: float) -> str:
    """Format a difference with its sign and two decimals.

    Examples
    --------
    >>> signed(1.5)
    '+1.50'
    """
    return f"{value:+.2f}".replace("-", "\u2212")


def ranges(indices: Iterable[int]) -> str:
    """List indices as ranges; after 24 ranges, only the number of the remaining indices is given.

    Examples
    --------
    >>> ranges([9, 1, 4])
    '1, 4, 9'
    >>> len(ranges(range(100)))  # one range, from 0 to 99
    4
    """
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}\u2013{run[-1]}" for run in runs[:MAX_RANGES]]
    rest = sum(map(len, runs[MAX_RANGES:]))
    return ", ".join(texts) + (f" and {rest:,} more" if rest else "")


def with_error(mean: float, error: float, networks: int, decimals: int = 1) -> str:
    """Format a mean with its standard error, which a single network does not have.

    Examples
    --------
    >>> with_error(52.5, 1.26, 100), with_error(52.5, 0.0, 1)
    ('52.5±1.3', '52.5')
    """
    text = f"{mean:.{decimals}f}"
    return f"{text}\u00b1{error:.{decimals}f}" if networks > 1 else text
