"""Initial parameters of a training: random, predicted by a hypernetwork, or saved.

The classification layers are initialized from predictions or files only if the number of classes is the same.
Otherwise they stay random, as in the published fine-tuning (Knyazev et al., NeurIPS 2021, section 5.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.accuracy import abbreviated_names
from benchmark.training.recipe import SGDRecipe
from benchmark.training.trainer import track_statistics
from deepnets.graph import Graph
from deepnets.support import CheckpointError, ConfigError, DeepNetsError, FormatError
from ghn_model.checkpoints import (
    FORMAT,
    TensorFile,
    fetch,
    file_digest,
    find_official_checkpoint,
    how_to_get,
    is_official,
    is_repository,
    is_safetensors,
    list_pretrained,
    model_card,
    read_saved,
)
from ghn_model.ghn import GHN
from ghn_model.variation import vary

__all__ = [
    *("RANDOM", "STATE_SUFFIXES", "UNFINISHED", "Start", "initialized", "is_auxiliary", "open_start", "read_state"),
    *("saved_states", "state_name"),
]

STATE_SUFFIXES = (".safetensors", ".pt")
"""Suffixes of files of saved states."""

UNFINISHED = ".state.safetensors"
"""End of the names of files from which `sgd` and `finetune` continue a training."""

RANDOM = "random"
_GENERAL_NAMES = ("ghn", "model", "checkpoint", "state")  # such a file is labelled by its folder


@dataclass(frozen=True)
class Start:
    """The source of initial parameters.

    Attributes
    ----------
    label
        Name in tables, and of the folder with trained networks.
    about
        Kind of the source, and SHA-256 of its file; stored with the results.
    ghn, tensors, folder
        A hypernetwork, a state that is used for all networks, or a folder with a state for each network,
        ``SPLIT-INDEX.safetensors``.  If all are None, parameters are random.

    Examples
    --------
    >>> Start().about
    {'kind': 'random'}
    """

    label: str = RANDOM
    about: dict[str, str] = field(default_factory=lambda: {"kind": RANDOM})
    ghn: GHN | None = None
    tensors: Mapping[str, Tensor] | None = None
    folder: Path | None = None


def open_start(spec: str, device: torch.device | str = "cpu") -> Start:
    """Open the source of initial parameters that a text names.

    Parameters
    ----------
    spec
        "random"; a bundled hypernetwork, the file of one, or a repository of the Hugging Face Hub that was downloaded
        before; a file of tensors (safetensors or `torch.save`, of which only tensors are read); or a folder of such
        files, as `python -m benchmark sgd` writes it.  A label can precede it, as in "LABEL=SPEC"; by default it is the
        name of the file.
    device
        Device of a hypernetwork.

    Raises
    ------
    ConfigError
        If there is no such file, or the label cannot be the name of a folder.
    CheckpointError, FormatError
        If the file is damaged or has another format.

    Examples
    --------
    >>> open_start("baseline=random").label
    'baseline'
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
        about = {"kind": "hypernetwork", "name": spec, "sha256": str(model_card(spec)["sha256"])}
        return Start(label, about, ghn=GHN.from_pretrained(spec, device=device))
    path = find_official_checkpoint(spec) or Path(spec)
    if path.is_dir():
        return Start(label, {"kind": "folder", "folder": str(path.resolve())}, folder=path)
    if not path.is_file():
        if is_official(spec):
            raise ConfigError(f"init: no such file: {spec!r}; {how_to_get(spec)}")
        if is_repository(spec):
            path = fetch(spec)
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


def state_name(split: str, network: int | str) -> str:
    """Return the name, without suffix, of the file with the saved state of a network; "/" and others become "-".

    Examples
    --------
    >>> state_name("test", 3), state_name("family:resnet-widths/val", 3)
    ('test-3', 'family-resnet-widths-val-3')
    """
    return re.sub("[^A-Za-z0-9._-]", "-", f"{split}-{network}")


