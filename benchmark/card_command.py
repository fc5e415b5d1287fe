"""The command `python -m benchmark card`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_arguments"]

EPILOG = """
First without results: this writes NAME.safetensors, the log, and a card.  Then evaluate that file with python -m
benchmark run, and give the folder of results: this adds what it reaches, beside what is published.
"""


def add_arguments(commands: Any) -> None:
    """Add the command to those of a parser (what `add_subparsers` returned)."""
    card = commands.add_parser("card", help="bundle a trained hypernetwork, with a card", epilog=EPILOG)
    card.add_argument("run", type=Path, metavar="RUN", help="folder of the training")
    card.add_argument("--name", required=True, help="of the hypernetwork, such as ghn2-cifar10")
    card.add_argument("--out", type=Path, help="where to (among those that come with the package)")
    card.add_argument("--results", type=Path, metavar="DIR", help="folder in which NAME.safetensors was evaluated")
    card.add_argument("--full", action="store_true", help="keep single precision")
    card.add_argument("--overwrite", action="store_true", help="replace the hypernetwork of another training")
    said = card.add_argument_group("what no file knows")
    said.add_argument("--corpus-command", metavar="TEXT", help="how the corpus was made")
    said.add_argument("--images-about", metavar="TEXT", help="what there is to say about the images")
    said.add_argument("--limits", metavar="TEXT", help="what the hypernetwork is not good for")
    card.set_defaults(do=_run)


def _run(options: argparse.Namespace) -> None:
    from benchmark.cards import bundle, make_card, write_card
    from ghn_model.checkpoints import PRETRAINED

    path = bundle(
        options.run, options.name, options.out or PRETRAINED, half=not options.full, overwrite=options.overwrite
    )
    given = {name: getattr(options, name) for name in ("images_about", "limits")}
    card = make_card(
        options.run,
        path,
        options.results,
        corpus_command=options.corpus_command,
        given={name: text for name, text in given.items() if text},
    )
    written = write_card(path, card)
    print(f"{path}\n{written}\n{path.with_suffix('')}.log.csv")
    if not options.results:
        print("the card has no results yet: evaluate the first file, then give --results")
        return
    published = card.get("published", {})
    print(f"\n{'top-1, percent':16}{'ours':>20}{'published' if published else '':>16}")
    for split, found in card["results"].items():
        if "mean_top1" in found:
            ours = f"{found['mean_top1']:.2f}±{found['standard_error']:.2f} ({found['networks']})"
        else:
            ours = "failed" if found["top1"] is None else f"{found['top1']:.2f}"
        print(f"{split:16}{ours:>20}{published.get(split, ''):>16}".rstrip())
