"""Trainings that are interrupted between epochs and continue from the saved state, with the same results."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.training import SGDRecipe, Trained, train_network
from deepnets.support import CheckpointError
from ghn_model.checkpoints import TensorFile, write_tensors
from tests.benchmark.training.test_protocols import EVERYTHING, HAVE_TIMM, cell_network, needs_timm
from tests.benchmark.training.test_trainer import made, same, toy

RECIPE = SGDRecipe(epochs=5, batch_size=16, lr=0.01)
OTHER = ["sgd", "adam", "adamw", *(["lamb"] if HAVE_TIMM else [])]


class InterruptionError(Exception):
    """What a training is interrupted with."""


def interrupted_after(epoch: int, model: nn.Module, recipe: SGDRecipe, path: Path, **options: Any) -> None:
    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == epoch + 1:  # the state of the epoch before is the last one that was saved
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train_network(model, made(64), recipe, each_epoch=stop, state_file=path, save_seconds=0, **options)


def without_seconds(trained: Trained) -> Any:
    return trained.curve.drop(columns="seconds")


@pytest.mark.parametrize("optimizer", OTHER)
def test_the_result_is_that_without_interruption(optimizer: str, tmp_path: Path) -> None:
    recipe, path = RECIPE.replace(optimizer=optimizer), tmp_path / "state"
    options: dict[str, Any] = {"seed": 7, "eval_images": made(40, split="test")}
    whole = train_network(toy(), made(64), recipe, **options)
    interrupted_after(2, toy(), recipe, path, **options)
    interrupted_after(3, toy(), recipe, path, **options)
    epochs: list[float] = []
    torch.rand(5)  # whatever the global generator has been used for
    resumed = train_network(
        toy(), made(64), recipe, state_file=path, each_epoch=lambda row: epochs.append(row["epoch"]), **options
    )
    assert epochs == [4, 5]
    assert same(whole.state, resumed.state)
    assert without_seconds(whole).equals(without_seconds(resumed))


@needs_timm
def test_everything_random_continues(tmp_path: Path) -> None:
    recipe, model = RECIPE.replace(**EVERYTHING, epochs=3), cell_network(auxiliary=True)
    whole = train_network(model, made(64), recipe)
    interrupted_after(1, model, recipe, tmp_path / "state")
    resumed = train_network(model, made(64), recipe, state_file=tmp_path / "state")
    assert same(whole.state, resumed.state)
    assert without_seconds(whole).equals(without_seconds(resumed))


def test_states_of_other_trainings_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted_after(2, toy(), RECIPE, path)
    for changes, options in (({"lr": 0.02}, {}), ({}, {"seed": 1})):
        recipe = RECIPE.replace(**changes)
        wanted = train_network(toy(), made(64), recipe, **options)
        found = train_network(toy(), made(64), recipe, state_file=path, save_seconds=1e9, **options)
        assert same(wanted.state, found.state)


def test_states_of_other_networks_or_images_are_not_used(tmp_path: Path) -> None:
    path, data = tmp_path / "state", made(64)
    interrupted_after(2, toy(), RECIPE, path)
    relabelled = replace(data, labels=data.labels.flip(0))
    brighter = replace(data, images=data.images + 1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    for model, images in ((toy(seed=1), data), (linear, data), (toy(), relabelled), (toy(), brighter)):
        wanted = train_network(model, images, RECIPE)
        found = train_network(model, images, RECIPE, state_file=path, save_seconds=1e9)
        assert same(wanted.state, found.state)


def test_initial_values_may_differ_by_rounding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As those that a hypernetwork predicts with another number of threads; others start again, with a warning."""
    path = tmp_path / "state"
    interrupted_after(2, toy(), RECIPE, path)
    for share, first in ((1e-6, 3), (0.1, 1)):
        model = toy()
        with torch.no_grad():
            next(model.parameters()).mul_(1 + share)
        epochs: list[float] = []
        train_network(
            model, made(64), RECIPE, state_file=path, save_seconds=1e9, each_epoch=partial(_keep_epoch, epochs)
        )
        assert epochs == list(range(first, 6))
        assert ("starts again" in caplog.text) == (first == 1)


def _keep_epoch(epochs: list[float], row: dict[str, float]) -> None:
    epochs.append(row["epoch"])


def test_states_of_earlier_versions_do_not_tell_initial_values_and_images(tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted_after(2, toy(), RECIPE, path)
    file = TensorFile(path)
    about = {name: value for name, value in json.loads(file.metadata["about"]).items() if name not in ("start", "data")}
    texts = {name: text for name, text in file.metadata.items() if name in ("format", "state")}
    write_tensors(path, file.tensors, {**texts, "about": json.dumps(about)})
    epochs: list[float] = []
    train_network(toy(), made(64), RECIPE, state_file=path, each_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [3, 4, 5]
    write_tensors(path, file.tensors, {**texts, "about": json.dumps({**about, "task": "hinge"})})
    train_network(toy(), made(64), RECIPE, state_file=path, each_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [3, 4, 5, 1, 2, 3, 4, 5]


def test_states_are_saved_no_more_often_than_asked_for(tmp_path: Path) -> None:
    train_network(toy(), made(64), RECIPE, state_file=tmp_path / "folder" / "state", save_seconds=1e9)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("kind", ["text", "other", "flipped", "network"])
def test_damaged_states(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted_after(2, toy(), RECIPE, path)
    content = bytearray(path.read_bytes())
    if kind == "text":
        path.write_text("no tensors")
    elif kind == "other":
        write_tensors(path, {"weight": torch.zeros(3)}, {})
    elif kind == "flipped":
        content[-100] ^= 1
        path.write_bytes(content)
    else:
        other = tmp_path / "other"
        interrupted_after(2, nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), RECIPE, other)
        texts = {name: TensorFile(path).metadata[name] for name in ("format", "about", "state")}
        write_tensors(path, TensorFile(other).tensors, texts)
    messages = {"text": "is damaged", "other": "is not the state of a training", "flipped": "does not match its SHA"}
    with pytest.raises(CheckpointError, match=messages.get(kind, "does not fit the training .*; remove it")):
        train_network(toy(), made(64), RECIPE, state_file=path)
