"""`python -m benchmark finetune --task detection`."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["run_detection"]

_PROTOCOL = "penn-fudan"
_USUAL_IMAGES = "digits"  # the default of --images
_CLASSIFICATION_OPTIONS = ("shots", "train_on", "image_split", "evaluate_after", "lrs", "download")


def run_detection(options: argparse.Namespace) -> None:
    """Run `finetune --task detection` with parsed options.

    Parameters
    ----------
    options
        Those of `benchmark.commands.sgd`.

    Raises
    ------
    ConfigError
        If an option is not allowed.
    """
    from benchmark.baselines import Curves
    from benchmark.baselines.detection import (
        BACKBONE_CLASSES,
        BACKBONE_IMAGE_SIZE,
        DETECTION_COLUMNS,
        train_detectors,
    )
    from benchmark.commands.training_options import (
        common_arguments,
        jobs_for,
        prepare,
        recipe_of,
        refuse,
        report,
        starts_of,
    )
    from benchmark.training.detection import DETECTION_METRICS, check_detection_recipe, open_penn_fudan
    from deepnets.support import ConfigError, import_detection

    prepare(options)
    refuse(options, _CLASSIFICATION_OPTIONS, "is for classification, not for --task detection")
    if options.protocol not in (None, _PROTOCOL):
        raise ConfigError(f"--protocol: {options.protocol} is for classification; --task detection has {_PROTOCOL}")
    metric = options.metric or DETECTION_METRICS[0]
    if metric not in DETECTION_METRICS:
        raise ConfigError(f"--metric: --task detection has {', '.join(DETECTION_METRICS)}, got {metric}")
    if options.images != _USUAL_IMAGES:
        raise ConfigError(f"--images: --task detection reads Penn-Fudan from --image-root, not {options.images}")
    if options.image_root is None:
        raise ConfigError("--image-root: --task detection needs the folder with PNGImages and PedMasks")
    import_detection()
    recipe = recipe_of(options, _PROTOCOL)
    check_detection_recipe(recipe)
    starts = starts_of(options)
    given = {} if options.test_images is None else {"test_images": options.test_images}
    train_images, eval_images = open_penn_fudan(options.image_root, **given)
    jobs, settings = jobs_for(options, BACKBONE_CLASSES, BACKBONE_IMAGE_SIZE)
    curves = Curves(options.out or Path("results/detection"), DETECTION_COLUMNS)
    with curves.opened():
        train_detectors(
            curves,
            jobs,
            starts,
            recipe,
            train_images,
            eval_images,
            image_size=options.image_size,
            settings=settings,
            **common_arguments(options),
        )
        report(curves, metric)
