"""The command `python -m benchmark published`."""

from __future__ import annotations

import argparse
import functools
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.options import metric_name
from deepnets.support import ListOption, examples

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.literature import Published

__all__ = ["add_arguments"]

IMAGES = ("cifar10", "imagenet")
TABLES = ("accuracy", "best", "noise", "images", "chance", "parameters", "correlations", "wins", "models")
MORE_TABLES = ("each-model", "known-issues")
LOGAH = ("logah-vit", "logah-meta-batch", "logah-text", "logah-diversity")
EPILOG = """
Tables: accuracy (mean and standard error per split), best (best networks), noise (accuracy on noisy images), images
(accuracy on test and validation images), chance (networks that SGD could not train), parameters (sizes of networks),
correlations (with the accuracy of trained networks), wins (of GHN-2 over other methods), models (of torchvision); and,
only on request, each-model and known-issues (of the files).  DIR contains results_cifar10.json,
results_cifar10_extended.json, results_imagenet.json and ghn3_results.json, or some of them.  The tables of LoGAH need
no files: logah-vit (vision transformers after fine-tuning), logah-meta-batch, logah-text (perplexities of GPT-2) and
logah-diversity; without DIR, they are shown alone.

""" + examples(
    "deepnets published --table logah-vit",
    "deepnets published --published folder-with-json-files --images cifar10 --results results",
)
ABOUT_OWN_RESULTS = """
Own results: networks that failed count as 0; `failed` gives the number of failures and of networks, and `without them`
the mean over the other networks.  The published networks are those of the original DeepNets-1M, own results are on the
corpus that was evaluated.
"""

Table = tuple[str, Callable[[], str]]
"""A title, and a function that returns the table below it."""


def add_arguments(commands: Any) -> None:
    """Add the command to the result of `ArgumentParser.add_subparsers`."""

    published = commands.add_parser(
        "published", help="show the tables of the papers, and your results next to them", epilog=EPILOG
    )
    published.add_argument(
        "--published", type=Path, metavar="DIR", help="folder of the published files (default: tables without files)"
    )
    published.add_argument("folder", type=Path, nargs="?", help=argparse.SUPPRESS)
    published.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of your results (default: results)"
    )
    published.add_argument(
        "--trainings",
        type=Path,
        default=Path("results/finetune"),
        metavar="DIR",
        help="folder of your trainings, for the tables of LoGAH (default: results/finetune)",
    )
    published.add_argument("--images", choices=IMAGES, help="show only tables on these images (default: both)")
    published.add_argument(
        "--table",
        action=_Tables,
        type=_table_name,
        choices=(*TABLES, *MORE_TABLES, *LOGAH),
        metavar="TABLE",
        help="show only these tables, see below; may be repeated (default: all but each-model, known-issues; without "
        "--published, those of LoGAH)",
    )
    published.add_argument(
        "--metric",
        type=metric_name,
        metavar="NAME",
        help="metric of your results, a name or module:attribute (default: top1, for imagenet top5)",
    )
    published.set_defaults(do=run)


