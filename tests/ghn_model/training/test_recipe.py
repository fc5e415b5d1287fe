"""Recipes, learning rate schedules and budgets."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from deepnets.support import ConfigError
from ghn_model import PRESETS, describe, list_pretrained
from ghn_model.choices import RECIPES
from ghn_model.training import Budget, Recipe, Schedule


def test_the_schedule_of_ghn2() -> None:
    schedule = Recipe.preset("ghn2").schedule
    rates = [schedule.rate(1e-3, epoch / 300) for epoch in (0, 199, 200, 249, 250, 299)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_the_schedule_of_ghn3() -> None:
    schedule = Recipe.preset("ghn3-t", "imagenet").schedule
    rates = [schedule.rate(4e-4, (epoch + 0.5) / 75) for epoch in range(75)]
    for epoch, rate in enumerate(rates):
        warm = 1e-5 + (4e-4 - 1e-5) * epoch / 4
        assert rate == pytest.approx(warm if epoch < 4 else 4e-4 * (1 + math.cos(math.pi * (epoch - 5) / 70)) / 2)
    assert [schedule.rate(4e-4, epoch / 75) for epoch in range(75)] == pytest.approx(rates)


def test_a_smooth_schedule_is_continuous_and_ends_at_nothing() -> None:
    schedule = Schedule("cosine", warmup=0.05)
    rates = np.array([schedule.rate(1.0, x) for x in np.linspace(0, 1, 10_001)])
    assert rates[0] == pytest.approx(1e-5)
    assert rates.max() == pytest.approx(1.0)
    assert rates.argmax() == 500
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.abs(np.diff(rates)).max() < 0.003


def test_progress_is_the_larger_share() -> None:
    assert Budget(steps=100).progress(25, 1e9) == 0.25
    assert Budget(minutes=2).progress(10**9, 30) == 0.25
    assert Budget(steps=100, minutes=2).progress(10, 90) == 0.75
    assert Budget(steps=100, minutes=2).progress(100, 0) == 1
    assert Budget(minutes=2).progress(0, 1000) == 1


def test_published_recipes() -> None:
    published = {name: Recipe.preset(name) for name in PRESETS}
    for name in ("mlp", "ghn1", "ghn2"):
        recipe = published[name]
        assert (recipe.optimizer, recipe.lr, recipe.weight_decay) == ("adam", 1e-3, 1e-5)
        assert (recipe.batch_size, recipe.epochs, recipe.clip_grad, recipe.predicted_param_decay) == (64, 300, 5, 0)
        assert recipe.meta_batch_size == (1 if name == "ghn1" else 8)
    for size in ("t", "s", "l", "xl"):
        recipe = published[f"ghn3-{size}"]
        assert (recipe.optimizer, recipe.lr, recipe.weight_decay) == ("adamw", 4e-4, 1e-2)
        assert (recipe.batch_size, recipe.epochs, recipe.predicted_param_decay) == (64, 300, 3e-5)
    for size in ("t", "s", "b", "l"):
        recipe = published[f"logah-{size}"]
        assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.meta_batch_size) == ("adamw", 3e-4, 1e-2, 1)
        assert (recipe.batch_size, recipe.epochs, recipe.predicted_param_decay) == (64, 300, 3e-5)
    assert Recipe.preset("logah-t", "imagenet").label_smoothing == 0.1
    large = Recipe.preset("ghn3-t", "imagenet")
    assert (large.batch_size, large.epochs, large.label_smoothing, large.wider_nets) == (128, 75, 0.1, True)
    assert (Recipe.preset("ghn2", "imagenet").batch_size, Recipe.preset("ghn2", "imagenet").epochs) == (256, 150)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_recipe_for_a_cpu(preset: str) -> None:
    """It is the same for all hypernetworks, but for the epochs, the decay of predicted parameters and LoGAH's limit."""
    published, recipe = Recipe.preset(preset), Recipe.preset(preset, kind="cpu")
    assert Recipe.preset(preset, kind="published") == published
    assert (recipe.meta_batch_size, recipe.batch_size, recipe.max_nodes) == (4, 64, 120)
    assert recipe.max_params == (100_000 if preset.startswith("logah") else 0)
    assert Recipe.preset(preset, "digits") == recipe
    assert Recipe.preset(preset, "digits", kind="published") == published
    assert (recipe.images_per_step, published.images_per_step) == (256, published.batch_size)
    assert (recipe.optimizer, recipe.lr, recipe.schedule.kind) == ("adamw", 3e-3, "wsd")
    assert (recipe.epochs, recipe.predicted_param_decay) == (published.epochs, published.predicted_param_decay)
    texts = Recipe.preset(preset, "python", task="text")  # their only recipe is for a CPU
    assert Recipe.preset(preset, "python", task="text", kind="cpu") == texts
    with pytest.raises(ConfigError, match="published, cpu"):
        Recipe.preset(preset, kind="gpu")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("images", ["digits", "cifar10", "imagenet"])
