"""`python -m benchmark finetune --task text`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.choices import TEXT_METRICS

__all__ = ["run_text"]

_PROTOCOL = "logah-gpt2"
_NETWORK_OPTIONS = ("model", "genotype", "width", "cells")
_IMAGE_OPTIONS = (
    *("image_size", "shots", "image_root", "download"),
    *("augment", "cutout", "mixup", "cutmix", "rand_augment", "auxiliary_weight", "drop_path"),
)


def run_text(options: argparse.Namespace) -> None:
    """Run `finetune --task text` with parsed options.

    Parameters
    ----------
    options
        Those of `benchmark.commands.sgd`.

    Raises
    ------
    ConfigError
        If an option is not allowed.
    """
    from benchmark.baselines import TEXT_COLUMNS, Curves, jobs_of, train_all
    from benchmark.commands.options import task_data
    from benchmark.commands.training_options import (
        common_arguments,
        learning_rates,
        prepare,
        recipe_of,
        refuse,
        report,
        starts_of,
        with_rates,
    )
    from benchmark.evaluation import default_image_split, open_networks, select_networks
    from deepnets.support import ConfigError
    from ghn_model.tasks import get_logit_task

    prepare(options)
    refuse(options, _NETWORK_OPTIONS, "is for images; --task text takes language models from --split family:NAME")
    refuse(options, _IMAGE_OPTIONS, "is for images, not for --task text")
    if not options.split.startswith("family:"):
        raise ConfigError(
            f"--split: expected family:NAME of language models, such as family:gpt2-widths/test, got {options.split}"
        )
    if options.protocol not in (None, _PROTOCOL):
        raise ConfigError(f"--protocol: {options.protocol} is for images; --task text has {_PROTOCOL}")
    metric = options.metric or TEXT_METRICS[0]
    if metric not in TEXT_METRICS:
        raise ConfigError(f"--metric: --task text has {', '.join(TEXT_METRICS)}, got {metric}")
    recipe = recipe_of(options, _PROTOCOL)
    task = get_logit_task("text")
    name, given = task_data(options)
    given = given or {}
    part = options.image_split or default_image_split(options.split)
    train_on = options.train_on or "train"
    if part == "val" and train_on == "trainval":
        raise ConfigError("--train-on: trainval contains the texts for evaluation (--image-split val); use train")
    train_texts, eval_texts = (task.open_data(name, each, device=options.device, **given) for each in (train_on, part))
    starts = starts_of(options)
    networks = open_networks(options.split, data=options.data, num_classes=eval_texts.num_classes, image_size=None)
    jobs = jobs_of(networks, select_networks(networks, options.index or ":"))
    settings = {"corpus": networks.identity, "data_digest": [train_texts.digest, eval_texts.digest], **given}
    curves = Curves(options.out or Path("results/finetune-text"), TEXT_COLUMNS)
    with curves.opened():
        for each, chosen in with_rates(starts, recipe, learning_rates(options, _PROTOCOL)):
            train_all(
                curves,
                jobs,
                each,
                chosen,
                train_texts,
                eval_texts,
                epochs_evaluated=options.evaluate_after,
                settings=settings,
                **common_arguments(options),
                task=task,
            )
        report(curves, metric)
