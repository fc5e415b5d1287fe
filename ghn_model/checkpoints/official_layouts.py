"""The state dicts of the original releases: their tensors by the names in `GHN`, and what their shapes tell.

LoGAH's files come from several versions of its code.  The number of node types and of rows for numbers of channels
tells whether a hypernetwork is for images or for language models, and which sizes the rows are for; the tensor
`decoder.l1` exists since the end of July 2024.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from deepnets.architecture import LANGUAGE_NODE_TYPES
from ghn_model.config import TEXT_SIZES, GHNConfig
from ghn_model.encoders import channel_grid

__all__ = ["add_unused_tensors", "config_difference", "current_names", "current_ranks", "infer_config", "infer_fields"]

Shapes = Mapping[str, Sequence[int]]

_MOVED = ("centrality_embed_in.weight", "centrality_embed_out.weight", "input_dist_embed.weight")
_ON_GRID = 16
"""A number of classes for which the shape encoder needs no row of its own."""


def infer_config(shapes: Shapes) -> dict[str, Any] | None:
    """Infer the constructor arguments of the original classes from the names and shapes of tensors.

    Parameters
    ----------
    shapes
        Shapes of the tensors of a state_dict, by their names in `GHN`.

    Returns
    -------
    All arguments, or None if the tensors are not those of a hypernetwork.  `weight_norm` does not affect the tensors;
    it is assumed to be True except for models without layer normalization and virtual edges, since the released GHN-1
    was trained without it.

    Examples
    --------
    >>> from ghn_model import GHN
    >>> infer_config({name: tensor.shape for name, tensor in GHN("ghn2").state_dict().items()})["hid"]
    32
    """
    layers = len({name for name in shapes if name.startswith("gnn.") and name.endswith(".ln1.weight")})
    further: dict[str, Any] = {}
    try:
        hidden = shapes["embed.weight"][1]
        num_classes = shapes["bias_class.1.weight"][0]
        if layers:
            further = {"layers": layers, "heads": shapes["gnn.0.attn.proj_e.2.weight"][0]}
        if "decoder.conv.2.weight" in shapes:
            decoder, channels = "conv", math.isqrt(shapes["decoder.conv.2.weight"][0])
            side = math.isqrt(shapes["decoder.fc.0.weight"][0] // (4 * hidden))
        elif "decoder.l2.weight" in shapes:
            decoder, channels, side = "lowrank", 0, 0
            further |= _low_rank_arguments(shapes)
        else:
            decoder, channels = "mlp", shapes["decoder.class_layer_predictor.1.weight"][0] // num_classes
            side = math.isqrt(shapes["decoder.mlp.fc.2.weight"][0]) // channels
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        return None
    hypernet = "graphormer" if layers else "gatedgnn" if "gnn.gru.weight_ih" in shapes else "mlp"
    virtual_edges = hypernet != "gatedgnn" or "gnn.mlp_ve.fc.0.weight" in shapes
    layernorm = "ln.weight" in shapes
    return {
        "max_shape": (channels, channels, side, side),
        "num_classes": num_classes,
        "hypernet": hypernet,
        "decoder": decoder,
        "weight_norm": layernorm or virtual_edges,
        "ve": virtual_edges,
        "layernorm": layernorm,
        "hid": hidden,
        **further,
    }


def _low_rank_arguments(shapes: Shapes) -> dict[str, Any]:
    """The arguments that LoGAH has in addition, or in place of those of GHN-3.

    The number of classes is known only where classifiers have biases of their own; otherwise it is 10, the default of
    the original code, unless the number of rows tells that it needs no row.
    """
    factor_rows, rank = shapes["decoder.l2.weight"]
    own_vectors = "decoder_1d.fc.0.weight" in shapes
    rows = shapes["shape_enc.embed_channel.weight"][0]
    num_classes = 10 if rows != len(channel_grid(_ON_GRID)) + 1 else _ON_GRID
    side = 11 if shapes["shape_enc.embed_spatial.weight"][0] == 9 else 16
    return {
        "max_shape": (factor_rows // 16, factor_rows // 16, side, side),
        "num_classes": shapes["bias_class.1.weight"][0] if own_vectors else num_classes,
        "lora": True,
        "lora_r": rank,
        "max_ck_lora": factor_rows,
        "use_1d_decoder": own_vectors,
    }


def infer_fields(shapes: Shapes, config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `GHNConfig` that no argument of the original classes states, for a hypernetwork of LoGAH.

    Parameters
    ----------
    shapes
        As in `infer_config`.
    config
        The arguments that the file states; empty if it states none.

    Returns
    -------
    `node_types`, `channel_sizes`, `normalization` and `virtual_edges` for a hypernetwork for language models, otherwise
    nothing.  The normalization changed several times and is a guess: "std" if there are types of nodes for Llama,
    otherwise "fan_in_residual", the rule at the time of the paper.

    Examples
    --------
    >>> from ghn_model import GHN
    >>> import torch
    >>> with torch.device("meta"):
    ...     ghn = GHN(GHNConfig.preset("logah-t", task="text"))
    >>> infer_fields({name: tensor.shape for name, tensor in ghn.state_dict().items()}, {})["channel_sizes"]
    (32000, 50257, 128256)
    """
    types, rows = shapes["embed.weight"][0], shapes["shape_enc.embed_channel.weight"][0]
    further = rows - 1 - len(channel_grid(10))  # hypernetworks for language models have 10 classes
    is_current = types == len(LANGUAGE_NODE_TYPES)
    if not is_current and further <= 0 and (not config or "num_classes" in config):
        return {}
    three = TEXT_SIZES if "decoder.l1.weight" in shapes else (32000, 50257, 50304)
    sizes = {1: (50257,), 2: (50257, 50304), 3: three}.get(further, ())
    return {
        "node_types": "language" if is_current else "published",
        "channel_sizes": sizes,
        "normalization": "std" if is_current else "fan_in_residual",
        "virtual_edges": 250,
    }


