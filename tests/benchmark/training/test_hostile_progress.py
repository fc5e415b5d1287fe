"""Saved states of SGD trainings, with a valid checksum, that do not fit the optimizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.training import train_network
from deepnets.support import CheckpointError
from ghn_model.checkpoints import DIGEST, TensorFile, write_tensors
from tests.benchmark.training.test_progress import RECIPE, interrupted_after
from tests.benchmark.training.test_trainer import made, toy

Change = Callable[[dict[str, Tensor], dict[str, Any]], object]


def tensor(change: Callable[[Tensor], Tensor], name: str = "") -> Change:
    """Change a tensor of the optimizer: the first one of a name, or that with most elements."""

    def apply(tensors: dict[str, Tensor], _: dict[str, Any]) -> None:
        keys = [key for key in tensors if key.startswith("optimizer.") and key.endswith(name)]
        key = max(keys, key=lambda each: tensors[each].numel())
        tensors[key] = change(tensors[key])

    return apply


def group(**values: Any) -> Change:
    return lambda _, state: state["optimizer"]["groups"][0].update(values)


CHANGES: dict[str, Change] = {
    "another shape": tensor(lambda t: torch.zeros(3)),
    "no elements": tensor(lambda t: torch.zeros(0)),
    "one more axis": tensor(lambda t: t[None].clone()),
    "integers": tensor(lambda t: t.long()),
    "half precision": tensor(lambda t: t.half()),
    "a vector of steps": tensor(lambda t: torch.zeros(7), "step"),
    "an unknown parameter": lambda tensors, _: tensors.update({"optimizer.1000.exp_avg": torch.zeros(3)}),
    "a rate that is a text": group(lr="fast"),
    "no rate": lambda _, state: state["optimizer"]["groups"][0].pop("lr"),
    "other parameters": group(params=[5, 4, 3]),
    "one parameter many times": group(params=[0] * 100),
    "a list in a group": group(extra=[1, 2]),
    "no groups": lambda _, state: state["optimizer"].update(groups=[]),
    "groups that are a number": lambda _, state: state["optimizer"].update(groups=3),
    "rows that are texts": lambda _, state: state.update(rows=["a"]),
    "a value that is a list": lambda _, state: state["rows"][0].update(loss=[1]),
    "a number that is a list": lambda _, state: state["optimizer"]["numbers"].update({"0": {"momentum": [1]}}),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", CHANGES)
def test_states_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    recipe, path = RECIPE.replace(optimizer="adamw"), tmp_path / "state"
    interrupted_after(1, toy(), recipe, path)
    file = TensorFile(path)
    tensors = {name: tensor.clone() for name, tensor in file.tensors.items()}
    state = json.loads(file.metadata["state"])
    CHANGES[case](tensors, state)
    metadata = {name: text for name, text in file.metadata.items() if name != DIGEST}
    write_tensors(path, tensors, {**metadata, "state": json.dumps(state)})
    with pytest.raises(CheckpointError, match=f"^{path}: does not fit the training ") as caught:
        train_network(toy(), made(64), recipe, state_file=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"rows": ' + "9" * 5_000 + "}", "3", "null", "[]", "{}", "nonsense"])
def test_descriptions_that_are_not_valid(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state"
    interrupted_after(1, toy(), RECIPE, path)
    file = TensorFile(path)
    tensors = {name: tensor.clone() for name, tensor in file.tensors.items()}
    metadata = {name: value for name, value in file.metadata.items() if name != DIGEST}
    write_tensors(path, tensors, {**metadata, "state": text})
    with pytest.raises(CheckpointError, match=f"^{path}: does not fit the training "):
        train_network(toy(), made(64), RECIPE, state_file=path)
