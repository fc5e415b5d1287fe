"""`Hypernetwork`: the interface of models that the trainer accepts, and files for hypernetworks other than `GHN`.

The trainer uses nothing else of a hypernetwork, so a class of your own trains with the same loop as `ghn_model.GHN`.
`ghn_model.parts` has parts that it can use:

    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.01))

        def forward(self, graphs):
            return [{slot.name: self.scale.expand(slot.shape) for slots in graph.parameters for slot in slots}
                    for graph in graphs]

    train("runs/constant", Constant, recipe, images, nets)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from deepnets.graph import Graph
from deepnets.support import CheckpointError, ConfigError, parse_json
from ghn_model.checkpoints import CUSTOM_FORMAT, TensorFile, grow_tables, save_checkpoint, write_tensors
from ghn_model.config import GHNConfig
from ghn_model.ghn import GHN

__all__ = ["Hypernetwork", "HypernetworkModule", "build_hypernetwork", "load_weights", "save_hypernetwork"]

FORMAT_VERSION = "1"

Weights = nn.Module | Mapping[str, Tensor]
"""A hypernetwork, or its state dict."""


@runtime_checkable
class Hypernetwork(Protocol):
    """A model that predicts the parameters of networks from their graphs.

    The method ``prepare(graphs)`` is optional.  It returns what `forward` takes in place of the graphs.  The trainer
    calls it in the workers of the data loader, on a copy of the hypernetwork without weights, so it must not read
    weights.  If its result has the methods ``to(device, non_blocking=...)`` and ``pin_memory()``, they are used.  For
    a `torch.nn.Module`, the trainer also uses ``train``, ``eval``, ``to`` and ``state_dict``.

    Examples
    --------
    >>> from ghn_model import GHN, GHNConfig
    >>> isinstance(GHN(GHNConfig(hidden=8)), Hypernetwork)
    True
    """

    def forward(self, graphs: Sequence[Graph]) -> list[dict[str, Tensor]]:
        """Return one dict per graph, from each parameter name in ``graph.parameters`` to a float32 tensor of its shape.

        Some of the tensors may be constants, which do not depend on the weights.
        """

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the trainable tensors, leaves of the autograd graph, always in the same order.

        Those that do not require a gradient are not trained.
        """


class HypernetworkModule(nn.Module):
    """A hypernetwork that is not a `torch.nn.Module`, with the methods of one.

    Parameters
    ----------
    hypernetwork : Hypernetwork
        Its parameters are registered as ``tensors.0``, ``tensors.1``, ...

    Examples
    --------
    >>> class Zeros:
    ...     scale = nn.Parameter(torch.zeros(()))
    ...
    ...     def forward(self, graphs):
    ...         return [{s.name: self.scale.expand(s.shape) for node in g.parameters for s in node} for g in graphs]
    ...
    ...     def parameters(self):
    ...         return iter([self.scale])
    >>> list(HypernetworkModule(Zeros()).state_dict())
    ['tensors.0']
    """

    def __init__(self, hypernetwork: Hypernetwork) -> None:
        super().__init__()
        self.hypernetwork = hypernetwork
        self.tensors = nn.ParameterList(hypernetwork.parameters())
        if hasattr(hypernetwork, "prepare"):
            self.prepare = hypernetwork.prepare

    def forward(self, graphs: Any) -> list[dict[str, Tensor]]:
        """Predict the parameters of networks."""
        return self.hypernetwork.forward(graphs)


