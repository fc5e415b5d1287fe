"""The command `python -m ghn_model train`."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deepnets.support import non_negative, number, positive, positive_number

if TYPE_CHECKING:
    import torch

    from deepnets.corpus import DeepNets1M
    from ghn_model import CheckpointInfo
    from ghn_model.config import GHNConfig
    from ghn_model.ghn import GHN
    from ghn_model.training import Images, Ranks, Recipe, Validation

__all__ = ["CHANGES", "Opened", "add_arguments", "add_machine", "add_recipe", "add_subject", "opened"]

IMAGES = ("digits", "cifar10", "imagenet")
EPILOG = """
A run that was stopped, however it was, is continued by the same command.  For several processes: torchrun
--nproc-per-node N -m ghn_model train ...; they share the networks of a meta-batch.  The learning rate follows the share
of the steps or of the minutes that is done, whichever is more.
"""


def add_arguments(commands: Any) -> None:
    """Add the command to those of a parser (what `add_subparsers` returned)."""
    train = commands.add_parser("train", help="train a hypernetwork, or go on with it", epilog=EPILOG)
    add_subject(train)
    train.add_argument("--out", type=Path, default=None, help="folder of the run (runs/PRESET-IMAGES)")

    length = train.add_argument_group("length, by default the published epochs; whatever ends first")
    length.add_argument("--minutes", type=positive_number, help="of training")
    length.add_argument("--steps", type=positive, help="meta-batches")
    length.add_argument("--epochs", type=positive, help="passes through the images")

    add_recipe(train)
    train.add_argument(
        "--init", metavar="FILE", help="start from the weights of this hypernetwork (a file or a bundled name)"
    )
    add_machine(train)

    validation = train.add_argument_group("validation, into curve.csv")
    validation.add_argument("--validate-every", type=positive, metavar="STEPS", help="steps between validations (none)")
    validation.add_argument("--validate-networks", type=positive, default=100, help="networks of the split val (100)")
    validation.add_argument("--validate-images", type=positive, default=500, help="validation images (500)")

    saving = train.add_argument_group("log and saved states")
    saving.add_argument("--log-steps", type=positive, default=20, help="steps between rows of the log (20)")
    saving.add_argument("--save-steps", type=positive, help="steps between saved states")
    saving.add_argument("--save-minutes", type=positive_number, default=5.0, help="minutes between saved states (5)")
    saving.add_argument(
        "--stop-after", type=positive_number, metavar="MINUTES", help="end this call then; the same command goes on"
    )
    saving.add_argument("--quiet", action="store_true", help="no bar")
    train.set_defaults(do=run)


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is trained, on what."""
    from ghn_model.config import PRESETS

    parser.add_argument("--preset", default="ghn2", choices=PRESETS, help="the hypernetwork (ghn2)")
    parser.add_argument("--images", default="digits", choices=IMAGES, help="what the networks see (digits)")
    parser.add_argument("--image-folder", type=Path, default=None, help="where cifar10 or imagenet is")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (data)")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the options that change the recipe."""
    from ghn_model.training.recipe import NETWORK_NORMS, OPTIMIZERS
    from ghn_model.training.schedules import SCHEDULES

    recipe = parser.add_argument_group("recipe, by default the published one; with digits, one for minutes on a CPU")
    recipe.add_argument("--meta-batch", type=positive, help="networks in a step, of all processes together")
    recipe.add_argument("--batch", type=positive, help="images in a step")
    recipe.add_argument("--learning-rate", type=positive_number, help="the largest")
    recipe.add_argument("--weight-decay", type=number)
    recipe.add_argument("--optimizer", choices=OPTIMIZERS)
    recipe.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate")
    recipe.add_argument("--warmup", type=number, help="share of the training in which the learning rate rises")
    recipe.add_argument("--clip", type=number, help="largest norm of the gradient; 0 for any")
    recipe.add_argument("--network-norm", choices=NETWORK_NORMS, help="what is done with gradients of single networks")
    recipe.add_argument("--beta2", type=number, help="of Adam and AdamW")
    recipe.add_argument("--penalty", type=number, help="times the norms of predicted tensors is added to the loss")
    recipe.add_argument("--label-smoothing", type=number)
    recipe.add_argument("--max-params", type=non_negative, help="of the networks that are drawn; 0 for no limit")
    recipe.add_argument("--max-nodes", type=non_negative, help="of the networks that are drawn; 0 for no limit")
    recipe.add_argument(
        "--low-resolution", type=number, help="share of the training in which images have half the resolution (0)"
    )
    recipe.add_argument("--average", type=number, help="decay of a moving average of the weights; 0 for none")
    recipe.add_argument("--augment", action=argparse.BooleanOptionalAction, help="vary the images as is usual (yes)")
    recipe.add_argument("--seed", type=non_negative)
    recipe.add_argument("--max-skipped", type=non_negative, help="meta-batches with NaN or too little memory to bear")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where, and how, it is computed."""
    from ghn_model.training import PRECISIONS

    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", help="cpu, cuda, cuda:1 (a GPU, if there is one)")
    machine.add_argument("--precision", choices=PRECISIONS, help="of the networks (fp32)")
    machine.add_argument("--channels-last", action=argparse.BooleanOptionalAction, help="memory layout of images (yes)")
    machine.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile decoders (no)")
    machine.add_argument("--workers", type=non_negative, help="processes that prepare graphs (0; with a GPU 4)")
    machine.add_argument("--threads", type=positive, help="of PyTorch on the CPU, in each process")


CHANGES = (
    *(
        "epochs",
        "meta_batch",
        "batch",
        "learning_rate",
        "weight_decay",
        "clip",
        "network_norm",
        "beta2",
        "penalty",
        "label_smoothing",
    ),
    *(
        "max_params",
        "max_nodes",
        "average",
        "low_resolution",
        "augment",
        "seed",
        "max_skipped",
        "precision",
        "channels_last",
        "compile",
    ),
    "optimizer",
)
"""Options that replace fields of the recipe."""


class Opened(NamedTuple):
    """What the options name: what is trained, how, on what, and where."""

    config: GHNConfig
    recipe: Recipe
    images: Images
    nets: DeepNets1M
    ranks: Ranks
    workers: int
    init: GHN | None


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[Opened]:
    """Open what the options name, for this process; it leaves the others at the end."""
    import torch

    from deepnets.corpus import DeepNets1M
    from ghn_model.config import GHNConfig
    from ghn_model.ghn import GHN
    from ghn_model.training import Ranks, Recipe, image_stream

    if options.threads:
        torch.set_num_threads(options.threads)
    changes = {name: getattr(options, name) for name in CHANGES if getattr(options, name, None) is not None}
    recipe = Recipe.preset(options.preset, options.images, **changes)
    shape = {"kind": options.schedule, "warmup": options.warmup}
    if shape := {name: value for name, value in shape.items() if value is not None}:
        recipe = recipe.replace(schedule=replace(recipe.schedule, epochs=0, **shape))
    ranks = Ranks(options.device)
    try:
        images = image_stream(
            options.images,
            recipe.batch,
            root=options.image_folder,
            augment=recipe.augment,
            seed=recipe.seed,
            device=ranks.device,
        )
        config = GHNConfig.preset(options.preset, images.num_classes, images.image_size)
        init = None
        if getattr(options, "init", None):
            init = GHN.from_pretrained(options.init)
            config = init.config.replace(num_classes=images.num_classes)
        nets = DeepNets1M(
            options.data,
            virtual_edges=config.virtual_edges,
            num_classes=images.num_classes,
            image_size=images.image_size,
            wider_nets=recipe.wider_nets,
            seed=recipe.seed,
        )
        workers = options.workers
        if workers is None:
            workers = 4 if ranks.device.type == "cuda" else 0
        yield Opened(config, recipe, images, nets, ranks, workers, init)
    finally:
        ranks.leave()


def run(options: argparse.Namespace) -> None:
    """Do what the parsed options say."""
    from ghn_model import describe
    from ghn_model.training import Length, Saving, train

    with opened(options) as (config, recipe, images, nets, ranks, workers, init):
        steps = options.steps
        if options.epochs:
            steps = min(steps or math.inf, options.epochs * images.per_epoch)
        path = train(
            options.out or Path("runs") / f"{options.preset}-{options.images}",
            config,
            recipe,
            images,
            nets,
            length=Length(steps, options.minutes),
            saving=Saving(options.log_steps, options.save_steps, options.save_minutes, options.stop_after),
            init=init,
            validation=_validation(options, recipe, images, ranks.device),
            ranks=ranks,
            workers=workers,
            quiet=options.quiet,
        )
        if ranks.first and not options.quiet:
            print(_said(describe(path)))


def _validation(options: argparse.Namespace, recipe: Recipe, images: Images, device: torch.device) -> Validation | None:
    """The first networks of the split val and the first validation images, as the options say."""
    if not options.validate_every:
        return None
    import torch

    from deepnets.corpus import DeepNets1M
    from deepnets.data import open_images
    from ghn_model.training import Validation

    nets = DeepNets1M(
        options.data,
        "val",
        num_classes=images.num_classes,
        image_size=images.image_size,
        num_nets=options.validate_networks,
    )
    batches, wanted = [], options.validate_images
    for pictures, labels in open_images(options.images, "val", root=options.image_folder, device=device).batches(64):
        if wanted <= 0:
            break
        if recipe.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        batches.append((pictures[:wanted], labels[:wanted]))
        wanted -= len(labels)
    return Validation(list(nets), batches, images.image_size, options.validate_every)


def _said(found: CheckpointInfo) -> str:
    """Where the hypernetwork is, and how far its training has come."""
    steps, seconds, progress = (found.metadata[name] for name in ("steps", "seconds", "progress"))
    text = f"{found.path}: {steps:,} steps in {seconds / 60:.1f} minutes"
    return text if progress >= 1 else f"{text}, {progress:.0%} of the training; the same command goes on"
