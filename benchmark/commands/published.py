"""The command `python -m benchmark published`."""

from __future__ import annotations

import argparse
import functools
import textwrap
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.literature import Published

__all__ = ["add_arguments"]

IMAGES = ("cifar10", "imagenet")
TABLES = ("accuracy", "best", "noise", "images", "chance", "parameters", "correlations", "wins", "models")
MORE_TABLES = ("each-model", "defects")
EPILOG = """
Tables: accuracy (mean and standard error per split), best (networks), noise (accuracy on noisy images), images (test
and validation images), chance (networks that SGD could not train), parameters, correlations (with the accuracy of
trained networks), wins (of GHN-2 over other methods), models (of torchvision); and, only if asked for, each-model and
defects (of the files).  DIR has results_cifar10.json, results_cifar10_extended.json, results_imagenet.json and
ghn3_results.json, or some of them.
"""
ABOUT_OURS = """
Ours: means are over the networks that did not fail; `failed` says how many did, of how many were run.  The published
networks are those of the original DeepNets-1M, ours those of the corpus that they were run on.
"""

Making = tuple[str, Callable[[], str]]
"""A title, and what makes the table below it."""


def add_arguments(commands: Any) -> None:
    """Add the command to those of a parser (what `add_subparsers` returned)."""
    published = commands.add_parser(
        "published", help="the literature's tables, from its files, and ours", epilog=EPILOG
    )
    published.add_argument("folder", type=Path, metavar="DIR", help="folder of the published files")
    published.add_argument("--results", type=Path, default=Path("results"), help="folder of our results (results)")
    published.add_argument("--images", choices=IMAGES, help="only those on these images")
    published.add_argument(
        "--table",
        choices=(*TABLES, *MORE_TABLES),
        action="append",
        metavar="TABLE",
        help="only this table, see below; may be repeated",
    )
    published.add_argument("--metric", choices=("top1", "top5"), help="of ours (as published: top1, imagenet top5)")
    published.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed options say."""
    from benchmark.literature import WIDTH, defects_text, load, read_ours
    from deepnets.support import ConfigError

    published = load(options.folder)
    ours = read_ours(options.results)
    metric = options.metric or ""
    tables = options.table or TABLES
    makings: list[Making] = []
    for images in [options.images] if options.images else IMAGES:
        makings += _of_networks(published, ours, images, metric, tables)
        if images == "imagenet":
            makings += _of_models(published, ours, tables)
    if ours is not None and not options.table and not options.images:
        makings += _ours_alone(published, ours, metric)
    if "defects" in tables:
        makings.append(("What is wrong with the published files, or easily misread", defects_text))
    for note in published.notes:
        _say(f"note: {note}")
    if not makings:
        raise ConfigError(
            f"--table: nothing in {options.folder} is about {', '.join(tables)}"
            + (f" on {options.images}" if options.images else "")
        )
    if ours is None:
        _say(f"note: there are no results of ours in {options.results}; python -m benchmark run makes them")
    for title, make in makings:
        print(f"\n{textwrap.fill(title, WIDTH)}\n\n{make()}")
    if ours is not None:
        _say(f"\n{' '.join(ABOUT_OURS.split())}")
        _say_what_is_not_shown(ours)
    if not options.table:
        _say("\nWhat is wrong with the published files, and how they are read: --table defects")


def _of_networks(
    published: Published, ours: pd.DataFrame | None, images: str, metric: str, tables: Collection[str]
) -> Iterator[Making]:
    """The tables of networks of DeepNets-1M."""
    from benchmark.literature import METRICS, NAMES, accuracy_text, best_text, files_of, images_text, statistics_text

    if not any(file in published.networks for file in files_of(images)):
        return
    name, trained = NAMES[images], "50 epochs of SGD" if images == "cifar10" else "one epoch of SGD"
    measure = f"top-{METRICS[images][3]} in percent"
    if ours is not None and metric and metric != METRICS[images]:
        measure += f" (ours top-{metric[3]})"
    statistics = functools.partial(statistics_text, published, images)
    error = "mean ± standard error over the networks of a split"
    if "accuracy" in tables:
        title = f"{name}, test images, {measure}: {error}"
        yield title, functools.partial(accuracy_text, published, ours, images, metric)
    if "best" in tables:
        title = f"{name}, test images, {measure}: the best network of a split, and its index"
        yield title, functools.partial(best_text, published, ours, images, metric)
    for split in ("val", "test") if "images" in tables else ():
        title = f"{name}, networks of {split}, {measure}, on test and validation images, clean and noisy"
        yield title, functools.partial(images_text, published, ours, images, split, metric)
    # Of noisy test images of ImageNet nothing is published; what is there for validation images is in the table above.
    ours_noisy = ours is not None and bool(((ours["images"] == images) & (ours["noise"] != 0)).any())
    if "noise" in tables and (images == "cifar10" or ours_noisy):
        title = f"{name}, noisy test images, {measure}: {error} (-: not in the files, or not to be used)"
        yield title, functools.partial(accuracy_text, published, ours, images, metric, noise=True)
    titles = {
        "chance": f"{name}: networks that {trained} did not train (accuracy of chance)",
        "parameters": f"{name}: parameters of the networks, in millions",
        "correlations": f"{name}, networks of test: Kendall's rank correlation with the accuracy after {trained}",
        "wins": f"{name}, test images: share of the networks on which GHN-2 is better than",
    }
    for table, title in titles.items():
        if table in tables:
            yield title, functools.partial(statistics, table)


def _of_models(published: Published, ours: pd.DataFrame | None, tables: Collection[str]) -> Iterator[Making]:
    """The tables of models of torchvision."""
    from benchmark.literature import model_text, models_text

    if published.models is None:
        return
    if "models" in tables:
        title = "ImageNet, 74 models of torchvision, top-1 in percent: parameters predicted, or trained from them"
        yield title, functools.partial(models_text, published, ours)
    if "each-model" in tables:
        yield "ImageNet, models of torchvision, top-1 in percent", functools.partial(model_text, published, ours)


def _ours_alone(published: Published, ours: pd.DataFrame, metric: str) -> Iterator[Making]:
    """Our results on images for which the files have nothing."""
    from benchmark.literature import METRICS, accuracy_text, best_text, files_of, images_text

    for images in dict.fromkeys(ours["images"]):
        if images in IMAGES and any(file in published.networks for file in files_of(images)):
            continue
        measure = metric or METRICS.get(images, "top1")
        about = f"Ours on {images}, top-{measure[3]} in percent; there is nothing published to compare with"
        yield f"{about}: test images", functools.partial(accuracy_text, None, ours, images, measure)
        yield f"Ours on {images}: best network", functools.partial(best_text, None, ours, images, measure)
        if ((ours["images"] == images) & (ours["split"] == "val")).any():
            yield (
                f"Ours on {images}: networks of val",
                functools.partial(images_text, None, ours, images, "val", measure),
            )


def _say_what_is_not_shown(ours: pd.DataFrame) -> None:
    from benchmark.literature import NOISE

    other = ours[(ours["noise"] != 0) & (ours["noise"] != ours["images"].map(NOISE))]
    if len(other):
        kinds = sorted(set(zip(other["images"], other["noise"], strict=True)))
        what = ", ".join(f"{noise:g} on {images}" for images, noise in kinds)
        _say(f"note: ours with noise for which nothing is published is not shown: {what}")


def _say(text: str) -> None:
    from benchmark.literature import WIDTH

    print(textwrap.fill(text, WIDTH, subsequent_indent="  ", replace_whitespace=False, break_long_words=False))
