"""What a network is: its configuration, the vocabulary it is written in, and the PyTorch module built from it.

vocabulary  primitives, node types, normalizations and limits
config      `NetworkConfig` and `Genotype`, validated and immutable
codes       the same names as integers, for compiled code and files
encoding    configurations as fixed-size NumPy records
operations  the operations of a cell as torch modules
network     `Network`, the torch module of a configuration
functional  `run_network`, its forward pass with given parameters

Only `operations`, `network` and `functional` import torch; names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.architecture.codes import BIAS as BIAS
    from deepnets.architecture.codes import LN as LN
    from deepnets.architecture.codes import NAMES as NAMES
    from deepnets.architecture.codes import NORM as NORM
    from deepnets.architecture.codes import POS_ENC as POS_ENC
    from deepnets.architecture.codes import STEM as STEM
    from deepnets.architecture.config import GENOTYPES as GENOTYPES
    from deepnets.architecture.config import Gene as Gene
    from deepnets.architecture.config import Genotype as Genotype
    from deepnets.architecture.config import NetworkConfig as NetworkConfig
    from deepnets.architecture.config import checked_task as checked_task
    from deepnets.architecture.encoding import ARCHITECTURE as ARCHITECTURE
    from deepnets.architecture.encoding import NORMAL as NORMAL
    from deepnets.architecture.encoding import PADDING as PADDING
    from deepnets.architecture.encoding import REDUCE as REDUCE
    from deepnets.architecture.encoding import decode as decode
    from deepnets.architecture.encoding import encode as encode
    from deepnets.architecture.functional import run_network as run_network
    from deepnets.architecture.network import Network as Network
    from deepnets.architecture.vocabulary import IMAGE_SIZES as IMAGE_SIZES
    from deepnets.architecture.vocabulary import MAX_STEPS as MAX_STEPS
    from deepnets.architecture.vocabulary import NODE_TYPES as NODE_TYPES
    from deepnets.architecture.vocabulary import NORMS as NORMS
    from deepnets.architecture.vocabulary import PRIMITIVES as PRIMITIVES
    from deepnets.architecture.vocabulary import PUBLISHED_NODE_TYPES as PUBLISHED_NODE_TYPES
    from deepnets.architecture.vocabulary import PUBLISHED_TYPE_OF as PUBLISHED_TYPE_OF
    from deepnets.architecture.vocabulary import TRACED_NODE_TYPES as TRACED_NODE_TYPES

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "codes": (
            "BIAS",
            "LN",
            "NAMES",
            "NORM",
            "POS_ENC",
            "STEM",
        ),
        "config": (
            "GENOTYPES",
            "Gene",
            "Genotype",
            "NetworkConfig",
            "checked_task",
        ),
        "encoding": (
            "ARCHITECTURE",
            "NORMAL",
            "PADDING",
            "REDUCE",
            "decode",
            "encode",
        ),
        "functional": ("run_network",),
        "network": ("Network",),
        "vocabulary": (
            "IMAGE_SIZES",
            "MAX_STEPS",
            "NODE_TYPES",
            "NORMS",
            "PRIMITIVES",
            "PUBLISHED_NODE_TYPES",
            "PUBLISHED_TYPE_OF",
            "TRACED_NODE_TYPES",
        ),
    },
)
