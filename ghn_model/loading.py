"""Checkpoints as hypernetworks and as descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ghn_model.checkpoints import file_digest, read_checkpoint
from ghn_model.config import GHNConfig
from ghn_model.ghn import GHN

__all__ = ["CheckpointInfo", "describe", "load_checkpoint"]


@dataclass(frozen=True)
class CheckpointInfo:
    """The description of a checkpoint.

    Attributes
    ----------
    path
        The file.
    kind
        ``"deepnets1m"`` (our format), ``"official"``, or ``"official, config inferred"``.
    config
        Configuration of the hypernetwork.
    num_parameters
        Number of weights.
    sha256
        SHA-256 of the file.
    metadata
        Metadata that were saved with the hypernetwork, and the card of a bundled one.

    Examples
    --------
    >>> describe("ghn2-digits").kind
    'deepnets1m'
    """

    path: Path
    kind: str
    config: GHNConfig
    num_parameters: int
    sha256: str
    metadata: dict[str, Any]


def describe(name_or_path: str | Path) -> CheckpointInfo:
    """Describe a checkpoint, after a check of everything in it.

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
    >>> info = describe("ghn2-digits")
    >>> info.config.hypernet, info.config.num_classes
    ('gatedgnn', 10)
    """
    found = read_checkpoint(name_or_path, GHN)
    number = sum(tensor.numel() for tensor in found.tensors.values())
    return CheckpointInfo(found.path, found.kind, found.config, number, file_digest(found.path), found.metadata)


def load_checkpoint(
    name_or_path: str | Path, device: str | torch.device = "cpu", *, num_classes: int | None = None
) -> GHN:
    """Load a hypernetwork: `GHN.from_pretrained` as a function.

    Parameters
    ----------
    name_or_path, device, num_classes
        As in `GHN.from_pretrained`.

    Examples
    --------
    >>> load_checkpoint("ghn2-digits").config.hypernet
    'gatedgnn'
    """
    return GHN.from_pretrained(name_or_path, device=device, num_classes=num_classes)
