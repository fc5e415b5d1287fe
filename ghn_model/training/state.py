"""The state of a training in a file: whole or not there, complete enough to go on as if nothing had happened.

Random numbers are functions of the seed and the number of a step, so that the number is all of their state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deepnets.support import CheckpointError
from ghn_model.checkpoints import TensorFile, write_tensors
from ghn_model.ghn import GHN

__all__ = ["Moment", "load_state", "save_state"]

FORMAT, FORMAT_VERSION = "deepnets1m training", "1"


class Moment(NamedTuple):
    """How far a training is.

    Attributes
    ----------
    step
        Meta-batches that it is through with: where the order of networks and images, and random numbers go on.
    seconds
        That it took so far.
    skipped
        Meta-batches among them that could not be trained on.
    core_seconds
        Processor time that all processes together took so far.
    """

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    core_seconds: float = 0.0


def save_state(
    path: Path,
    ghn: GHN,
    optimizer: torch.optim.Optimizer,
    averages: Sequence[Tensor],
    extra: Mapping[str, Tensor],
    moment: Moment,
    about: Mapping[str, Any],
) -> None:
    """Write the state of a training; it replaces the file when all of it is on the disk.

    Parameters
    ----------
    path
        The file.
    ghn, optimizer
        Its weights, and the optimizer's memory of each.
    averages
        Moving averages of the weights; none, or one for each.
    extra
        Other tensors.
    moment
        How far it is.
    about
        What must be the same when it goes on, as JSON can hold it.
    """
    tensors = {f"weights.{name}": tensor for name, tensor in ghn.state_dict().items()}
    for name, parameter in ghn.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{kind}.{name}"] = torch.as_tensor(value)
    for (name, _), average in zip(ghn.named_parameters(), averages):
        tensors[f"average.{name}"] = average
    tensors |= {f"extra.{name}": tensor for name, tensor in extra.items()}
    texts = {"format": FORMAT, "format_version": FORMAT_VERSION}
    write_tensors(path, tensors, {**texts, "moment": json.dumps(moment._asdict()), "about": json.dumps(about)})


def load_state(
    path: Path, ghn: GHN, optimizer: torch.optim.Optimizer, averages: Sequence[Tensor], extra: Mapping[str, Tensor]
) -> Moment:
    """Read the state of a training into what `save_state` was given.

    Raises
    ------
    CheckpointError
        If the file is damaged, or of another hypernetwork.
    """
    file = _opened(path)
    tensors = file.tensors
    named = dict(ghn.named_parameters())
    memory: dict[int, dict[str, Tensor]] = {number: {} for number in range(len(named))}
    try:
        ghn.load_state_dict({name: tensors[f"weights.{name}"] for name in ghn.state_dict()})
        places = {name: number for number, name in enumerate(named)}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            if group == "optimizer":
                kind, _, rest = rest.partition(".")
                memory[places[rest]][kind] = tensor.clone()
        state = optimizer.state_dict()
        state["state"] = {number: values for number, values in memory.items() if values}
        optimizer.load_state_dict(state)
        for name, average in zip(named, averages):
            average.copy_(tensors[f"average.{name}"])
        for name, tensor in extra.items():
            tensor.copy_(tensors[f"extra.{name}"])
        return Moment(**json.loads(file.metadata["moment"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: is not the state of this training: {text}; begin in another folder") from error


def read_about(path: Path) -> dict[str, Any]:
    """What was given to `save_state` as `about`."""
    try:
        about: dict[str, Any] = json.loads(_opened(path).metadata["about"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: says nothing about its training; remove it to begin anew") from error
    return about


def _opened(path: Path) -> TensorFile:
    file = TensorFile(path)
    if file.metadata.get("format") != FORMAT or file.metadata.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: is not the state of a training of this version; remove it to begin anew")
    file.check()
    return file
