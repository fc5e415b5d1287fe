"""What all parts of the page need: texts made safe for HTML, tables in boxes that scroll, words for numbers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

__all__ = ["METRIC_NAMES", "clipped", "count", "escape", "label", "number", "ranges", "scroll"]

METRIC_NAMES = {"top1": "top-1", "top5": "top-5"}
MOST_RANGES = 24


def escape(text: object) -> str:
    """A text for HTML, in attributes, too, with what would not be visible made so."""
    return html.escape("".join(c if c.isprintable() else "\ufffd" for c in str(text)), quote=True)


def label(text: object) -> str:
    """A name for HTML that may be broken behind its punctuation."""
    return re.sub(r"([_:./\-])(?=\w)", r"\1<wbr>", escape(text))  # none of these is in a character reference


def clipped(text: str, most: int) -> str:
    """A text of at most so many letters."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def count(number: int, noun: str) -> str:
    """A number of things: 1 network, 2 networks."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def number(value: float) -> str:
    """A number as short as marks of an axis need it: 1k, 2.5M."""
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{sign}"
    return f"{value:.3g}"


def ranges(indices: Iterable[int]) -> str:
    """Indices as a reader would say them: 1, 4 to 7 and 9 become "1, 4\u20137, 9", and many are cut short."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}\u2013{run[-1]}" for run in runs[:MOST_RANGES]]
    rest = sum(map(len, runs[MOST_RANGES:]))
    return ", ".join(texts) + (f" and {rest:,} more" if rest else "")


def scroll(table: str, label: str) -> str:
    """A table in a box that scrolls if the screen is too narrow, also with the keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{table}</div>'
