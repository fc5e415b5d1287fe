"""What a training starts from: random parameters, those that a hypernetwork predicts, or saved ones.

Layers of classes are only taken over if the number of classes is the same; else they stay random, as in the published
fine-tuning (Knyazev et al., NeurIPS 2021, section 5.4).  Predicted parameters come with the noise and the orthogonal
matrices that a recipe asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.training.recipe import SGDRecipe
from benchmark.training.trainer import track_statistics
from deepnets.graph import Graph
from deepnets.support import CheckpointError, ConfigError, DeepNetsError, FormatError
from ghn_model.checkpoints import FORMAT, TensorFile, file_digest, is_safetensors, list_pretrained, read_saved
from ghn_model.ghn import GHN
from ghn_model.variation import vary

__all__ = ["RANDOM", "Start", "initialized", "open_start", "read_state"]

RANDOM = "random"
_GENERAL = ("ghn", "model", "checkpoint", "state")  # names of files that say nothing about what is in them


@dataclass(frozen=True)
class Start:
    """Where the initial parameters of networks come from.

    Attributes
    ----------
    label
        Its name in tables and of its folder.
    about
        What tells it from others: its kind, and the SHA-256 of a file.
    ghn, tensors, folder
        A hypernetwork; a state for all networks; a folder with one for each, `SPLIT-INDEX.safetensors`.  None of them:
        random parameters.
    """

    label: str = RANDOM
    about: dict[str, str] = field(default_factory=lambda: {"kind": RANDOM})
    ghn: GHN | None = None
    tensors: Mapping[str, Tensor] | None = None
    folder: Path | None = None


def open_start(spec: str, device: torch.device | str = "cpu") -> Start:
    """What a text on the command line stands for.

    Parameters
    ----------
    spec
        "random"; a bundled hypernetwork or the file of one; a file of tensors (safetensors, or what `torch.save` wrote,
        of which only tensors are read); or a folder of such files, as `python -m benchmark sgd` writes.  A label can
        be put before it, "LABEL=SPEC"; by default it is the name of the file.
    device
        Where hypernetworks predict.

    Raises
    ------
    ConfigError
        If there is no such thing, or the label is not fit for the name of a folder.
    CheckpointError, FormatError
        If the file is damaged or of another kind.
    """
    label, equals, rest = spec.partition("=")
    if equals and "/" not in label:
        spec = rest
    else:
        label = _label(spec)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", label):
        raise ConfigError(f"init: {label!r} cannot be a label; expected letters, digits and ._+-, as in my-init={spec}")
    if spec == RANDOM:
        return Start(label)
    if spec in list_pretrained():
        return Start(label, {"kind": "hypernetwork", "name": spec}, ghn=GHN.from_pretrained(spec, device=device))
    path = Path(spec)
    if path.is_dir():
        return Start(label, {"kind": "folder", "folder": str(path.resolve())}, folder=path)
    if not path.is_file():
        names = ", ".join([RANDOM, *list_pretrained()])
        raise ConfigError(f"init: no such file: {spec!r}; expected one of {names}, a file or a folder")
    digest = {"sha256": file_digest(path)}
    safe = is_safetensors(path)
    if not safe or TensorFile(path).metadata.get("format") == FORMAT:
        try:
            return Start(label, {"kind": "hypernetwork", **digest}, ghn=GHN.from_pretrained(path, device=device))
        except CheckpointError:
            if safe:
                raise
    return Start(label, {"kind": "tensors", **digest}, tensors=read_state(path))


def read_state(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Parameters
    ----------
    path
        A safetensors file, or one of `torch.save` that holds a `state_dict`, by itself or under the key `state_dict` or
        `model`.  Nothing but tensors and containers is read, so that no code of the file can run.

    Raises
    ------
    CheckpointError, FormatError
        If it cannot be read, is damaged or of another kind.
    """
    path = Path(path)
    if is_safetensors(path):
        return TensorFile(path).tensors
    content = read_saved(path)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(part, Tensor) for part in content.values())
    ):
        raise FormatError(f"{path}: holds a {type(content).__name__}, expected a state_dict: tensors by name")
    return {str(name): tensor.detach() for name, tensor in content.items()}


