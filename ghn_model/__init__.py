"""Graph hypernetworks: from the graph of a network to all of its parameters, in one forward pass.

    ghn = GHN.from_pretrained("path/of/a/checkpoint")
    ghn.predict(model)       a dict from names to tensors
    ghn.initialize(model)    the same, written into the model
    ghn.embed(model)         a vector that represents the architecture

`GHN` is the whole; `gated_gnn`, `graphormer` (encoders) and `decoders` are its parts, `checkpoints` and `official` its
files.
"""

from __future__ import annotations

from ghn_model.checkpoints import describe, list_pretrained, load_checkpoint, save_checkpoint
from ghn_model.config import PRESETS, GHNConfig
from ghn_model.ghn import GHN, graph_of, use_batch_statistics
from ghn_model.variation import vary

__all__ = [
    "GHN",
    "PRESETS",
    "GHNConfig",
    "describe",
    "graph_of",
    "list_pretrained",
    "load_checkpoint",
    "save_checkpoint",
    "use_batch_statistics",
    "vary",
]
