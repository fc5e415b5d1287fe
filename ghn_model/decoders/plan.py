"""The decoding plan: which decoder produces which parameter, and which parameters are decoded together.

The decoder depends on the role and the shape of a parameter, never on its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from deepnets.graph import Graph, ParameterSlot
from ghn_model.config import GHNConfig
from ghn_model.decoders.tiling import gain
from ghn_model.encoders import four_axes
from ghn_model.prepared_batch import DecodingGroup, ParameterRequest, Window

__all__ = ["plan_decoding"]

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
    found: dict[Window | str, list[ParameterRequest]] = {}
    first = 0
    for number, graph in enumerate(graphs):
        for node, slots in enumerate(graph.parameters, start=first):
            for slot in slots:
                if slot.numel and (predict_class_layers or not slot.role.startswith("class_")):
                    found.setdefault(_decoder(slot, config), []).append(ParameterRequest(number, node, slot))
        first += graph.num_nodes
    row, middle = (1, config.max_shape[0], 1, 1), (*config.max_shape[:2], 1, 1)
    plan = [
        _group(kind, found[kind], window, kind == "class_weight" and config.weight_norm)
        for kind, window in (
            ("weight", row),
            ("bias", row),
            ("token", row),
            ("class_bias", row),
            ("class_weight", middle),
        )
        if kind in found
    ]
    for window, requests in found.items():
        if not isinstance(window, str):
            for chunk in _chunks(requests, LARGEST // max(1, math.prod(window))):
                plan.append(_group("map", chunk, window, config.weight_norm))
    return plan


def _group(kind: str, requests: Sequence[ParameterRequest], window: Window, scaled: bool) -> DecodingGroup:
    """A group of parameters, sorted into runs of equal shape."""
    by_shape: dict[tuple[int, ...], list[ParameterRequest]] = {}
    for request in requests:
        by_shape.setdefault(request.slot.shape, []).append(request)
    runs = [run for shape, some in by_shape.items() for run in _chunks(some, LARGEST // max(1, math.prod(shape)))]
    gains = [gain(run[0].slot.shape) if scaled else 1.0 for run in runs for _ in run]
    nodes = torch.tensor([request.node for run in runs for request in run], dtype=torch.int64)
    return DecodingGroup(kind, runs, nodes, torch.tensor(gains, dtype=torch.float64), window)


def _decoder(slot: ParameterSlot, config: GHNConfig) -> Window | str:
    """The kind of decoder of a parameter, or the window of the map that it takes."""
    if slot.role == "class_bias":
        return "class_bias"
    if _is_vector(slot):
        if slot.role in ("norm_weight", "scale", "weight"):
            return "weight"
        return "token" if slot.role == "token" and len(slot.shape) > 1 else "bias"
    if slot.role == "class_weight":
        return "class_weight"
    out, into, height, width = (min(size, most) for size, most in zip(four_axes(slot.shape), config.max_shape))
    return out, into, height, width


def _is_vector(slot: ParameterSlot) -> bool:
    """Whether the vector decoder produces a parameter."""
    if len(slot.shape) <= 1:
        return True
    roles = ("scale", "bias", "token", "norm_weight", "norm_bias")
    return slot.role in roles and sum(size > 1 for size in slot.shape) <= 1


def _chunks(requests: list[ParameterRequest], size: int) -> Iterator[list[ParameterRequest]]:
    size = max(1, size)
    for start in range(0, len(requests), size):
        yield requests[start : start + size]
