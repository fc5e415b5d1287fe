"""Integer codes of node types, primitives and parameter names, for compiled code and files.

The name of a node is the name of its parameter without the cell; a node without parameters has the name of its type.
Names are arranged in groups.  Every group has a fixed offset in `NAMES`, and every layer a fixed offset in its group.
"""

from __future__ import annotations

from deepnets.architecture.vocabulary import MAX_STEPS, PRIMITIVES, PUBLISHED_NODE_TYPES

MAX_POOL, AVG_POOL, SEP_CONV, DIL_CONV, CONV, MSA, CSE, SUM, CONCAT = range(9)
INPUT, BIAS, NORM, LN, POS_ENC, GLOB_AVG = range(9, len(PUBLISHED_NODE_TYPES))

NONE, MAX, AVG, SKIP, SEP3, SEP5, DIL3, DIL5 = range(8)
C1, C71, C3, C5, C7, ATTENTION, SQUEEZE = range(8, len(PRIMITIVES))

MAX_CLASSIFIER_LAYERS = 4
MAX_NODE_TYPES = 64  # entries of NAMES that are reserved for node types, so that a new type moves no other name

_STEM_NAMES = ("stem.0", "stem.1", "stem0", "pos_enc", "stem0.0", "stem0.1", "stem0.3", "stem0.4", "stem1.1", "stem1.2")
_PREPROCESS_NAMES = ("conv_1", "conv_2", "bn", "op.1", "op.2")
_OPERATION_NAMES = (
    *(f"{layer}.weight" for layer in (*_PREPROCESS_NAMES, "op.3", "op.5", "op.6", "op.7")),
    *("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"),
    *("ln1.weight", "to_qkv.weight", "to_out.0.weight", "to_out.0.bias"),
    *("ln2.weight", "ff.net.0.weight", "ff.net.0.bias", "ff.net.3.weight", "ff.net.3.bias"),
)

NAMES: tuple[str, ...] = (
    *PUBLISHED_NODE_TYPES,
    *[""] * (MAX_NODE_TYPES - len(PUBLISHED_NODE_TYPES)),
    *(f"{name}.weight" for name in _STEM_NAMES),
    *(f"preprocess{i}.{name}.weight" for i in range(2) for name in _PREPROCESS_NAMES),
    *(f"classifier.{3 * i}.{kind}" for i in range(MAX_CLASSIFIER_LAYERS) for kind in ("weight", "bias")),
    *(f"_ops.{j}.{name}" for j in range(2 * MAX_STEPS) for name in _OPERATION_NAMES),
)
"""Names of nodes.  Layers of a cell have the prefix `cells.<cell>.` in a network.

Files store indices into this tuple.  New names must be appended, and new node types use the next reserved entry.
"""

# Offsets of the groups.
STEM = MAX_NODE_TYPES
PREPROCESS = STEM + len(_STEM_NAMES)
PREPROCESS_STRIDE = len(_PREPROCESS_NAMES)
CLASSIFIER = PREPROCESS + 2 * PREPROCESS_STRIDE
OPERATION = CLASSIFIER + 2 * MAX_CLASSIFIER_LAYERS
OPERATION_STRIDE = len(_OPERATION_NAMES)

# Layers of the stem.
STEM_0, STEM_1, PATCH, POSITION = range(STEM, STEM + 4)
STEM0_0, STEM0_1, STEM0_3, STEM0_4, STEM1_1, STEM1_2 = range(STEM + 4, STEM + 10)

# Offsets in the group of an operation; the first five are also those in a preprocessing group.
CONV_1, CONV_2, BN, OP_1, OP_2, OP_3, OP_5, OP_6, OP_7 = range(9)
FC1, FC1_BIAS, FC2, FC2_BIAS = range(9, 13)
LN1, TO_QKV, TO_OUT, TO_OUT_BIAS, LN2, FF0, FF0_BIAS, FF3, FF3_BIAS = range(13, 22)
