"""The state of a training in one file, written atomically, from which the training resumes exactly.

Random numbers are functions of the seed and the step, so the number of the step is the whole state of the random number
generators.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deepnets.support import CheckpointError, ConfigError, abbreviated, at_least, checked_integer, parse_json
from ghn_model.checkpoints import TensorFile, check_tensors, write_tensors
from ghn_model.training.hypernetwork import trainable_parameters

__all__ = ["CheckpointPolicy", "Progress", "load_state", "read_identity", "save_state"]

FORMAT, FORMAT_VERSION = "deepnets1m training", "1"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam and AdamW store for each parameter: a number, and two tensors like the parameter."""

MOST_STEPS = 10**12


@dataclass(frozen=True)
class CheckpointPolicy:
    """How often metrics are logged and the state is saved, and when a call stops early.

    Parameters
    ----------
    log_steps : int, default 20
        Steps between rows of the log.
    steps : int, optional
        Steps between saved states.
    minutes : float, default 5.0
        Minutes between saved states.  The state is also saved at the end of each call.
    stop_after : float, optional
        Minutes after which this call saves the state and returns, before the training is finished; the next call
        resumes it.  Useful on machines that are available for short times only.

    Raises
    ------
    ConfigError
        If a value is not possible.

    Examples
    --------
    >>> CheckpointPolicy(steps=1000).minutes
    5.0
    """

    log_steps: int = 20
    steps: int | None = None
    minutes: float = 5.0
    stop_after: float | None = None

    def __post_init__(self) -> None:
        checked_integer("log_steps", self.log_steps, at_least(1))
        if self.steps is not None:
            checked_integer("steps", self.steps, at_least(1))
        for name, value in (("minutes", self.minutes), ("stop_after", self.stop_after)):
            if value is not None and not value >= 0:
                raise ConfigError(f"{name}: expected 0 or more, got {value!r}")


class Progress(NamedTuple):
    """How far a training has come.

    Attributes
    ----------
    step : int
        Number of meta-batches processed, skipped ones included.
    seconds : float
        Duration of the training so far, over all calls.
    skipped : int
        Meta-batches skipped because of NaN or a lack of memory.
    core_seconds : float
        Processor time (user and system) of all training processes so far, without the workers of data loaders: the
        largest value of one process times the number of processes.
    networks : int
        Number of networks in these meta-batches, of all processes.

    Examples
    --------
    >>> Progress(step=3, networks=24)
    Progress(step=3, seconds=0.0, skipped=0, core_seconds=0.0, networks=24)
    """

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    core_seconds: float = 0.0
    networks: int = 0


def save_state(
    path: Path,
    hypernetwork: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Sequence[Tensor],
    extra: Mapping[str, Tensor],
    progress: Progress,
    identity: Mapping[str, Any],
) -> None:
    """Write the state of a training atomically.

    Parameters
    ----------
    path : Path
        The file (safetensors); an existing one is replaced.
    hypernetwork : nn.Module
        Hypernetwork, whose state dict is saved.
    optimizer : torch.optim.Optimizer
        Adam or AdamW for its trainable parameters, in their order.
    averages : sequence of Tensor
        Moving averages of these parameters; may be empty.
    extra : mapping of str to Tensor
        Other tensors.
    progress : Progress
        How far the training has come.
    identity : mapping
        What must not change when the training is resumed, as values that JSON can represent.

    Raises
    ------
    CheckpointError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "state.safetensors"
    ...     save_state(path, model, optimizer, [], {}, Progress(step=7), {"seed": 0})
    ...     load_state(path, model, optimizer, [], {}).step, read_identity(path)
    (7, {'seed': 0})
    """
    tensors = {f"weights.{name}": tensor for name, tensor in hypernetwork.state_dict().items()}
    named = trainable_parameters(hypernetwork)
    for name, parameter in named.items():
        for kind, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{kind}.{name}"] = torch.as_tensor(value)
    for name, average in zip(named, averages):
        tensors[f"average.{name}"] = average
    tensors |= {f"extra.{name}": tensor for name, tensor in extra.items()}
    texts = {"format": FORMAT, "format_version": FORMAT_VERSION}
    # "moment" and "about" are the keys of this format since its first version.
    write_tensors(path, tensors, {**texts, "moment": json.dumps(progress._asdict()), "about": json.dumps(identity)})