def saved_states(folder: Path) -> list[Path]:
    """Return the files with saved states of networks in a folder, by name, without those of unfinished trainings.

    Examples
    --------
    >>> saved_states(Path("missing"))
    []
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.suffix in STATE_SUFFIXES and not path.name.endswith(UNFINISHED)]


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a file, without executing code of the file.

    Parameters
    ----------
    path
        A safetensors file, or a file of `torch.save` with a `state_dict`, by itself or under the key `state_dict` or
        `model`.

    Returns
    -------
    The tensors by name, on the CPU.

    Raises
    ------
    CheckpointError, FormatError
        If the file cannot be read, is damaged or has another format.

    Examples
    --------
    >>> import tempfile
    >>> from ghn_model.checkpoints import write_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder) / "state.safetensors", {"weight": torch.ones(2)}, {})
    ...     read_state(Path(folder) / "state.safetensors")
    {'weight': tensor([1., 1.])}
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
    """Return a copy of a network with initial parameters, for `train_network`.

    Parameters
    ----------
    model
        The network, with random parameters; it is not modified.
    start
        Source of the initial parameters.
    num_classes
        Number of classes of the network.
    recipe
        Its `noise` and `orthogonal_from` apply to predicted parameters.
    graph
        Graph of the network, if it is known.
    name
        Name of the file in the folder of `start`, without suffix.
    seed
        Seed of the noise.

    Returns
    -------
    The copy.  Its batch norms track running statistics, from mean 0 and variance 1 unless `start` has statistics.
    Parameters that `start` does not have keep the values of `model`: classification layers for other classes, and
    parameters that do not affect the output.

    Raises
    ------
    ConfigError
        If parameters do not fit the network, or are not finite.
    TraceError
        If the network cannot be converted to a graph.

    Examples
    --------
    >>> ones = Start("ones", tensors={"weight": torch.ones(3, 2), "bias": torch.ones(3)})
    >>> net = initialized(nn.Linear(2, 3), ones, num_classes=3)
    >>> net.bias.detach()
    tensor([1., 1., 1.])
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
    except DeepNetsError as error:  # a failure of this network only
        raise ConfigError(f"init: {error}") from error


def _fitted(net: nn.Module, tensors: Mapping[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """Return saved tensors without classification layers for other classes, and with kernels cut to their center."""
    own = net.state_dict()
    fitted = {}
    for name, tensor in tensors.items():
        if name not in own:
            raise ConfigError(f"init: the file has {name}, which the network does not have; is it of another network?")
        shape = own[name].shape
        if tensor.shape == shape:
            fitted[name] = tensor
            continue
        if tensor.ndim == 4 and tensor.shape[:2] == shape[:2]:  # the network may be adapted to small images
            spare = [have - need for have, need in zip(tensor.shape[2:], shape[2:])]
            if all(size >= 0 and size % 2 == 0 for size in spare):
                top, left = (size // 2 for size in spare)
                fitted[name] = tensor[:, :, top : top + shape[2], left : left + shape[3]]
                continue
        if len(shape) and shape[0] == num_classes and tensor.shape[1:] == shape[1:]:
            continue  # a classification layer for other classes
        raise ConfigError(f"init: {name} has shape {tuple(tensor.shape)} in the file, {tuple(shape)} in the network")
    if missing := [name for name, _ in net.named_parameters() if name not in tensors and not is_auxiliary(name)]:
        some = abbreviated_names(missing)
        raise ConfigError(
            f"init: the file lacks {len(missing)} parameters of the network: {some}; is it of another one?"
        )
    return fitted


def is_auxiliary(name: str) -> bool:
    """Return whether a parameter belongs to the auxiliary head, which only a training needs; it is not saved.

    Examples
    --------
    >>> is_auxiliary("auxiliary_head.classifier.weight")
    True
    """
    return name.startswith("auxiliary_head.")


def _label(spec: str) -> str:
    """Return the name of a file, or the name of its folder if the file has a general name."""
    if spec == RANDOM or spec in list_pretrained():
        return spec
    path = Path(spec)
    stem = path.name if path.is_dir() else path.stem
    return path.resolve().parent.name if stem in _GENERAL_NAMES else stem
