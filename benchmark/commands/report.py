"""The command `python -m benchmark report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmark.commands.options import metric_name
from deepnets.support import examples

__all__ = ["add_arguments"]


def add_arguments(commands: Any) -> None:
    """Add the command to the result of `ArgumentParser.add_subparsers`."""

    report = commands.add_parser(
        "report",
        help="write a page, charts and tables about a folder of results",
        epilog=examples("deepnets report --results results"),
    )
    report.add_argument("--results", type=Path, default=Path("results"), help="folder of results (default: results)")
    report.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of the corpus, to draw architectures (default: data)"
    )
    report.add_argument(
        "--metric",
        type=metric_name,
        metavar="NAME",
        help="metric, such as top5 (default: top1; for networks of DeepNets-1M on imagenet top5, as published)",
    )
    report.add_argument(
        "--published",
        type=Path,
        metavar="DIR",
        help="folder of published result files, to show next to the results (default: none)",
    )
    report.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Run the command with its parsed options."""
    from benchmark.report import leaderboard_text, write_report

    page = write_report(options.results, metric=options.metric, published=options.published, data=options.data)
    print(leaderboard_text(options.results, metric=options.metric), end="")
    print(f"\nreport: {page}")
