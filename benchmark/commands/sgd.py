"""The commands `python -m benchmark sgd` and `python -m benchmark finetune`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmark.choices import DETECTION_METRICS, LOSSES, OPTIMIZERS, PROTOCOLS, SAVE_SECONDS, SCHEDULES, TEXT_METRICS
from benchmark.commands.options import add_text_options, device, indices
from deepnets.architecture import GENOTYPES
from deepnets.commands.model_options import MODEL_FORMS
from deepnets.data import IMAGE_SETS
from deepnets.support import ListOption, deprecated_option, examples, non_negative, number, output_path, positive, seed
from ghn_model.choices import DEFAULT_METRICS

__all__ = ["add_arguments"]

_PROTOCOLS_OF_TASKS = {"penn-fudan": "detection", "logah-gpt2": "text"}

EPILOG = """
Initial parameters (--init): random; a bundled hypernetwork or the file of one, whose classification layers are used if
it was trained for the same number of classes; a file of tensors (safetensors or torch.save); or a folder of such
files, named SPLIT-INDEX as this command names them.  LABEL=INIT gives them another label in tables.  The same command
resumes a run that was stopped: networks that are finished are skipped, and the training of a network continues from its
last saved state.  Trainings with other settings need another --out, or other labels.

""" + examples(
    "deepnets sgd --split test --index 0:10 --epochs 5",
    "deepnets sgd --genotype DARTS --images cifar10 --image-root cifar",
    "deepnets finetune --model torchvision:resnet18,resnet50 --init random ghn2-digits",
    "deepnets finetune --model timm:convnext_tiny --init ghn3xlm16.pt --task detection --image-root PennFudanPed",
)


def add_arguments(commands: Any) -> None:
    """Add the commands to the subparsers of a parser.

    Parameters
    ----------
    commands
        The result of `argparse.ArgumentParser.add_subparsers`.
    """
    sgd = commands.add_parser("sgd", help="train networks: the baseline of predicted parameters", epilog=EPILOG)
    _add(sgd, "results/sgd", "that of the image set")
    sgd.set_defaults(do=run, default_protocol=None, task="classification")

    finetune = commands.add_parser(
        "finetune", help="fine-tune networks from predicted, saved or random parameters", epilog=EPILOG
    )
    _add(
        finetune,
        "results/finetune; results/detection, results/finetune-text",
        "finetune-100shot; penn-fudan for detection, logah-gpt2 for text",
    )
    detection = finetune.add_argument_group("task")
    detection.add_argument(
        "--task",
        default="classification",
        choices=("classification", "detection", "text"),
        help="detection: Faster R-CNN on the features of the network, with the images of Penn-Fudan in --image-root; "
        "text: next-token prediction on --texts, with a --split family:NAME of language models (default: "
        "classification)",
    )
    detection.add_argument(
        "--test-images", type=positive, metavar="N", help="detection: number of images for evaluation (default: 50)"
    )
    add_text_options(detection)
    finetune.set_defaults(do=run, default_protocol="finetune-100shot")


def _add(parser: argparse.ArgumentParser, out: str, protocol: str) -> None:
    networks = parser.add_argument_group("networks")
    which = networks.add_mutually_exclusive_group()
    which.add_argument("--split", default="test", help="split of the corpus, or family:NAME (default: test)")
    which.add_argument(
        "--model",
        action=ListOption,
        metavar="MODEL",
        help=f"models instead: {MODEL_FORMS}; for 32 pixels, models of torchvision are adapted where an adaptation is "
        "published (default: none)",
    )
    which.add_argument(
        "--genotype",
        action=ListOption,
        metavar="NAME",
        choices=tuple(GENOTYPES),
        help=f"networks of published genotypes instead: {', '.join(GENOTYPES)} (default: none)",
    )
    deprecated_option(which, "--network", "--genotype")
    networks.add_argument(
        "--width", type=positive, metavar="C", help="--genotype: initial channels (default: 36; 48 for 224 pixels)"
    )
    networks.add_argument(
        "--cells", type=positive, metavar="N", help="--genotype: number of cells (default: 20; 14 for 224 pixels)"
    )
    networks.add_argument(
        "--index",
        action=ListOption,
        type=indices,
        metavar="I",
        help="networks of the split: 7, 0:10, 0:5,20,30: or names such as resnet50 (default: all)",
    )
    networks.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpus (default: data)")
    networks.add_argument(
        "--init",
        action=ListOption,
        paths=True,
        default=["random"],
        metavar="INIT",
        help="initial parameters, see below (default: random)",
    )

    images = parser.add_argument_group("images")
    images.add_argument(
        "--images",
        default="digits",
        type=IMAGE_SETS.option,
        metavar="NAME",
        help=f"{', '.join(IMAGE_SETS)}, folder:PATH, torchvision:NAME, or module:attribute (default: digits)",
    )
    images.add_argument(
        "--image-root", type=Path, help="folder of the files of the image set (default: none, for digits)"
    )
    images.add_argument("--download", action="store_true", help="download missing files of cifar10 or torchvision:NAME")
    images.add_argument(
        "--train-on",
        choices=("train", "trainval"),
        help="training images, without or with the validation images (default: that of the protocol, or train)",
    )
    images.add_argument(
        "--image-split",
        choices=("test", "val"),
        help="images for evaluation (default: test; val for the splits train, val and search)",
    )
    deprecated_option(images, "--part", "--image-split")
    images.add_argument(
        "--shots", type=non_negative, help="training images per class; 0 for all (default: that of the protocol)"
    )
    images.add_argument(
        "--image-size",
        type=positive,
        metavar="PIXELS",
        help="height and width of the images (default: that of the protocol or of the image set)",
    )

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--protocol", choices=PROTOCOLS, help=f"published settings (default: {protocol})")
    deprecated_option(recipe, "--preset", "--protocol")

    def add(name: str, *, help: str, **given: Any) -> None:
        recipe.add_argument(name, help=f"{help} (default: that of the protocol)", **given)

    add("--epochs", type=positive, help="number of epochs of the schedule")
    add("--optimizer", choices=OPTIMIZERS, help="optimizer")
    add("--lr", type=number, help="learning rate of the first epoch")
    deprecated_option(recipe, "--learning-rate", "--lr")
    recipe.add_argument(
        "--lrs",
        action=ListOption,
        type=number,
        metavar="LR",
        help="train once with each of these learning rates, with -lrLR behind the labels (default: those of the "
        "protocol, if its published results are the best of several)",
    )
    add("--weight-decay", type=number, help="weight decay")
    add("--schedule", choices=SCHEDULES, help="learning rate by epoch")
    add("--warmup-epochs", type=non_negative, help="epochs of linear warm-up")
    add("--warmup-steps", type=non_negative, help="steps of linear warm-up, in which the rate of the epoch grows")
    add("--batch-size", type=positive, help="images per step")
    deprecated_option(recipe, "--batch", "--batch-size")
    add("--loss", choices=LOSSES, help="bce: binary cross-entropy of every class (timm)")
    add("--label-smoothing", type=number, help="label smoothing of the cross-entropy")
    add("--auxiliary-weight", type=number, help="weight of the loss of an auxiliary head; 0 for no head")
    add("--drop-path", type=number, help="probability of drop path at the end; it grows from 0")
    add("--clip-grad", type=number, help="largest norm of the gradient; 0 disables gradient clipping")
    deprecated_option(recipe, "--clip", "--clip-grad")
    add("--augment", action=argparse.BooleanOptionalAction, help="augment training images")
    add("--cutout", type=non_negative, metavar="PIXELS", help="side of the square that is cut out")
    add("--mixup", type=number, metavar="ALPHA", help="mixup of timm; 0 disables it")
    add("--cutmix", type=number, metavar="ALPHA", help="CutMix of timm; 0 disables it")
    add("--rand-augment", metavar="CONFIG", help="RandAugment of timm, such as rand-m6-mstd0.5-inc1; none disables it")
    add("--noise", type=number, help="noise that is added to predicted parameters (ghn_model.vary)")
    add(
        "--orthogonal-from", type=positive, metavar="LAYER", help="make predicted weights orthogonal from this layer on"
    )
    recipe.add_argument("--seed", type=seed, default=0, help="seed of initial values and of the order of images")

    running = parser.add_argument_group("running and results")
    running.add_argument("--out", type=output_path, help=f"folder of the results (default: {out})")
    running.add_argument("--no-save", action="store_true", help="do not save the trained networks")
    running.add_argument(
        "--save-minutes",
        type=number,
        default=SAVE_SECONDS / 60,
        help=f"minutes between saved states of a training (default: {SAVE_SECONDS / 60:g})",
    )
    running.add_argument("--retry-failed", action="store_true", help="train networks again that failed before")
    running.add_argument(
        "--evaluate-after",
        action=ListOption,
        type=positive,
        metavar="EPOCH",
        help="epochs after which networks are evaluated, beside the last (default: 1 5 10 20 30 40 50)",
    )
    running.add_argument(
        "--metric",
        choices=(*DEFAULT_METRICS, *DETECTION_METRICS, *(name for name in TEXT_METRICS if name not in DEFAULT_METRICS)),
        help="metric of the table and figure (default: top1; detection: ap; text: perplexity)",
    )
    running.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1 (default: cpu)")
    running.add_argument("--threads", type=positive, help="threads of PyTorch on the CPU (default: PyTorch's)")
    running.add_argument("-q", "--quiet", action="store_true", help="show no progress bar")


def run(options: argparse.Namespace) -> None:
    """Run `sgd` or `finetune` with parsed options."""
    from benchmark.baselines import Curves, train_all
    from benchmark.commands.training_options import (
        common_arguments,
        jobs_for,
        learning_rates,
        prepare,
        recipe_of,
        refuse,
        report,
        starts_of,
        with_rates,
    )
    from benchmark.evaluation import default_image_split
    from benchmark.metrics import DEFAULT_METRICS
    from benchmark.training import PRESET_IMAGES, n_shot, usual_preset
    from deepnets.data import open_images, run_statistics
    from deepnets.support import ConfigError

    if options.task != "detection":
        refuse(options, ["test_images"], "is for --task detection")
    if options.task != "text":
        refuse(options, ["texts", "tokenizer", "sequence_length"], "is for --task text")
    if options.task == "detection":
        from benchmark.commands.detection import run_detection

        run_detection(options)
        return
    if options.task == "text":
        from benchmark.commands.text import run_text

        run_text(options)
        return

    prepare(options)
    protocol = options.protocol or options.default_protocol or usual_preset(options.images)
    if protocol in _PROTOCOLS_OF_TASKS:
        raise ConfigError(f"--protocol: {protocol} is for finetune --task {_PROTOCOLS_OF_TASKS[protocol]}")
    metric = options.metric or DEFAULT_METRICS[0]
    if metric not in DEFAULT_METRICS:
        raise ConfigError(f"--metric: {metric} is for other tasks; classification has {', '.join(DEFAULT_METRICS)}")
    recipe = recipe_of(options, protocol)
    starts = starts_of(options)
    rates = learning_rates(options, protocol)

    image_split = options.image_split or default_image_split(_split(options))
    usual = {"train_on": "train", "shots": 0, "image_size": None, **PRESET_IMAGES.get(protocol, {})}
    train_on = options.train_on or ("train" if image_split == "val" else usual["train_on"])
    if image_split == "val" and train_on == "trainval":
        raise ConfigError("--train-on: trainval contains the images for evaluation (--image-split val); use train")
    image_size = options.image_size or usual["image_size"]
    options.out = options.out or Path("results/finetune" if options.default_protocol else "results/sgd")
    source = {"root": options.image_root, "download": options.download}
    # Statistics are those of one image size, which the name of the image set can contain.
    statistics = None if image_size else run_statistics(options.out, options.images, **source)
    given = {**source, "device": options.device, "image_size": image_size, "statistics": statistics}
    train_images, eval_images = (open_images(options.images, each, **given) for each in (train_on, image_split))
    shots = usual["shots"] if options.shots is None else options.shots
    if shots:
        train_images = n_shot(train_images, shots)

    settings: dict[str, Any] = {"shots": shots}
    if image_size:
        settings["image_size"] = image_size
    jobs, about = jobs_for(options, eval_images.num_classes, eval_images.image_size)
    settings |= about
    curves = Curves(options.out)
    with curves.opened():
        for each, chosen in with_rates(starts, recipe, rates):
            train_all(
                curves,
                jobs,
                each,
                chosen,
                train_images,
                eval_images,
                epochs_evaluated=options.evaluate_after,
                settings=settings,
                **common_arguments(options),
            )
        report(curves, metric)


def _split(options: argparse.Namespace) -> str:
    """Return the split of the corpus, or an empty text for other networks."""
    return "" if options.model or options.genotype else str(options.split)