def initialized(
    model: nn.Module,
    start: Start,
    *,
    num_classes: int,
    recipe: SGDRecipe | None = None,
    graph: Graph | None = None,
    name: str = "",
    seed: int = 0,
) -> nn.Module:
    """A copy of a network with initial parameters, ready for `train_network`.

    Parameters
    ----------
    model
        The network, with random parameters, which is left as it is.
    start
        Where the others come from.
    num_classes
        What the network tells apart.
    recipe
        Its `noise` and `orthogonal_from` change predicted parameters.
    graph
        That of the network, if it is known.
    name
        Of the network's file in the folder of a start, without suffix.
    seed
        Of the noise.

    Returns
    -------
    The copy; its batch norms track statistics, which begin with mean 0 and variance 1 if the start has none.
    Parameters that the start does not have, because no data reaches them or the classes are others, are the model's.

    Raises
    ------
    ConfigError
        If parameters do not fit the network, or are not finite.
    TraceError
        If the network has no graph.
    """
    net = track_statistics(model)
    if start.ghn is not None:
        alike = start.ghn.config.num_classes == num_classes
        tensors: Mapping[str, Tensor] = start.ghn.predict(net, graph=graph, predict_class_layers=alike)
        if recipe and (recipe.noise or recipe.orthogonal_from is not None):
            tensors = vary(net, tensors, recipe.noise, recipe.orthogonal_from, seed=seed)
    elif start.folder is not None:
        tensors = _fitted(net, _from_folder(start.folder, name), num_classes)
    elif start.tensors is not None:
        tensors = _fitted(net, start.tensors, num_classes)
    else:
        return net
    own = net.state_dict()
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ConfigError(f"init {start.label}: {key} is not finite")
        own[key].copy_(tensor)
    return net


def _from_folder(folder: Path, name: str) -> dict[str, Tensor]:
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise ConfigError(f"init: {path}: no such file")
    try:
        return read_state(path)
    except DeepNetsError as error:  # costs this network
        raise ConfigError(f"init: {error}") from error


def _fitted(net: nn.Module, tensors: Mapping[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """Saved tensors for a network: without class layers for other classes, larger first kernels cut to their middle."""
    own = net.state_dict()
    fitted = {}
    for name, tensor in tensors.items():
        if name not in own:
            raise ConfigError(f"init: the file has {name}, which the network lacks; is it of another network?")
        wanted = own[name].shape
        if tensor.shape == wanted:
            fitted[name] = tensor
            continue
        if tensor.ndim == 4 and tensor.shape[:2] == wanted[:2]:  # of a model that was adapted to small images
            spare = [have - want for have, want in zip(tensor.shape[2:], wanted[2:])]
            if all(size >= 0 and size % 2 == 0 for size in spare):
                top, left = (size // 2 for size in spare)
                fitted[name] = tensor[:, :, top : top + wanted[2], left : left + wanted[3]]
                continue
        if len(wanted) and wanted[0] == num_classes and tensor.shape[1:] == wanted[1:]:
            continue  # the layer of other classes
        raise ConfigError(f"init: {name} has shape {tuple(tensor.shape)} in the file, {tuple(wanted)} in the network")
    if missing := [name for name, _ in net.named_parameters() if name not in tensors]:
        some = ", ".join(missing[:3])
        raise ConfigError(f"init: the file lacks {len(missing)} parameters of the network: {some}; is it of another?")
    return fitted


def _label(spec: str) -> str:
    """The name of a file, or that of its folder if it says nothing."""
    if spec == RANDOM or spec in list_pretrained():
        return spec
    path = Path(spec)
    stem = path.name if path.is_dir() else path.stem
    return path.resolve().parent.name if stem in _GENERAL else stem
