"""The results published with the papers: read, checked, corrected and tabulated.

files         reading and checking the published files
known_issues  errors in these files, and how each is corrected
loading       `load` and `Published`, all files of a folder
tables        the tables of the papers
own_results   results of the benchmark in the same form
text          tables for a terminal
"""

from __future__ import annotations

from benchmark.literature.known_issues import defects
from benchmark.literature.loading import Published, files_of, load, targets
from benchmark.literature.own_results import NOISE, read_ours
from benchmark.literature.tables import leaderboard
from benchmark.literature.text import (
    METRICS,
    NAMES,
    WIDTH,
    accuracy_text,
    best_text,
    defects_text,
    images_text,
    model_text,
    models_text,
    statistics_text,
)

__all__ = [
    "METRICS",
    "NAMES",
    "NOISE",
    "WIDTH",
    "Published",
    "accuracy_text",
    "best_text",
    "defects",
    "defects_text",
    "files_of",
    "images_text",
    "leaderboard",
    "load",
    "model_text",
    "models_text",
    "read_ours",
    "statistics_text",
    "targets",
]
