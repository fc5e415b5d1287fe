"""The command `python -m benchmark report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmark.choices import MAX_PICTURES
from benchmark.commands.options import metric_name
from deepnets.support import ConfigError, examples, non_negative

__all__ = ["add_arguments"]

FORMATS = ("text", "markdown", "latex")
"""Formats in which the command prints the leaderboard."""


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
    report.add_argument(
        "--pictures",
        type=non_negative,
        default=MAX_PICTURES,
        metavar="N",
        help=f"maximum number of networks to draw for the details of single networks (default: {MAX_PICTURES})",
    )
    report.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="print the leaderboard as text, markdown or latex; markdown and latex print nothing else (default: text)",
    )
    report.add_argument(
        "--compare",
        nargs=2,  # not a list with commas: labels can contain them
        metavar="LABEL",
        help="also compare two predictors, network by network (default: none)",
    )
    report.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Run the command with its parsed options."""
    from benchmark.report import (
        comparison_text,
        leaderboard_latex,
        leaderboard_markdown,
        leaderboard_text,
        write_report,
    )

    if options.compare and options.format != "text":
        raise ConfigError(f"--compare: is for --format text, not {options.format}")
    compared = ""
    if options.compare:  # before anything is written: the labels can be wrong
        compared = comparison_text(options.results, *options.compare, metric=options.metric)
    page = write_report(
        options.results,
        metric=options.metric,
        published=options.published,
        data=options.data,
        max_pictures=options.pictures,
    )
    kinds = {"text": leaderboard_text, "markdown": leaderboard_markdown, "latex": leaderboard_latex}
    print(kinds[options.format](options.results, metric=options.metric), end="")
    if compared:
        print("\n" + compared, end="")
    if options.format == "text":
        print(f"\nreport: {page}")
