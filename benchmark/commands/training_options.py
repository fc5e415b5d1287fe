"""What the tasks of `python -m benchmark sgd` and `finetune` have in common: recipes, networks, reports."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmark.choices import LIBRARIES

if TYPE_CHECKING:
    from benchmark.baselines import Curves, TrainingJob
    from benchmark.training import SGDRecipe, Start

__all__ = [
    "common_arguments",
    "jobs_for",
    "learning_rates",
    "prepare",
    "recipe_of",
    "refuse",
    "report",
    "starts_of",
    "with_rates",
]

RECIPE_OPTIONS = (
    *("epochs", "optimizer", "lr", "weight_decay", "schedule", "batch_size", "label_smoothing", "clip_grad"),
    *("augment", "noise", "orthogonal_from", "warmup_epochs", "loss", "auxiliary_weight", "drop_path", "cutout"),
    *("mixup", "cutmix", "rand_augment", "warmup_steps"),
)
"""Options that replace fields of the recipe."""


def prepare(options: argparse.Namespace) -> None:
    """Check the options that are common to all tasks, and set the number of threads."""
    import torch

    from deepnets.support import ConfigError

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.index and (options.model or options.genotype):
        raise ConfigError("--index: is for networks of a --split; with --model or --genotype, name the networks")
    if not options.genotype and (options.width or options.cells):
        raise ConfigError(f"{'--width' if options.width else '--cells'}: is for networks of --genotype")


def refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Raise a `ConfigError` with a reason if one of these options is given."""
    from deepnets.support import ConfigError

    for name in names:
        value = getattr(options, name, None)
        if value is not None and value is not False:  # 0 is a value
            raise ConfigError(f"--{name.replace('_', '-')}: {reason}")


def common_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `train_all` and `train_detectors` that options of all tasks give."""
    return {
        "seed": options.seed,
        "device": options.device,
        "save": not options.no_save,
        "save_seconds": 60 * options.save_minutes,
        "progress": not options.quiet,
        "retry_failed": options.retry_failed,
    }


def recipe_of(options: argparse.Namespace, protocol: str) -> SGDRecipe:
    """Return the recipe of a protocol with the changes that the options ask for; what it needs is installed."""
    from benchmark.training import SGDRecipe
    from benchmark.training.epoch import check_recipe

    changes = {name: getattr(options, name) for name in RECIPE_OPTIONS if getattr(options, name) is not None}
    if changes.get("augment") is False:
        changes.setdefault("rand_augment", "none")
    if changes.get("rand_augment") == "none":
        changes["rand_augment"] = ""
    if changes.get("loss") == "cross_entropy":
        changes["target_threshold"] = 0.0
    recipe = SGDRecipe.preset(protocol, **changes)
    check_recipe(recipe)
    return recipe


def learning_rates(options: argparse.Namespace, protocol: str) -> list[float]:
    """Return the learning rates with each of which networks are trained; empty for that of the recipe alone."""
    from benchmark.training import PRESET_LRS
    from deepnets.support import ConfigError

    if options.lrs and options.lr is not None:
        raise ConfigError("--lrs: cannot be combined with --lr")
    if options.lr is not None:
        return []
    rates = list(options.lrs or PRESET_LRS.get(protocol, ()))
    if repeated := sorted({rate for rate in rates if rates.count(rate) > 1}):
        raise ConfigError(f"--lrs: {repeated[0]:g} is given twice")
    return rates


def with_rates(
    starts: Sequence[Start], recipe: SGDRecipe, rates: Sequence[float]
) -> Iterator[tuple[list[Start], SGDRecipe]]:
    """Iterate over learning rates: initial parameters, labelled by the rate, and the recipe; once without rates."""
    if not rates:
        yield list(starts), recipe
    for rate in rates:
        yield [replace(each, label=f"{each.label}-lr{rate:g}") for each in starts], recipe.replace(lr=rate)


def starts_of(options: argparse.Namespace) -> list[Start]:
    """Open the initial parameters that the options name."""
    from benchmark.training import open_start
    from deepnets.support import ConfigError

    starts = [open_start(spec, options.device) for spec in options.init]
    labels = [start.label for start in starts]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"--init: {repeated[0]} is given twice; give one another label, as in again={repeated[0]}")
    return starts


def jobs_for(
    options: argparse.Namespace, num_classes: int, image_size: int
) -> tuple[list[TrainingJob], dict[str, Any]]:
    """Return the networks that the options name, and the settings that identify their corpus."""
    from benchmark.baselines import genotype_jobs, jobs_of, model_jobs
    from benchmark.evaluation import open_networks, select_networks
    from deepnets.support import ConfigError

    if options.model:
        return model_jobs(_models(options.model), num_classes, image_size), {}
    if options.genotype:
        return genotype_jobs(options.genotype, num_classes, image_size, options.width, options.cells), {}
    if ":" in options.split and not options.split.startswith("family:"):
        raise ConfigError(f"--split: expected a split of the corpus, got {options.split!r}; use --model")
    networks = open_networks(options.split, data=options.data, num_classes=num_classes, image_size=image_size)
    jobs = jobs_of(networks, select_networks(networks, ",".join(options.index or [":"])))
    return jobs, {"corpus": networks.identity}


def report(curves: Curves, metric: str) -> None:
    """Print the table of a metric and the failures, and draw the curves."""
    from benchmark.baselines import curves_text, draw_curves
    from deepnets.support import DeepNetsError

    table = curves.table()
    drawn = draw_curves(table, curves.folder / "curves.png", metric)
    print(curves_text(table, metric))
    failed = table[table["status"] != "ok"]
    for row in failed.head(10).to_dict("records"):
        print(f"failed: {row['split']} {row['network'] or row['index']} from {row['predictor']}: {row['reason']}")
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more, in {curves.path}")
    print(f"{curves.path}{' and curves.png' if drawn else ''}")
    if len(table) and len(failed) == len(table):
        raise DeepNetsError(f"every training failed; {curves.path} gives the reasons, --retry-failed trains them again")


def _models(items: Sequence[str]) -> list[str]:
    """Return names of models with their libraries, which may be given once: torchvision:resnet18,resnet50.

    Examples
    --------
    >>> _models(["torchvision:resnet18", "resnet50", "mine:Net"])
    ['torchvision:resnet18', 'torchvision:resnet50', 'mine:Net']
    """
    names: list[str] = []
    for item in items:
        library = names[-1].partition(":")[0] if names else ""
        names.append(f"{library}:{item}" if ":" not in item and library in LIBRARIES else item)
    return names
