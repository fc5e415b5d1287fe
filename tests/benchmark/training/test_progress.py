"""Trainings that are interrupted between epochs and continue from the saved state, with the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.training import SGDRecipe, Trained, train_network
from deepnets.support import CheckpointError
from ghn_model.checkpoints import write_tensors
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


def test_states_are_saved_no_more_often_than_asked_for(tmp_path: Path) -> None:
    train_network(toy(), made(64), RECIPE, state_file=tmp_path / "folder" / "state", save_seconds=1e9)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("kind", ["text", "other", "flipped", "network"])
def test_damaged_states(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted_after(2, toy(), RECIPE, path)
    model: nn.Module = toy()
    content = bytearray(path.read_bytes())
    if kind == "text":
        path.write_text("no tensors")
    elif kind == "other":
        write_tensors(path, {"weight": torch.zeros(3)}, {})
    elif kind == "flipped":
        content[-100] ^= 1
        path.write_bytes(content)
    else:
        model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    messages = {"text": "is damaged", "other": "is not the state of a training", "flipped": "does not match its SHA"}
    with pytest.raises(CheckpointError, match=messages.get(kind, "does not fit the training .*; remove it")):
        train_network(model, made(64), RECIPE, state_file=path)
