"""Training of many detectors into a folder: as `train_all`, for the images of Penn-Fudan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmark.baselines.jobs import TrainingJob
from benchmark.baselines.runs import run_trainings, start_network
from benchmark.baselines.store import COLUMNS, Curves
from benchmark.training import SGDRecipe, Start, Trained
from benchmark.training.detection import DETECTION_METRICS, PennFudan, train_detector
from benchmark.training.progress import SAVE_SECONDS

__all__ = ["BACKBONE_CLASSES", "BACKBONE_IMAGE_SIZE", "DETECTION_COLUMNS", "train_detectors"]

BACKBONE_CLASSES = 1000
BACKBONE_IMAGE_SIZE = 224
"""Classes and image size that backbones are built and predicted for, those of ImageNet."""

DETECTION_COLUMNS = (*COLUMNS[: COLUMNS.index("train_top1")], *DETECTION_METRICS, *COLUMNS[COLUMNS.index("seconds") :])
"""Columns of `curves.csv` of detectors."""


def train_detectors(
    curves: Curves,
    jobs: Sequence[TrainingJob],
    starts: Sequence[Start],
    recipe: SGDRecipe,
    train_images: PennFudan,
    eval_images: PennFudan,
    *,
    image_size: int | None = None,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    save: bool = True,
    save_seconds: float = SAVE_SECONDS,
    progress: bool = False,
    retry_failed: bool = False,
) -> None:
    """Train a detector on every network from every source of initial parameters, except for trainings that have rows.

    Parameters
    ----------
    curves
        The folder of the results with the columns `DETECTION_COLUMNS`, opened.
    jobs
        Networks for `BACKBONE_CLASSES` classes, as for ImageNet.
    image_size
        As for `benchmark.training.detection.build_detector`.
    starts, recipe, train_images, eval_images, settings, seed, device, save, save_seconds, progress, retry_failed
        As for `train_all`.

    Raises
    ------
    ConfigError, CheckpointError, FormatError
        As for `train_all`.
    """
    about = {**(settings or {}), "train": len(train_images), "evaluate": len(eval_images), "image_size": image_size}
    about["image_fingerprints"] = [train_images.fingerprint, eval_images.fingerprint]

    def train(job: TrainingJob, start: Start, row: dict[str, Any], seed: int, **options: Any) -> Trained:
        net = start_network(job, start, row, seed, BACKBONE_CLASSES, recipe)
        return train_detector(
            net,
            train_images,
            recipe,
            eval_images=eval_images,
            image_size=image_size,
            seed=seed >> 1,
            device=device,
            save_seconds=save_seconds,
            **options,
        )

    options: dict[str, Any] = {"seed": seed, "save": save, "progress": progress, "retry_failed": retry_failed}
    run_trainings(curves, jobs, starts, recipe, eval_images.name, about, train, **options)
