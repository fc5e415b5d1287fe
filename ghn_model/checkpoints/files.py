"""Hypernetworks in files: our own format, the bundled files and the official ones.

Our format is one safetensors file: the tensors under their names in the state_dict and, as metadata, the format, its
version, the configuration and the user's metadata as JSON.  Bundled files are in `ghn_model/pretrained`, each with a
card that contains the SHA-256 of the file.  Official files are read by `ghn_model.checkpoints.official`.

Files are untrusted input.  Names, shapes and dtypes are compared with those of the model before memory is allocated,
then the values are checked.  Anything wrong raises one `CheckpointError`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from deepnets.support import CheckpointError, ConfigError, abbreviated, parse_json
from ghn_model.checkpoints.bundled import list_pretrained, locate_bundled
from ghn_model.checkpoints.hub import fetch, is_repository
from ghn_model.checkpoints.official import read_official
from ghn_model.checkpoints.official_layouts import config_difference
from ghn_model.checkpoints.official_names import find_official_checkpoint, how_to_get, is_official
from ghn_model.checkpoints.official_writer import FORMATS, save_official
from ghn_model.checkpoints.tables import grow_tables
from ghn_model.checkpoints.tensor_files import TensorFile, check_suffix, file_digest, is_safetensors, write_tensors
from ghn_model.config import GHNConfig
from ghn_model.initialization import skip_initialization
from ghn_model.precision import single_precision
from ghn_model.registry import DECODERS, ENCODERS, PLUGINS_VARIABLE, find_part, is_trusted

__all__ = [
    "CUSTOM_FORMAT",
    "Checkpoint",
    "build_from",
    "checked_device",
    "read_checkpoint",
    "read_config",
    "save_checkpoint",
]

FORMAT, FORMAT_VERSION = "deepnets1m hypernetwork", 1
CUSTOM_FORMAT = "deepnets1m custom hypernetwork"  # weights of one that is no `GHN`

DAMAGED = "the file is damaged, or its configuration is that of another one"
INFERRED = "official, config inferred"
KINDS = "a file of GHN.save (.safetensors) or of the original releases (.pt, joblib pickle)"

Model = TypeVar("Model", bound=nn.Module)


class Savable(Protocol):
    """A hypernetwork, as far as saving is concerned."""

    config: GHNConfig

    def state_dict(self) -> dict[str, Any]:
        """Tensors by name, as in `torch.nn.Module`."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes
    ----------
    path
        The file.
    kind
        ``"deepnets1m"`` (our format), ``"official"``, or ``"official, config inferred"``.
    config
        Configuration of the hypernetwork.
    tensors
        The state_dict.
    metadata
        Metadata that were saved with the hypernetwork, and the card of a bundled one.
    """

    path: Path
    kind: str
    config: GHNConfig
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def save_checkpoint(
    ghn: Savable,
    path: str | Path,
    metadata: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
    format: str = FORMATS[0],
) -> Path:
    """Write a hypernetwork to a file; see `GHN.save`.

    Examples
    --------
    >>> import tempfile
    >>> from ghn_model import GHN
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(GHN("ghn2"), f"{folder}/ghn.safetensors", {"epochs": 0})
    ...     read_config(path).hypernet
    'gatedgnn'
    """
    path = Path(path)
    check_suffix(path, format)
    about, config = _json_text("metadata", dict(metadata or {})), _json_text("config", ghn.config.to_dict())
    state = ghn.state_dict()
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ConfigError(f"{others[0]}: is no tensor; files of hypernetworks hold tensors only")
    tensors = _converted(state, torch.float16 if half else torch.float32)
    _check_finite(path, tensors)
    if format != FORMATS[0]:
        if half:
            raise ConfigError(f"half: files of the format {format} hold single precision")
        save_official(path, tensors, ghn.config, metadata or {}, format)
        return path
    texts = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": config,
        "metadata": about,
    }
    write_tensors(path, tensors, texts)
    return path


def read_checkpoint(
    name_or_path: str | Path,
    build: Callable[[GHNConfig], nn.Module],
    num_classes: int | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    revision: str | None = None,
    download: bool = False,
) -> Checkpoint:
    """Read a checkpoint and check everything in it.

    Parameters
    ----------
    name_or_path, num_classes, changes, revision, download
        As in `GHN.from_pretrained`.
    build
        Makes the hypernetwork of a configuration, for example `GHN`; it is called under the ``meta`` device.

    Returns
    -------
    The content of the file; its tensors fit the hypernetwork and are finite.

    Raises
    ------
    CheckpointError, ConfigError
        As in `GHN.from_pretrained`.

    Examples
    --------
    >>> from ghn_model import GHN
    >>> read_checkpoint("ghn2-digits", GHN).config.num_classes
    10
    """
    path, card = _locate(name_or_path, revision, download)
    content = _read(path, card)
    if num_classes is not None and content.kind == INFERRED and not content.config.vector_decoder:
        content = replace(content, config=content.config.replace(num_classes=num_classes))  # no tensor has this size
    if num_classes is not None and content.config.num_classes != num_classes:
        raise CheckpointError(
            f"{path}: is for {content.config.num_classes} classes, expected {num_classes}; use another hypernetwork, "
            "or leave out the class layers of networks (predict_class_layers=False)"
        )
    content = _fitted(content, build)
    if changes:
        config = content.config.replace(**changes)
        content = replace(content, config=config, tensors=grow_tables(content.tensors, content.config, config))
        content = _fitted(content, build, is_changed=True)
    _check_finite(path, content.tensors)
    return content


def build_from(content: Checkpoint, build: Callable[[GHNConfig], Model], device: torch.device) -> Model:
    """Make the hypernetwork of a checkpoint on a device, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the device has too little memory.
    """
    try:
        with torch.device("cpu"), single_precision(), torch.random.fork_rng(devices=[]), skip_initialization():
            ghn = build(content.config)
        ghn.load_state_dict(content.tensors)
        return ghn.to(device).eval()
    except (RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{content.path}: cannot be loaded: {_one_line(error)}") from error


def read_config(name_or_path: str | Path) -> GHNConfig:
    """The configuration of the hypernetwork in a file, without a check of its tensors.

    Parameters
    ----------
    name_or_path
        As in `GHN.from_pretrained`.

    Raises
    ------
    CheckpointError
        As in `GHN.from_pretrained`.

    Examples
    --------
    >>> read_config("ghn2-digits").virtual_edges
    50
    """
    return _read(*_locate(name_or_path)).config


def _json_text(name: str, value: Any) -> str:
    """JSON that `_read_ours` accepts."""
    try:
        text = json.dumps(value, allow_nan=False, sort_keys=True)
        parse_json(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: expected JSON values: {error}") from error
    return text


def _converted(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


# --- finding and reading ---


def _locate(
    name_or_path: str | Path, revision: str | None = None, download: bool = False
) -> tuple[Path, dict[str, Any] | None]:
    """The file, and the card of a bundled one."""
    if found := _find(name_or_path):
        if revision is not None:
            raise ConfigError(f"revision: is for repositories of the Hugging Face Hub, and {found[0]} is a file")
        return found
    if is_official(path := Path(name_or_path)):
        raise CheckpointError(f"{str(name_or_path)!r}: no such file; {how_to_get(path)}, or pass the path of the file")
    if isinstance(name_or_path, str) and is_repository(name_or_path):
        return fetch(name_or_path, revision, download=download), None
    raise CheckpointError(f"{str(name_or_path)!r}: no such file, and {_bundled()}; expected one of these, or {KINDS}")


def _find(name_or_path: str | Path) -> tuple[Path, dict[str, Any] | None] | None:
    """As `_locate`, for files of this machine; None if there is none."""
    if isinstance(name_or_path, str) and name_or_path in list_pretrained():
        return locate_bundled(name_or_path)
    path = Path(name_or_path)
    try:
        found = path if path.exists() else find_official_checkpoint(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)[:200]!r}: cannot be read: {error}") from error
    return (found, None) if found else None


def _bundled() -> str:
    names = list_pretrained()
    return f"the bundled hypernetworks are {', '.join(names)}" if names else "no hypernetwork is bundled"


def _read(path: Path, card: Mapping[str, Any] | None) -> Checkpoint:
    if card is not None and file_digest(path) != card["sha256"]:
        raise CheckpointError(f"{path}: does not match the SHA-256 in its card; install the package again")
    if is_safetensors(path):
        content = _read_ours(path)
        return replace(content, metadata={**content.metadata, **(card or {})})
    official = read_official(path)
    try:
        config = GHNConfig.from_official(official.config).replace(vocabulary=official.vocabulary, **official.fields)
    except ConfigError as error:
        raise CheckpointError(f"{path}: config: {error}") from error
    kind = INFERRED if official.inferred else "official"
    return Checkpoint(path, kind, config, official.tensors, official.metadata)


def _read_ours(path: Path) -> Checkpoint:
    file = TensorFile(path)
    texts = file.metadata
    if texts.get("format") == CUSTOM_FORMAT:
        known = "ghn_model.training.load_weights loads them, the predictor trained:MODULE:ATTRIBUTE:FILE uses them"
        raise CheckpointError(f"{path}: has weights of {abbreviated(texts.get('class', ''))}, which is no GHN; {known}")
    if texts.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is a safetensors file, but not of a hypernetwork; expected {KINDS}")
    if texts.get("format_version") != str(FORMAT_VERSION):
        raise CheckpointError(
            f"{path}: has format version {texts.get('format_version')}, expected {FORMAT_VERSION}; it was written by "
            "another version of this package, use that one"
        )
    file.check()
    try:
        config, metadata = GHNConfig.from_dict(parse_json(texts["config"])), parse_json(texts["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: has no valid configuration: {error}") from error
    for registry, name in ((ENCODERS, config.hypernet), (DECODERS, config.decoder)):
        if not is_trusted(registry, name):
            raise CheckpointError(
                f"{path}: its {registry.kind} {name!r} is code outside this package; if you trust it, list its module "
                f"in the environment variable {PLUGINS_VARIABLE}"
            )
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: has no valid metadata: expected an object, got {type(metadata).__name__}")
    return Checkpoint(path, "deepnets1m", config, file.tensors, metadata)


# --- checking ---


def _fitted(content: Checkpoint, build: Callable[[GHNConfig], nn.Module], is_changed: bool = False) -> Checkpoint:
    """The content with its tensors in the precision of the model of the configuration, after a comparison with it."""
    path, tensors = content.path, content.tensors
    if content.kind != "deepnets1m" and not is_changed:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if difference := config_difference(content.config, shapes):
            raise CheckpointError(f"{path}: {difference}; {DAMAGED}")
    try:
        with single_precision(), torch.random.fork_rng(devices=[]), skip_initialization():
            expected = _expected_state(content.config, build)
    except Exception as error:  # encoders of the user may raise any error; sizes may overflow
        raise CheckpointError(
            f"{path}: no hypernetwork can be built from its configuration: {_one_line(error)}"
        ) from error
    for names, verb in ((expected.keys() - tensors.keys(), "lacks"), (tensors.keys() - expected.keys(), "also holds")):
        if names:
            some = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise CheckpointError(
                f"{path}: {verb} {len(names)} tensors of a hypernetwork with its configuration: {some}"
            )
    for name, tensor in tensors.items():
        wanted = expected[name]
        is_convertible = tensor.is_floating_point() and wanted.is_floating_point()
        for got, required in (
            (tuple(tensor.shape), tuple(wanted.shape)),
            (wanted.dtype if is_convertible else tensor.dtype, wanted.dtype),
            (tensor.layout, torch.strided),
            (tensor.device.type, "cpu"),
        ):
            if got != required:
                raise CheckpointError(
                    f"{path}: {name}: expected {required}, got {got}; "
                    + ("a change does not fit its weights" if is_changed else DAMAGED)
                )
    return replace(content, tensors={name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()})


def _expected_state(config: GHNConfig, build: Callable[[GHNConfig], nn.Module]) -> dict[str, Tensor]:
    """The state_dict of a hypernetwork, on ``meta``, so that a file cannot make it take memory.

    The constructor of a part of the user may need values of tensors; such a hypernetwork is built on the CPU.
    """
    try:
        with torch.device("meta"):
            return dict(build(config).state_dict())
    except Exception:
        factories = find_part(ENCODERS, config.hypernet), find_part(DECODERS, config.decoder)
        if all(getattr(factory, "__module__", "").startswith("ghn_model.") for factory in factories):
            raise
        with torch.device("cpu"):
            return dict(build(config).state_dict())


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name}: holds NaN or infinity; the hypernetwork cannot be used")


def checked_device(device: str | torch.device) -> torch.device:
    """The device, after a check that tensors can be created on it.

    Raises
    ------
    ConfigError
        If the device cannot be used.

    Examples
    --------
    >>> checked_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except Exception as error:
        raise ConfigError(f"device: cannot use {str(device)!r}: {_one_line(error)}") from error
    return device


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
