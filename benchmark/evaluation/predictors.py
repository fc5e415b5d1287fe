"""Predictors by name: hypernetworks, your own functions, saved parameters, no prediction at all, training.

    ghn2-digits                  a bundled hypernetwork (`python -m ghn_model list`)
    runs/mine/ghn.safetensors    the file of one, or an official checkpoint
    untrained:ghn2               a hypernetwork with random weights
    my_module:predict            a callable `(model, graph) -> {name: tensor}`, or a GHN; its code runs
    results/sgd/random           a folder of states, SPLIT-INDEX.safetensors or NAME.safetensors
    random                       the initial values that PyTorch gives a network
    sgd:5                        five epochs of training, from there

A label can be put before it: LABEL=my_module:predict.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.evaluation.networks import Networks
from deepnets.graph import Graph
from deepnets.support import ConfigError
from ghn_model import describe
from ghn_model.checkpoints import list_pretrained
from ghn_model.config import PRESETS, GHNConfig
from ghn_model.ghn import GHN

__all__ = ["Predictor", "PredictorInfo", "TrainedState", "describe_predictor", "open_predictor"]

Predictor = Callable[[nn.Module, Graph], Mapping[str, Tensor]]
"""Predicts the parameters of a network, by name, from the network (with its initial values) or from its graph."""

EXPECTED = "the file of one, untrained:PRESET, module:attribute, a folder of saved states, random, or sgd:EPOCHS"


class TrainedState(dict[str, Tensor]):
    """Parameters and buffers of a trained network, which is evaluated with its own running statistics."""


@dataclass(frozen=True)
class PredictorInfo:
    """What is known about a predictor without using it.

    Attributes
    ----------
    label
        Its name in tables.
    spec
        What was asked for, without the label.
    kind
        "hypernetwork", "untrained", "python", "states", "random", "sgd" or "callable".
    digest
        Changes when the predictor does: SHA-256 of a file or of a source; empty where there is nothing to digest.
    about
        A line about it.
    """

    label: str
    spec: str
    kind: str
    digest: str = ""
    about: str = ""

    def to_dict(self) -> dict[str, str]:
        """As plain values, ready for JSON."""
        return asdict(self)


def describe_predictor(spec: str) -> PredictorInfo:
    """What a text names.

    Raises
    ------
    ConfigError
        If it names nothing; says what is expected.
    CheckpointError
        If it is a file that is no hypernetwork.
    """
    label, equals, rest = spec.partition("=")
    if equals and re.fullmatch(r"[^/:]+", label):
        spec = rest
    else:
        label = ""
    kind, _, value = spec.partition(":")
    if spec == "random":
        return PredictorInfo(label or spec, spec, "random", about="PyTorch's initial values")
    if kind == "untrained":
        if value not in PRESETS:
            raise ConfigError(f"predictor: untrained:{value}: expected one of {', '.join(PRESETS)}")
        return PredictorInfo(label or f"untrained-{value}", spec, "untrained", about="a hypernetwork before training")
    if kind == "sgd":
        if not value.isdecimal() or int(value) < 1:
            raise ConfigError(f"predictor: {spec}: expected the number of epochs, as in sgd:5")
        return PredictorInfo(label or f"sgd-{value}", spec, "sgd", about="trained from PyTorch's initial values")
    if spec in list_pretrained() or Path(spec).is_file():
        found = describe(spec)
        name = spec if spec in list_pretrained() else _name_of(Path(spec))
        about = str(found.metadata.get("about", "")) or f"{found.config.hypernet}, {found.num_parameters:,} weights"
        return PredictorInfo(label or name, spec, "hypernetwork", found.sha256, about)
    if Path(spec).is_dir():
        names = sorted(path.name for path in Path(spec).iterdir() if path.suffix in (".safetensors", ".pt"))
        if not names:
            raise ConfigError(f"predictor: {spec}: no saved state (.safetensors or .pt) is in this folder")
        return PredictorInfo(label or _name_of(Path(spec)), spec, "states", _states_digest(Path(spec), names))
    module, colon, attribute = spec.partition(":")
    if colon and attribute and all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        found_attribute = _attribute(spec)
        return PredictorInfo(label or spec, spec, "python", _source_digest(module), _first_line(found_attribute))
    bundled = ", ".join(list_pretrained())
    raise ConfigError(f"predictor: {spec!r}: expected a bundled hypernetwork ({bundled}), {EXPECTED}")


def open_predictor(
    spec: str,
    networks: Networks,
    images: Any,
    *,
    image_root: Path | str | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Predictor | GHN:
    """Make a predictor for networks and images.

    Parameters
    ----------
    spec
        As for `describe_predictor`.
    networks
        The networks that it is to predict: which state is whose.
    images
        What they will be evaluated on; its classes must be the predictor's.
    image_root
        Folder of the image set, where predictors train.
    device
        Where it predicts.
    seed
        Of the weights of an untrained hypernetwork, and of trainings.

    Raises
    ------
    ConfigError, CheckpointError
        If it cannot be used for these networks and images.
    """
    info = describe_predictor(spec)
    spec, kind = info.spec, info.kind
    if kind == "hypernetwork":
        return _fitting(GHN.from_pretrained(spec, device=device), images, spec)
    if kind == "untrained":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = GHNConfig.preset(spec.partition(":")[2], images.num_classes, images.image_size)
            return GHN(config).to(device).eval()
    if kind == "random":
        return _initial_values
    if kind == "states":
        return _SavedStates(Path(spec), networks)
    if kind == "sgd":
        return _Training(int(spec.partition(":")[2]), images, image_root, seed)
    attribute = _attribute(spec)
    return _fitting(attribute, images, spec) if isinstance(attribute, GHN) else attribute


def _fitting(ghn: GHN, images: Any, spec: str) -> GHN:
    if ghn.config.num_classes != images.num_classes:
        raise ConfigError(
            f"predictor: {spec}: predicts networks for {ghn.config.num_classes} classes, {images.name} has "
            f"{images.num_classes}"
        )
    return ghn


# --- the kinds ---


def _initial_values(model: nn.Module, graph: Graph) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


class _SavedStates:
    """Reads what was saved for each network.  States with running statistics are evaluated with these."""

    def __init__(self, folder: Path, networks: Networks) -> None:
        self._folder, self._networks = folder, networks

    def __call__(self, model: nn.Module, graph: Graph) -> Mapping[str, Tensor]:
        from benchmark.training import read_state

        index, networks = graph.index, self._networks
        stems = [f"{networks.name}-{index}"]
        if name := networks.name_of(index or 0):
            stems += [name, f"{networks.name}-{name}"]
        paths = [self._folder / f"{stem}{suffix}" for stem in stems for suffix in (".safetensors", ".pt")]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise ConfigError(f"{self._folder}: holds no {' or '.join(path.name for path in paths[::2])}")
        state = read_state(path)
        trained = any(name.endswith(("running_mean", "running_var")) for name in state)
        return TrainedState(state) if trained else state


class _Training:
    """Trains each network, by the recipe of the baselines for its images (`benchmark.training.recipe`)."""

    def __init__(self, epochs: int, images: Any, image_root: Path | str | None, seed: int) -> None:
        from benchmark.training import SGDRecipe
        from deepnets.data import open_images

        self._recipe = SGDRecipe.preset(images.name, epochs=epochs)
        self._images = open_images(images.name, "train", root=image_root, device=images.device)
        self._seed = seed

    def __call__(self, model: nn.Module, graph: Graph) -> Mapping[str, Tensor]:
        from benchmark.training import train_network

        return TrainedState(train_network(model, self._images, self._recipe, seed=self._seed).state)


# --- finding things ---


def _attribute(spec: str) -> Any:
    """The user's callable; its module may lie in the current folder."""
    module, _, names = spec.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"predictor: {module} cannot be imported: {type(error).__name__}: {text}") from error
    for name in names.split("."):
        if not hasattr(found, name):
            import difflib

            near = ", ".join(difflib.get_close_matches(name, dir(found), 3))
            raise ConfigError(f"predictor: {module} has no {name!r}{near and f'; did you mean {near}?'}")
        found = getattr(found, name)
    if isinstance(found, type):
        found = found()
    if not callable(found):
        raise ConfigError(
            f"predictor: {spec} is a {type(found).__name__}; expected a callable (model, graph), or a GHN"
        )
    return found


def _name_of(path: Path) -> str:
    """A short name for a file or folder: of general ones, that of the folder around it."""
    stem = path.resolve().stem if path.is_file() else path.resolve().name
    return path.resolve().parent.name if stem in ("ghn", "model", "checkpoint") else stem


def _source_digest(module: str) -> str:
    source = getattr(sys.modules.get(module), "__file__", None)
    return hashlib.sha256(Path(source).read_bytes()).hexdigest() if source and Path(source).is_file() else ""


def _states_digest(folder: Path, names: list[str]) -> str:
    sizes = [f"{name} {(folder / name).stat().st_size} {(folder / name).stat().st_mtime_ns}" for name in names]
    return hashlib.sha256("\n".join(sizes).encode()).hexdigest()


def _first_line(attribute: Any) -> str:
    return (inspect.getdoc(attribute) or "").strip().partition("\n")[0]


def check_label(label: str) -> None:
    """Labels go into tables and pages; `ConfigError` for empty ones and those of more than one line."""
    if not label.strip() or len(label) > 80 or not label.isprintable():
        raise ConfigError(f"predictor: {label!r} cannot be a label; expected up to 80 printable characters")
