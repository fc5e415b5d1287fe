"""The report as one HTML page that needs nothing else: no file beside it, no network, no script to be read.

Labels, reasons and commands are whatever users made of them: everything goes through `escape`, and the page's own
policy lets no script run but the one that sorts its tables.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmark.report import page_leaderboard, page_runs, page_sections
from benchmark.report.page_parts import escape
from benchmark.report.page_style import SCRIPT, STYLE
from benchmark.results import Board, Results

__all__ = ["Section", "page"]


class Section(NamedTuple):
    """A part of the page: the id of its heading, the heading, and what follows it, as HTML."""

    name: str
    heading: str
    body: str


def page(
    results: Results,
    boards: Sequence[Board],
    *,
    title: str,
    published: dict[str, pd.DataFrame],
    data: Path | None,
) -> str:
    """The whole page.

    Parameters
    ----------
    results, boards
        What to show.
    title
        Of the page.
    published
        Tables of `benchmark.literature.leaderboard`, by images.
    data
        The folder of the corpus, for the architectures.
    """
    looks: dict[str, int] = {}
    for board in boards:
        for predictor in board.predictors:
            looks.setdefault(predictor, len(looks))
    clean = [board for board in boards if not board.noise] or list(boards)
    headline = page_leaderboard.tables(clean, published) + page_leaderboard.notes(results, boards)
    sections = [
        Section("leaderboard", "Leaderboard", headline),
        Section("distribution", "Distribution over networks", page_sections.distribution(clean, looks)),
        Section("accuracy", "Accuracy against size, depth and time", page_sections.accuracy(clean, looks)),
        Section("wins", "Who wins on how many networks", page_sections.wins(clean)),
        Section("noise", "Corrupted images", page_sections.noise(boards)),
        Section("failures", "Failures", page_sections.failures(results)),
        Section("architectures", "Architectures", page_sections.architectures(clean[0], data)),
        Section("published", "Published results", page_leaderboard.others(clean, published)),
        Section("runs", "What was run", page_runs.runs(results)),
        Section("again", "Run it again", page_runs.again(results)),
        Section("figures", "How the figures are defined", page_runs.definitions()),
    ]
    sections = [section for section in sections if section.body]
    links = "".join(f'<li><a href="#{one.name}">{one.heading}</a></li>' for one in sections)
    body = "".join(
        f'<section aria-labelledby="{one.name}"><h2 id="{one.name}">{one.heading}</h2>{one.body}</section>'
        for one in sections
    )
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n<header><h1>{escape(title)}</h1>{page_leaderboard.lede(results, clean)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main>{body}</main>\n'
        '<footer class="soft"><p>Written by <code>python -m benchmark report</code> of the DeepNets-1M toolkit from '
        "<code>networks.csv</code> and <code>runs.json</code>, which hold everything that is shown here.</p></footer>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
