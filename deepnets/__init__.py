"""DeepNets-1M: random neural architectures as values, graphs, PyTorch networks and files.

    NetworkConfig ── build_graph ──▶ Graph            what a hypernetwork reads
                  ── Network ──────▶ torch.nn.Module  what runs on images
                                         └─ trace ──▶ Graph   of any module
    DeepNets1M("data", split="test")                  a million of them, from one small file per split

Importing this package imports no torch: names are loaded when they are first used, so that the workers which build
the corpus start fast and stay small.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepnets.batch import GraphBatch as GraphBatch
    from deepnets.blueprint import build_graph as build_graph
    from deepnets.dataset import DeepNets1M as DeepNets1M
    from deepnets.dataset import MetaBatchSampler as MetaBatchSampler
    from deepnets.drawing import draw as draw
    from deepnets.errors import CheckpointError as CheckpointError
    from deepnets.errors import ConfigError as ConfigError
    from deepnets.errors import DeepNetsError as DeepNetsError
    from deepnets.errors import FormatError as FormatError
    from deepnets.errors import IntegrityError as IntegrityError
    from deepnets.errors import TraceError as TraceError
    from deepnets.errors import TrainingError as TrainingError
    from deepnets.graph import Graph as Graph
    from deepnets.graph import ParameterSlot as ParameterSlot
    from deepnets.network import Network as Network
    from deepnets.space import GENOTYPES as GENOTYPES
    from deepnets.space import NODE_TYPES as NODE_TYPES
    from deepnets.space import PRIMITIVES as PRIMITIVES
    from deepnets.space import Genotype as Genotype
    from deepnets.space import NetworkConfig as NetworkConfig
    from deepnets.tracing import trace as trace

__version__ = "0.1.0"

_HOME = {
    "build_graph": "blueprint",
    "DeepNets1M": "dataset",
    "MetaBatchSampler": "dataset",
    "GraphBatch": "batch",
    "draw": "drawing",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DeepNetsError": "errors",
    "FormatError": "errors",
    "IntegrityError": "errors",
    "TraceError": "errors",
    "TrainingError": "errors",
    "Graph": "graph",
    "ParameterSlot": "graph",
    "Network": "network",
    "GENOTYPES": "space",
    "NODE_TYPES": "space",
    "PRIMITIVES": "space",
    "Genotype": "space",
    "NetworkConfig": "space",
    "trace": "tracing",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deepnets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"deepnets.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
