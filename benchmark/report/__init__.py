"""From a folder of results to tables, a page and pictures.

reading.py   the files of a folder       page*.py          the page, section by section
tables.py    boards: what is compared    figures.py        its charts, as SVG
writing.py   all that is written         architectures.py  its drawings of networks;  pictures.py  charts as PNG
"""

from __future__ import annotations

from benchmark.report.tables import read_results
from benchmark.report.writing import leaderboard_text, write_report

__all__ = ["leaderboard_text", "read_results", "write_report"]
