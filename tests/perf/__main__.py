"""Measure speed, size and memory on this machine: `make perf`, or `python -m tests.perf --size 1000000`.

Every figure is the median of repeated runs, in separate processes where memory is measured.  Nothing is asserted, as
the machine may be busy.  Targets are printed next to the figures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from tests.perf import corpus, evaluation, operations, prediction, training
from tests.perf.timing import Row, machine

PARTS = ("corpus", "prediction", "operations", "training", "evaluation")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1_000_000, help="networks in the training split")
    parser.add_argument("--data", type=Path, help="a corpus that is there already, instead of building one")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    options = parser.parse_args()

    print(machine(), end="\n\n")
    rows: list[Row] = []
    if options.only in (None, "corpus"):
        rows += corpus.sampling()
        rows += corpus.families()
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            if options.data is None:
                rows += corpus.building(Path(folder), options.size)
            rows += corpus.reading(options.data or Path(folder))
        rows += corpus.graphs()
    if options.only in (None, "prediction"):
        rows += prediction.tracing()
        rows += prediction.predicting()
        rows += prediction.low_rank()
        rows += prediction.propagation()
    if options.only in (None, "operations"):
        rows += operations.operations()
    if options.only in (None, "training"):
        rows += training.steps()
    if options.only in (None, "evaluation"):
        rows += evaluation.overhead()
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, value, target in [("what", "measured", "target"), *rows]:
        print(f"{name:{widths[0]}}  {value:>{widths[1]}}  {target}".rstrip())


if __name__ == "__main__":
    main()
