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

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from ghn_model.checkpoints import list_pretrained as list_pretrained
    from ghn_model.checkpoints import save_checkpoint as save_checkpoint
    from ghn_model.config import PRESETS as PRESETS
    from ghn_model.config import GHNConfig as GHNConfig
    from ghn_model.decoders import DECODERS as DECODERS
    from ghn_model.decoders import Decoder as Decoder
    from ghn_model.decoders import register_decoder as register_decoder
    from ghn_model.encoders import ENCODERS as ENCODERS
    from ghn_model.encoders import Encoder as Encoder
    from ghn_model.encoders import register_encoder as register_encoder
    from ghn_model.ghn import GHN as GHN
    from ghn_model.loading import CheckpointInfo as CheckpointInfo
    from ghn_model.loading import describe as describe
    from ghn_model.loading import load_checkpoint as load_checkpoint
    from ghn_model.networks import graph_of as graph_of
    from ghn_model.networks import use_batch_statistics as use_batch_statistics
    from ghn_model.prediction import Prediction as Prediction
    from ghn_model.prepared_batch import PreparedBatch as PreparedBatch
    from ghn_model.variation import vary as vary

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "checkpoints": (
            "list_pretrained",
            "save_checkpoint",
        ),
        "config": (
            "PRESETS",
            "GHNConfig",
        ),
        "decoders": (
            "DECODERS",
            "Decoder",
            "register_decoder",
        ),
        "encoders": (
            "ENCODERS",
            "Encoder",
            "register_encoder",
        ),
        "ghn": ("GHN",),
        "loading": (
            "CheckpointInfo",
            "describe",
            "load_checkpoint",
        ),
        "networks": (
            "graph_of",
            "use_batch_statistics",
        ),
        "prediction": ("Prediction",),
        "prepared_batch": ("PreparedBatch",),
        "variation": ("vary",),
    },
)
