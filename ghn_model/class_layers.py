"""Which parameters of a network belong to the layers whose outputs are the classes."""

from __future__ import annotations

import itertools

import numpy as np

from deepnets.architecture import NODE_TYPES
from deepnets.graph import Graph
from deepnets.support import ConfigError

__all__ = ["class_layers"]

_CLASS_ROLES = ("class_weight", "class_bias")
_WEIGHTS = ("weight", "class_weight")
_LAYERS = ("conv", "sep_conv", "dil_conv")
_FEATURES = (*_WEIGHTS, "norm_weight", "norm_bias", "embed", "pos_enc")
"""Roles of parameters that come before the layer of the classes."""


def class_layers(graph: Graph) -> frozenset[str]:
    """Return the names of the parameters of the layers whose outputs are the classes.

    These are the parameters with the roles of classification layers, and those of all layers that only biases, scales
    and the like follow: a classifier without a bias, one that is scaled afterwards, and all heads of a network.

    Parameters
    ----------
    graph
        The graph of the network.

    Examples
    --------
    >>> import torch
    >>> from deepnets import trace
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10, bias=False))
    >>> sorted(class_layers(trace(model, torch.zeros(1, 8))))
    ['2.weight']
    """
    followed = np.zeros(graph.num_nodes, bool)  # by a layer of features
    last = np.zeros(graph.num_nodes, bool)  # layers of the classes, and what follows them
    ends = graph.live if _has_one_output(graph) else np.ones(graph.num_nodes, bool)
    roles = [{slot.role for slot in slots} for slots in graph.parameters]
    bounds = np.concatenate([[0], np.cumsum(graph.in_degrees)])
    sources = [graph.sources[start:stop] for start, stop in itertools.pairwise(bounds)]
    for node in reversed(range(graph.num_nodes)):
        # A layer that shares the weight of another one has no parameters of its own.
        is_shared = not graph.parameters[node] and NODE_TYPES[graph.node_types[node]] in _LAYERS
        if followed[node] or is_shared or roles[node] & {*_FEATURES}:
            followed[sources[node]] = True
    for node in range(graph.num_nodes):
        heads = bool(roles[node] & {*_WEIGHTS}) and not followed[node] and ends[node]
        last[node] = heads or last[sources[node]].any()
    return frozenset(
        slot.name
        for node, slots in enumerate(graph.parameters)
        for slot in slots
        if last[node] or slot.role in _CLASS_ROLES
    )


def _has_one_output(graph: Graph) -> bool:
    """Whether nodes from which no path leads to the last one are dead: in graphs that were traced, they are outputs."""
    try:
        return graph.config is not None
    except ConfigError:
        return False
