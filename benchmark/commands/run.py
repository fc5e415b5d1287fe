"""The command `python -m benchmark run`."""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.choices import BACKENDS, LIBRARIES
from benchmark.commands.options import (
    add_text_options,
    check_splits,
    device_of_any_machine,
    indices,
    installed_splits,
    seconds,
    task_data,
)
from deepnets.data import IMAGE_SETS
from deepnets.support import (
    NETWORK_SPLITS,
    ConfigError,
    DeepNetsError,
    ListOption,
    deprecated_option,
    examples,
    non_negative,
    number,
    output_path,
    positive,
    seed,
)

__all__ = ["add_arguments"]

DEFAULT_SPLITS = ("test", "wide", "deep", "dense", "bnfree", "predefined")
DEFAULT_FAMILIES = ("family:gpt2-widths",)
EPILOG = """
A predictor is a bundled hypernetwork, the file of a hypernetwork (or an official checkpoint), untrained:PRESET,
trained:MODULE:ATTRIBUTE:FILE, a folder of saved states, random, orthogonal[:GAIN], mimetic, lsuv, select:FILE,
copy:FOLDER, sgd:EPOCHS, or module:attribute, whose code runs: a callable (model, graph) -> {name: tensor}, or a
hypernetwork with forward(graphs) -> [{name: tensor}].  LABEL=PREDICTOR gives it a label.  The same command resumes a
run that was stopped, and evaluates only what is missing.  Networks for which a predictor fails count as 0; the exit
status is 1 if all of them failed.

""" + examples(
    "deepnets bench --limit 6                      # the bundled hypernetworks, 6 networks of each split",
    "deepnets bench --predictors ghn2-digits random mine:predict --splits test,deep --limit 20",
    "deepnets bench --predictors ghn2_cifar10.pt --images cifar10 --image-root cifar",
    "deepnets bench --predictors ghn3xlm16.pt --images imagenet --image-root imagenet \\",
    "  --splits torchvision:resnet50,vit_b_16",
)