class _Tables(ListOption):
    """The option --table, which may be repeated, and after which the folder may follow."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        before = list(getattr(namespace, self.dest, None) or [])
        if len(values) > 1 and values[-1] not in (*(self.item_choices or ()), "defects") and Path(values[-1]).is_dir():
            namespace.published = Path(values.pop())
        super().__call__(parser, namespace, values, option_string)
        setattr(namespace, self.dest, before + getattr(namespace, self.dest))


def _table_name(name: str) -> str:
    if name == "defects":
        print("--table defects is deprecated; use --table known-issues", file=sys.stderr)
        return "known-issues"
    return name


def run(options: argparse.Namespace) -> None:
    """Run the command with its parsed options."""
    from benchmark.literature import known_issues_text, load, read_own_results
    from deepnets.support import ConfigError

    if options.published is not None:
        options.folder = options.published
    names = options.table or (*TABLES, *(() if options.images else LOGAH))
    logah = list(_logah_tables(options.trainings, names))
    if options.folder is None:
        others = [name for name in options.table or () if name not in LOGAH]
        if others or not logah:
            raise ConfigError(
                f"--published: the table {others[0] if others else names[0]} needs the folder of published files"
            )
        _print_tables(logah)
        return
    published = load(options.folder)
    results = read_own_results(options.results)
    metric = options.metric or ""
    tables: list[Table] = []
    for images in [options.images] if options.images else IMAGES:
        tables += _network_tables(published, results, images, metric, names)
        if images == "imagenet":
            tables += _model_tables(published, results, names)
    if results is not None and not options.table and not options.images:
        tables += _own_tables(published, results, metric)
    tables += logah
    if "known-issues" in names:
        tables.append(("Known issues of the published files", known_issues_text))
    for name in published.missing:
        _print(f"note: {name} is not in {options.folder}")
    if not tables:
        raise ConfigError(
            f"--table: nothing in {options.folder} is about {', '.join(names)}"
            + (f" on {options.images}" if options.images else "")
        )
    if results is None:
        _print(f"note: there are no own results in {options.results}; deepnets bench creates them")
    _print_tables(tables)
    if results is not None:
        _print(f"\n{' '.join(ABOUT_OWN_RESULTS.split())}")
        _print_omitted_noise(results)
    if not options.table:
        _print("\nErrors of the published files, and how they are handled: --table known-issues")


def _network_tables(
    published: Published, results: pd.DataFrame | None, images: str, metric: str, names: Collection[str]
) -> Iterator[Table]:
    """Yield the tables of networks of DeepNets-1M."""
    from benchmark.literature import accuracy_text, best_text, files_of, images_text, statistics_text
    from benchmark.results import usual_metric
    from deepnets.data import image_set_info

    if not any(file in published.networks for file in files_of(images)):
        return
    name, trained = image_set_info(images).title, "50 epochs of SGD" if images == "cifar10" else "one epoch of SGD"
    usual = usual_metric(images, "test")
    measure = _metric_text(usual)
    if results is not None and metric and metric != usual:
        measure += f" (own results {_metric_name(metric)})"
    statistics = functools.partial(statistics_text, published, images)
    error = "mean ± standard error over the networks of a split"
    if "accuracy" in names:
        title = f"{name}, test images, {measure}: {error}"
        yield title, functools.partial(accuracy_text, published, results, images, metric)
    if "best" in names:
        title = f"{name}, test images, {measure}: the best network of a split, and its index"
        yield title, functools.partial(best_text, published, results, images, metric)
    for split in ("val", "test") if "images" in names else ():
        title = f"{name}, networks of {split}, {measure}, on test and validation images, clean and noisy"
        yield title, functools.partial(images_text, published, results, images, split, metric)
    # For noisy test images of ImageNet nothing is published; validation images are in the table above.
    has_noise = results is not None and bool(((results["images"] == images) & (results["noise"] != 0)).any())
    if "noise" in names and (images == "cifar10" or has_noise):
        title = f"{name}, noisy test images, {measure}: {error} (-: missing or unusable)"
        yield title, functools.partial(accuracy_text, published, results, images, metric, noise=True)
    titles = {
        "chance": f"{name}: networks that {trained} did not train (accuracy of random guessing)",
        "parameters": f"{name}: parameters of the networks, in millions",
        "correlations": f"{name}, networks of test: Kendall's rank correlation with the accuracy after {trained}",
        "wins": f"{name}, test images: fraction of the networks on which GHN-2 is better than",
    }
    for table, title in titles.items():
        if table in names:
            yield title, functools.partial(statistics, table)


def _model_tables(published: Published, results: pd.DataFrame | None, names: Collection[str]) -> Iterator[Table]:
    """Yield the tables of models of torchvision."""
    from benchmark.literature import model_text, models_text

    if published.models is None:
        return
    if "models" in names:
        title = "ImageNet, 74 models of torchvision, top-1 in percent: predicted, or trained from predicted parameters"
        yield title, functools.partial(models_text, published, results)
    if "each-model" in names:
        yield "ImageNet, models of torchvision, top-1 in percent", functools.partial(model_text, published, results)


def _own_tables(published: Published, results: pd.DataFrame, metric: str) -> Iterator[Table]:
    """Yield tables of own results on images without published results."""
    from benchmark.literature import accuracy_text, best_text, files_of, images_text
    from benchmark.results import usual_metric

    for images in dict.fromkeys(results["images"]):
        if images in IMAGES and any(file in published.networks for file in files_of(images)):
            continue
        name = metric or usual_metric(images, "test")
        title = f"Own results on {images}, {_metric_text(name)}, without published results to compare with"
        yield f"{title}: test images", functools.partial(accuracy_text, None, results, images, name)
        yield f"Own results on {images}: best network", functools.partial(best_text, None, results, images, name)
        if ((results["images"] == images) & (results["split"] == "val")).any():
            table = functools.partial(images_text, None, results, images, "val", name)
            yield f"Own results on {images}: networks of val", table


def _logah_tables(folder: Path, names: Collection[str]) -> Iterator[Table]:
    """Yield the tables of LoGAH, with own trainings of a folder."""
    from benchmark.literature import LOGAH_TABLES, logah_text, read_trainings

    chosen = [name for name in LOGAH if name in names]
    trainings = read_trainings(folder) if chosen else None
    for name in chosen:
        yield LOGAH_TABLES[name], functools.partial(logah_text, name, trainings)


def _print_tables(tables: Collection[Table]) -> None:
    from benchmark.literature import WIDTH

    for title, table in tables:
        print(f"\n{textwrap.fill(title, WIDTH)}\n\n{table()}")


def _metric_name(name: str) -> str:
    from benchmark.metrics import get_metric

    return get_metric(name).label.removesuffix(" accuracy")


def _metric_text(name: str) -> str:
    from benchmark.metrics import get_metric

    unit = get_metric(name).unit
    return _metric_name(name) + (f" in {'percent' if unit == '%' else unit}" if unit else "")


def _print_omitted_noise(results: pd.DataFrame) -> None:
    from benchmark.literature import NOISE

    other = results[(results["noise"] != 0) & (results["noise"] != results["images"].map(NOISE))]
    if len(other):
        kinds = sorted(set(zip(other["images"], other["noise"], strict=True)))
        levels = ", ".join(f"{noise:g} on {images}" for images, noise in kinds)
        _print(f"note: own results with noise levels without published results are not shown: {levels}")


def _print(text: str) -> None:
    from benchmark.literature import WIDTH

    print(textwrap.fill(text, WIDTH, subsequent_indent="  ", replace_whitespace=False, break_long_words=False))
