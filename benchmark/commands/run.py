"""The command `python -m benchmark run`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deepnets.data import IMAGE_SETS
from deepnets.support import non_negative, number, positive

__all__ = ["add_arguments"]

EVALUATION_SPLITS = ("test", "wide", "deep", "dense", "bnfree", "predefined")
EPILOG = """
A predictor is a bundled hypernetwork, the file of one (or an official checkpoint), untrained:PRESET, module:attribute
(its code runs; a callable (model, graph) -> {name: tensor}), a folder of saved states, random, or sgd:EPOCHS;
LABEL=PREDICTOR names it.  The same command goes on where it was stopped, and does only what is missing.
"""


def add_arguments(commands: Any) -> None:
    """Add the command to those of a parser (what `add_subparsers` returned)."""
    from benchmark.evaluation import BACKENDS

    run = commands.add_parser("run", help="evaluate predictors, or go on with it", epilog=EPILOG)
    run.add_argument(
        "--predictors",
        nargs="+",
        metavar="PREDICTOR",
        help="what to evaluate; see below (the bundled hypernetworks for these images, and random)",
    )
    run.add_argument(
        "--splits",
        nargs="+",
        default=list(EVALUATION_SPLITS),
        metavar="SPLIT",
        help="splits, separated by spaces or commas, and models such as torchvision:resnet50,vit_b_16 or timm:all "
        f"({' '.join(EVALUATION_SPLITS)})",
    )
    run.add_argument(
        "--images",
        default="digits",
        type=IMAGE_SETS.option,
        metavar="NAME",
        help=f"{', '.join(IMAGE_SETS)}, or module:attribute (digits)",
    )
    run.add_argument("--image-root", type=Path, help="folder of cifar10 or imagenet")
    run.add_argument(
        "--limit",
        type=_limits,
        default=_limits("0"),
        metavar="N[,SPLIT=N...]",
        help="networks of each split, from the first on, as in 10,wide=2; 0 for all (0)",
    )
    run.add_argument(
        "--noise",
        type=number,
        nargs="+",
        default=[0.0],
        metavar="STD",
        help="of noise in images; 0.08 as published (0)",
    )
    run.add_argument("--batch", type=positive, default=64, help="images at a time; 64 in the published protocol (64)")
    run.add_argument("--seed", type=non_negative, default=0, help="of initial values and noise (0)")
    run.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (data)")
    run.add_argument("--out", type=Path, default=Path("results"), help="folder of results (results)")
    run.add_argument("--retry-failed", action="store_true", help="try networks again that failed before")

    machine = run.add_argument_group("machine")
    machine.add_argument("--device", nargs="+", default=["cpu"], help="cpu, or GPUs, as in cuda:0 cuda:1 (cpu)")
    machine.add_argument("--jobs", type=positive, help="networks at a time (one per GPU, or per core)")
    machine.add_argument("--threads", type=positive, default=1, help="of PyTorch, in each process (1)")
    machine.add_argument("--backend", choices=BACKENDS, default="threading", help="of joblib (threading)")
    machine.add_argument("--timeout", type=number, default=1800.0, help="seconds for a network; 0 for ever (1800)")
    machine.add_argument(
        "--memory", type=positive, metavar="MB", help="for each process (its share of 90 %% of what is free)"
    )

    report = run.add_argument_group("report")
    report.add_argument("--no-report", action="store_true", help="only rows, no page and pictures")
    report.add_argument("--published", type=Path, metavar="DIR", help="folder of published files, to show beside ours")
    report.add_argument("--quiet", action="store_true", help="no bar, no table")
    run.set_defaults(do=_run)


def _run(options: argparse.Namespace) -> None:
    from benchmark.report import leaderboard_text, write_report
    from benchmark.results import Machine, run

    machine = Machine(
        devices=tuple(options.device),
        jobs=options.jobs,
        threads=options.threads,
        backend=options.backend,
        timeout=options.timeout or None,
        memory=options.memory * 1_000_000 if options.memory else None,
    )
    splits = list(dict.fromkeys(name for text in options.splits for name in _split_names(text)))
    common, special = options.limit
    limit = {name.partition(":")[0]: special.get(name.partition(":")[0], common) or None for name in splits}
    path = run(
        options.predictors or [*_bundled(options.images), "random"],
        splits,
        options.images,
        out=options.out,
        data=options.data,
        image_root=options.image_root,
        limit={**limit, **{name: limit[name.partition(":")[0]] for name in splits}},
        noise=options.noise,
        batch_size=options.batch,
        seed=options.seed,
        machine=machine,
        retry_failed=options.retry_failed,
        progress=not options.quiet,
    )
    if options.no_report:
        if not options.quiet:
            print(f"rows: {path}")
        return
    page = write_report(options.out, published=options.published, data=options.data)
    if not options.quiet:
        print(leaderboard_text(options.out), end="")
        print(f"\nrows: {path}\nreport: {page}")


def _split_names(text: str) -> list[str]:
    """Names separated by commas; those of models belong together."""
    return [text] if ":" in text else [name for name in text.split(",") if name]


def _limits(text: str) -> tuple[int, dict[str, int]]:
    """How many networks: of any split, and of some."""
    common, special = 0, {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        value = non_negative(number if equals else name)
        if equals:
            special[name] = value
        else:
            common = value
    return common, special


def _bundled(images: str) -> list[str]:
    """The hypernetworks that come with the package and were trained on these images, as their names say."""
    from ghn_model.checkpoints import list_pretrained

    return [name for name in list_pretrained() if name.endswith(f"-{images}")]
