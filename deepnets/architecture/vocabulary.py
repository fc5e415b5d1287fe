"""The vocabulary of the architecture space: primitives, node types, normalizations, and the limits of a network.

Files of the corpus store indices into these tuples, and compiled code contains them as constants.  Append new entries
at the end; never insert, remove or reorder them.
"""

from __future__ import annotations

__all__ = [
    "IMAGE_SIZES",
    "INPUT_STATES",
    "MAX_CELLS",
    "MAX_STEPS",
    "MAX_WIDTH",
    "NODE_TYPES",
    "NORMS",
    "PRIMITIVES",
    "PUBLISHED_NODE_TYPES",
    "PUBLISHED_TYPE_OF",
    "TRACED_NODE_TYPES",
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
"""The operations a genotype may name.  The order is part of the file format: records store indices into it."""

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
"""The types of nodes in DeepNets-1M.  The order is that of the rows of a hypernetwork's node embedding, and part of the
file format."""

TRACED_NODE_TYPES = (
    "scale",  # multiplication by a parameter: layer scale, temperature, gain of a weight norm
    "token",  # a parameter concatenated with data: class token
    "gn",
    "rms",
    "rel_pos",  # a table of relative positions, added to attention
    "embed",  # look-up of the input in a table
    "rnn",
    "mul",  # product of two equally large tensors: gates
    "matmul",  # product of two matrices that is no attention
    "const",  # what parameters are applied to that is neither data nor a parameter
    "other",
)
"""Further types of nodes, which occur in the graphs of other networks (`deepnets.trace`)."""

NODE_TYPES = PUBLISHED_NODE_TYPES + TRACED_NODE_TYPES
"""The types of graph nodes: `Graph.node_types` are indices into it."""

_NEAREST = {
    **dict.fromkeys(("token", "rel_pos", "embed"), "pos_enc"),
    **dict.fromkeys(("gn", "rms", "scale"), "ln"),
    **dict.fromkeys(("rnn", "other"), "conv"),
    "mul": "cse",
    "matmul": "msa",
    "const": "input",
}
PUBLISHED_TYPE_OF = tuple(PUBLISHED_NODE_TYPES.index(_NEAREST.get(name, name)) for name in NODE_TYPES)
"""For every type of node, the published one that a hypernetwork trained on DeepNets-1M reads in its place."""

NORMS = (None, "bnorm", "bn", "bn-track")
"""Normalisations: none, batch norm without running statistics (under its two published names), and with them."""

MAX_STEPS = 10
"""Most steps (sums of two operations) a cell may have; the `dense` split uses them all."""

MAX_CELLS = 200
MAX_WIDTH = 65_535
INPUT_STATES = 2  # states 0 and 1 of a cell are the outputs of the two cells before it

IMAGE_SIZES = (32, 224)
"""Sides of the images that stems and heads are defined for: CIFAR-10's and ImageNet's."""
