"""The commands `build` and `splits`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from deepnets.support import ListOption, deprecated_option, examples, output_path, positive, seed
from generator.choices import BACKENDS, SHARD_SIZE
from generator.splits import SPLITS

__all__ = ["add_arguments"]


def add_arguments(commands: Any) -> None:
    """Add the commands to the result of `argparse.ArgumentParser.add_subparsers`.

    Parameters
    ----------
    commands
        The result of `add_subparsers`.
    """
    build = commands.add_parser(
        "build",
        help="build the files of a corpus, or resume an interrupted build",
        epilog=examples(
            "deepnets build                                     # all splits, a million training networks",
            "deepnets build --splits val test --out data/small",
            "deepnets build --train-size 20,000 --out data/small",
        ),
    )
    build.add_argument("--out", default="data", type=output_path, help="corpus folder")
    build.add_argument(
        "--splits",
        action=ListOption,
        default=["all"],
        metavar="SPLIT",
        help=f"names from {', '.join(SPLITS)}; or all (default: all)",
    )
    build.add_argument(
        "--train-size",
        type=positive,
        default=SPLITS["train"].size,
        metavar="N",
        help="number of training networks",
    )
    build.add_argument(
        "--search-size",
        type=positive,
        default=SPLITS["search"].size,
        metavar="N",
        help="number of networks for architecture search",
    )
    build.add_argument("--seed", type=seed, default=0, help="random seed of the corpus")
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
        help="stop when no shard is finished for this long",
    )
    build.add_argument(
        "--shard-size",
        type=positive,
        default=SHARD_SIZE,
        metavar="N",
        help="candidates per shard; smaller shards need less memory",
    )
    build.add_argument("--overwrite", action="store_true", help="replace files that were built with other options")
    build.add_argument("-q", "--quiet", action="store_true", help="print neither a progress bar nor a table")
    build.set_defaults(do=_build)

    splits = commands.add_parser("splits", help="list the splits and their rules", epilog=examples("deepnets splits"))
    splits.set_defaults(do=_list_splits)


def _list_splits(_: argparse.Namespace) -> None:
    print(f"{'split':8}{'networks':>10}{'cells':>8}{'steps':>7}  {'deep networks':33}rules")
    for spec in SPLITS.values():
        fewest, medium, most = spec.steps
        threshold = " to ".join(map(str, sorted(set(spec.deep))))
        deep = f"above {threshold} cells: {fewest}-{medium} steps"
        cells, steps = "-".join(map(str, spec.cells)), f"{fewest}-{most}"
        print(f"{spec.name:8}{spec.size:10,}{cells:>8}{steps:>7}  {deep:33}{spec.about}")


def _build(options: argparse.Namespace) -> None:
    from generator.build import build_corpus
    from generator.plan import BuildPlan
    from generator.workers import Workers

    plan = BuildPlan(
        splits=tuple(name for each in options.splits for name in (SPLITS if each == "all" else [each])),
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
