"""The state of a training between two epochs, in a file from which it continues with the same results."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.choices import SAVE_SECONDS
from deepnets.data import ImageFolders, Images, ImageSet
from deepnets.support import CheckpointError, parse_json
from ghn_model.checkpoints import TensorFile, content_digest, write_tensors

__all__ = ["SAVE_SECONDS", "Progress", "data_digest"]

_FORMAT = "deepnets1m training state"

ROUNDING = 1e-3
"""Largest difference between initial values that counts as rounding, as a share of the norm of a tensor."""

log = logging.getLogger(__name__)

_ADDED = ("start", "data")
"""What states of earlier versions do not tell."""


def data_digest(images: Images | None) -> str | None:
    """Return the digest of the images and labels of a set, or of the names and labels of its files.

    It is None for a set of your own, unless it has an attribute `fingerprint`.

    Examples
    --------
    >>> from deepnets.data import load_images
    >>> data_digest(load_images("digits", "val")) == data_digest(load_images("digits", "test"))
    False
    """
    if isinstance(images, ImageSet):
        return content_digest({"images": images.images, "labels": images.labels}, {})
    if isinstance(images, ImageFolders):
        names = ascii([Path(path).name for path in images.paths])
        return content_digest({"labels": torch.as_tensor(images.labels)}, {"names": names})
    found = getattr(images, "digest", getattr(images, "fingerprint", None))  # texts have a `digest`
    return found if isinstance(found, str) else None


def _sketch(net: nn.Module) -> dict[str, list[float]]:
    """Return two numbers for each tensor of a network: its projection on a fixed vector, and its norm.

    They tell other initial values apart, and not those that differ by rounding, such as values that a hypernetwork
    predicts with another number of threads.
    """
    found = {}
    for name, value in net.state_dict().items():
        if isinstance(value, Tensor) and not value.is_complex():
            flat = value.detach().cpu().double().flatten()
            direction = torch.arange(1, len(flat) + 1, dtype=torch.float64).cos_()
            found[name] = [float(flat @ direction), float(flat.norm())]
    return found


def _is_close(one: Any, other: Any) -> bool:
    """Return whether sketches are of the same values, up to rounding; the first is not trusted."""
    if not isinstance(one, dict) or not isinstance(other, dict) or one.keys() != other.keys():
        return bool(one == other)
    for name, (projection, norm) in other.items():
        found = one[name]
        if not (isinstance(found, list) and len(found) == 2 and all(type(number) is float for number in found)):
            return False
        if max(abs(found[0] - projection), abs(found[1] - norm)) > ROUNDING * norm:
            return False
    return True


class Progress:
    """A file with the state of a training.

    Parameters
    ----------
    path
        The file, in the safetensors format; None to keep no state.
    about
        Everything that determines the training beside the initial values of `net`, as values that JSON can represent.
        The file of another training is ignored.
    net, optimizer
        What is trained, on its device, with its initial values.
    generators
        Generators of random numbers by name.  The global generators of PyTorch on the CPU and on `device` are saved,
        too.
    device
        Device of the training.
    seconds
        Seconds between two saved states; 0 to save after every epoch.
    """

    def __init__(
        self,
        path: Path | None,
        about: Mapping[str, Any],
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        generators: Mapping[str, torch.Generator],
        device: torch.device,
        seconds: float = SAVE_SECONDS,
    ) -> None:
        if path is not None:
            about = {**about, "start": _sketch(net)}
        self.path, self.about, self.seconds = path, json.dumps(about, sort_keys=True), seconds
        self.net, self.optimizer, self.generators, self.device = net, optimizer, generators, device
        self._saved = time.monotonic()

    def load(self) -> list[dict[str, float]]:
        """Restore the state from the file, if there is one.

        Returns
        -------
        The rows of the epochs so far; an empty list without a file.

        Raises
        ------
        CheckpointError
            If the file is damaged, or its state does not fit the training.
        """
        if self.path is None or not self.path.exists():
            return []
        file = TensorFile(self.path)
        if file.metadata.get("format") != _FORMAT:
            raise CheckpointError(f"{self.path}: is not the state of a training; remove it, or choose another folder")
        if not self._is_of_this_training(file.metadata.get("about", "")):
            log.warning(
                "%s: is the state of a training with other settings, data or initial values; starts again", self.path
            )
            return []
        file.check()
        try:
            content = parse_json(file.metadata["state"])
            rows: list[dict[str, float]] = content["rows"]
            if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or "seconds" not in rows[-1]:
                raise ValueError("its rows are not those of the first epochs")
            if not all(type(value) in (int, float, str) for row in rows for value in row.values()):
                raise ValueError("its rows hold other values than numbers")
            self._restore(file.tensors, content["optimizer"])
        except (ValueError, LookupError, TypeError, RuntimeError, AttributeError) as error:
            text = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{self.path}: does not fit the training ({text}); remove it") from error
        return rows

    def save(self, rows: list[dict[str, float]]) -> None:
        """Write the state, unless this was done less than `seconds` ago.

        Parameters
        ----------
        rows
            The rows of the epochs so far.
        """
        if self.path is None or time.monotonic() - self._saved < self.seconds:
            return
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        numbers: dict[str, dict[str, Any]] = {}
        channels_last: list[str] = []  # norms depend on the memory layout, by rounding
        state = self.optimizer.state_dict()
        groups = [
            {name: value.item() if isinstance(value, Tensor) else value for name, value in group.items()}
            for group in state["param_groups"]
        ]
        for index, values in state["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    key = f"optimizer.{index}.{name}"
                    tensors[key] = value
                    if value.ndim == 4 and not value.is_contiguous():
                        channels_last.append(key)
                else:
                    numbers.setdefault(str(index), {})[name] = value
        for name, generator in self.generators.items():
            tensors[f"generator.{name}"] = generator.get_state()
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        content: dict[str, Any] = {"optimizer": {"groups": groups, "numbers": numbers, "channels_last": channels_last}}
        content["rows"] = rows
        metadata = {"format": _FORMAT, "about": self.about, "state": json.dumps(content)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(self.path, tensors, metadata)
        self._saved = time.monotonic()

    def _is_of_this_training(self, text: str) -> bool:
        about = json.loads(self.about)
        try:
            saved = parse_json(text)
        except ValueError:
            return False
        if not isinstance(saved, dict):
            return False
        saved = {name: about[name] for name in _ADDED if name in about} | saved
        return _is_close(saved.pop("start", None), about.pop("start", None)) and saved == about

    def _restore(self, tensors: Mapping[str, Tensor], optimizer: dict[str, Any]) -> None:
        states: dict[int, dict[str, Any]] = {int(index): dict(v) for index, v in optimizer["numbers"].items()}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                layout = torch.channels_last if key in optimizer["channels_last"] else torch.contiguous_format
                states.setdefault(int(index), {})[name] = tensor.clone(memory_format=layout)
        self._check_optimizer(states, optimizer["groups"])
        net = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith("net.")}
        self.net.load_state_dict(net)
        self.optimizer.load_state_dict({"state": states, "param_groups": optimizer["groups"]})
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"generator.{name}"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)

    def _check_optimizer(self, states: Mapping[int, Mapping[str, Any]], groups: Any) -> None:
        """Check the state of the optimizer, which does not do so: it would write beyond the memory of small tensors."""
        current = self.optimizer.param_groups
        parameters = [parameter for group in current for parameter in group["params"]]
        for index, values in states.items():
            parameter = parameters[index]
            for name, value in values.items():
                if not isinstance(value, Tensor):
                    if not (value is None or type(value) in (int, float, bool)):
                        raise ValueError(f"{name} of parameter {index} is not a number")
                elif (name == "step" and value.shape != ()) or (name != "step" and value.shape != parameter.shape):
                    raise ValueError(f"{name} of parameter {index} has the shape {tuple(value.shape)}")
                elif not value.dtype.is_floating_point or (name != "step" and value.dtype != parameter.dtype):
                    raise ValueError(f"{name} of parameter {index} has the type {value.dtype}")
        numbers = iter(range(len(parameters)))
        for found, group in zip(groups, current, strict=True):
            if found["params"] != [next(numbers) for _ in group["params"]] or group.keys() - found.keys():
                raise ValueError("its groups of parameters are not those of the optimizer")
            for name in found.keys() - group.keys():  # some optimizers add the number of steps
                if type(found[name]) not in (int, float):
                    raise ValueError(f"{name} of a group of parameters is a {type(found[name]).__name__}")
            for name in group.keys() - {"params"}:
                kinds: Any = (float, int, Tensor) if isinstance(group[name], float | Tensor) else type(group[name])
                kinds = (list, tuple) if isinstance(group[name], list | tuple) else kinds
                if not isinstance(found[name], kinds):
                    raise ValueError(f"{name} of a group of parameters is a {type(found[name]).__name__}")
