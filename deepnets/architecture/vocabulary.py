"""The vocabulary of architectures: primitives, node types, norms, and limits.

Corpus files store indices into these tuples, and compiled code contains them as constants.  New entries must be
appended; entries must not be inserted, removed or reordered.
"""

from __future__ import annotations

__all__ = [
    "IMAGE_SIZES",
    "INPUT_STATES",
    "LANGUAGE_NODE_TYPES",
    "MAX_CELLS",
    "MAX_CIFAR_SIZE",
    "MAX_IMAGE_SIZE",
    "MAX_STEPS",
    "MAX_WIDTH",
    "MIN_IMAGE_SIZE",
    "NODE_TYPES",
    "NODE_TYPE_ROWS",
    "NORMS",
    "PRIMITIVES",
    "PUBLISHED_NODE_TYPES",
    "PUBLISHED_TYPE_OF",
    "TRACED_NODE_TYPES",
    "has_cifar_stem",
]

PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_1x1",
    "conv_7x1_1x7",
    "conv_3x3",
    "conv_5x5",
    "conv_7x7",
    "msa",
    "cse",
)
"""Operations of genotypes."""

PUBLISHED_NODE_TYPES = (
    "max_pool",
    "avg_pool",
    "sep_conv",
    "dil_conv",
    "conv",
    "msa",
    "cse",
    "sum",
    "concat",
    "input",
    "bias",
    "bn",
    "ln",
    "pos_enc",
    "glob_avg",
)
"""Node types of DeepNets-1M, in the order of the rows of a hypernetwork's node embedding."""

TRACED_NODE_TYPES = (
    "scale",  # multiplication by a parameter, such as layer scale, a temperature, or the gain of a weight norm
    "token",  # a parameter that is concatenated with data, such as a class token
    "gn",
    "rms",
    "rel_pos",  # table of relative positions that is added to attention scores
    "embed",  # embedding table, indexed by the input
    "rnn",
    "mul",  # product of two tensors of the same shape, such as a gate
    "matmul",  # matrix product that is not part of attention
    "const",  # a constant tensor to which parameters are applied
    "other",
    "rot",  # rotary position encoding of queries or keys; only in graphs of the vocabulary "logah"
)
"""Further node types in graphs of other networks, which `deepnets.trace` makes."""

NODE_TYPES = PUBLISHED_NODE_TYPES + TRACED_NODE_TYPES
"""All node types.  `Graph.node_types` holds indices into this tuple."""

_NEAREST = {
    **dict.fromkeys(("token", "rel_pos", "embed", "rot"), "pos_enc"),
    **dict.fromkeys(("gn", "rms", "scale"), "ln"),
    **dict.fromkeys(("rnn", "other"), "conv"),
    "mul": "cse",
    "matmul": "msa",
    "const": "input",
}
PUBLISHED_TYPE_OF = tuple(PUBLISHED_NODE_TYPES.index(_NEAREST.get(name, name)) for name in NODE_TYPES)
"""For every node type, the published type by which hypernetworks trained on DeepNets-1M replace it."""

LANGUAGE_NODE_TYPES = (*PUBLISHED_NODE_TYPES, "rms", "rot", "mul")
"""Node types of LoGAH for language models, in the order of the rows of its node embedding."""

NODE_TYPE_ROWS = {
    "published": PUBLISHED_TYPE_OF,
    "language": tuple(
        LANGUAGE_NODE_TYPES.index(name if name in LANGUAGE_NODE_TYPES else _NEAREST[name]) for name in NODE_TYPES
    ),
}
"""For every node type, its row in a table for the published types or for those of language models."""

VOCABULARIES = ("complete", "ghn3", "ppuda", "logah")
"""Which operations have a node in traced graphs, see `deepnets.tracing`; "published" is accepted for "ghn3"."""

NORMS = (None, "bnorm", "bn", "bn-track")
"""Norms: none, batch norm without running statistics (under its two published names), and with running statistics."""

MAX_STEPS = 10
"""Largest number of steps of a cell, which occurs in the split `dense`."""

MAX_CELLS = 200
"""Largest number of cells."""

MAX_WIDTH = 65_535
"""Largest number of channels, and largest width of hidden classifier layers."""

INPUT_STATES = 2
"""Number of states of a cell that are outputs of the two previous cells."""

IMAGE_SIZES = (32, 224)
"""Heights and widths of the images of the published networks: those of CIFAR-10 and ImageNet."""

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 16, 512
"""Smallest and largest height and width of the images that networks are built for."""

MAX_CIFAR_SIZE = 64
"""Largest height and width of images that get the stem of CIFAR-10; larger images get the stem of ImageNet."""


def has_cifar_stem(image_size: int) -> bool:
    """Return whether networks for images of a size have the stem of CIFAR-10, and not that of ImageNet.

    The published stems are those for 32 and 224 pixels.  For other sizes, the rule is: up to 64 pixels the stem of
    CIFAR-10, which keeps most of the resolution; above, the stem of ImageNet, which reduces it by up to 8.  Widths,
    heads, predefined networks and the shapes that hypernetworks decode follow the stem.

    Parameters
    ----------
    image_size
        Height and width of the images in pixels.

    Examples
    --------
    >>> [has_cifar_stem(size) for size in (28, 32, 64, 96, 224)]
    [True, True, True, False, False]
    """
    return image_size <= MAX_CIFAR_SIZE
