"""The command `python -m ghn_model train`."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deepnets.support import (
    ConfigError,
    ListOption,
    deprecated_option,
    examples,
    import_attribute,
    is_attribute,
    non_negative,
    number,
    output_path,
    positive,
    positive_number,
    seed,
)
from ghn_model.choices import NETWORK_NORMS, OPTIMIZERS, PRECISIONS, PRESETS, RECIPES, SCHEDULES
from ghn_model.commands.hypernetwork_options import add_hypernetwork, check_unused, config_from, recipe_kind
from ghn_model.commands.task_data import (
    add_task,
    data_name,
    networks_name,
    open_networks,
    open_training_data,
    open_validation,
    reads_texts,
    run_folder,
)

if TYPE_CHECKING:
    from deepnets.corpus import DeepNets1M
    from deepnets.families import FamilyNetworks
    from ghn_model.config import GHNConfig
    from ghn_model.training import Distributed, Images, Recipe, TextStream

__all__ = ["CHANGES", "Opened", "add_arguments", "add_data", "add_machine", "add_recipe", "opened"]

EPILOG = """
The same command resumes a run that was stopped or killed.  To train with several processes, use torchrun
--nproc-per-node N -m deepnets train ...; they share the networks of each meta-batch.

""" + examples(
    "deepnets train --preset ghn2 --images digits --minutes 10",
    "deepnets train --preset ghn3-t --images cifar10 --image-root cifar --out runs/mine",
    "deepnets train --images folder:shapes --validate-every 500",
    "deepnets train --preset logah-t --task text --minutes 10",
)

CHANGES = (
    "epochs",
    "meta_batch_size",
    "batch_size",
    "share_images",
    "lr",
    "weight_decay",
    "clip_grad",
    "network_norm",
    "beta2",
    "predicted_param_decay",
    "label_smoothing",
    "max_params",
    "max_nodes",
    "ema_decay",
    "low_resolution",
    "augment",
    "seed",
    "max_skipped",
    "precision",
    "channels_last",
    "optimizer",
)
"""Options that replace the field of the same name in the recipe."""


def add_arguments(commands: Any) -> None:
    """Add the command to the result of `ArgumentParser.add_subparsers`."""
    train = commands.add_parser("train", help="train a hypernetwork, or resume its training", epilog=EPILOG)
    add_data(train)
    train.add_argument(
        "--out",
        type=output_path,
        help="folder of the run (default: runs/PRESET-IMAGES or runs/PRESET-TEXTS; a family's name is added)",
    )
    train.add_argument(
        "--hypernetwork",
        metavar="MODULE:ATTRIBUTE",
        help="train your own hypernetwork: an object, or a class or function that returns one; its code is executed; "
        "--preset then selects the recipe only (default: the preset)",
    )
    train.add_argument(
        "--init",
        metavar="FILE",
        help="start from the weights of this hypernetwork, a file (also an official checkpoint) or a bundled name, "
        "with a new optimizer (default: random weights)",
    )
    train.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="require that the run can be resumed, or that it is new (default: resume if the folder holds a run)",
    )

    budget = train.add_argument_group("budget", "The training ends when the first of these is used up.")
    budget.add_argument("--minutes", type=positive_number, help="minutes of training (default: no limit)")
    budget.add_argument("--steps", type=positive, help="meta-batches (default: no limit)")
    budget.add_argument("--epochs", type=positive, help="passes through the images (default: as published)")

    add_hypernetwork(train)
    add_recipe(train)
    add_machine(train)

    validation = train.add_argument_group(
        "validation", "The first metric of the task during training, written to curve.csv."
    )
    validation.add_argument("--validate-every", type=positive, metavar="STEPS", help="steps between (default: never)")
    validation.add_argument("--validate-networks", type=positive, default=100, help="networks of the split val")
    validation.add_argument(
        "--validate-images",
        type=positive,
        default=500,
        help="validation images, or sequences of validation texts",
    )

    saving = train.add_argument_group("log and checkpoints")
    saving.add_argument("--log-steps", type=positive, default=20, help="steps between rows of the log (default: 20)")
    saving.add_argument("--save-steps", type=positive, help="steps between saved states (default: no limit)")
    saving.add_argument(
        "--save-minutes", type=positive_number, default=5.0, help="minutes between saved states (default: 5)"
    )
    saving.add_argument(
        "--stop-after",
        type=positive_number,
        metavar="MINUTES",
        help="save and stop after this time; the same command resumes the run (default: run to the end)",
    )
    saving.add_argument(
        "--loggers",
        action=ListOption,
        metavar="NAME",
        help="send the log to tensorboard, wandb, module:attribute, or none (default: tensorboard, if it is installed)",
    )
    saving.add_argument("-q", "--quiet", action="store_true", help="do not show progress")
    train.set_defaults(do=run)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options for the hypernetwork and its data."""
    parser.add_argument("--preset", default="ghn2", choices=PRESETS, help="published hypernetwork (default: ghn2)")
    add_task(parser)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the options that change fields of the recipe."""
    recipe = parser.add_argument_group(
        "recipe",
        "The defaults shown are those of the publication (here: GHN-2 on CIFAR-10), then those of --recipe cpu, where "
        "they differ.",
    )
    add = recipe.add_argument
    add(
        "--recipe",
        choices=RECIPES,
        help="published, or adapted to minutes or hours on a CPU (default: cpu on a CPU, and for digits on any device; "
        "otherwise published); --task text has one recipe",
    )
    add(
        "--meta-batch-size",
        type=positive,
        help="networks per step, of all processes together (default: 8; cpu: 4)",
    )
    add("--batch-size", type=positive, help="images per network (default: 64)")
    add(
        "--share-images",
        action=argparse.BooleanOptionalAction,
        help="give the same images to all networks of a step (default: yes; cpu: no)",
    )
    add("--lr", type=positive_number, help="largest learning rate (default: 1e-3; cpu: 3e-3)")
    add("--weight-decay", type=number, help="weight decay of the hypernetwork (default: 1e-5; cpu: 0.01)")
    add("--optimizer", choices=OPTIMIZERS, help="optimizer (default: adam; cpu: adamw)")
    add("--beta2", type=number, help="decay rate of second moments in Adam and AdamW (default: 0.999; cpu: 0.99)")
    add("--schedule", choices=SCHEDULES, help="learning rate schedule (default: steps; cpu: wsd)")
    add(
        "--warmup",
        type=number,
        help="fraction of the training with linear warmup (default: 0; cpu: 0.01)",
    )
    add("--decay", type=number, help="fraction of the training in which --schedule wsd decays (default: 0.2)")
    add("--clip-grad", type=number, help="maximum norm of the gradient; 0 for no limit (default: 5; cpu: 1)")
    add(
        "--network-norm",
        choices=NETWORK_NORMS,
        help="treatment of gradient norms of networks (default: none; cpu: normalise)",
    )
    add(
        "--predicted-param-decay",
        type=number,
        help="coefficient of the norms of predicted tensors in the loss (default: 0; GHN-3: 3e-5)",
    )
    add("--label-smoothing", type=number, help="label smoothing (default: 0; ImageNet: 0.1)")
    add(
        "--max-params",
        type=non_negative,
        help="largest networks; 0 for no limit (default: 0; cpu, for LoGAH and --hypernetwork: 100,000)",
    )
    add("--max-nodes", type=non_negative, help="largest graphs; 0 for no limit (default: 0; cpu: 120)")
    add(
        "--low-resolution",
        type=number,
        help="fraction of the training with half the image resolution (default: 0; cpu: 0.85)",
    )
    add(
        "--ema-decay",
        type=number,
        help="decay of the moving average of weights; 0 for none (default: 0; cpu: 0.998)",
    )
    add("--augment", action=argparse.BooleanOptionalAction, help="augment the images (default: yes)")
    add("--seed", type=seed, help="random seed (default: 0)")
    add("--max-skipped", type=non_negative, help="skipped meta-batches before the training fails (default: 20)")
    for old, new in (
        ("--meta-batch", "--meta-batch-size"),
        ("--batch", "--batch-size"),
        ("--learning-rate", "--lr"),
        ("--clip", "--clip-grad"),
        ("--penalty", "--predicted-param-decay"),
        ("--average", "--ema-decay"),
    ):
        deprecated_option(recipe, old, new)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the options for the hardware."""
    machine = parser.add_argument_group("hardware")
    machine.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    machine.add_argument("--precision", choices=PRECISIONS, help="precision of the networks (default: fp32)")
    machine.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        help="memory format of the images (default: yes on a CPU, no on a GPU)",
    )
    machine.add_argument("--workers", type=non_negative, help="processes that prepare graphs (default: 0; GPU: 4)")
    machine.add_argument("--threads", type=positive, help="CPU threads of each process (default: PyTorch's)")


