"""Encoders of a hypernetwork: from the nodes of a graph to an embedding per node.

gated_gnn                  the gated graph network of GHN-1 and GHN-2, and the node-wise MLP
sweep, sweep_levels, sweep_gradients   its propagation on a CPU, on a GPU, and with gradients on a CPU
graphormer                 the transformer of GHN-3
shape_encoder              embeddings of parameter shapes
"""

from __future__ import annotations

from ghn_model.encoders.gated_gnn import MLP, GatedGNN, NodeMLP
from ghn_model.encoders.graphormer import Graphormer
from ghn_model.encoders.shape_encoder import ShapeEncoder, four_axes, shape_indices

__all__ = [
    "MLP",
    "GatedGNN",
    "Graphormer",
    "NodeMLP",
    "ShapeEncoder",
    "four_axes",
    "shape_indices",
]
