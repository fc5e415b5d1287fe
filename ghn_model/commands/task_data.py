"""Options of `train` and `profile` that select the task and its data, and what they open."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepnets.data import IMAGE_SETS, TEXT_SETS, check_text_name
from deepnets.support import ConfigError, deprecated_option, positive

if TYPE_CHECKING:
    import torch

    from deepnets.corpus import DeepNets1M
    from deepnets.families import FamilyNetworks
    from ghn_model.config import GHNConfig
    from ghn_model.training import Distributed, Images, Recipe, TextStream, Validation

__all__ = [
    "add_task",
    "data_name",
    "networks_name",
    "open_networks",
    "open_training_data",
    "open_validation",
    "reads_texts",
    "run_folder",
]

IMAGES, TEXTS, LANGUAGE_MODELS, SEQUENCE_LENGTH = "digits", "python", "family:gpt2-widths", 64
"""Defaults of the options."""


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add the options for the task, its data and its networks."""
    parser.add_argument(
        "--task",
        default="classification",
        metavar="NAME",
        help="classification of --images, text (next-token prediction on --texts), or module:attribute of a "
        "ghn_model.tasks.Task, whose code is executed (default: classification)",
    )
    parser.add_argument(
        "--images",
        default=IMAGES,
        type=IMAGE_SETS.option,
        metavar="NAME",
        help=f"training images: {', '.join(IMAGE_SETS)}, folder:PATH, torchvision:NAME, or module:attribute "
        f"(default: {IMAGES})",
    )
    parser.add_argument("--download", action="store_true", help="download missing files of cifar10 or torchvision:NAME")
    parser.add_argument("--image-root", type=Path, help="folder of the image files (default: none, for digits)")
    parser.add_argument(
        "--texts",
        type=_text_name,
        metavar="NAME",
        help=f"training texts: {', '.join(TEXT_SETS)} (the reference that every Python installation carries), "
        f"text:PATH, wikitext:PATH, or module:attribute (default: {TEXTS})",
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="bytes, or a file tokenizer.json (default: bytes)")
    parser.add_argument(
        "--sequence-length", type=positive, metavar="N", help=f"tokens of a sequence (default: {SEQUENCE_LENGTH})"
    )
    parser.add_argument(
        "--networks",
        type=_networks,
        metavar="NAME",
        help="training networks: train, the split of DeepNets-1M, or a family such as family:resnet-widths or "
        f"family:FILE.json, with its split train (default: train; for texts {LANGUAGE_MODELS})",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (default: data)")
    deprecated_option(parser, "--image-folder", "--image-root")


def data_name(options: argparse.Namespace) -> str:
    """Return the name of the training data; raise a `ConfigError` if options of another task are given."""
    if reads_texts(options):
        if options.images != IMAGES or options.image_root is not None:
            name = "--image-root" if options.images == IMAGES else "--images"
            raise ConfigError(f"{name}: is for images, not for --task {options.task}; use --texts")
        return options.texts or TEXTS
    for name in ("texts", "tokenizer", "sequence_length"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: is for texts; add --task text")
    return str(options.images)


def run_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the run, by default one that is named after the preset, the data and the networks."""
    if options.out:
        return Path(options.out)
    parts = [options.preset, _short(data_name(options))]
    if options.networks not in (None, "train"):
        parts.append(Path(options.networks.partition(":")[2]).name.removesuffix(".json").replace(":", "-"))
    return Path("runs") / "-".join(parts)


def _short(name: str) -> str:
    """Return a name with options or a path as part of the name of a folder."""
    if ":" not in name and "/" not in name:
        return name
    return re.sub(r"[^\w.]+", "-", name).strip("-.")[-80:]


def reads_texts(options: argparse.Namespace) -> bool:
    """Return whether the networks of the task are given sequences of tokens."""
    from ghn_model.tasks import get_task

    return get_task(options.task).examples == "sequences"


def open_training_data(options: argparse.Namespace, recipe: Recipe, device: torch.device) -> Images | TextStream:
    """Open the training data."""
    from ghn_model.training import TextStream, image_stream

    if not reads_texts(options):
        return image_stream(
            options.images,
            recipe.images_per_step,
            root=options.image_root,
            download=options.download,
            augment=recipe.augment,
            seed=recipe.seed,
            device=device,
            run=run_folder(options) if hasattr(options, "resume") else None,
        )
    return TextStream(_texts(options, "train", device), recipe.images_per_step, seed=recipe.seed)


def networks_name(options: argparse.Namespace) -> str:
    """Return the name of the training networks: "train", the split of DeepNets-1M, or "family:NAME"."""
    return options.networks or (LANGUAGE_MODELS if reads_texts(options) else "train")


def open_networks(
    options: argparse.Namespace,
    split: str,
    config: GHNConfig,
    recipe: Recipe,
    data: Images | TextStream,
    limit: int | None = None,
) -> DeepNets1M | FamilyNetworks:
    """Open the training networks (split "train"), or those for validation."""
    from ghn_model.training import TextStream

    name = networks_name(options)
    given: dict[str, Any] = {"virtual_edges": config.virtual_edges, "num_nets": limit}
    if not isinstance(data, TextStream):
        given |= {"num_classes": data.num_classes, "image_size": data.image_size}
    if name == "train":
        if isinstance(data, TextStream):
            raise ConfigError(f"--networks: texts need language models, such as {LANGUAGE_MODELS}")
        from deepnets.corpus import DeepNets1M

        return DeepNets1M(options.data, split, wider_nets=recipe.wider_nets, seed=recipe.seed, **given)
    from deepnets.families import FamilyNetworks, find_family, split_of

    family, named = split_of(name, "train")
    if isinstance(data, TextStream) and "vocab_size" in find_family(family).arguments:
        given["vocab_size"] = data.num_classes
    nets = FamilyNetworks(
        family, named if split == "train" else split, root=options.data, vocabulary=config.vocabulary, **given
    )
    read = "text" if isinstance(data, TextStream) else "images"
    if nets.task != read:
        raise ConfigError(f"--networks: the networks of {nets.name} process {nets.task}, not {read}")
    nets.check_packages()
    return nets


def open_validation(
    options: argparse.Namespace, config: GHNConfig, recipe: Recipe, data: Images | TextStream, distributed: Distributed
) -> Validation | None:
    """Select the first networks of the split val and the first validation examples."""
    if not options.validate_every:
        return None
    import torch

    from deepnets.data import open_images, read_statistics
    from ghn_model.tasks import get_logit_task
    from ghn_model.training import TextStream, Validation

    device, task = distributed.device, get_logit_task(options.task)
    nets = open_networks(options, "val", config, recipe, data, options.validate_networks)
    if isinstance(data, TextStream):
        examples: Any = _texts(options, "val", device)
    else:
        statistics = read_statistics(run_folder(options), options.images)
        examples = open_images(options.images, "val", root=options.image_root, device=device, statistics=statistics)
    batches, missing = [], options.validate_images
    # Sequences take memory, and batch norms the statistics of a batch, of 64 images as in the benchmark.
    for batch, targets in examples.batches(min(64, recipe.batch_size) if isinstance(data, TextStream) else 64):
        batches.append((batch[:missing], targets[:missing]))
        missing -= len(targets)
        if missing <= 0:
            break
    if len(batches) > 1 and len(batches[-1][1]) == 1:  # of which batch norms have no statistics
        (before, its_targets), (last, target) = batches[-2:]
        batches[-2:] = [(torch.cat([before, last]), torch.cat([its_targets, target]))]
    batches = [(task.arranged(batch, recipe.memory_format(device)), targets) for batch, targets in batches]
    return Validation(list(nets), batches, getattr(data, "image_size", 32), options.validate_every, task)


def _texts(options: argparse.Namespace, split: str, device: torch.device) -> Any:
    from deepnets.data import open_texts

    return open_texts(
        options.texts or TEXTS,
        split,
        tokenizer=options.tokenizer or "bytes",
        sequence_length=options.sequence_length or SEQUENCE_LENGTH,
        device=device,
    )


def _text_name(text: str) -> str:
    try:
        return check_text_name(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _networks(text: str) -> str:
    """Check the option --networks."""
    if text != "train" and not text.startswith("family:"):
        raise argparse.ArgumentTypeError(f"expected train or family:NAME, got {text!r}")
    return text
