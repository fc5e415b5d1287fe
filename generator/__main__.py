"""Command line of the generator: `python -m generator build`, `python -m generator splits`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deepnets.support import Parser, non_negative, positive, run
from generator.build import BuildPlan, build_corpus
from generator.splits import SPLITS
from generator.workers import BACKENDS, Workers


def main(arguments: Sequence[str]) -> None:
    """Parse the arguments and do what they say."""
    parser = Parser(prog="python -m generator", description="Make the DeepNets-1M corpus.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    build = commands.add_parser("build", help="make the files of a corpus; continues what was begun")
    build.add_argument("--out", default="data", help="folder of the corpus (default: data)")
    build.add_argument(
        "--splits", default="all", help=f"comma-separated, from {', '.join(SPLITS)}; or all, the default"
    )
    build.add_argument("--train-size", type=positive, default=SPLITS["train"].size, metavar="N", help="(1,000,000)")
    build.add_argument("--search-size", type=positive, default=SPLITS["search"].size, metavar="N", help="(100,000)")
    build.add_argument("--seed", type=non_negative, default=0, help="another seed gives another corpus (0)")
    build.add_argument("--jobs", type=positive, help="shards made at the same time (one per core)")
    build.add_argument("--backend", choices=BACKENDS, default="loky", help="processes, or a cluster of Dask or Ray")
    build.add_argument("--address", help="of the Dask scheduler or the Ray head (default: a local cluster)")
    build.add_argument(
        "--patience", type=positive, default=600, metavar="S", help="give up after S seconds without progress (600)"
    )
    build.add_argument(
        "--shard-size",
        type=positive,
        default=Workers.shard_size,
        metavar="N",
        help=f"candidates per shard; less takes less memory, and changes nothing else ({Workers.shard_size:,})",
    )
    build.add_argument("--overwrite", action="store_true", help="replace files that were made with other options")
    build.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    commands.add_parser("splits", help="list the splits and how their networks are drawn")
    options = parser.parse_args(arguments)

    if options.command == "splits":
        print(f"{'split':8}{'networks':>10}{'cells':>8}{'steps':>11}  rules")
        for spec in SPLITS.values():
            cells, steps = "-".join(map(str, spec.cells)), "/".join(map(str, spec.steps))
            print(f"{spec.name:8}{spec.size:10,}{cells:>8}{steps:>11}  {spec.about}")
        return

    plan = BuildPlan(
        splits=tuple(SPLITS) if options.splits == "all" else tuple(map(str.strip, options.splits.split(","))),
        seed=options.seed,
        train_size=options.train_size,
        search_size=options.search_size,
    )
    workers = Workers(
        jobs=options.jobs,
        backend=options.backend,
        address=options.address,
        patience=options.patience,
        progress=not options.quiet,
        shard_size=options.shard_size,
    )
    started = time.monotonic()
    reports = build_corpus(options.out, plan, workers=workers, overwrite=options.overwrite)
    if options.quiet:
        return
    print(f"{'split':8}{'networks':>10}{'size':>11}  {'content digest':18}")
    for report in reports:
        size = f"{report.size_bytes / 1e6:.2f} MB"
        note = "" if report.built else "(was complete)"
        print(f"{report.split:8}{report.networks:10,}{size:>11}  {report.content_digest[:16]}  {note}".rstrip())
    networks = sum(report.networks for report in reports if report.built)
    if networks:
        print(f"{networks:,} networks made in {time.monotonic() - started:.0f} s, in {options.out}")
    else:
        print(f"nothing to do: {options.out} is complete")


if __name__ == "__main__":
    run(main, after_interrupt="finished shards are kept: run the same command again to continue")
