"""Encoders of a hypernetwork: they turn the nodes of graphs into embeddings.

gated_gnn       the gated graph network of GHN-1 and GHN-2
compiled_sweep  its propagation node by node in compiled code, on a CPU
level_sweep     its propagation level by level, on a GPU
graphormer      the transformer of GHN-3
mlp             the multilayer perceptron, and the baseline that ignores edges
shape_encoder   embeddings of parameter shapes
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from deepnets.graph import GraphBatch
from ghn_model.config import GHNConfig
from ghn_model.encoders.gated_gnn import GatedGNN
from ghn_model.encoders.graphormer import Graphormer
from ghn_model.encoders.mlp import MLP, NodeMLP
from ghn_model.encoders.shape_encoder import (
    ShapeEncoder,
    axes_of,
    channel_grid,
    channel_rows,
    four_axes,
    is_positional,
    shape_indices,
)
from ghn_model.prepared_batch import PreparedBatch
from ghn_model.registry import ENCODERS, Factory, find_part

__all__ = [
    "ENCODERS",
    "MLP",
    "Encoder",
    "GatedGNN",
    "Graphormer",
    "NodeMLP",
    "ShapeEncoder",
    "axes_of",
    "channel_grid",
    "channel_rows",
    "four_axes",
    "is_positional",
    "make_encoder",
    "register_encoder",
    "shape_indices",
]


class Encoder(Protocol):
    """What a hypernetwork expects of its encoder, besides being a `torch.nn.Module`.

    An encoder may set the attribute ``requires_inputs = False`` if it can do without prepared inputs:
    `batch.encoder_inputs` is then None for graphs that were not prepared in advance.

    Examples
    --------
    An encoder that adds to each node the mean of all nodes of its graph:

    >>> import torch
    >>> class MeanEncoder(torch.nn.Module):
    ...     def __init__(self, config):
    ...         super().__init__()
    ...         self.linear = torch.nn.Linear(config.hidden, config.hidden)
    ...
    ...     def prepare(self, graphs):
    ...         return graphs.graph_index  # graph of each node
    ...
    ...     def forward(self, x, batch):
    ...         sums = x.new_zeros(len(batch.graphs), x.shape[1]).index_add(0, batch.encoder_inputs, x)
    ...         sizes = batch.encoder_inputs.bincount()[:, None]
    ...         return x + self.linear(sums / sizes)[batch.encoder_inputs]
    >>> from ghn_model import GHN, GHNConfig, register_encoder
    >>> register_encoder("example-mean", MeanEncoder)
    >>> ghn = GHN(GHNConfig(hypernet="example-mean", hidden=8))
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> ghn.encode(graph).shape == (graph.num_nodes, 8)
    True
    """

    def prepare(self, graphs: GraphBatch) -> Any:
        """Compute what `forward` needs to know about graphs and that does not depend on weights.

        Parameters
        ----------
        graphs
            One or more graphs, on the CPU, with the virtual edges of `GHNConfig.virtual_edges`: a sequence of `Graph`,
            and tensors of the nodes and edges of all graphs.

        Returns
        -------
        Any nest of tuples, lists and dicts of CPU tensors and plain values, or None.  It is available to `forward` as
        `batch.encoder_inputs`, with the tensors on the device of the hypernetwork.  It must be picklable, because it
        may be computed in a worker process.
        """

    def __call__(self, x: Tensor, batch: PreparedBatch) -> Tensor:
        """Compute the embeddings of all nodes of all graphs; graphs must not affect each other.

        Parameters
        ----------
        x
            `(N, hidden)`, embeddings of the types and shapes of the nodes.
        batch
            The graphs, in the order of the nodes.

        Returns
        -------
        `(N, hidden)`.
        """


def register_encoder(name: str, factory: Factory) -> None:
    """Make an encoder available as a value of `GHNConfig.hypernet`.

    Parameters
    ----------
    name
        The value.
    factory
        Called with the `GHNConfig`; returns a module that fulfils `Encoder`.

    Raises
    ------
    ConfigError
        If another encoder has this name.

    Examples
    --------
    >>> from ghn_model import GHNConfig
    >>> register_encoder("example-mlp", lambda config: NodeMLP(config.hidden))
    >>> GHNConfig(hypernet="example-mlp").hypernet
    'example-mlp'
    """
    ENCODERS.register(name, factory)


def make_encoder(config: GHNConfig) -> nn.Module:
    """Make the encoder of a configuration, with random weights.

    Raises
    ------
    ConfigError
        If the encoder is given as ``"module:attribute"`` and cannot be imported.

    Examples
    --------
    >>> from ghn_model import GHNConfig
    >>> make_encoder(GHNConfig(hypernet="mlp", hidden=8)).fc[0]
    Linear(in_features=8, out_features=8, bias=True)
    """
    return find_part(ENCODERS, config.hypernet)(config)


def _gated_gnn(config: GHNConfig) -> nn.Module:
    return GatedGNN(config.hidden, config.virtual_edges)


def _node_mlp(config: GHNConfig) -> nn.Module:
    return NodeMLP(config.hidden)


def _graphormer(config: GHNConfig) -> nn.Module:
    return Graphormer(config.hidden, config.layers, config.heads, config.virtual_edges)
