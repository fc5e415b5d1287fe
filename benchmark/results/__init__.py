"""Folders of results: evaluating into one, resuming it, and reading it.

runner        `run`: predictors x networks x images, skipping the rows that exist
store         crash-safe CSV tables; writing `networks.csv` and `runs.json`
reading       reading them, also while they grow
selection     which of their rows are current
spreadsheets  texts that spreadsheet programs would execute
corrupted_boards
              summaries of results on corrupted images
boards        summaries per predictor and split
comparisons   paired comparisons of predictors, with tests and confidence intervals
tables        a folder of results as boards, a leaderboard and groups of failures
"""

from __future__ import annotations

from benchmark.evaluation import Machine
from benchmark.results.boards import LEADERBOARD, NAMES, Board, Cell, Column, usual_metric
from benchmark.results.comparisons import (
    COMPARISONS,
    SIGNIFICANCE,
    Comparison,
    compare,
    compare_pairs,
    comparison_table,
    leaders,
)
from benchmark.results.corrupted_boards import all_boards, corruption_boards, mean_corruption_boards
from benchmark.results.reading import moment, read_rows, read_runs
from benchmark.results.runner import run
from benchmark.results.store import CsvTable
from benchmark.results.tables import Results, leaderboard, read_results

__all__ = [
    "COMPARISONS",
    "LEADERBOARD",
    "NAMES",
    "SIGNIFICANCE",
    "Board",
    "Cell",
    "Column",
    "Comparison",
    "CsvTable",
    "Machine",
    "Results",
    "all_boards",
    "compare",
    "compare_pairs",
    "comparison_table",
    "corruption_boards",
    "leaderboard",
    "leaders",
    "mean_corruption_boards",
    "moment",
    "read_results",
    "read_rows",
    "read_runs",
    "run",
    "usual_metric",
]