def add_arguments(commands: Any) -> None:
    """Add the command to the subparsers of a parser.

    Parameters
    ----------
    commands
        The result of `argparse.ArgumentParser.add_subparsers`.
    """
    run = commands.add_parser("run", help="evaluate predictors; resumes a run that was stopped", epilog=EPILOG)
    run.add_argument(
        "--predictors",
        action=ListOption,
        paths=True,
        metavar="PREDICTOR",
        help="predictors, see below (default: the bundled hypernetworks for these images, and random)",
    )
    run.add_argument(
        "--splits",
        action=ListOption,
        paths=True,
        metavar="SPLIT",
        help="splits, models such as torchvision:resnet50,vit_b_16 or timm:all, and "
        "families such as family:resnet-widths/wide "
        f"(default: {' '.join(DEFAULT_SPLITS)}; with --index: test, or predefined if names are given)",
    )
    run.add_argument(
        "--images",
        default="digits",
        type=IMAGE_SETS.option,
        metavar="NAME",
        help=f"{', '.join(IMAGE_SETS)}, folder:PATH, torchvision:NAME, or module:attribute (default: digits)",
    )
    run.add_argument("--image-root", type=Path, help="folder of the files of the image set (default: none, for digits)")
    run.add_argument("--download", action="store_true", help="download missing files of cifar10 or torchvision:NAME")
    run.add_argument(
        "--task",
        default="classification",
        metavar="NAME",
        help="classification, text (next-token prediction on --texts), or module:attribute, whose code runs (default: "
        "classification)",
    )
    add_text_options(run)
    which = run.add_mutually_exclusive_group()
    which.add_argument(
        "--index",
        action=ListOption,
        type=indices,
        metavar="I",
        help="networks of each split instead of all: 3,17 or 0:10 or names such as resnet50 (default: see --limit)",
    )
    which.add_argument(
        "--limit",
        action=ListOption,
        type=_limit,
        default=[("", 0)],
        metavar="N",
        help="number of networks of each split, counted from the first, as in 10,wide=2; 0 for all (default: 0)",
    )
    run.add_argument(
        "--noise",
        action=ListOption,
        type=number,
        default=[0.0],
        metavar="STD",
        help="standard deviations of noise in the images; 0.08 in published results (default: 0)",
    )
    run.add_argument(
        "--corruptions",
        action=ListOption,
        default=[],
        metavar="NAME",
        help="evaluate on corrupted images, too: all, or names such as fog (all severities) and fog:3; the report has "
        "the mean corruption accuracy (default: none)",
    )
    run.add_argument(
        "--corruption-root",
        type=Path,
        metavar="DIR",
        help="folder of corrupted images such as CIFAR-10-C (default: they are computed)",
    )
    run.add_argument("--batch-size", type=positive, default=64, help="images per batch (default: 64, as published)")
    deprecated_option(run, "--batch", "--batch-size")
    run.add_argument("--seed", type=seed, default=0, help="seed of initial values and of noise")
    run.add_argument(
        "--metrics",
        action=ListOption,
        default=[],
        metavar="METRIC",
        help="metrics beside top1 and top5: registered names, or module:attribute of a Metric, whose code runs "
        "(default: none)",
    )
    run.add_argument(
        "--vocabulary",
        metavar="NAME",
        help="graphs of models of libraries: complete, ghn3, ppuda or logah (default: those of the hypernetwork)",
    )
    run.add_argument(
        "--no-class-layers",
        action="store_true",
        help="do not predict classification layers, which keep their initial values: for hypernetworks that were "
        "trained for another number of classes",
    )
    run.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (default: data)")
    run.add_argument("--out", type=output_path, default=Path("results"), help="folder of results (default: results)")
    run.add_argument("--retry-failed", action="store_true", help="evaluate networks again that failed before")

    machine = run.add_argument_group("machine")
    machine.add_argument(
        "--device",
        action=ListOption,
        type=device_of_any_machine,
        default=["cpu"],
        metavar="DEVICE",
        help="such as cuda:0 cuda:1 (default: cpu)",
    )
    machine.add_argument("--workers", type=positive, help="worker processes (default: one per GPU, or per core)")
    deprecated_option(machine, "--jobs", "--workers")
    machine.add_argument("--threads", type=positive, default=1, help="threads of PyTorch per worker")
    machine.add_argument(
        "--backend",
        choices=BACKENDS,
        default="threading",
        help="of joblib, or dask or ray",
    )
    machine.add_argument(
        "--address", help="Dask scheduler or Ray head node, as in tcp://node1:8786 (default: a cluster on this machine)"
    )
    machine.add_argument(
        "--timeout", type=seconds, default=1800.0, help="seconds per network; 0 for no limit (default: 1800)"
    )
    machine.add_argument(
        "--memory", type=positive, metavar="MB", help="memory per worker (default: a share of 90 %% of what is free)"
    )
    machine.add_argument(
        "--fresh", action="store_true", help="a new process of the predictor for every network, not one for all of them"
    )

    report = run.add_argument_group("report")
    report.add_argument(
        "--no-report",
        action="store_true",
        help="write the rows only, no page and figures (default: also after 1, 3, 7, 15, ... minutes)",
    )
    report.add_argument(
        "--published",
        type=Path,
        metavar="DIR",
        help="folder of published files, to be compared in the report (default: none)",
    )
    report.add_argument("-q", "--quiet", action="store_true", help="show no progress bar and no table")
    run.set_defaults(do=_run)


