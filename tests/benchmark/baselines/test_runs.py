"""Folders of trainings that an earlier version wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def test_only_failures_of_the_trainings_asked_for_are_repeated(tmp_path: Path) -> None:
    images = load_images("digits", "val")

    def broken() -> nn.Module:
        raise RuntimeError("no such")

    def table(label: str, *names: str, build: Any = broken, retry: bool = False) -> list[list[str]]:
        jobs = [TrainingJob("mine", place, name, place, build, graph=None) for place, name in enumerate(names)]  # type: ignore[arg-type]
        with Curves(tmp_path).opened() as curves:
            start, recipe = [Start(label)], SGDRecipe(epochs=1)
            train_all(curves, jobs, start, recipe, images, images, save=False, retry_failed=retry)
            found: list[list[str]] = curves.table()[["predictor", "network", "status"]].to_numpy().tolist()
            return sorted(found)

    table("a", "one", "two")
    table("b", "one")
    expected = [["a", "one", "ok"], ["a", "two", "failed"], ["b", "one", "failed"]]
    assert table("a", "one", build=linear, retry=True) == expected
    assert table("a", "one", "two", build=linear) == expected


def test_settings_without_a_training_do_not_count(tmp_path: Path) -> None:
    """A wrong option can be corrected after Ctrl-C, unless a training was begun."""
    recipe = SGDRecipe(epochs=1)
    with Curves(tmp_path).opened() as curves:
        curves.check_settings("random on mine with cifar10", {**recipe.to_dict(), "epochs": 5})
        curves.check_settings("random on mine with digits", {**recipe.to_dict(), "epochs": 5})
    assert "digits,1," in train(tmp_path, recipe, save=True)
    with Curves(tmp_path / "begun").opened() as curves:
        curves.check_settings("random on mine with digits", {**recipe.to_dict(), "epochs": 5})
    assert list(json.loads((tmp_path / "settings.json").read_text())) == ["random on mine with digits"]
    (tmp_path / "begun" / "random").mkdir()
    (tmp_path / "begun" / "random" / "mine-0.state.safetensors").touch()
    with pytest.raises(ConfigError, match="epochs 5, not 1"):
        train(tmp_path / "begun", recipe)


def test_settings_of_all_starts_are_kept(tmp_path: Path) -> None:
    images, job = load_images("digits", "val"), TrainingJob("mine", 0, "linear", 0, linear, graph=None)  # type: ignore[arg-type]
    starts = [Start("a"), Start("b")]
    with Curves(tmp_path).opened() as curves:
        train_all(curves, [job], starts, SGDRecipe(epochs=1), images, images, save=False)
    for start in starts:
        with Curves(tmp_path).opened() as curves, pytest.raises(ConfigError, match="epochs 1, not 2"):
            train_all(curves, [job], [start], SGDRecipe(epochs=2), images, images, save=False)
