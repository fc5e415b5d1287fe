"""The commands `python -m benchmark sgd` and `python -m benchmark finetune`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmark.commands.options import device, indices, output_folder, seed
from deepnets.data import IMAGE_SETS
from deepnets.support import deprecated_option, non_negative, number, positive

__all__ = ["add_arguments"]

EPILOG = """
Initial parameters (--init): random; a bundled hypernetwork or the file of one, whose classification layers are used if
it was trained for the same number of classes; a file of tensors (safetensors or torch.save); or a folder of such
files, named SPLIT-INDEX as this command names them.  LABEL=INIT gives them another label in tables.  The same command
resumes a run that was stopped: networks that are finished are skipped.  Trainings with other settings need another
--out, or other labels.
"""


def add_arguments(commands: Any) -> None:
    """Add the commands to the subparsers of a parser.

    Parameters
    ----------
    commands
        The result of `argparse.ArgumentParser.add_subparsers`.
    """
    sgd = commands.add_parser("sgd", help="train networks: the baseline of predicted parameters", epilog=EPILOG)
    _add(sgd, Path("results/sgd"), "recipe (default: that of the image set)")
    sgd.set_defaults(do=run, default_preset=None)

    finetune = commands.add_parser(
        "finetune", help="fine-tune networks from predicted, saved or random parameters", epilog=EPILOG
    )
    _add(finetune, Path("results/finetune"), "recipe (default: finetune-100shot)")
    finetune.set_defaults(do=run, default_preset="finetune-100shot")


def _add(parser: argparse.ArgumentParser, out: Path, preset_help: str) -> None:
    from benchmark.metrics import DEFAULT_METRICS
    from benchmark.training.recipe import OPTIMIZERS, PRESETS, SCHEDULES

    networks = parser.add_argument_group("networks")
    which = networks.add_mutually_exclusive_group()
    which.add_argument("--split", default="test", help="split of the corpus (default: test)")
    which.add_argument(
        "--model",
        nargs="+",
        metavar="NAME",
        help="models instead: torchvision:NAME, timm:NAME, or module:callable, whose code runs; for 32 pixels, models "
        "of torchvision are adapted where an adaptation is published",
    )
    networks.add_argument(
        "--index",
        type=indices,
        metavar="I",
        help="networks of the split: 7, 0:10, 0:5,20,30: or names such as resnet50 (default: all)",
    )
    networks.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (default: data)")
    networks.add_argument(
        "--init", nargs="+", default=["random"], metavar="INIT", help="initial parameters, see below (default: random)"
    )

    images = parser.add_argument_group("images")
    images.add_argument(
        "--images",
        default="digits",
        type=IMAGE_SETS.option,
        metavar="NAME",
        help=f"{', '.join(IMAGE_SETS)}, or module:attribute (default: digits)",
    )
    images.add_argument("--image-root", type=Path, help="folder of the files of the image set")
    images.add_argument(
        "--train-on",
        default="train",
        choices=("train", "trainval"),
        help="training images, without or with the validation images (default: train)",
    )
    images.add_argument(
        "--image-split",
        choices=("test", "val"),
        help="images for evaluation (default: test; val for the splits train, val and search)",
    )
    deprecated_option(images, "--part", "--image-split")
    images.add_argument(
        "--shots", type=non_negative, help="training images per class; 0 for all (default: that of the preset)"
    )

    recipe = parser.add_argument_group("recipe", "Defaults are those of the preset.")
    recipe.add_argument("--preset", choices=tuple(PRESETS), help=preset_help)
    recipe.add_argument("--epochs", type=positive, help="number of epochs of the schedule")
    recipe.add_argument("--optimizer", choices=OPTIMIZERS)
    recipe.add_argument("--lr", type=number, help="learning rate of the first epoch")
    deprecated_option(recipe, "--learning-rate", "--lr")
    recipe.add_argument("--weight-decay", type=number)
    recipe.add_argument("--schedule", choices=SCHEDULES, help="learning rate by epoch")
    recipe.add_argument("--batch-size", type=positive, help="images per step")
    deprecated_option(recipe, "--batch", "--batch-size")
    recipe.add_argument("--label-smoothing", type=number)
    recipe.add_argument("--clip-grad", type=number, help="largest norm of the gradient; 0 disables gradient clipping")
    deprecated_option(recipe, "--clip", "--clip-grad")
    recipe.add_argument("--augment", action=argparse.BooleanOptionalAction, help="augment training images")
    recipe.add_argument("--noise", type=number, help="noise that is added to predicted parameters (ghn_model.vary)")
    recipe.add_argument(
        "--orthogonal-from", type=positive, metavar="LAYER", help="make predicted weights orthogonal from this layer on"
    )
    recipe.add_argument("--seed", type=seed, default=0, help="seed of initial values and orders (default: 0)")

    running = parser.add_argument_group("running and results")
    running.add_argument("--out", type=output_folder, default=out, help=f"folder of the results (default: {out})")
    running.add_argument("--no-save", action="store_true", help="do not save the trained networks")
    running.add_argument("--retry-failed", action="store_true", help="train networks again that failed before")
    running.add_argument(
        "--evaluate-after",
        type=positive,
        nargs="+",
        metavar="EPOCH",
        help="epochs after which networks are evaluated, beside the last (default: 1 5 10 20 30 40 50)",
    )
    running.add_argument(
        "--metric", default="top1", choices=DEFAULT_METRICS, help="metric of the table and figure (default: top1)"
    )
    running.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1 (default: cpu)")
    running.add_argument("--threads", type=positive, help="threads of PyTorch on the CPU")
    running.add_argument("--quiet", action="store_true", help="show no progress bar")


RECIPE_OPTIONS = (
    *("epochs", "optimizer", "lr", "weight_decay", "schedule", "batch_size", "label_smoothing", "clip_grad"),
    *("augment", "noise", "orthogonal_from"),
)
"""Options that replace fields of the recipe."""


def run(options: argparse.Namespace) -> None:
    """Run `sgd` or `finetune` with parsed options."""
    import torch

    from benchmark.baselines import Curves, curves_text, draw_curves, jobs_of, model_jobs, train_all
    from benchmark.evaluation import default_image_split, open_networks, select_networks
    from benchmark.training import PRESET_SHOTS, SGDRecipe, n_shot, open_start
    from deepnets.data import open_images
    from deepnets.support import ConfigError

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.model and options.index:
        raise ConfigError("--index: is for networks of a --split; with --model, name the models")
    preset = options.preset or options.default_preset or options.images
    changes = {name: getattr(options, name) for name in RECIPE_OPTIONS if getattr(options, name) is not None}
    recipe = SGDRecipe.preset(preset, **changes)
    starts = [open_start(spec, options.device) for spec in options.init]
    labels = [start.label for start in starts]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"--init: {repeated[0]} is given twice; give one another label, as in again={repeated[0]}")

    image_split = options.image_split or ("test" if options.model else default_image_split(options.split))
    if image_split == "val" and options.train_on == "trainval":
        raise ConfigError("--train-on: trainval contains the images for evaluation (--image-split val); use train")
    given = {"root": options.image_root, "device": options.device}
    train_images, eval_images = (open_images(options.images, each, **given) for each in (options.train_on, image_split))
    shots = PRESET_SHOTS.get(preset, 0) if options.shots is None else options.shots
    if shots:
        train_images = n_shot(train_images, shots)

    settings: dict[str, Any] = {"shots": shots}
    classes, size = eval_images.num_classes, eval_images.image_size
    if options.model:
        jobs = model_jobs(options.model, classes, size)
    else:
        if ":" in options.split:
            raise ConfigError(f"--split: expected a split of the corpus, got {options.split!r}; use --model")
        networks = open_networks(options.split, data=options.data, num_classes=classes, image_size=size)
        settings["corpus"] = networks.identity
        jobs = jobs_of(networks, select_networks(networks, options.index or ":"))
    curves = Curves(options.out)
    with curves.opened():
        if options.retry_failed:
            curves.remove_failed()
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