@pytest.mark.parametrize("kind", RECIPES)
def test_recipes_survive_json(preset: str, images: str, kind: str) -> None:
    recipe = Recipe.preset(preset, images, kind=kind)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "sgd"}, "adam, adamw"),
        ({"batch_size": 1}, "batch_size"),
        ({"lr": math.nan}, "lr"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"precision": "int8"}, "fp32, tf32, bf16, fp16"),
        ({"schedule": "cosine"}, "Schedule"),
        ({"channels_last": "yes"}, "channels_last"),
    ],
)
def test_recipes_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**changes)  # type: ignore[arg-type]


def test_schedules_and_budgets_are_checked() -> None:
    for wrong in ({"kind": "linear"}, {"warmup": 1.0}, {"epochs": -1}, {"kind": "wsd", "decay": 0.9, "warmup": 0.2}):
        with pytest.raises(ConfigError):
            Schedule(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="minutes"):
        Budget(minutes=0)
    with pytest.raises(ConfigError, match="unknown key 'rate'"):
        Recipe.from_dict({"rate": 1})


def test_wsd_is_constant_and_then_linear() -> None:
    """A training that is extended before the decay has had the same learning rates as a longer one."""
    schedule = Schedule("wsd", warmup=0.1, decay=0.25)
    assert schedule.rate(1.0, 0.05) == pytest.approx((1 + 1e-5) / 2)
    assert {schedule.rate(1.0, progress) for progress in (0.1, 0.5, 0.75)} == {1.0}
    assert [schedule.rate(1.0, progress) for progress in (0.875, 1.0)] == pytest.approx([0.5, 0.0])
    steps = [Schedule("wsd").rate(1e-3, Budget(steps=budget).progress(70, 0.0)) for budget in (100, 200)]
    assert steps == [1e-3, 1e-3]


def test_recipes_of_the_previous_version() -> None:
    old = {"learning_rate": 0.01, "batch": 8, "meta_batch": 4, "clip": 2.0, "penalty": 0.1, "average": 0.5}
    recipe = Recipe.from_dict({**old, "compile": False, "channels_last": True, "schedule": {"kind": "cosine"}})
    assert (recipe.lr, recipe.batch_size, recipe.meta_batch_size) == (0.01, 8, 4)
    assert (recipe.clip_grad, recipe.predicted_param_decay, recipe.ema_decay) == (2.0, 0.1, 0.5)
    assert recipe.channels_last is True
    assert not old.keys() & recipe.to_dict().keys()
    with pytest.raises(ConfigError, match="'compile'"):
        Recipe.from_dict({"compile": True})


@pytest.mark.parametrize("name", list_pretrained())
def test_recipes_of_bundled_cards_load(name: str) -> None:
    recipe = Recipe.from_dict(describe(name).metadata["recipe"])
    preset, images = name.split("-")[:2]
    changes: dict[str, Any] = {}
    if images == "cifar10":  # a cosine schedule has no decay at its end; half the resolution for more of the training
        changes = {"schedule": Schedule("cosine", warmup=0.01), "low_resolution": 0.9}
    if name == "ghn2-cifar10":  # continues ghn2-cifar10-60k with two processes
        changes |= {"meta_batch_size": 8, "seed": 1}
    assert recipe.replace(channels_last=None) == Recipe.preset(preset, images, kind="cpu", **changes)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_images_are_channels_last_on_cpus_only() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert Recipe().memory_format(cpu) == Recipe(channels_last=True).memory_format(cuda) == torch.channels_last
    assert Recipe().memory_format(cuda) == Recipe(channels_last=False).memory_format(cpu) == torch.contiguous_format