def load_state(
    path: Path,
    hypernetwork: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Sequence[Tensor],
    extra: Mapping[str, Tensor],
) -> Progress:
    """Read the state of a training into the objects that `save_state` was given, in place.

    Parameters
    ----------
    path, hypernetwork, optimizer, averages, extra
        As for `save_state`.

    Returns
    -------
    Progress
        How far the training had come.

    Raises
    ------
    CheckpointError
        If the file is damaged or is the state of another hypernetwork.  Nothing has been changed then, with the
        exception of the hypernetwork if the optimizer rejects its state.

    Examples
    --------
    See `save_state`.
    """
    file = _open(path)
    named = trainable_parameters(hypernetwork)
    tensors = _without_frozen(file.tensors, dict(hypernetwork.named_parameters()).keys() - named.keys())
    weights = hypernetwork.state_dict()
    expected = {f"weights.{name}": tensor for name, tensor in weights.items()}
    expected |= {f"average.{name}": tensor for name, tensor in zip(named, averages)}
    expected |= {f"extra.{name}": tensor for name, tensor in extra.items()}
    expected |= _expected_moments(named, tensors)
    try:
        # Fused optimizers do not check shapes and dtypes: they would read and write beyond the memory of a tensor.
        check_tensors(tensors, expected)
        progress = _checked_progress(parse_json(file.metadata["moment"]))
        state = optimizer.state_dict()
        state["state"] = {}
        for number, name in enumerate(named):
            kinds = {kind: tensors.get(f"optimizer.{kind}.{name}") for kind in MOMENTS}
            if values := {kind: tensor.clone() for kind, tensor in kinds.items() if tensor is not None}:
                state["state"][number] = values
                if not 0 <= float(values["step"]) < MOST_STEPS:
                    raise ValueError(f"optimizer.step.{name}: expected a number of steps, got {float(values['step'])}")
        hypernetwork.load_state_dict({name: tensors[f"weights.{name}"] for name in weights})
        optimizer.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: is not the state of this training: {text}; use another folder") from error
    for name, average in zip(named, averages):
        average.copy_(tensors[f"average.{name}"])
    for name, tensor in extra.items():
        tensor.copy_(tensors[f"extra.{name}"])
    return progress


def _without_frozen(tensors: Mapping[str, Tensor], frozen: Collection[str]) -> dict[str, Tensor]:
    """Leave out what earlier versions stored for parameters that are not trained."""
    stored = {f"{kind}.{name}" for name in frozen for kind in ("average", *(f"optimizer.{each}" for each in MOMENTS))}
    return {name: tensor for name, tensor in tensors.items() if name not in stored}


def _expected_moments(named: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors like those of the optimizer, for the parameters of which a file has some."""
    step = torch.zeros((), dtype=torch.float32, device="meta")
    return {
        f"optimizer.{kind}.{name}": step if kind == "step" else parameter
        for name, parameter in named.items()
        if any(f"optimizer.{kind}.{name}" in found for kind in MOMENTS)
        for kind in MOMENTS
    }


def _checked_progress(values: Any) -> Progress:
    """Return the progress that JSON in a file describes; raise a `ValueError` if it is not plausible."""
    if not isinstance(values, dict) or "step" not in values:
        raise ValueError(f"expected the progress of a training, got {abbreviated(values)}")
    progress = Progress(**values)
    for name, value in progress._asdict().items():
        kinds = (int,) if name in ("step", "skipped", "networks") else (int, float)
        if type(value) not in kinds or not 0 <= value < MOST_STEPS:
            raise ValueError(f"{name}: expected a number from 0 to {MOST_STEPS:,}, got {abbreviated(value)}")
    return progress


def read_identity(path: Path) -> dict[str, Any]:
    """Return what was given to `save_state` as `identity`.

    Raises
    ------
    CheckpointError
        If the file is damaged.

    Examples
    --------
    See `save_state`.
    """
    try:
        identity = parse_json(_open(path).metadata["about"])
        if not isinstance(identity, dict):
            raise ValueError(f"expected an object, got {abbreviated(identity)}")
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: does not describe its training; remove it to start from scratch") from error
    return identity


def _open(path: Path) -> TensorFile:
    file = TensorFile(path)
    if file.metadata.get("format") != FORMAT or file.metadata.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: is not the state of a training in the format of this version; remove it to start from scratch"
        )
    file.check()
    return file
