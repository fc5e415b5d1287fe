"""Published results: loaded from their files, corrected, and tabulated next to results of the benchmark.

files         the published files, identified by their digests
known_issues  errors in these files, and how they are handled
loading       `load` and `Published`, the files of a folder
tables        the tables of the papers
logah         the tables of LoGAH, and own trainings in the same form
own_results   results of the benchmark in the same form
text          tables for a terminal
"""

from __future__ import annotations

from benchmark.literature.known_issues import list_known_issues
from benchmark.literature.loading import Published, files_of, load, targets
from benchmark.literature.logah import (
    LOGAH_TABLES,
    best_perplexities,
    best_trainings,
    logah_table,
    logah_text,
    read_trainings,
)
from benchmark.literature.own_results import NOISE, read_own_results
from benchmark.literature.tables import leaderboard
from benchmark.literature.text import (
    WIDTH,
    accuracy_text,
    best_text,
    images_text,
    known_issues_text,
    model_text,
    models_text,
    statistics_text,
)

__all__ = [
    "LOGAH_TABLES",
    "NOISE",
    "WIDTH",
    "Published",
    "accuracy_text",
    "best_perplexities",
    "best_text",
    "best_trainings",
    "files_of",
    "images_text",
    "known_issues_text",
    "leaderboard",
    "list_known_issues",
    "load",
    "logah_table",
    "logah_text",
    "model_text",
    "models_text",
    "read_own_results",
    "read_trainings",
    "statistics_text",
    "targets",
]
