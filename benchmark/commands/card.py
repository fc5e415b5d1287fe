"""The command `python -m benchmark card`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["add_arguments"]

EPILOG = """
First without results: this writes NAME.safetensors, the log, and a card.  Then evaluate that file with python -m
benchmark run, and give the folder of results: this adds what it reaches, beside what is published.  RUN may then
be left out, and what was said before need not be said again.
"""
SAID = ("corpus_command", "images_about", "limits", "hardware", "software")


def add_arguments(commands: Any) -> None:
    """Add the command to those of a parser (what `add_subparsers` returned)."""
    card = commands.add_parser("card", help="bundle a trained hypernetwork, with a card", epilog=EPILOG)
    card.add_argument(
        "run", type=Path, nargs="?", metavar="RUN", help="folder of the training (the card that is there knows it)"
    )
    card.add_argument("--name", required=True, help="of the hypernetwork, such as ghn2-cifar10")
    card.add_argument("--out", type=Path, help="where to (among those that come with the package)")
    card.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder in which NAME.safetensors, or the file in RUN, was evaluated",
    )
    card.add_argument("--full", action="store_true", help="keep single precision")
    card.add_argument("--overwrite", action="store_true", help="replace the hypernetwork of another training")
    said = card.add_argument_group("what no file knows")
    said.add_argument("--corpus-command", metavar="TEXT", help="how the corpus was made")
    said.add_argument("--images-about", metavar="TEXT", help="what there is to say about the images")
    said.add_argument("--limits", metavar="TEXT", help="what the hypernetwork is not good for")
    said.add_argument("--hardware", metavar="TEXT", help="what an older training ran on, whose file does not say")
    said.add_argument("--software", metavar="TEXT", help="likewise")
    card.set_defaults(do=_run)


def _run(options: argparse.Namespace) -> None:
    import json

    from benchmark.cards import bundle
    from ghn_model.checkpoints import PRETRAINED

    path = bundle(
        options.run,
        options.name,
        options.out or PRETRAINED,
        half=not options.full,
        overwrite=options.overwrite,
        results=options.results,
        given={name: getattr(options, name) for name in SAID if getattr(options, name) is not None},
    )
    written = path.with_suffix(".json")
    card = json.loads(written.read_text(encoding="utf-8"))
    print(f"{path}\n{written}\n{path.with_name(card['log'])}")
    if not card["results"]:
        print("the card has no results yet: evaluate the first file, then give --results")
        return
    published = card.get("published", {})
    print(f"\n{'top-1, percent':16}{'ours':>20}{'published' if published else '':>20}".rstrip())
    for split, found in card["results"].items():
        print(f"{split:16}{_said(found):>20}{_said(published.get(split)):>20}".rstrip())


def _said(found: Mapping[str, Any] | None) -> str:
    """Figures of a split, or of one network."""
    if found is None:
        return ""
    figure = found.get("mean_top1", found.get("top1"))
    if figure is None:
        return "failed"
    if "mean_top1" not in found:
        return f"{figure:.2f}"
    return f"{figure:.2f}±{found['standard_error']:.2f} ({found['networks']})"
