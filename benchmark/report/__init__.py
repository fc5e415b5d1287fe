"""Reports: a folder of results as tables, an HTML page and pictures.

writing        `write_report` and `leaderboard_text`
page, page_*   the HTML page, section by section
figures        charts as SVG; `architectures` draws networks as SVG
pictures       charts as PNG
"""

from __future__ import annotations

from benchmark.report.writing import leaderboard_text, write_report

__all__ = [
    "leaderboard_text",
    "write_report",
]