def build_hypernetwork(hypernetwork: GHNConfig | Hypernetwork | Callable[[], Hypernetwork]) -> nn.Module:
    """Return a hypernetwork as a module: a `GHN` for a configuration, or one of your own.

    Parameters
    ----------
    hypernetwork : GHNConfig, Hypernetwork, or callable
        A configuration, a hypernetwork, or a class or function that returns one when called without arguments.

    Raises
    ------
    ConfigError
        If it has no methods `forward` and `parameters`, or no parameters.

    Examples
    --------
    >>> type(build_hypernetwork(GHNConfig(hidden=8))).__name__
    'GHN'
    """
    if isinstance(hypernetwork, GHNConfig):
        return GHN(hypernetwork)
    built: Any = hypernetwork
    if isinstance(built, type) or (callable(built) and not hasattr(built, "parameters")):
        built = built()
    if not isinstance(built, Hypernetwork):
        raise ConfigError(
            "hypernetwork: expected a GHNConfig, or an object with the methods forward(graphs) and parameters(), "
            f"got {type(built).__name__}"
        )
    if not any(parameter.requires_grad for parameter in built.parameters()):
        raise ConfigError(f"hypernetwork: {type(built).__name__} has no parameters to train")
    return built if isinstance(built, nn.Module) else HypernetworkModule(built)


def is_ghn(hypernetwork: object) -> TypeGuard[GHN]:
    """Return whether a hypernetwork is a `GHN` itself; a class derived from it is a hypernetwork of your own.

    Its methods may differ, so it is trained through `forward` and `prepare` like any other, and its file does not say
    that it is a `GHN`.

    Examples
    --------
    >>> class Mine(GHN):
    ...     pass
    >>> is_ghn(GHN(GHNConfig(hidden=8))), is_ghn(Mine(GHNConfig(hidden=8)))
    (True, False)
    """
    return type(hypernetwork) is GHN