def _run(options: argparse.Namespace) -> None:
    from benchmark.evaluation import FAILED
    from benchmark.report import leaderboard_text, write_report
    from benchmark.report.writing import read_published
    from benchmark.results import Machine, run

    succeeded: dict[str, bool] = {}

    def note(rows: Sequence[Mapping[str, str]]) -> None:
        for row in rows:
            predictor = row["predictor"]
            succeeded[predictor] = succeeded.get(predictor, False) or row["status"] != FAILED

    def write_preliminary() -> None:
        write_report(options.out, published=options.published, data=options.data, max_pictures=0)

    if options.published and not options.no_report:
        read_published(options.published)  # an error now rather than after the first minutes
    machine = Machine(
        devices=tuple(options.device),
        workers=options.workers,
        threads=options.threads,
        backend=options.backend,
        address=options.address,
        timeout=options.timeout or None,
        memory=options.memory * 1_000_000 if options.memory else None,
        fresh=options.fresh,
    )
    data, data_options = task_data(options)
    index = ",".join(options.index) if options.index else None
    usual = _default_splits(index) if data_options is None else DEFAULT_FAMILIES
    if index:
        chosen = options.splits or usual
    else:
        chosen = check_splits(options.splits) if options.splits else installed_splits(usual)
    splits = list(dict.fromkeys(_split_names(chosen)))
    special = dict(options.limit)
    if len(special) < len(options.limit):
        raise ConfigError("--limit: two numbers for the same networks; numbers have no commas here, as in 1000,wide=2")
    common = special.pop("", 0)
    path = run(
        options.predictors or [*_bundled(data), "random"],
        splits,
        data,
        out=options.out,
        data=options.data,
        image_root=options.image_root,
        limit=None if index else {name: special.get(name.partition(":")[0], common) or None for name in splits},
        index=index,
        noise=options.noise,
        corruptions=options.corruptions,
        corruption_root=options.corruption_root,
        download=options.download,
        batch_size=options.batch_size,
        seed=options.seed,
        metrics=options.metrics,
        vocabulary=options.vocabulary,
        predict_class_layers=not options.no_class_layers,
        machine=machine,
        retry_failed=options.retry_failed,
        progress=not options.quiet,
        on_row=None if options.no_report else _DoublingIntervals(write_preliminary),
        on_complete=note,
        task=options.task,
        data_options=data_options,
    )
    if options.no_report:
        if not options.quiet:
            print(f"rows: {path}")
    else:
        page = write_report(options.out, published=options.published, data=options.data)
        if not options.quiet:
            print(leaderboard_text(options.out), end="")
            print(f"\nrows: {path}\nreport: {page}")
    if succeeded and not any(succeeded.values()):
        raise DeepNetsError(f"run: every network failed; {path} gives the reasons, --retry-failed evaluates them again")
    for predictor, any_succeeded in succeeded.items():
        if not any_succeeded:
            print(f"note: {predictor} failed on every network; {path} gives the reasons", file=sys.stderr)


class _DoublingIntervals:
    """Calls a function, when called itself, after 1, 3, 7, 15, ... minutes: rarely in a long run."""

    def __init__(self, function: Callable[[], object], first: float = 60) -> None:
        self.function, self.interval = function, first
        self.next = time.monotonic() + first

    def __call__(self) -> None:
        if time.monotonic() >= self.next:
            self.function()
            self.interval *= 2
            self.next = time.monotonic() + self.interval


def _default_splits(index: str | None) -> Sequence[str]:
    """Return the splits without the option --splits; networks that are selected are usually of one split."""
    if index is None:
        return DEFAULT_SPLITS
    has_names = any(piece[0].isalpha() for piece in index.split(","))
    return ("predefined",) if has_names else ("test",)


def _split_names(items: Sequence[str]) -> list[str]:
    """Return the names of networks; a name behind models of a library is another of its models, unless it is a split.

    Examples
    --------
    >>> _split_names(["test", "torchvision:resnet50", "vit_b_16", "wide"])
    ['test', 'torchvision:resnet50,vit_b_16', 'wide']
    """
    names: list[str] = []
    for item in filter(None, items):
        previous = names[-1].partition(":")[0] if names else ""
        if previous in LIBRARIES and ":" not in item and item not in NETWORK_SPLITS:
            names[-1] += f",{item}"
        else:
            names.append(item)
    return names


def _limit(text: str) -> tuple[str, int]:
    """Parse an item of --limit: a number for all networks, or SPLIT=N for a split, a library, or families.

    Examples
    --------
    >>> _limit("10"), _limit("wide=2")
    (('', 10), ('wide', 2))
    """
    known = (*NETWORK_SPLITS, *LIBRARIES, "family")
    name, equals, number = text.partition("=")
    value = non_negative(number if equals else name)
    if not equals:
        return "", value
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
        raise argparse.ArgumentTypeError(f"unknown split {name!r}; {hint}")
    return name, value


def _bundled(images: str) -> list[str]:
    """Return the bundled hypernetworks that were trained on these images, according to their names."""
    from ghn_model.checkpoints import list_pretrained

    return [name for name in list_pretrained() if name.endswith(f"-{images}")]
