"""Folders of trainings that an earlier version wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from benchmark.baselines import Curves, TrainingJob, train_all
from benchmark.training import SGDRecipe, Start
from deepnets import ConfigError
from deepnets.data import load_images


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))


def train(folder: Path, recipe: SGDRecipe, images: str = "digits", *, save: bool = False) -> str:
    found = replace(load_images("digits", "val"), name=images)
    job = TrainingJob("mine", 0, "linear", 0, linear, graph=None)  # type: ignore[arg-type]
    with Curves(folder).opened() as curves:
        train_all(curves, [job], [Start()], recipe, found, found, save=save)
    return curves.path.read_text()


def test_settings_with_former_names(tmp_path: Path) -> None:
    recipe = SGDRecipe(epochs=1)
    content = train(tmp_path, recipe)
    path = tmp_path / "settings.json"
    former = {"lr": "learning_rate", "batch_size": "batch", "clip_grad": "clip"}
    (name, settings), *_ = json.loads(path.read_text()).items()
    path.write_text(json.dumps({name: {former.get(key, key): value for key, value in settings.items()}}))
    assert train(tmp_path, recipe) == content
    with pytest.raises(ConfigError, match=r"has trainings from .* with other settings \(lr 0.025, not 0.1\)"):
        train(tmp_path, recipe.replace(lr=0.1))


def test_networks_trained_on_other_images_are_not_replaced(tmp_path: Path) -> None:
    recipe = SGDRecipe(epochs=1)
    content = train(tmp_path, recipe, save=True)
    (path,) = (tmp_path / "random").glob("*.safetensors")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="of mine trained from random on digits, whose files those for others"):
        train(tmp_path, recipe, "others", save=True)
    assert path.read_bytes() == before
    assert train(tmp_path, recipe, save=True) == content
