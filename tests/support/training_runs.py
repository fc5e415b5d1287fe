"""Small trainings for tests: small networks, images of uniform colour, separate processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepnets import DeepNets1M
from deepnets.data import ImageSet
from ghn_model.config import GHNConfig
from ghn_model.training import Budget, CheckpointPolicy, Distributed, Recipe, train
from ghn_model.training.images import ImageStream

__all__ = ["ROOT", "command", "run", "small_config", "small_recipe", "stream", "tensors", "train_here"]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 400.0  # seconds; on a busy machine, starting processes can take minutes


def small_config(preset: str = "ghn2", **changes: Any) -> GHNConfig:
    """Return the configuration of a narrow hypernetwork."""
    heads = {"heads": 2} if preset.startswith("ghn3") else {}
    return GHNConfig.preset(preset, **{"hidden": 8, "max_shape": (16, 16, 11, 11), **heads, **changes})


def small_recipe(**changes: Any) -> Recipe:
    """Return a recipe with few images and few small networks."""
    return Recipe.preset(
        "ghn2", "digits", **{"meta_batch_size": 2, "batch_size": 4, "max_params": 120_000, "max_nodes": 110, **changes}
    )


def stream(batch_size: int = 4, seed: int = 0, count: int = 24) -> ImageStream:
    """Return images that are easy to classify."""
    labels = torch.arange(count) % 10
    levels = (25 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    images = ImageSet("plain", "train", levels, labels, 10, (0.45,) * 3, (0.28,) * 3, shift=2, flip=True)
    return ImageStream(images, batch_size, seed=seed)


def train_here(
    corpus: Path,
    out: Path,
    *,
    steps: int = 4,
    checkpoints: CheckpointPolicy | None = None,
    distributed: Distributed | None = None,
    hypernetwork: Any = None,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Train in this process; `options` are more arguments of `train`, `changes` are fields of the recipe."""
    recipe = small_recipe(**changes)
    return train(
        out,
        hypernetwork or small_config(),
        recipe,
        stream(recipe.images_per_step, recipe.seed),
        DeepNets1M(corpus),
        budget=Budget(steps=steps),
        checkpoints=checkpoints or CheckpointPolicy(log_steps=2),
        distributed=distributed or Distributed("cpu"),
        quiet=True,
        **(options or {}),
    )


def command(corpus: Path, out: Path, **options: object) -> list[str]:
    """Return the arguments of the command `train`; `max_params=3` becomes `--max-params 3`."""
    given = {
        "meta_batch_size": 2,
        "batch_size": 4,
        "max_params": 100_000,
        "max_nodes": 90,
        "threads": 1,
        "quiet": True,
        **options,
    }
    words = ["-m", "ghn_model", "train", "--data", str(corpus), "--out", str(out), "--device", "cpu"]
    for name, value in given.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a Python program and return its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, env=environment
    )


def tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file."""
    from safetensors.torch import load_file

    return load_file(path)
