"""Hypernetworks in files: ours, those that come with the package, and the official ones.

Ours is one safetensors file: the tensors under the names of the state_dict, and as metadata the format, its version,
the configuration and what else is known, as JSON.  Bundled ones lie in `ghn_model/pretrained`, each with a model card
that holds the SHA-256 of its file.  Other files are read by `ghn_model.official`.  Loading succeeds or raises one
`CheckpointError`: names, shapes and types are compared with the model's before memory is taken, then the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deepnets.support import CheckpointError, ConfigError
from ghn_model.checkpoints.official import infer_config, read_official
from ghn_model.checkpoints.tensor_files import TensorFile, file_digest, is_safetensors, write_tensors
from ghn_model.config import GHNConfig

if TYPE_CHECKING:
    from ghn_model.ghn import GHN

__all__ = [
    "CheckpointInfo",
    "describe",
    "list_pretrained",
    "load_checkpoint",
    "model_card",
    "read_config",
    "save_checkpoint",
]

FORMAT, FORMAT_VERSION = "deepnets1m hypernetwork", 1
PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""Folder of the bundled hypernetworks: NAME.safetensors and NAME.json."""

KINDS = "a file of GHN.save (.safetensors) or of the original releases (.pt, joblib pickle)"


@dataclass(frozen=True)
class CheckpointInfo:
    """What there is to know about a checkpoint without using it."""

    path: Path
    kind: str
    """``"deepnets1m"``, ``"official"`` or ``"official, config inferred"``."""
    config: GHNConfig
    num_parameters: int
    sha256: str
    """Of the file."""
    metadata: dict[str, Any]
    """What was saved with it, or the model card of a bundled one."""


@dataclass(frozen=True)
class _Content:
    kind: str
    config: GHNConfig
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def save_checkpoint(
    ghn: GHN, path: str | Path, metadata: Mapping[str, Any] | None = None, *, half: bool = False
) -> Path:
    """Write a hypernetwork to a file, which appears complete or not at all, and replaces one that is there.

    Parameters
    ----------
    ghn
        The hypernetwork.
    path
        The file; by custom with the suffix ``.safetensors``.
    metadata
        Anything else worth keeping that JSON can hold, such as the data set and the number of epochs.
    half
        Whether to write numbers in half precision, into a file of half the size; when loaded they are single again.

    Returns
    -------
    The path.

    Raises
    ------
    ConfigError
        If the metadata are not JSON.
    CheckpointError
        If weights are NaN or infinite, or the file cannot be written.
    """
    path = Path(path)
    try:
        about = json.dumps(dict(metadata or {}), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metadata: expected what JSON can hold: {error}") from error
    tensors = {name: tensor.half() if half else tensor for name, tensor in ghn.state_dict().items()}
    _check_numbers(path, tensors)
    texts = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": json.dumps(ghn.config.to_dict(), sort_keys=True),
        "metadata": about,
    }
    write_tensors(path, tensors, texts)
    return path


def load_checkpoint(
    name_or_path: str | Path, device: str | torch.device = "cpu", *, num_classes: int | None = None
) -> GHN:
    """Load a hypernetwork.

    Parameters
    ----------
    name_or_path
        A bundled name (`list_pretrained`), or a file of ours or of the original releases; what a file is, its content
        tells, not its suffix.
    device
        Where to put it.
    num_classes
        If given, the number of classes that it must have been trained for.

    Returns
    -------
    The hypernetwork, in evaluation mode.

    Raises
    ------
    CheckpointError
        If there is no such name or file, or the file is damaged, unsafe, of another kind, or for another number of
        classes.
    ConfigError
        If the device cannot be used.

    Examples
    --------
    >>> ghn = load_checkpoint("ghn2_cifar10.pt", num_classes=10)  # doctest: +SKIP
    """
    from ghn_model.ghn import GHN

    device = _usable(device)
    path, card = _locate(name_or_path)
    content = _read(path, card)
    if num_classes is not None and content.config.num_classes != num_classes:
        raise CheckpointError(
            f"{path}: is for {content.config.num_classes} classes, {num_classes} were asked for; use another one, "
            "or leave out the class layers of networks (predict_class_layers=False)"
        )
    _check_fit(path, content)
    _check_numbers(path, content.tensors)
    try:
        with torch.random.fork_rng(devices=[]), Unfilled():
            ghn = GHN(content.config)
        ghn.load_state_dict(content.tensors)
        return ghn.to(device).eval()
    except (RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:200]}") from error


def list_pretrained() -> list[str]:
    """Names of the bundled hypernetworks, sorted; there may be none."""
    return sorted(path.stem for path in PRETRAINED.glob("*.safetensors") if path.with_suffix(".json").is_file())


def model_card(name: str) -> dict[str, Any]:
    """What is known about a bundled hypernetwork: `sha256` of its file, and free fields.

    Raises
    ------
    CheckpointError
        If there is none of this name, or its card is damaged.
    """
    path = PRETRAINED / f"{name}.json"
    if name not in list_pretrained():
        raise CheckpointError(f"{name!r}: {_bundled()}")
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}; install the package again") from error
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise CheckpointError(f"{path}: has no sha256; install the package again")
    return card


