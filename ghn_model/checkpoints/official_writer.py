"""Writer of checkpoints that the original code loads: PPUDA (MLP, GHN-1, GHN-2) and GHN-3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deepnets.support import ConfigError
from ghn_model.checkpoints.tensor_files import save_with_torch, separate_tensors
from ghn_model.choices import FORMATS
from ghn_model.config import GHNConfig

__all__ = ["FORMATS", "official_config", "save_official"]

_CUTOFF = 50
"""Largest distance of virtual edges in the originals."""


def save_official(
    path: Path, tensors: Mapping[str, Tensor], config: GHNConfig, metadata: Mapping[str, Any], format: str
) -> None:
    """Write a hypernetwork as the original code does, atomically; an existing file is replaced.

    The file is a `torch.save` of a dict with `state_dict`, `config` (the constructor arguments of the original class),
    `epoch` (0), and two entries that only this package reads: `vocabulary` and `metadata`.

    Parameters
    ----------
    path
        The file.
    tensors
        The state_dict of a `GHN`.
    config
        Its configuration.  The field `init` is not stored.
    metadata
        JSON values.
    format
        "ppuda" for MLP, GHN-1 and GHN-2 in PPUDA; "ghn3" for GHN-3, and for GHN-2 in the code of GHN-3.

    Raises
    ------
    ConfigError
        If the original code has no such hypernetwork.
    CheckpointError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from ghn_model import GHN
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = GHN("ghn2").save(f"{folder}/ghn2.pt", format="ppuda")
    ...     sorted(torch.load(path, weights_only=True)), GHN.from_pretrained(path).config.hypernet
    (['config', 'epoch', 'metadata', 'state_dict', 'vocabulary'], 'gatedgnn')
    """
    keywords = official_config(config, format)
    plain = separate_tensors(tensors)
    if format == "ghn3":  # its decoders have linear layers instead of 1 x 1 convolutions
        plain = {
            name: tensor[:, :, 0, 0].clone() if name.startswith("decoder.") and tensor.ndim == 4 else tensor
            for name, tensor in plain.items()
        }
    content = {
        "state_dict": plain,
        "config": keywords,
        "epoch": 0,
        "vocabulary": config.vocabulary,
        "metadata": json.dumps(dict(metadata), sort_keys=True),
    }
    save_with_torch(path, content)


def official_config(config: GHNConfig, format: str) -> dict[str, Any]:
    """The constructor arguments of the original class for a configuration, the inverse of `GHNConfig.from_official`.

    Parameters
    ----------
    config
        The configuration.
    format
        "ppuda" or "ghn3".

    Raises
    ------
    ConfigError
        If the original class has no such hypernetwork.

    Examples
    --------
    >>> official_config(GHNConfig.preset("ghn3-t"), "ghn3")["layers"]
    3
    >>> official_config(GHNConfig.preset("ghn3-t"), "ppuda")
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: format: ppuda cannot represent hypernet 'graphormer', only gatedgnn or mlp
    """
    if format not in FORMATS[1:]:
        raise ConfigError(f"format: expected one of {', '.join(FORMATS)}; got {format!r}")
    transformer = config.hypernet == "graphormer"
    allowed: dict[str, tuple[Any, ...]] = {
        "hypernet": ("gatedgnn", "mlp") if format == "ppuda" else ("graphormer", "gatedgnn"),
        "decoder": ("conv", "mlp") if format == "ppuda" else ("conv",),
        "virtual_edges": (1, _CUTOFF) if format == "ppuda" else (_CUTOFF,),
        "window": ("centre",) if transformer else ("corner",),
        "options": ({},),
        "dirac": (False,),
        "width_invariant": (False,),
        "node_types": ("published",),
        "channel_sizes": ((),),
    }
    if config.weight_norm:
        allowed["normalization"] = ("fan_in",)
    for name, values in allowed.items():
        if (value := getattr(config, name)) not in values:
            only = " or ".join(str(each) for each in values) if values[0] not in ({}, ()) else "none"
            raise ConfigError(f"format: {format} cannot represent {name} {value!r}, only {only}")
    out, into, height, width = config.max_shape
    if out != into or height != width:
        raise ConfigError(
            f"format: {format} cannot represent max_shape {config.max_shape}, only equal channels and equal sides"
        )
    keywords = {
        "max_shape": config.max_shape,
        "num_classes": config.num_classes,
        "hypernet": config.hypernet,
        "decoder": config.decoder,
        "weight_norm": config.weight_norm,
        "ve": config.virtual_edges > 1,
        "layernorm": config.layernorm,
        "hid": config.hidden,
    }
    if format == "ghn3":
        if transformer:
            keywords |= {"hypernet": "gatedgnn", "layers": config.layers, "heads": config.heads}
        keywords["is_ghn2"] = not transformer
    return keywords
