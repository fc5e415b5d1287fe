"""`PreparedBatch`: graphs as the tensors that a hypernetwork reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from deepnets.graph import GraphBatch, ParameterSlot

__all__ = ["DecodingGroup", "ParameterRequest", "PreparedBatch", "Window"]

Window = tuple[int, int, int, int]
"""Part of a decoded map: output channels, input channels, height, width."""


class ParameterRequest(NamedTuple):
    """A parameter to predict.

    Attributes
    ----------
    graph
        Index of the graph in the batch.
    node
        Index of the node among the nodes of all graphs.
    slot
        Name, shape and role of the parameter.
    """

    graph: int
    node: int
    slot: ParameterSlot


class DecodingGroup(NamedTuple):
    """Parameters that are decoded in one call.

    Attributes
    ----------
    kind
        What is decoded: "weight", "bias" or "token" (vectors), "class_bias", "class_weight", "block" (tensors of
        rank 3 that LoGAH reads from one long vector), or "map" (all others).
    runs
        The n parameters; the parameters of one run have the same shape.
    nodes
        `(n,) int64`, node of each parameter.
    gains
        `(n,) float64`, factor by which each parameter is multiplied (see `ghn_model.decoders.gain`).
    window
        Part of the map to decode, or for vectors `(1, length, 1, 1)`.
    block
        Shape of a tensor of the kind "block" before it is cut; otherwise empty.
    """

    kind: str
    runs: list[list[ParameterRequest]]
    nodes: Tensor
    gains: Tensor
    window: Window
    block: tuple[int, ...] = ()

    def split(self, values: Tensor) -> Iterator[tuple[list[ParameterRequest], Tensor]]:
        """The runs, each with its rows of `values` `(n, ...)`."""
        return zip(self.runs, torch.split(values, [len(run) for run in self.runs]))


@dataclass(frozen=True)
class PreparedBatch:
    """Graphs with everything that `GHN.forward` needs and that does not depend on weights.

    `GHN.prepare` and `ghn_model.collation.collate_graphs` make it on the CPU, also in a worker process of a
    `DataLoader`.

    Attributes
    ----------
    graphs
        The graphs, N nodes in total.  They stay on the CPU.
    node_types
        `(N,) int64`, index of each node's type in the embedding table.
    shapes
        `(N, 4) int64`, indices of the sizes of each node's parameter in the embedding tables.
    encoder_inputs
        What the `prepare` method of the encoder returned for the graphs; None if it was not called.
    decoding_plan
        The parameters to predict.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> batch = GHN("ghn2").prepare([graph, graph])
    >>> len(batch.graphs), batch.shapes.shape == (2 * graph.num_nodes, 4)
    (2, True)
    """

    graphs: GraphBatch
    node_types: Tensor
    shapes: Tensor
    encoder_inputs: Any
    decoding_plan: list[DecodingGroup]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PreparedBatch:
        """The batch with its tensors on a device.

        Parameters
        ----------
        device
            The device.
        non_blocking
            As in `torch.Tensor.to`.
        """
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PreparedBatch:
        """The batch with its tensors in page-locked memory, for fast copies to a GPU."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> PreparedBatch:
        return PreparedBatch(
            self.graphs,
            change(self.node_types),
            change(self.shapes),
            tree_map_only(Tensor, change, self.encoder_inputs),
            [group._replace(nodes=change(group.nodes), gains=change(group.gains)) for group in self.decoding_plan],
        )
