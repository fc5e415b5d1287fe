"""The command `python -m benchmark card`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepnets.support import examples

__all__ = ["add_arguments"]

EPILOG = """
Run this command twice.  First without results: it writes NAME.safetensors, the log and a card.  Then evaluate
NAME.safetensors with deepnets bench, and run this command with --results: it adds the accuracies to the card,
next to published ones.  The second time, RUN and the descriptions may be omitted.

""" + examples(
    "deepnets card runs/ghn2-cifar10 --name ghn2-cifar10 --out mine",
    "deepnets bench --predictors mine/ghn2-cifar10.safetensors --images cifar10 --image-root cifar --out results",
    "deepnets card --name ghn2-cifar10 --out mine --results results",
)
DESCRIPTIONS = ("corpus_command", "images_about", "limits", "hardware", "software")


def add_arguments(commands: Any) -> None:
    """Add the command to the result of `ArgumentParser.add_subparsers`."""
    card = commands.add_parser("card", help="bundle a trained hypernetwork, with a card", epilog=EPILOG)
    card.add_argument(
        "run",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="folder of the training run (default: update the existing card)",
    )
    card.add_argument("--name", required=True, help="name of the hypernetwork, such as ghn2-cifar10")
    card.add_argument("--out", type=Path, help="folder to write to (default: the folder of the bundled hypernetworks)")
    card.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder of results of NAME.safetensors, or of the checkpoint in RUN (default: none)",
    )
    card.add_argument(
        "--full", action="store_true", help="store the weights in single precision instead of half precision"
    )
    card.add_argument("--overwrite", action="store_true", help="replace files of another training")
    card.add_argument(
        "--task",
        metavar="MODULE:ATTRIBUTE",
        help="task of your own that the training was for, whose code runs (default: the one that the files name)",
    )
    texts = card.add_argument_group("descriptions that no file contains")
    texts.add_argument("--corpus-command", metavar="TEXT", help="the command that built the corpus (default: none)")
    texts.add_argument("--images-about", metavar="TEXT", help="a description of the images (default: none)")
    texts.add_argument("--limits", metavar="TEXT", help="the limitations of the hypernetwork (default: none)")
    texts.add_argument("--hardware", metavar="TEXT", help="hardware, if the training did not record it (default: none)")
    texts.add_argument("--software", metavar="TEXT", help="software, if the training did not record it (default: none)")
    card.set_defaults(do=_run)


def _run(options: argparse.Namespace) -> None:
    import json

    from benchmark.cards import bundle
    from benchmark.metrics import get_metric
    from ghn_model.checkpoints import PRETRAINED, card_metric

    path = bundle(
        options.run,
        options.name,
        options.out or PRETRAINED,
        half=not options.full,
        overwrite=options.overwrite,
        results=options.results,
        task=options.task,
        given={name: getattr(options, name) for name in DESCRIPTIONS if getattr(options, name) is not None},
    )
    written = path.with_suffix(".json")
    card = json.loads(written.read_text(encoding="utf-8"))
    print(path, written, *(path.with_name(card[name]) for name in ("log", "curve") if name in card), sep="\n")
    if not card["results"]:
        print("the card has no results yet; evaluate the first file, then run this command with --results")
        return
    published, metric = card.get("published", {}), card_metric(card)
    title = get_metric(metric).title
    wide = max(len(name) + 2 for name in (title, *card["results"]))
    print(f"\n{title:{wide}}{'ours':>26}{'published' if published else '':>20}".rstrip())
    for split, found in card["results"].items():
        print(f"{split:{wide}}{_result(found, metric):>26}{_result(published.get(split), metric):>20}".rstrip())


def _result(found: Mapping[str, Any] | None, metric: str) -> str:
    """Format the results of a split, or of one network."""
    if found is None:
        return ""
    figure = found.get(f"mean_{metric}", found.get(metric))
    if figure is None:
        return "failed"
    if f"mean_{metric}" not in found:
        return f"{figure:.2f}"
    failed = f", {found['failures']} failed" if found.get("failures") else ""
    return f"{figure:.2f}±{found['standard_error']:.2f} ({found['networks']}{failed})"
