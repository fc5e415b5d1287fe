"""Training of detectors: the protocol of Knyazev et al. (NeurIPS 2021), from a network with initial parameters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmark.training.detection.detector import build_detector
from benchmark.training.detection.penn_fudan import PennFudan
from benchmark.training.detection.precision import DETECTION_METRICS, Detections
from benchmark.training.detection.task import TASK
from benchmark.training.epoch import diverged, make_optimizer
from benchmark.training.progress import SAVE_SECONDS, Progress
from benchmark.training.recipe import SGDRecipe
from benchmark.training.trainer import Trained
from deepnets.support import ConfigError, ProgressBar, TrainingError, checked_integer

__all__ = ["CURVE", "check_detection_recipe", "train_detector"]

CURVE = ("epoch", "loss", *DETECTION_METRICS, "seconds", "learning_rate")
_WARMUP_STEPS, _WARMUP_FACTOR = 1000, 1e-3
_CLASSIFICATION_ONLY = (
    *("label_smoothing", "loss", "target_threshold", "auxiliary_weight", "rand_augment", "cutout", "mixup", "cutmix"),
    *("drop_path", "color_jitter", "crop_ratio", "warmup_steps"),
)


def check_detection_recipe(recipe: SGDRecipe) -> None:
    """Check that a recipe has no settings that only classification has.

    Parameters
    ----------
    recipe
        The recipe.

    Raises
    ------
    ConfigError
        If it has one.

    Examples
    --------
    >>> check_detection_recipe(SGDRecipe.preset("penn-fudan"))
    """
    usual = SGDRecipe()
    if wrong := [name for name in _CLASSIFICATION_ONLY if getattr(recipe, name) != getattr(usual, name)]:
        raise ConfigError(f"{wrong[0]}: is for classification, not for detection")


def train_detector(
    model: nn.Module,
    train_images: PennFudan,
    recipe: SGDRecipe,
    *,
    eval_images: PennFudan | None = None,
    image_size: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
    each_epoch: Callable[[dict[str, float]], None] | None = None,
    state_file: Path | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> Trained:
    """Train a detector whose backbone starts from the current values of a network.

    Parameters
    ----------
    model
        The network, as for `build_detector`; it is not modified.
    train_images
        Training images.
    recipe
        Settings of the training; ``SGDRecipe.preset("penn-fudan")`` is the published one.  In the first epoch, the
        learning rate grows linearly from a thousandth, step by step.  `augment` mirrors an image with probability 0.5.
    eval_images
        Images for evaluation after every epoch; None for no evaluation.
    image_size
        As for `build_detector`.
    seed
        Seed of the parameters of the detector's heads, of the order and mirroring of images, and of the choice of boxes
        for the loss.  On a CPU, the same seed and number of threads give the same result bit by bit.
    device
        Device of the training.
    progress, each_epoch, state_file, save_seconds
        As for `benchmark.training.train_network`.

    Returns
    -------
    The final state of the detector, and a curve with a row per epoch: `epoch`, `loss`, `ap`, `ap50`, `ap75` in percent
    (`average_precision`), `seconds` of training so far, and `learning_rate`.

    Raises
    ------
    ConfigError
        If an argument is not allowed, or the network has no feature map.
    CheckpointError
        If `state_file` is damaged or cannot be written.
    FormatError
        If an image cannot be read.
    MissingDependencyError
        If torchvision is not installed.
    TrainingError
        If the loss is not finite.
    """
    check_detection_recipe(recipe)
    seed = checked_integer("seed", seed, range(2**63))
    device = torch.device(device)
    words = np.random.Philox(key=seed).random_raw(3).tolist()
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(words[2] >> 1)
        detector = build_detector(model, image_size).to(device)
    optimizer = make_optimizer(detector, recipe)
    order = torch.Generator().manual_seed(words[0] >> 1)
    sizes = [[len(part), part.fingerprint] for part in (train_images, eval_images) if part is not None]
    about = {"recipe": recipe.to_dict(), "seed": seed, "images": sizes, "image_size": image_size, "task": TASK.name}
    saved = Progress(state_file, about, detector, optimizer, {"order": order}, device, save_seconds)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(words[1] >> 1)
        curve = saved.load()
        seconds = curve[-1]["seconds"] if curve else 0.0
        for epoch in range(len(curve) + 1, recipe.epochs + 1):
            started = time.perf_counter()
            loss = _train_epoch(detector, optimizer, train_images, recipe, epoch, order, device, progress)
            seconds += time.perf_counter() - started
            scores = dict.fromkeys(DETECTION_METRICS, math.nan)
            if eval_images is not None:
                scores = _evaluate(detector, eval_images, device)
            rate = optimizer.param_groups[0]["lr"]
            row = {"epoch": epoch, "loss": loss, **scores, "seconds": seconds, "learning_rate": rate}
            curve.append(row)
            if each_epoch:
                each_epoch(row)
            if epoch < recipe.epochs:
                saved.save(curve)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    return Trained(state, pd.DataFrame(curve, columns=list(CURVE)))


def _train_epoch(
    detector: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: PennFudan,
    recipe: SGDRecipe,
    epoch: int,
    order: torch.Generator,
    device: torch.device,
    progress: bool,
) -> float:
    """Train for one epoch; return the mean loss of an image."""
    detector.train()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rows = torch.randperm(len(images), generator=order)
    flips = torch.rand(len(images), generator=order) < 0.5
    batches = torch.split(rows, recipe.batch_size)
    warmup = min(_WARMUP_STEPS, len(batches) - 1) if epoch == 1 else 0
    total = 0.0
    for step, batch in enumerate(ProgressBar(batches, show=progress, desc=f"epoch {epoch}", leave=False)):
        factor = _WARMUP_FACTOR + (1 - _WARMUP_FACTOR) * step / warmup if step < warmup else 1.0
        for group in optimizer.param_groups:
            group["lr"] = factor * recipe.lr_at(epoch)
        items = [images[row] for row in batch.tolist()]
        if recipe.augment:
            items = [_mirrored(*item) if flips[row] else item for item, row in zip(items, batch.tolist())]
        pixels = [image.to(device) for image, _ in items]
        targets = [
            {"boxes": boxes.to(device), "labels": torch.ones(len(boxes), dtype=torch.int64, device=device)}
            for _, boxes in items
        ]
        loss = TASK.loss(detector(*TASK.inputs(pixels, targets)), targets)
        if not loss.isfinite():
            raise TrainingError(diverged(f"in epoch {epoch}, at step {step + 1}, the loss is not finite"))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_grad:
            nn.utils.clip_grad_norm_(parameters, recipe.clip_grad)
        optimizer.step()
        total += float(loss.detach()) * len(batch)
    return total / len(images)


@torch.no_grad()
def _evaluate(detector: nn.Module, images: PennFudan, device: torch.device) -> dict[str, float]:
    detector.eval()
    detections, targets = [], []
    for index in range(len(images)):
        pixels, boxes = images[index]
        (found,) = detector(*TASK.inputs([pixels.to(device)], None))
        detections.append(Detections(found["boxes"].cpu(), found["scores"].cpu()))
        targets.append(boxes)
    return TASK.scores(detections, targets)


def _mirrored(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror an image, (3, H, W), and its boxes horizontally.

    As in torchvision's reference scripts, coordinates are those of a continuous image of this width, although boxes of
    masks end at the last pixel: mirrored ones begin one pixel further to the right than the object.
    """
    width = image.shape[-1]
    x1, y1, x2, y2 = boxes.unbind(1)
    return image.flip(-1), torch.stack([width - x2, y1, width - x1, y2], dim=1)
