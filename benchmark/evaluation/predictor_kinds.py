"""The built-in kinds of predictors, which are registered in `benchmark.evaluation.predictors.PREDICTORS`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.evaluation.predictor_context import PredictorContext
from benchmark.evaluation.predictor_objects import Predictor, TrainedState, as_predictor
from benchmark.evaluation.predictor_texts import begins_with, first_line, source_digest
from benchmark.evaluation.predictors import (
    PREDICTORS,
    PredictorInfo,
    PredictorKind,
)
from deepnets.data import Images, open_images
from deepnets.graph import Graph
from deepnets.support import ConfigError, import_attribute, is_attribute
from ghn_model import describe
from ghn_model.checkpoints import is_official, is_repository, list_pretrained
from ghn_model.config import PRESETS, GHNConfig
from ghn_model.ghn import GHN

__all__ = ["declared_images", "states_digest"]


# --- random: PyTorch's initial values ---


def _describe_random(spec: str) -> PredictorInfo:
    return PredictorInfo(spec, spec, "random", about="PyTorch's initial values", data="none")


def _initial_values(model: nn.Module, graph: Graph) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _open_random(info: PredictorInfo, context: PredictorContext) -> Predictor:
    return _initial_values


# --- hypernetwork: a bundled name or a file; untrained:PRESET ---


def _is_hypernetwork(spec: str) -> bool:
    known = spec in list_pretrained() or Path(spec).is_file() or is_official(spec)
    return known or (is_repository(spec) and not Path(spec).exists())


def _describe_hypernetwork(spec: str) -> PredictorInfo:
    found = describe(spec)
    label = spec if spec in list_pretrained() else _label_of(Path(spec))
    about = str(found.metadata.get("about", "")) or f"{found.config.hypernet}, {found.num_parameters:,} weights"
    config = found.config
    data = declared_images(found.metadata)
    num_classes = None if config.for_texts else config.num_classes
    return PredictorInfo(label, spec, "hypernetwork", found.sha256, about, num_classes, config.vocabulary, data)


def declared_images(metadata: Mapping[str, Any]) -> str:
    """Return the images that a hypernetwork was trained on, from the metadata of its card or of its training."""
    data = metadata.get("data")
    images = data.get("images") if isinstance(data, Mapping) else metadata.get("images")
    return _one_line(images)


def _open_hypernetwork(info: PredictorInfo, context: PredictorContext) -> GHN:
    return GHN.from_pretrained(info.spec, device=context.device)


def _describe_untrained(spec: str) -> PredictorInfo:
    preset = spec.partition(":")[2]
    if preset not in PRESETS:
        raise ConfigError(f"predictor: {spec}: expected one of the presets {', '.join(PRESETS)}")
    return PredictorInfo(f"untrained-{preset}", spec, "untrained", about="a hypernetwork before training", data="none")


def _open_untrained(info: PredictorInfo, context: PredictorContext) -> GHN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        images = context.images
        if images.image_size is None:
            config = GHNConfig.preset(info.argument, task="text")
        else:
            config = GHNConfig.preset(info.argument, images.num_classes, images.image_size)
        return GHN(config).to(context.device).eval()


# --- python: module:attribute ---


def _describe_python(spec: str) -> PredictorInfo:
    found = import_attribute(spec, "predictor")
    predictor = as_predictor(found, spec)  # an error is reported before the evaluation begins
    digest, about = source_digest(spec.partition(":")[0], found), first_line(found)
    info = PredictorInfo(spec, spec, "python", digest, about, data=_one_line(getattr(found, "training_data", "")))
    if not isinstance(predictor, GHN):
        return info
    config = predictor.config
    return replace(info, num_classes=None if config.for_texts else config.num_classes, vocabulary=config.vocabulary)


def _open_python(info: PredictorInfo, context: PredictorContext) -> Predictor | GHN:
    return as_predictor(import_attribute(info.spec, "predictor"), info.spec, context.device)


# --- states: a folder with a saved state for every network ---


def _is_folder(spec: str) -> bool:
    return Path(spec).is_dir()


def _describe_states(spec: str) -> PredictorInfo:
    folder = Path(spec)
    return PredictorInfo(_label_of(folder), spec, "states", states_digest(folder, spec))


def states_digest(folder: Path, spec: str) -> str:
    """Return a digest of the names, sizes and times of the saved states in a folder.

    Raises
    ------
    ConfigError
        If there is none, or it is the folder of a training of a hypernetwork; `spec` is the text that named the folder.
    """
    if (folder / "ghn.safetensors").is_file():
        raise ConfigError(f"predictor: {spec}: is the folder of a training; use {folder / 'ghn.safetensors'}")
    if (folder / "hypernetwork.safetensors").is_file():
        use = f"trained:MODULE:ATTRIBUTE:{folder / 'hypernetwork.safetensors'}"
        raise ConfigError(f"predictor: {spec}: is the folder of a training; use {use}")
    from benchmark.training import saved_states

    files = saved_states(folder)
    if not files:
        raise ConfigError(f"predictor: {spec}: the folder has no saved state (.safetensors or .pt)")
    stats = [(path.name, path.stat()) for path in files]
    text = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return hashlib.sha256(text.encode()).hexdigest()


class _SavedStates:
    """Reads the saved state of each network; a state with running statistics is evaluated with them."""

    def __init__(self, info: PredictorInfo, context: PredictorContext) -> None:
        self._folder, self._networks = Path(info.spec), context.networks

    def __call__(self, model: nn.Module, graph: Graph) -> Mapping[str, Tensor]:
        from benchmark.training import read_state, state_name
        from benchmark.training.start import STATE_SUFFIXES

        index, networks = graph.index, self._networks
        stems = [state_name(networks.name, index or 0)]
        if name := networks.name_of(index or 0):
            stems += [name, state_name(networks.name, name)]
        paths = [self._folder / f"{stem}{suffix}" for stem in stems for suffix in STATE_SUFFIXES]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise ConfigError(f"{self._folder}: has no {' or '.join(path.name for path in paths[::2])}")
        state = read_state(path)
        trained = any(name.endswith(("running_mean", "running_var")) for name in state)
        return TrainedState(state) if trained else state


# --- sgd:EPOCHS ---


def _describe_sgd(spec: str) -> PredictorInfo:
    epochs = spec.partition(":")[2]
    if not epochs.isdecimal() or int(epochs) < 1:
        raise ConfigError(f"predictor: {spec}: expected the number of epochs, as in sgd:5")
    return PredictorInfo(
        f"sgd-{epochs}", spec, "sgd", about="trained from PyTorch's initial values", data="training images"
    )


def _check_sgd(info: PredictorInfo, images: Images, image_root: Path | str | None) -> None:
    from benchmark.training import SGDRecipe, usual_preset

    SGDRecipe.preset(usual_preset(images.name))
    open_images(images.name, "train", root=image_root)


class _Training:
    """Trains each network with the recipe of the baselines for the image set (`benchmark.training.SGDRecipe`)."""

    def __init__(self, info: PredictorInfo, context: PredictorContext) -> None:
        from benchmark.training import SGDRecipe, usual_preset

        images = context.images
        self._recipe = SGDRecipe.preset(usual_preset(images.name), epochs=int(info.argument))
        self._images = open_images(images.name, "train", root=context.image_root, device=context.device)
        self._seed = context.seed

    def __call__(self, model: nn.Module, graph: Graph) -> Mapping[str, Tensor]:
        from benchmark.training import train_network

        return TrainedState(train_network(model, self._images, self._recipe, seed=self._seed).state)


def _one_line(declared: object) -> str:
    """Return a declaration of data as one line of up to 200 printable characters; empty if it is no text."""
    text = " ".join(declared.split()) if isinstance(declared, str) else ""
    return "".join(letter for letter in text if letter.isprintable())[:200]


def _label_of(path: Path) -> str:
    """Return the name of a file or folder; the name of the parent folder if the file has a general name."""
    stem = path.resolve().stem if path.is_file() else path.resolve().name
    return path.resolve().parent.name if stem in ("ghn", "model", "checkpoint") else stem


for _kind in (
    PredictorKind("random", "random", "random".__eq__, _describe_random, _open_random),
    PredictorKind("untrained", "untrained:PRESET", begins_with("untrained"), _describe_untrained, _open_untrained),
    PredictorKind("sgd", "sgd:EPOCHS", begins_with("sgd"), _describe_sgd, _Training, _check_sgd),
    PredictorKind(
        "hypernetwork", "the file of a hypernetwork", _is_hypernetwork, _describe_hypernetwork, _open_hypernetwork
    ),
    PredictorKind("states", "a folder of saved states", _is_folder, _describe_states, _SavedStates),
    PredictorKind(
        "python", "module:attribute", is_attribute, _describe_python, _open_python, describing_runs_code=True
    ),
):
    PREDICTORS.register(_kind.name, _kind)
