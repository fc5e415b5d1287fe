"""Parts for a hypernetwork of your own.

A hypernetwork turns graphs into tensors.  The parts below are those that `GHN` is made of; use as many as you like.

=====================  ================================================================================================
`GraphBatch`           several graphs as tensors: types, cells and levels of nodes, edges, distances
`collate_graphs`       a `PreparedBatch`: the batch with features of nodes and the decoding plan, made without weights
`ShapeEncoder`         embeddings of the parameter shapes of nodes (`shape_indices` are its inputs)
`make_encoder`         the encoder of a published hypernetwork, from its `GHNConfig`
`NodeDecoder`          all parameters of all graphs from the embeddings of nodes, with the published decoders
`ConvDecoder`, ...     these decoders one by one, to decode values in another way
`tile`, `gain`         repeat a decoded block to the shape of a parameter; the factor that normalizes its values
=====================  ================================================================================================

Type features of nodes are an `torch.nn.Embedding` of `PreparedBatch.node_types`, with `NUM_NODE_TYPES` rows.

Examples
--------
A hypernetwork that embeds every node by its type and shape, and ignores the edges:

>>> import torch
>>> from ghn_model import GHNConfig
>>> class NodesOnly(torch.nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.config = GHNConfig(hidden=16, virtual_edges=1)
...         self.types = torch.nn.Embedding(NUM_NODE_TYPES, 16)
...         self.shapes = ShapeEncoder(16, num_classes=10, largest=11)
...         self.decoder = NodeDecoder(self.config)
...
...     def forward(self, graphs):
...         batch = collate_graphs(graphs, self.config)
...         return self.decoder(batch, self.types(batch.node_types) + self.shapes(batch.shapes))
>>> from deepnets import GENOTYPES, NetworkConfig, build_graph
>>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
>>> (parameters,) = NodesOnly()([graph])
>>> parameters["classifier.0.weight"].shape
torch.Size([10, 64])

A decoder of your own repeats what it decodes:

>>> slot = graph.parameters[1][0]
>>> slot.shape, axes_of(slot)
((24, 3, 3, 3), (24, 3, 3, 3))
>>> block = torch.randn(4, 3, 1, 1)  # decoded from the embedding of node 1
>>> (gain(slot.shape) * tile(block, slot.shape)).shape
torch.Size([24, 3, 3, 3])
"""

from __future__ import annotations

from torch import Tensor, nn

from deepnets.architecture import NODE_TYPE_ROWS
from deepnets.graph import GraphBatch
from ghn_model.collation import collate_graphs
from ghn_model.config import GHNConfig
from ghn_model.decoders import (
    ClassHead,
    ConvDecoder,
    Decoders,
    LowRankDecoder,
    MLPDecoder,
    Parameters,
    VectorDecoder,
    decode_batch,
    gain,
    make_decoder,
    make_vector_decoders,
    output_layers,
    plan_decoding,
    tile,
)
from ghn_model.encoders import MLP, ShapeEncoder, axes_of, four_axes, make_encoder, shape_indices
from ghn_model.initialization import initialize_weights
from ghn_model.prepared_batch import PreparedBatch

__all__ = [
    "MLP",
    "NUM_NODE_TYPES",
    "ClassHead",
    "ConvDecoder",
    "Decoders",
    "GraphBatch",
    "LowRankDecoder",
    "MLPDecoder",
    "NodeDecoder",
    "PreparedBatch",
    "ShapeEncoder",
    "VectorDecoder",
    "axes_of",
    "collate_graphs",
    "decode_batch",
    "four_axes",
    "gain",
    "initialize_weights",
    "make_decoder",
    "make_encoder",
    "make_vector_decoders",
    "plan_decoding",
    "shape_indices",
    "tile",
]

NUM_NODE_TYPES = 1 + max(NODE_TYPE_ROWS["published"])
"""Number of rows of an embedding table of `PreparedBatch.node_types`, unless `GHNConfig.node_types` is "language"."""


class NodeDecoder(nn.Module):
    """Decodes all parameters of graphs from the embeddings of their nodes, as published hypernetworks do.

    Parameters
    ----------
    config : GHNConfig
        Its fields `hidden`, `decoder`, `max_shape`, `num_classes`, `weight_norm`, `window` and those of LoGAH apply.
        With ``init="small"``, the last layers start with small weights, so that the first predictions are small.

    Raises
    ------
    ConfigError
        If the decoder of the configuration cannot be imported.

    Examples
    --------
    >>> import torch
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> config = GHNConfig(hidden=8, init="small")
    >>> batch = collate_graphs(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8)), config)
    >>> (parameters,) = NodeDecoder(config)(batch, torch.randn(len(batch.node_types), 8))
    >>> parameters["stem.0.weight"].shape
    torch.Size([24, 3, 3, 3])
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.config = config
        self.maps = make_decoder(config)
        self.vectors, self.class_bias = make_vector_decoders(config)
        if config.init == "small":
            initialize_weights(self, output_layers(config, self.maps, self.vectors))

    def forward(self, batch: PreparedBatch, embeddings: Tensor) -> list[Parameters]:
        """Decode parameters.

        Parameters
        ----------
        batch : PreparedBatch
            The graphs, prepared with the same configuration (`collate_graphs`).
        embeddings : Tensor
            `(N, hidden)` floating point, one row for each of the N nodes of all graphs.

        Returns
        -------
        list of dict of str to Tensor
            For each graph a tensor for every parameter in ``graph.parameters``, on the device of the embeddings.
            Tensors of equal shapes share memory; do not change them in place.
        """
        decoders = Decoders(self.maps, self.vectors, self.class_bias)
        return decode_batch(batch.to(embeddings.device), embeddings, decoders, self.config)
