"""The decoding plan: which decoder produces which parameter, and which parameters are decoded together.

The decoder depends on the role and the shape of a parameter, never on its name.  (The normalization of LoGAH for GPT-2
does: it scales the projections that end in a residual connection.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from deepnets.graph import Graph, ParameterSlot
from ghn_model.class_layers import class_layers
from ghn_model.config import GHNConfig
from ghn_model.decoders.tiling import gain
from ghn_model.encoders import axes_of, is_positional
from ghn_model.prepared_batch import DecodingGroup, ParameterRequest, Window

__all__ = ["is_embedding", "plan_decoding"]

KINDS = ("weight", "bias", "token", "class_bias", "class_weight", "block", "map")
"""Kinds of groups, in the order of a plan."""

NORMALIZED = ("class_weight", "block", "map")
"""Kinds of the tensors of rank 2 or more."""

RESIDUAL = ("c_proj.weight", "o_proj.weight")
"""Ends of the names of matrices whose results are added to a residual connection, in GPT-2 and Llama."""

LARGEST = 1 << 22
"""Largest number of values that are decoded or repeated at once, which bounds the memory of predictions."""


def plan_decoding(graphs: Sequence[Graph], config: GHNConfig, predict_class_layers: bool = True) -> list[DecodingGroup]:
    """Plan the decoding of all parameters of some graphs.

    Parameters
    ----------
    graphs
        The graphs.
    config
        Configuration of the hypernetwork.
    predict_class_layers
        Whether to include the layers whose outputs are the classes.

    Returns
    -------
    Groups of parameters that are decoded together: vectors first, then the layers of the classes, then maps.
    Parameters without elements are in no group.

    Raises
    ------
    ConfigError
        If a graph does not know its parameters.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> plan = plan_decoding([graph], GHNConfig())
    >>> sum(len(run) for group in plan for run in group.runs) == sum(len(slots) for slots in graph.parameters)
    True
    """
    found: dict[_Key, list[ParameterRequest]] = {}
    blocks = _numbers_of_blocks(graphs) if config.normalization == "fan_in_residual" else {}
    first = 0
    for number, graph in enumerate(graphs):
        left_out = frozenset() if predict_class_layers else class_layers(graph)
        for node, slots in enumerate(graph.parameters, start=first):
            for slot in slots:
                if slot.numel and slot.name not in left_out:
                    found.setdefault(_decoder(slot, config), []).append(ParameterRequest(number, node, slot))
        first += graph.num_nodes
    plan = []
    for key in sorted(found, key=lambda key: KINDS.index(key.kind)):
        size = len(found[key])
        if key.kind == "map":
            out, into, height, width = key.window
            is_product = config.decoder == "lowrank" and height == width == 1
            # Predicted matrices of low rank are written one by one; only their factors are made together.
            size = LARGEST // max(1, (out + into) * config.rank if is_product else math.prod(key.window))
        plan += [_group(key, chunk, config, blocks) for chunk in _chunks(found[key], size)]
    return plan


class _Key(NamedTuple):
    """What the parameters of a group have in common; the fields are those of `DecodingGroup`."""

    kind: str
    window: Window
    block: tuple[int, ...] = ()


def _group(
    key: _Key, requests: Sequence[ParameterRequest], config: GHNConfig, blocks: Mapping[int, int]
) -> DecodingGroup:
    """A group of parameters, sorted into runs of equal shape."""
    scaled = config.scales_kernels and key.kind in NORMALIZED
    by_shape: dict[tuple[object, ...], list[ParameterRequest]] = {}
    for request in requests:
        # Embedding tables are not standardized together with matrices of the same shape.
        apart = config.normalization == "std" and is_embedding(request.slot)
        by_shape.setdefault((request.slot.shape, apart, is_positional(request.slot)), []).append(request)
    runs = [
        run for some in by_shape.values() for run in _chunks(some, LARGEST // max(1, math.prod(some[0].slot.shape)))
    ]
    gains = [_gain(request, config, blocks) if scaled else 1.0 for run in runs for request in run]
    nodes = torch.tensor([request.node for run in runs for request in run], dtype=torch.int64)
    return DecodingGroup(key.kind, runs, nodes, torch.tensor(gains, dtype=torch.float64), key.window, key.block)


def _decoder(slot: ParameterSlot, config: GHNConfig) -> _Key:
    """The kind of a parameter, and the window of the map that it takes."""
    is_vector, low_rank = _is_vector(slot), config.decoder == "lowrank"
    row, middle = (1, config.vector_size, 1, 1), (*config.max_shape[:2], 1, 1)
    if is_vector and not config.vector_decoder:
        row = (1, _extended(math.prod(slot.shape), config.max_shape[0]), 1, 1)
    if slot.role == "class_bias" and config.vector_decoder:
        return _Key("class_bias", row)
    if is_vector:
        if slot.role in ("norm_weight", "scale", "weight"):
            return _Key("weight", row)
        return _Key("token" if slot.role == "token" and len(slot.shape) > 1 else "bias", row)
    if slot.role == "class_weight" and not low_rank:
        return _Key("class_weight", middle)
    sizes = axes_of(slot)
    if not low_rank:
        out, into, height, width = (min(size, most) for size, most in zip(sizes, config.max_shape))
        return _Key("map", (out, into, height, width))
    return _low_rank(slot, sizes, config)


def _low_rank(slot: ParameterSlot, sizes: tuple[int, int, int, int], config: GHNConfig) -> _Key:
    """The window of a `LowRankDecoder`: kernels and positional encodings are not cut, except by its number of rows."""
    out, into, height, width = sizes
    most = config.factor_rows
    if len(slot.shape) == 3 and not is_positional(slot):
        block = tuple(_extended(size, config.max_shape[0]) for size in slot.shape)
        if (length := math.prod(block)) <= most:
            return _Key("block", (length, 1, 1, 1), block)
    if not is_positional(slot):
        out, into = min(out, config.max_shape[0]), min(into, config.max_shape[1])
    height, width = min(height, most), min(width, most)
    return _Key("map", (min(out, most // height), min(into, most // width), height, width))


def _extended(size: int, most: int) -> int:
    """The length that LoGAH decodes of a vector of this size: a convenient number of at least this size, or `most`."""
    size = min(size, most)
    size = size * 4 // 3 if size % 3 == 0 else size
    return most if 2 * size >= most else size


def _is_vector(slot: ParameterSlot) -> bool:
    """Whether a parameter is a vector: of rank 0 or 1, or a bias or similar with only one long axis."""
    if len(slot.shape) <= 1:
        return True
    roles = ("scale", "bias", "token", "norm_weight", "norm_bias")
    return slot.role in roles and sum(size > 1 for size in slot.shape) <= 1


def _gain(request: ParameterRequest, config: GHNConfig, blocks: Mapping[int, int]) -> float:
    """The factor by which a parameter is multiplied."""
    slot = request.slot
    if config.normalization == "std" or (config.decoder == "lowrank" and is_embedding(slot) and len(slot.shape) == 2):
        return 1.0
    shape, repeats = slot.shape, 1.0
    if config.width_invariant and len(shape) in (2, 4) and not is_embedding(slot):
        repeats = max(1.0, shape[1] / config.max_shape[1])
        shape = (*(min(size, most) for size, most in zip(shape, config.max_shape[:2])), *shape[2:])
    fan = "out" if config.normalization == "fan_out" else "in"
    factor = gain(shape, fan, positional=len(shape) != 3 or is_positional(slot)) if config.weight_norm else 1.0
    factor /= repeats
    is_residual = request.graph in blocks and slot.name.endswith(RESIDUAL)
    return factor / math.sqrt(2 * blocks[request.graph]) if is_residual else factor


def is_embedding(slot: ParameterSlot) -> bool:
    """Whether a parameter is an embedding table or a position encoding, which LoGAH does not normalize."""
    return slot.role in ("embed", "pos_enc")


def _numbers_of_blocks(graphs: Sequence[Graph]) -> dict[int, int]:
    """The number of transformer blocks of each graph that has any: of numbered modules with a residual projection."""
    numbers = {}
    for number, graph in enumerate(graphs):
        names = [slot.name for slots in graph.parameters for slot in slots if slot.name.endswith(RESIDUAL)]
        found = {match[0] for name in names if (match := re.match(r"(.*?\.)?\d+\.", name))}
        if found:
            numbers[number] = len(found)
    return numbers


def _chunks(requests: list[ParameterRequest], size: int) -> Iterator[list[ParameterRequest]]:
    size = max(1, size)
    for start in range(0, len(requests), size):
        yield requests[start : start + size]