def config_difference(config: GHNConfig, shapes: Shapes) -> str:
    """The first field of a configuration that the shapes of tensors contradict, or an empty text.

    Examples
    --------
    >>> from ghn_model import GHN
    >>> shapes = {name: tensor.shape for name, tensor in GHN("ghn2").state_dict().items()}
    >>> config_difference(GHNConfig(), shapes), config_difference(GHNConfig(hidden=8), shapes)
    ('', 'its configuration says hidden=8, its tensors are those of 32')
    """
    found = infer_config(shapes)
    if found is None:
        return "its tensors are not those of a hypernetwork"
    fields = {"hypernet": "hypernet", "decoder": "decoder", "num_classes": "num_classes", "hidden": "hid"}
    if config.hypernet == "graphormer":
        fields |= {"layers": "layers", "heads": "heads"}
    if found.get("lora"):
        fields |= {"rank": "lora_r", "factor_rows": "max_ck_lora", "vector_decoder": "use_1d_decoder"}
        if not found["use_1d_decoder"]:
            del fields["num_classes"]  # no tensor has this size
    for field, keyword in fields.items():
        value = getattr(config, field)
        if value != found[keyword]:
            return f"its configuration says {field}={value!r}, its tensors are those of {found[keyword]!r}"
    return ""


def current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state_dict by their names in `GHN`.

    Examples
    --------
    >>> import torch
    >>> list(current_names({"module.ln.bias": torch.zeros(2), "centrality_embed_in.weight": torch.zeros(2, 2)}))
    ['ln.bias', 'gnn.0.centrality_embed_in.weight']
    """
    tensors = {}
    for name, tensor in state.items():
        name = re.sub(r"^(module\.|_orig_mod\.)+", "", str(name))  # prefixes of parallel and compiled models
        tensors[f"gnn.0.{name}" if name in _MOVED else name] = tensor.detach()
    for kind in ("weight", "bias"):  # a second name of the last layer; where both are loaded, it decides
        if (alias := tensors.pop(f"decoder.seq.1.{kind}", None)) is not None:
            tensors[f"decoder.l2.{kind}"] = alias
    return tensors


def current_ranks(tensors: dict[str, Tensor], graphormer: bool) -> None:
    """Convert 1x1 convolutions to matrices where the decoder has linear layers, and vice versa, in place.

    Examples
    --------
    >>> import torch
    >>> tensors = {"decoder.conv.0.weight": torch.zeros(2, 3)}
    >>> current_ranks(tensors, graphormer=False)
    >>> tensors["decoder.conv.0.weight"].shape
    torch.Size([2, 3, 1, 1])
    """
    for name, tensor in tensors.items():
        if re.fullmatch(r"decoder\.(conv\.\d+|class_layer_predictor\.1)\.weight", name):
            if graphormer and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
                tensors[name] = tensor[:, :, 0, 0]
            elif not graphormer and tensor.ndim == 2:
                tensors[name] = tensor[:, :, None, None]


def add_unused_tensors(tensors: dict[str, Tensor]) -> None:
    """Add, in place, the layer of LoGAH's decoder that files before August 2024 lack; it is not used.

    Examples
    --------
    >>> import torch
    >>> tensors = {"decoder.l2.weight": torch.ones(8, 2)}
    >>> add_unused_tensors(tensors)
    >>> tensors["decoder.l1.weight"].shape, tensors["decoder.l1.bias"].shape
    (torch.Size([2, 2]), torch.Size([2]))
    """
    last = tensors["decoder.l2.weight"]
    rank = last.shape[1]
    if not {"decoder.l1.weight", "decoder.l1.bias"} & tensors.keys():
        tensors["decoder.l1.weight"], tensors["decoder.l1.bias"] = last.new_zeros(rank, rank), last.new_zeros(rank)
