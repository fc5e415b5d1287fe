"""Computational graphs: the `Graph` class, building one from a configuration, and batches of graphs.

graph         `Graph`, with its parameters, distances and conversions to networkx and PyG
build         `build_graph` and `count_parameters`, from a `NetworkConfig`
assembly      the compiled function that writes the nodes and edges of a graph into arrays
algorithms    compiled validity checks, liveness, levels and shortest paths
fingerprints  a number per architecture that identifies duplicates
batch         `GraphBatch`, several graphs as torch tensors

Only `batch` imports torch; names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.graph.assembly import N_EDGES as N_EDGES
    from deepnets.graph.assembly import N_NODES as N_NODES
    from deepnets.graph.assembly import N_PARAMETERS as N_PARAMETERS
    from deepnets.graph.assembly import Tape as Tape
    from deepnets.graph.assembly import assemble as assemble
    from deepnets.graph.assembly import contains as contains
    from deepnets.graph.assembly import new_tape as new_tape
    from deepnets.graph.batch import GraphBatch as GraphBatch
    from deepnets.graph.build import build_graph as build_graph
    from deepnets.graph.build import count_parameters as count_parameters
    from deepnets.graph.build import parameter_slots as parameter_slots
    from deepnets.graph.fingerprints import fingerprint as fingerprint
    from deepnets.graph.graph import MAX_DISTANCE as MAX_DISTANCE
    from deepnets.graph.graph import Graph as Graph
    from deepnets.graph.graph import ParameterSlot as ParameterSlot
    from deepnets.graph.graph import Slots as Slots

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "assembly": (
            "N_EDGES",
            "N_NODES",
            "N_PARAMETERS",
            "Tape",
            "assemble",
            "contains",
            "new_tape",
        ),
        "batch": ("GraphBatch",),
        "build": (
            "build_graph",
            "count_parameters",
            "parameter_slots",
        ),
        "fingerprints": ("fingerprint",),
        "graph": (
            "MAX_DISTANCE",
            "Graph",
            "ParameterSlot",
            "Slots",
        ),
    },
)