def read_config(name_or_path: str | Path) -> GHNConfig:
    """The configuration of a hypernetwork in a file; errors as of `load_checkpoint`."""
    return _read(*_locate(name_or_path)).config


def describe(name_or_path: str | Path) -> CheckpointInfo:
    """What is in a checkpoint, all of which is checked; errors as of `load_checkpoint`.

    Parameters
    ----------
    name_or_path
        As for `load_checkpoint`.
    """
    path, card = _locate(name_or_path)
    content = _read(path, card)
    _check_fit(path, content)
    _check_numbers(path, content.tensors)
    number = sum(tensor.numel() for tensor in content.tensors.values())
    metadata = {**content.metadata, **(card or {})}
    return CheckpointInfo(path, content.kind, content.config, number, file_digest(path), metadata)


# --- finding and reading ---


def _locate(name_or_path: str | Path) -> tuple[Path, dict[str, Any] | None]:
    """The file, and the card of a bundled one."""
    if isinstance(name_or_path, str) and name_or_path in list_pretrained():
        return PRETRAINED / f"{name_or_path}.safetensors", model_card(name_or_path)
    path = Path(name_or_path)
    try:
        if path.exists():
            return path, None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)[:200]!r}: cannot be read: {error}") from error
    raise CheckpointError(f"{str(name_or_path)!r}: no such file, and {_bundled()}; expected one of these, or {KINDS}")


def _bundled() -> str:
    names = list_pretrained()
    return f"the bundled hypernetworks are {', '.join(names)}" if names else "no hypernetwork is bundled"


def _read(path: Path, card: Mapping[str, Any] | None) -> _Content:
    if card is not None and file_digest(path) != card["sha256"]:
        raise CheckpointError(f"{path}: does not match the SHA-256 in its card; install the package again")
    if is_safetensors(path):
        return _read_ours(path)
    official = read_official(path)
    try:
        config = GHNConfig.from_official(official.config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: config: {error}") from error
    return _Content("official, config inferred" if official.inferred else "official", config, official.tensors, {})


def _read_ours(path: Path) -> _Content:
    file = TensorFile(path)
    texts = file.metadata
    if texts.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is a safetensors file, but not of a hypernetwork; expected {KINDS}")
    if texts.get("format_version") != str(FORMAT_VERSION):
        raise CheckpointError(
            f"{path}: has format version {texts.get('format_version')}, expected {FORMAT_VERSION}; it was written by "
            "another version of this package, use that one"
        )
    file.check()
    try:
        config, metadata = GHNConfig.from_dict(json.loads(texts["config"])), json.loads(texts["metadata"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: has no valid configuration: {error}") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: has no valid metadata: expected an object, got {type(metadata).__name__}")
    tensors = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in file.tensors.items()
    }
    return _Content("deepnets1m", config, tensors, metadata)


# --- checking ---


def _check_fit(path: Path, content: _Content) -> None:
    """Compare tensors with those of the model that the configuration describes, without taking memory for either."""
    from ghn_model.ghn import GHN

    config, tensors = content.config, content.tensors
    found = infer_config({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if found is None:
        raise CheckpointError(f"{path}: its tensors are not those of a hypernetwork; expected {KINDS}")
    told = GHNConfig.to_dict(config)
    same = {"hidden": "hid", **{name: name for name in ("hypernet", "decoder", "num_classes")}}
    if config.hypernet == "graphormer":
        same |= {"layers": "layers", "heads": "heads"}
    for field, keyword in same.items():  # before a model of these sizes is made
        if told[field] != found[keyword]:
            raise CheckpointError(
                f"{path}: its configuration says {field}={told[field]!r}, its tensors are those of {found[keyword]!r}; "
                "the file is damaged, or its configuration is of another one"
            )
    with torch.device("meta"), Unfilled():
        model = GHN(config)
    expected = dict(model.state_dict())
    for names, what in ((expected.keys() - tensors.keys(), "lacks"), (tensors.keys() - expected.keys(), "also holds")):
        if names:
            some = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise CheckpointError(
                f"{path}: {what} {len(names)} tensors of a hypernetwork with its configuration: {some}"
            )
    for name, tensor in tensors.items():
        for got, wanted in (
            (tuple(tensor.shape), tuple(expected[name].shape)),
            (tensor.dtype, expected[name].dtype),
            (tensor.layout, torch.strided),
            (tensor.device.type, "cpu"),
        ):
            if got != wanted:
                raise CheckpointError(
                    f"{path}: {name}: expected {wanted}, got {got}; the file is damaged or of another kind"
                )


def _check_numbers(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name}: holds NaN or infinity; the hypernetwork is of no use")


class Unfilled(TorchFunctionMode):
    """Parameters get no values while modules are made, which takes time for nothing: others will replace them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        in_place = name.endswith("_") and not name.startswith("_") and name != "requires_grad_"
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        return target if in_place and isinstance(target, nn.Parameter) else function(*args, **kwargs)


def _usable(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except Exception as error:
        raise ConfigError(f"device: cannot use {str(device)!r}: {' '.join(str(error).split())[:200]}") from error
    return device
