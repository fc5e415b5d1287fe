"""Reports on a folder of results: a leaderboard for the terminal, tables, an HTML page and charts.

writing         `write_report`, which writes all files
terminal        `leaderboard_text` and `comparison_text`
page            the HTML page, with the list of its sections
sections, comparisons, robustness, details, runs
                the contents of the sections
networks        the rows of single networks, as data of the page
exports         `leaderboard_markdown` and `leaderboard_latex`
templates       jinja2 templates, the style sheet and the scripts of the page
charts          charts, as PNG files and as SVG inside the page
architectures   drawings of networks, as SVG inside the page
style           the style that all charts of the benchmark share
text            formatting of numbers, metrics and untrusted labels
"""

from __future__ import annotations

from benchmark.report.exports import leaderboard_latex, leaderboard_markdown
from benchmark.report.terminal import comparison_text, leaderboard_text
from benchmark.report.writing import write_report

__all__ = [
    "comparison_text",
    "leaderboard_latex",
    "leaderboard_markdown",
    "leaderboard_text",
    "write_report",
]