class Opened(NamedTuple):
    """What the options of a command select."""

    config: GHNConfig
    recipe: Recipe
    data: Images | TextStream
    nets: DeepNets1M | FamilyNetworks
    distributed: Distributed
    workers: int
    init: Any


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[Opened]:
    """Open what the options select, and leave the process group afterwards."""
    import torch

    from ghn_model.ghn import GHN
    from ghn_model.training import Distributed

    if options.threads:
        torch.set_num_threads(options.threads)
    distributed = Distributed(options.device)
    try:
        recipe = recipe_from(options, distributed.device.type)
        data = open_training_data(options, recipe, distributed.device)
        init: Any = None
        if getattr(options, "init", None):
            if options.hypernetwork:
                from ghn_model.training.hypernetwork import read_weights

                init = read_weights(options.init)
            else:
                init = GHN.from_pretrained(options.init)
        start = init.config if isinstance(init, GHN) else None
        size = getattr(data, "image_size", None)
        config = config_from(options, data.num_classes, size, start, distributed.device.type)
        nets = open_networks(options, "train", config, recipe, data)
        workers = options.workers
        if workers is None:
            workers = 4 if distributed.device.type == "cuda" else 0
        yield Opened(config, recipe, data, nets, distributed, workers, init)
    finally:
        distributed.close()


