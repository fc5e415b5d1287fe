"""Architectures: configurations, the vocabulary that they use, and PyTorch networks built from them.

vocabulary  primitives, node types, norms and limits
genotype    `Genotype`, the operations inside cells
config      `NetworkConfig`, the description of a network
codes       integers for the vocabulary, used by compiled code and files
encoding    configurations as NumPy records of fixed size
operations  the operations of a cell as torch modules
cell        `Cell`, the torch module of a cell
network     `Network`, the torch module of a configuration
depthwise   depthwise convolutions with a fast backward pass on CPUs
functional  `run_network`, the forward pass with given parameters
compact     `CompactModel`, a network that computes equal channels once
compact_tensor     `Repeated` parameters, and other objects that stand for tensors
channels           tensors of which equal channels are stored once
channel_functions  layers of networks for such tensors
flops       `count_flops`, floating-point operations of a network
nas_formats genotypes of other search spaces: DARTS, NASLib, NATS-Bench

Only `operations`, `cell`, `network`, `depthwise`, `functional`, `compact`, `compact_tensor`, `channels`,
`channel_functions` and `flops` import torch; names are imported on first use.
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
    from deepnets.architecture.compact import CompactModel as CompactModel
    from deepnets.architecture.compact_tensor import Repeated as Repeated
    from deepnets.architecture.compact_tensor import tile as tile
    from deepnets.architecture.config import NetworkConfig as NetworkConfig
    from deepnets.architecture.config import checked_task as checked_task
    from deepnets.architecture.encoding import ARCHITECTURE as ARCHITECTURE
    from deepnets.architecture.encoding import NORMAL as NORMAL
    from deepnets.architecture.encoding import PADDING as PADDING
    from deepnets.architecture.encoding import REDUCE as REDUCE
    from deepnets.architecture.encoding import decode as decode
    from deepnets.architecture.encoding import encode as encode
    from deepnets.architecture.flops import count_flops as count_flops
    from deepnets.architecture.functional import run_network as run_network
    from deepnets.architecture.genotype import GENOTYPES as GENOTYPES
    from deepnets.architecture.genotype import Gene as Gene
    from deepnets.architecture.genotype import Genotype as Genotype
    from deepnets.architecture.nas_formats import parse_genotype as parse_genotype
    from deepnets.architecture.network import Network as Network
    from deepnets.architecture.vocabulary import IMAGE_SIZES as IMAGE_SIZES
    from deepnets.architecture.vocabulary import LANGUAGE_NODE_TYPES as LANGUAGE_NODE_TYPES
    from deepnets.architecture.vocabulary import MAX_CELLS as MAX_CELLS
    from deepnets.architecture.vocabulary import MAX_IMAGE_SIZE as MAX_IMAGE_SIZE
    from deepnets.architecture.vocabulary import MAX_STEPS as MAX_STEPS
    from deepnets.architecture.vocabulary import MIN_IMAGE_SIZE as MIN_IMAGE_SIZE
    from deepnets.architecture.vocabulary import NODE_TYPE_ROWS as NODE_TYPE_ROWS
    from deepnets.architecture.vocabulary import NODE_TYPES as NODE_TYPES
    from deepnets.architecture.vocabulary import NORMS as NORMS
    from deepnets.architecture.vocabulary import PRIMITIVES as PRIMITIVES
    from deepnets.architecture.vocabulary import PUBLISHED_NODE_TYPES as PUBLISHED_NODE_TYPES
    from deepnets.architecture.vocabulary import PUBLISHED_TYPE_OF as PUBLISHED_TYPE_OF
    from deepnets.architecture.vocabulary import TRACED_NODE_TYPES as TRACED_NODE_TYPES
    from deepnets.architecture.vocabulary import VOCABULARIES as VOCABULARIES
    from deepnets.architecture.vocabulary import has_cifar_stem as has_cifar_stem

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
        "compact": ("CompactModel",),
        "compact_tensor": (
            "Repeated",
            "tile",
        ),
        "config": (
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
        "flops": ("count_flops",),
        "functional": ("run_network",),
        "genotype": (
            "GENOTYPES",
            "Gene",
            "Genotype",
        ),
        "nas_formats": ("parse_genotype",),
        "network": ("Network",),
        "vocabulary": (
            "IMAGE_SIZES",
            "LANGUAGE_NODE_TYPES",
            "MAX_CELLS",
            "MAX_IMAGE_SIZE",
            "MAX_STEPS",
            "MIN_IMAGE_SIZE",
            "NODE_TYPES",
            "NODE_TYPE_ROWS",
            "NORMS",
            "PRIMITIVES",
            "PUBLISHED_NODE_TYPES",
            "PUBLISHED_TYPE_OF",
            "TRACED_NODE_TYPES",
            "VOCABULARIES",
            "has_cifar_stem",
        ),
    },
)
