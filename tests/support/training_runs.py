"""Small trainings for tests: networks of a few cells, images of one colour, real processes."""

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
from ghn_model.training import Length, Ranks, Recipe, Saving, train
from ghn_model.training.images import ImageStream

__all__ = ["ROOT", "command", "run", "small_config", "small_recipe", "stream", "tensors", "train_here"]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0


def small_config(preset: str = "ghn2", **changes: Any) -> GHNConfig:
    """A hypernetwork of little width."""
    heads = {"heads": 2} if preset.startswith("ghn3") else {}
    return GHNConfig.preset(preset, **{"hidden": 8, "max_shape": (16, 16, 11, 11), **heads, **changes})


def small_recipe(**changes: Any) -> Recipe:
    """Few images of few networks, those small."""
    return Recipe.preset(
        "ghn2", "digits", **{"meta_batch": 2, "batch": 4, "max_params": 120_000, "max_nodes": 110, **changes}
    )


def stream(batch: int = 4, seed: int = 0, count: int = 24) -> ImageStream:
    """Images that are easily told apart."""
    labels = torch.arange(count) % 10
    levels = (25 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    images = ImageSet("plain", "train", levels, labels, 10, (0.45,) * 3, (0.28,) * 3, shift=2, flip=True)
    return ImageStream(images, batch, seed=seed)


def train_here(corpus: Path, out: Path, *, steps: int = 4, saving: Saving | None = None, **changes: Any) -> Path:
    """Train in this process."""
    recipe = small_recipe(**changes)
    length, saving = Length(steps=steps), saving or Saving(log_steps=2)
    images = stream(recipe.batch, recipe.seed)
    return train(
        out,
        small_config(),
        recipe,
        images,
        DeepNets1M(corpus),
        length=length,
        saving=saving,
        ranks=Ranks("cpu"),
        quiet=True,
    )


def command(corpus: Path, out: Path, **options: object) -> list[str]:
    """The arguments of a training on digits; `max_params=3` becomes `--max-params 3`."""
    given = {
        "meta_batch": 2,
        "batch": 4,
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
    """Run a Python program to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, env=environment
    )


def tensors(path: Path) -> dict[str, Tensor]:
    """Everything in a safetensors file."""
    from safetensors.torch import load_file

    return load_file(path)