def recipe_from(options: argparse.Namespace, device: str) -> Recipe:
    """Return the recipe of the preset for a type of device, with the changes that the options make."""
    from ghn_model.training import Recipe
    from ghn_model.training.recipe import MAX_CPU_PARAMS

    changes = {name: getattr(options, name) for name in CHANGES if getattr(options, name, None) is not None}
    if networks_name(options) != "train":  # limits of recipes are for networks of DeepNets-1M
        changes = {"max_params": 0, "max_nodes": 0, **changes}
    elif recipe_kind(options, device) == "cpu" and getattr(options, "hypernetwork", None):
        changes = {"max_params": MAX_CPU_PARAMS, **changes}
    kind, name = recipe_kind(options, device), data_name(options)
    recipe = Recipe.preset(options.preset, name, task=_recipe_task(options), kind=kind, **changes)
    schedule = {"kind": options.schedule, "warmup": options.warmup, "decay": options.decay}
    if schedule := {name: value for name, value in schedule.items() if value is not None}:
        recipe = recipe.replace(schedule=replace(recipe.schedule, epochs=0, **schedule))
    return recipe


def run(options: argparse.Namespace) -> None:
    """Run the command with parsed options."""
    from ghn_model.training import Budget, CheckpointPolicy, train

    hypernetwork: Any = None
    if options.hypernetwork:
        if not is_attribute(options.hypernetwork):
            raise ConfigError(f"--hypernetwork: expected MODULE:ATTRIBUTE, got {options.hypernetwork!r}")
        check_unused(options)
        hypernetwork = import_attribute(options.hypernetwork, "hypernetwork")
    with opened(options) as (config, recipe, data, nets, distributed, workers, init):
        steps = options.steps
        if options.epochs:
            steps = min(steps or math.inf, options.epochs * data.per_epoch)
        path = train(
            run_folder(options),
            config if hypernetwork is None else hypernetwork,
            recipe,
            data,
            nets,
            task=options.task,
            budget=Budget(steps, options.minutes),
            checkpoints=CheckpointPolicy(
                options.log_steps, options.save_steps, options.save_minutes, options.stop_after
            ),
            init=init,
            validation=open_validation(options, config, recipe, data, distributed),
            distributed=distributed,
            workers=workers,
            resume=options.resume,
            quiet=options.quiet,
            loggers=[] if options.loggers == ["none"] else options.loggers,
        )
        if distributed.is_main and not options.quiet:
            print(_summary(path))


def _recipe_task(options: argparse.Namespace) -> str:
    return "text" if reads_texts(options) else "classification"


def _summary(path: Path) -> str:
    """Describe the saved hypernetwork and the progress of its training."""
    from ghn_model.training.hypernetwork import read_metadata

    metadata = read_metadata(path)
    steps, seconds, progress = (metadata[name] for name in ("steps", "seconds", "progress"))
    text = f"{path}: {steps:,} steps in {seconds / 60:.1f} minutes"
    return text if progress >= 1 else f"{text}, {progress:.0%} of the training; use the same command to resume"
