"""The commands `python -m benchmark sgd` and `python -m benchmark finetune`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deepnets.data import IMAGE_SETS
from deepnets.support import non_negative, number, positive

__all__ = ["add_arguments"]

EPILOG = """
What a network starts from (--init): random; a bundled hypernetwork or a file of one, whose class layers are taken if
it knows as many classes; a file of tensors (safetensors or torch.save); a folder of such files, named SPLIT-INDEX as
those that this command writes.  LABEL=INIT gives it another name in tables.  A run that was stopped, however it was, is
continued by the same command: networks that are there are not trained again.  Trainings with other settings need
another --out, or other labels.
"""


def add_arguments(commands: Any) -> None:
    """Add the commands to those of a parser (what `add_subparsers` returned)."""
    from benchmark.training import PRESETS

    sgd = commands.add_parser("sgd", help="train networks: the baseline of predicted parameters", epilog=EPILOG)
    _add(sgd, Path("results/sgd"), "the recipe (that of the images)", PRESETS)
    sgd.set_defaults(do=run, default_preset=None)

    finetune = commands.add_parser(
        "finetune", help="train networks on, from parameters that are predicted, saved or random", epilog=EPILOG
    )
    _add(finetune, Path("results/finetune"), "the recipe (finetune-100shot)", PRESETS)
    finetune.set_defaults(do=run, default_preset="finetune-100shot")


def _add(parser: argparse.ArgumentParser, out: Path, recipe_help: str, presets: Any) -> None:
    networks = parser.add_argument_group("networks")
    which = networks.add_mutually_exclusive_group()
    which.add_argument("--split", default="test", help="of the corpus (test)")
    which.add_argument(
        "--model",
        nargs="+",
        metavar="NAME",
        help="models instead: torchvision:NAME, timm:NAME, or module:callable, whose code runs; for 32 pixels, models "
        "of torchvision are adapted, where it is published how",
    )
    networks.add_argument("--index", type=_ranges, metavar="I", help="which of the split: 7, 0:10 or 0:5,20,30: (all)")
    networks.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (data)")
    networks.add_argument(
        "--init", nargs="+", default=["random"], metavar="INIT", help="what to start from, see below (random)"
    )

    images = parser.add_argument_group("images")
    images.add_argument(
        "--images",
        default="digits",
        type=IMAGE_SETS.option,
        metavar="NAME",
        help=f"{', '.join(IMAGE_SETS)}, or module:attribute (digits)",
    )
    images.add_argument("--image-root", type=Path, help="folder of cifar10 or imagenet")
    images.add_argument(
        "--train-on",
        default="train",
        choices=("train", "trainval"),
        help="without or with the images held out for validation (train)",
    )
    images.add_argument(
        "--part", choices=("test", "val"), help="to evaluate on (test; val for the splits train, val and search)"
    )
    images.add_argument(
        "--shots", type=non_negative, help="train on so many images per class; 0 for all (the preset's)"
    )

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--preset", choices=tuple(presets), help=recipe_help)
    recipe.add_argument("--epochs", type=positive, help="length of the whole schedule (the preset's)")
    recipe.add_argument("--optimizer", choices=("sgd", "adam", "adamw"))
    recipe.add_argument("--learning-rate", type=number, help="of the first epoch")
    recipe.add_argument("--weight-decay", type=number)
    recipe.add_argument("--schedule", choices=("cosine", "exponential", "multistep", "constant"))
    recipe.add_argument("--batch", type=positive, help="images in a step")
    recipe.add_argument("--label-smoothing", type=number)
    recipe.add_argument("--clip", type=number, help="largest norm of the gradient; 0 for any")
    recipe.add_argument("--augment", action=argparse.BooleanOptionalAction, help="vary the images as is usual (yes)")
    recipe.add_argument("--noise", type=number, help="added to predicted parameters, as ghn_model.vary does")
    recipe.add_argument("--orthogonal-from", type=positive, metavar="LAYER", help="make predicted weights orthogonal")
    recipe.add_argument("--seed", type=non_negative, default=0, help="of initial values and orders (0)")

    running = parser.add_argument_group("running and results")
    running.add_argument("--out", type=Path, default=out, help=f"folder of the results ({out})")
    running.add_argument("--no-save", action="store_true", help="do not keep the trained networks")
    running.add_argument("--retry-failed", action="store_true", help="train networks again that failed")
    running.add_argument(
        "--evaluate-after", type=positive, nargs="+", metavar="EPOCH", help="and the last (1 5 10 20 30 40 50)"
    )
    running.add_argument("--metric", default="top1", choices=("top1", "top5"), help="of the table and picture (top1)")
    running.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1 (cpu)")
    running.add_argument("--threads", type=positive, help="of PyTorch on the CPU")
    running.add_argument("--quiet", action="store_true", help="no bar")


CHANGES = (
    *("epochs", "optimizer", "learning_rate", "weight_decay", "schedule", "batch", "label_smoothing", "clip"),
    *("augment", "noise", "orthogonal_from"),
)
"""Options that replace fields of the recipe."""


def run(options: argparse.Namespace) -> None:
    """Do what the parsed options say."""
    import torch

    from benchmark.baselines import Curves, curves_text, draw_curves, jobs_of, model_jobs, train_all
    from benchmark.evaluation import FOR_CHOOSING, open_networks
    from benchmark.training import PRESET_SHOTS, SGDRecipe, n_shot, open_start
    from deepnets.data import open_images
    from deepnets.support import ConfigError

    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        torch.empty(0, device=options.device)
    except Exception as error:
        raise ConfigError(f"--device: cannot use {options.device!r}: {str(error).splitlines()[0][:200]}") from error
    if options.model and options.index:
        raise ConfigError("--index: is for networks of a --split; of models, name those that you want")
    preset = options.preset or options.default_preset or options.images
    changes = {name: getattr(options, name) for name in CHANGES if getattr(options, name) is not None}
    recipe = SGDRecipe.preset(preset, **changes)
    starts = [open_start(spec, options.device) for spec in options.init]
    labels = [start.label for start in starts]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"--init: {repeated[0]} is there twice; give one another label, as in again={repeated[0]}")

    part = options.part or ("val" if not options.model and options.split in FOR_CHOOSING else "test")
    if part == "val" and options.train_on == "trainval":
        raise ConfigError("--train-on: trainval holds the images to evaluate on (--part val); use train")
    given = {"root": options.image_root, "device": options.device}
    train_images, eval_images = (open_images(options.images, each, **given) for each in (options.train_on, part))
    shots = PRESET_SHOTS.get(preset, 0) if options.shots is None else options.shots
    if shots:
        train_images = n_shot(train_images, shots)

    settings: dict[str, Any] = {"shots": shots}
    classes, size = eval_images.num_classes, eval_images.image_size
    if options.model:
        jobs = model_jobs(options.model, classes, size)
    else:
        if ":" in options.split:
            raise ConfigError(f"--split: expected a split of the corpus, got {options.split!r}; models are for --model")
        networks = open_networks(options.split, data=options.data, num_classes=classes, image_size=size)
        settings["corpus"] = networks.identity
        jobs = jobs_of(networks, _indices(options.index or ":", len(networks)))
    curves = Curves(options.out)
    with curves.opened():
        if options.retry_failed:
            curves.forget_failed()
        train_all(
            curves,
            jobs,
            starts,
            recipe,
            train_images,
            eval_images,
            epochs_evaluated=options.evaluate_after,
            settings=settings,
            seed=options.seed,
            device=options.device,
            save=not options.no_save,
            progress=not options.quiet,
        )
        table = curves.table()
        drawn = draw_curves(table, options.out / "curves.png", options.metric)
    print(curves_text(table, options.metric))
    failed = table[table["status"] != "ok"]
    for row in failed.head(10).to_dict("records"):
        print(f"failed: {row['split']} {row['network'] or row['index']} from {row['predictor']}: {row['reason']}")
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more, in {curves.path}")
    print(f"{curves.path}{' and curves.png' if drawn else ''}")


def _ranges(text: str) -> str:
    """An option's value: numbers and slices, whose ends may be missing."""
    for piece in text.split(","):
        ends = piece.split(":")
        if len(ends) > 2 or not all(end.isdecimal() or (end == "" and len(ends) == 2) for end in ends):
            raise argparse.ArgumentTypeError(f"expected numbers and ranges as in 0:10 or 3,5,20:, got {text!r}")
    return text


def _indices(text: str, length: int) -> list[int]:
    """What a text that `_ranges` has checked stands for, in its order, each once; ranges end where the split does."""
    found: list[int] = []
    for piece in text.split(","):
        if ":" in piece:
            start, end = piece.split(":")
            found += range(int(start or 0), min(int(end or length), length))
        else:
            found.append(int(piece))
    return list(dict.fromkeys(found))
