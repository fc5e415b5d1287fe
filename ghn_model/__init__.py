"""Graph hypernetworks: they predict all parameters of a network from its graph, in one forward pass.

>>> from deepnets import GENOTYPES, Network, NetworkConfig
>>> from ghn_model import GHN
>>> ghn = GHN.from_pretrained("ghn2-digits")
>>> model = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16))
>>> parameters = ghn.predict(model)             # dict from names to tensors
>>> model = ghn.initialize(model)               # writes them into the model
>>> vector = ghn.embed(model)                   # (32,), represents the architecture

The parts of a hypernetwork are exchangeable: see `GHNConfig`, `register_encoder` and `register_decoder`, and
`ghn_model.parts` for a hypernetwork of your own.
"""

from __future__ import annotations

from ghn_model.checkpoints import list_pretrained, save_checkpoint
from ghn_model.config import PRESETS, GHNConfig
from ghn_model.decoders import DECODERS, Decoder, register_decoder
from ghn_model.encoders import ENCODERS, Encoder, register_encoder
from ghn_model.ghn import GHN
from ghn_model.loading import CheckpointInfo, describe, load_checkpoint
from ghn_model.networks import graph_of, use_batch_statistics
from ghn_model.prediction import Prediction
from ghn_model.prepared_batch import PreparedBatch
from ghn_model.variation import vary

__all__ = [
    "DECODERS",
    "ENCODERS",
    "GHN",
    "PRESETS",
    "CheckpointInfo",
    "Decoder",
    "Encoder",
    "GHNConfig",
    "Prediction",
    "PreparedBatch",
    "describe",
    "graph_of",
    "list_pretrained",
    "load_checkpoint",
    "register_decoder",
    "register_encoder",
    "save_checkpoint",
    "use_batch_statistics",
    "vary",
]