def trainable_parameters(hypernetwork: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained by name: those of `parameters()` that require a gradient, in its order.

    Raises
    ------
    ConfigError
        If one of them is not registered in the module, so that its state could not be saved, or there are none.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> model.bias.requires_grad_(False).shape
    torch.Size([1])
    >>> list(trainable_parameters(model))
    ['weight']
    """
    names = {id(parameter): name for name, parameter in hypernetwork.named_parameters()}
    found: dict[str, nn.Parameter] = {}
    for parameter in hypernetwork.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) not in names:
            shape = tuple(parameter.shape)
            raise ConfigError(f"hypernetwork: parameters() has a tensor of shape {shape} that is not registered in it")
        found[names[id(parameter)]] = parameter
    if not found:
        raise ConfigError(f"hypernetwork: {type(hypernetwork).__name__} has no parameters to train")
    return found


def class_name(hypernetwork: nn.Module) -> str:
    """Return the qualified name of the class of a hypernetwork, as stored in files.

    Examples
    --------
    >>> class_name(GHN(GHNConfig(hidden=8)))
    'ghn_model.ghn.GHN'
    """
    inner = hypernetwork.hypernetwork if isinstance(hypernetwork, HypernetworkModule) else hypernetwork
    return f"{type(inner).__module__}.{type(inner).__qualname__}"


def save_hypernetwork(hypernetwork: nn.Module, folder: Path, metadata: Mapping[str, Any]) -> Path:
    """Write the weights of a hypernetwork atomically and return the path of the file.

    A `GHN` is written to ``ghn.safetensors``, which `GHN.from_pretrained` loads; any other hypernetwork, also one of a
    class derived from `GHN`, to
    ``hypernetwork.safetensors``, for `load_weights`.

    Parameters
    ----------
    hypernetwork : nn.Module
        Hypernetwork, as `build_hypernetwork` returns it.
    folder : Path
        Existing folder.
    metadata : mapping
        Values that JSON can represent.

    Raises
    ------
    CheckpointError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_hypernetwork(GHN(GHNConfig(hidden=8)), Path(folder), {}).name
    'ghn.safetensors'
    """
    if is_ghn(hypernetwork):
        return save_checkpoint(hypernetwork, folder / "ghn.safetensors", metadata)
    path = folder / "hypernetwork.safetensors"
    texts = {"format": CUSTOM_FORMAT, "format_version": FORMAT_VERSION, "metadata": json.dumps(metadata)}
    write_tensors(path, hypernetwork.state_dict(), {**texts, "class": class_name(hypernetwork)})
    return path


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Return the metadata of a file that `save_hypernetwork` has written.

    Raises
    ------
    CheckpointError
        If the file is damaged or not such a file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_metadata(save_hypernetwork(GHN(GHNConfig(hidden=8)), Path(folder), {"steps": 3}))["steps"]
    3
    """
    try:
        metadata = parse_json(TensorFile(Path(path)).metadata.get("metadata", "{}"))
    except ValueError as error:
        raise CheckpointError(f"{path}: has no valid metadata: {error}") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: has no valid metadata: expected an object, got {type(metadata).__name__}")
    return metadata


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the state dict in a file ``hypernetwork.safetensors``.

    Raises
    ------
    CheckpointError
        If the file is damaged or not such a file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     list(read_weights(save_hypernetwork(nn.Linear(1, 2), Path(folder), {})))
    ['bias', 'weight']
    """
    file = TensorFile(Path(path))
    if file.metadata.get("format") != CUSTOM_FORMAT:
        raise CheckpointError(f"{path}: is not a custom hypernetwork; load a GHN with GHN.from_pretrained")
    file.check()
    return file.tensors


AnyHypernetwork = TypeVar("AnyHypernetwork", bound=Hypernetwork)


def load_weights(hypernetwork: AnyHypernetwork, path: Path | str) -> AnyHypernetwork:
    """Load weights that a training of a custom hypernetwork has saved.

    Parameters
    ----------
    hypernetwork : Hypernetwork
        An object of the class that was trained.  Its parameters are changed in place.
    path : Path or str
        The file ``hypernetwork.safetensors`` of a run.

    Returns
    -------
    Hypernetwork
        The same object, in evaluation mode if it is a module.

    Raises
    ------
    CheckpointError
        If the file is damaged or of another hypernetwork.

    Examples
    --------
    >>> import tempfile
    >>> class Scale(nn.Linear):
    ...     def forward(self, graphs):
    ...         return [{s.name: self.bias.mean().expand(s.shape) for n in g.parameters for s in n} for g in graphs]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_hypernetwork(Scale(1, 1), Path(folder), {})
    ...     load_weights(Scale(1, 1), path)
    Scale(in_features=1, out_features=1, bias=True)
    """
    weights = read_weights(path)
    module = hypernetwork if isinstance(hypernetwork, nn.Module) else HypernetworkModule(hypernetwork)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: is of another hypernetwork: {text}") from error
    module.eval()
    return hypernetwork


def start_from(init: Weights, hypernetwork: nn.Module) -> str:
    """Copy the weights that a training starts from, and return their SHA-256 digest.

    Raises
    ------
    ConfigError
        If none of them has the name and shape of a tensor of the hypernetwork.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> start_from({"bias": torch.ones(1)}, model)[:8], model.bias.item()
    ('e00e5eb9', 1.0)
    """
    weights = init.state_dict() if isinstance(init, nn.Module) else init
    grown = weights
    if isinstance(init, GHN) and isinstance(hypernetwork, GHN):
        grown = grow_tables(weights, init.config, hypernetwork.config)
    if not copy_matching_weights(grown, hypernetwork):
        raise ConfigError("init: has no tensor whose name and shape are those of the hypernetwork")
    digest = hashlib.sha256()
    for tensor in weights.values():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def copy_matching_weights(source: Mapping[str, Tensor], target: nn.Module) -> int:
    """Copy the tensors whose name and shape are the same in a state dict and a module; return their number.

    Examples
    --------
    >>> copy_matching_weights({"weight": torch.ones(2, 3), "bias": torch.ones(5)}, nn.Linear(3, 2))
    1
    """
    copied = 0
    with torch.no_grad():
        for name, tensor in target.state_dict().items():
            if name in source and source[name].shape == tensor.shape:
                tensor.copy_(source[name])
                copied += 1
    return copied
