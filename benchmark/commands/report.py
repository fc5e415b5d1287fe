"""The command `python -m benchmark report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_arguments"]


def add_arguments(commands: Any) -> None:
    """Add the command to those of a parser (what `add_subparsers` returned)."""
    report = commands.add_parser("report", help="write the tables, the page and the pictures of a folder of results")
    report.add_argument("--results", type=Path, default=Path("results"), help="the folder (results)")
    report.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of the corpus, to draw architectures (data)"
    )
    report.add_argument(
        "--metric",
        choices=("top1", "top5"),
        help="accuracy (top1; for the networks of DeepNets-1M on imagenet top5, as published)",
    )
    report.add_argument("--published", type=Path, metavar="DIR", help="folder of published files, to show beside ours")
    report.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed options say."""
    from benchmark.report import leaderboard_text, write_report

    page = write_report(options.results, metric=options.metric, published=options.published, data=options.data)
    print(leaderboard_text(options.results, metric=options.metric), end="")
    print(f"\nreport: {page}")
