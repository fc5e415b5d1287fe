"""Command line of the generator: `python -m generator build` and `python -m generator splits`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deepnets.support import Parser, deprecated_option, output_path, positive, run, seed
from generator.build import BuildPlan, build_corpus
from generator.splits import SPLITS
from generator.workers import BACKENDS, Workers


def main(arguments: Sequence[str]) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments
        Arguments without the program name.

    Examples
    --------
    >>> main(["splits"])  # doctest: +ELLIPSIS
    split     networks   cells      steps  rules
    train    1,000,000    4-18      1/2/4  batch norm in most networks; at most 10 M parameters at width 32; ...
    """
    parser = Parser(prog="python -m generator", description="Generate the DeepNets-1M corpus.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    build = commands.add_parser("build", help="build the files of a corpus, or resume an interrupted build")
    build.add_argument("--out", default="data", type=output_path, help="corpus folder (default: data)")
    build.add_argument(
        "--splits", default="all", help=f"comma-separated names from {', '.join(SPLITS)}; or all (default: all)"
    )
    build.add_argument(
        "--train-size",
        type=positive,
        default=SPLITS["train"].size,
        metavar="N",
        help="number of training networks (default: 1,000,000)",
    )
    build.add_argument(
        "--search-size",
        type=positive,
        default=SPLITS["search"].size,
        metavar="N",
        help="number of networks for architecture search (default: 100,000)",
    )
    build.add_argument("--seed", type=seed, default=0, help="random seed of the corpus (default: 0)")
    build.add_argument("--workers", type=positive, help="number of worker processes (default: one per core)")
    deprecated_option(build, "--jobs", "--workers")
    build.add_argument(
        "--backend", choices=BACKENDS, default="loky", help="local processes (loky), or a Dask or Ray cluster"
    )
    build.add_argument(
        "--address", help="address of the Dask scheduler or the Ray head node (default: start a local cluster)"
    )
    build.add_argument(
        "--patience",
        type=positive,
        default=600,
        metavar="SECONDS",
        help="stop when no shard is finished for this long (default: 600)",
    )
    build.add_argument(
        "--shard-size",
        type=positive,
        default=Workers.shard_size,
        metavar="N",
        help=f"candidates per shard; smaller shards need less memory (default: {Workers.shard_size:,})",
    )
    build.add_argument("--overwrite", action="store_true", help="replace files that were built with other options")
    build.add_argument("--quiet", action="store_true", help="print neither a progress bar nor a table")
    commands.add_parser("splits", help="list the splits and their rules")
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
        num_workers=options.workers,
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
    run(main, after_interrupt="finished shards are kept: run the same command again to resume")
