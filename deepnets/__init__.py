"""DeepNets-1M: a million neural architectures as configurations, graphs, PyTorch networks and files.

    NetworkConfig ── build_graph ──▶ Graph            the input of a hypernetwork
                  ── Network ──────▶ torch.nn.Module  an image classifier
    torch.nn.Module ─── trace ─────▶ Graph            the graph of any module
    DeepNets1M("data", split="test")                  the graphs of a split, read from one HDF5 file
    FamilyNetworks("resnet-widths", split="test")     networks of one kind in many sizes, by rule

architecture     configurations, vocabulary, torch modules      corpus           the dataset and its files
graph            graphs, building, batching                      original_format  files of the original release
tracing          graphs of any torch module                      data             image sets
drawing          pictures of graphs                              onnx_models      ONNX files of graphs and models
families         networks of one kind in many sizes              support          utilities

Names are imported on first use.  Importing this package does not import torch, so that the worker processes of the
generator start fast and need little memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.architecture import GENOTYPES as GENOTYPES
    from deepnets.architecture import NODE_TYPES as NODE_TYPES
    from deepnets.architecture import PRIMITIVES as PRIMITIVES
    from deepnets.architecture import Genotype as Genotype
    from deepnets.architecture import Network as Network
    from deepnets.architecture import NetworkConfig as NetworkConfig
    from deepnets.architecture import count_flops as count_flops
    from deepnets.architecture import parse_genotype as parse_genotype
    from deepnets.corpus import DeepNets1M as DeepNets1M
    from deepnets.corpus import MetaBatchSampler as MetaBatchSampler
    from deepnets.drawing import draw as draw
    from deepnets.families import FamilyNetworks as FamilyNetworks
    from deepnets.graph import Graph as Graph
    from deepnets.graph import GraphBatch as GraphBatch
    from deepnets.graph import ParameterSlot as ParameterSlot
    from deepnets.graph import build_graph as build_graph
    from deepnets.onnx_models import read_onnx as read_onnx
    from deepnets.onnx_models import write_onnx as write_onnx
    from deepnets.support import BusyError as BusyError
    from deepnets.support import CheckpointError as CheckpointError
    from deepnets.support import ConfigError as ConfigError
    from deepnets.support import DeepNetsError as DeepNetsError
    from deepnets.support import FormatError as FormatError
    from deepnets.support import IntegrityError as IntegrityError
    from deepnets.support import MissingDataError as MissingDataError
    from deepnets.support import MissingDependencyError as MissingDependencyError
    from deepnets.support import TraceError as TraceError
    from deepnets.support import TrainingError as TrainingError
    from deepnets.support import load_model as load_model
    from deepnets.tracing import trace as trace

__version__ = "0.2.0"

__getattr__, __dir__, _names = lazy_exports(
    __name__,
    {
        "architecture": (
            "GENOTYPES",
            "NODE_TYPES",
            "PRIMITIVES",
            "Genotype",
            "Network",
            "NetworkConfig",
            "count_flops",
            "parse_genotype",
        ),
        "corpus": (
            "DeepNets1M",
            "MetaBatchSampler",
        ),
        "drawing": ("draw",),
        "families": ("FamilyNetworks",),
        "graph": (
            "Graph",
            "GraphBatch",
            "ParameterSlot",
            "build_graph",
        ),
        "onnx_models": (
            "read_onnx",
            "write_onnx",
        ),
        "support": (
            "BusyError",
            "CheckpointError",
            "ConfigError",
            "DeepNetsError",
            "FormatError",
            "IntegrityError",
            "MissingDataError",
            "MissingDependencyError",
            "TraceError",
            "TrainingError",
            "load_model",
        ),
        "tracing": ("trace",),
    },
)
__all__ = ["__version__", *_names]
