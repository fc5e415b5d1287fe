"""Computational graphs: the `Graph` class, building graphs from configurations, and batches of graphs.

graph         `Graph`, with distances and parameter slots
conversion    conversion to networkx and PyTorch Geometric
parameters    `ParameterSlot` and `Slots`, descriptions of the parameters of a graph
statistics    `GraphStatistics`
build         `build_graph` and `count_parameters`, from a `NetworkConfig`
assembly      compiled function that writes the graph of an encoded architecture into a buffer
buffer        `GraphBuffer`, the arrays that hold a graph while it is assembled
algorithms    compiled functions for validity, liveness, levels and shortest paths
fingerprints  numbers that identify equal networks
batch         `GraphBatch`, several graphs as torch tensors

Only `batch` imports torch.  Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.graph.assembly import assemble as assemble
    from deepnets.graph.assembly import contains as contains
    from deepnets.graph.batch import GraphBatch as GraphBatch
    from deepnets.graph.batch import PaddedGraphs as PaddedGraphs
    from deepnets.graph.buffer import N_EDGES as N_EDGES
    from deepnets.graph.buffer import N_NODES as N_NODES
    from deepnets.graph.buffer import N_PARAMETERS as N_PARAMETERS
    from deepnets.graph.buffer import GraphBuffer as GraphBuffer
    from deepnets.graph.buffer import new_graph_buffer as new_graph_buffer
    from deepnets.graph.build import build_graph as build_graph
    from deepnets.graph.build import count_parameters as count_parameters
    from deepnets.graph.build import parameter_slots as parameter_slots
    from deepnets.graph.fingerprints import fingerprint as fingerprint
    from deepnets.graph.graph import MAX_DISTANCE as MAX_DISTANCE
    from deepnets.graph.graph import Graph as Graph
    from deepnets.graph.parameters import ROLES as ROLES
    from deepnets.graph.parameters import ParameterSlot as ParameterSlot
    from deepnets.graph.parameters import Slots as Slots
    from deepnets.graph.statistics import GraphStatistics as GraphStatistics

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "assembly": (
            "assemble",
            "contains",
        ),
        "batch": (
            "GraphBatch",
            "PaddedGraphs",
        ),
        "buffer": (
            "N_EDGES",
            "N_NODES",
            "N_PARAMETERS",
            "GraphBuffer",
            "new_graph_buffer",
        ),
        "build": (
            "build_graph",
            "count_parameters",
            "parameter_slots",
        ),
        "fingerprints": ("fingerprint",),
        "graph": (
            "MAX_DISTANCE",
            "Graph",
        ),
        "parameters": (
            "ROLES",
            "ParameterSlot",
            "Slots",
        ),
        "statistics": ("GraphStatistics",),
    },
)
