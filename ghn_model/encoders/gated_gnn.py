"""The gated graph network of GHN-1 and GHN-2: one sweep along the edges of a graph and one in reverse.

    m_v = sum over edges u -> v of MLP(h_u)  +  sum over nodes u with a path to v of MLP_ve(h_u) / d(u, v)
    h_v = GRU(m_v, h_v)

(Knyazev et al., NeurIPS 2021, equations 3 and 4.)  d(u, v) is the length of the shortest path; nodes connected by an
edge contribute to both sums.  Nodes are updated one after the other in topological order, each from neighbours that
have already been updated in the same sweep.  A message depends on its sender alone, so it is computed once per node.

There are two implementations, both with gradients: `compiled_sweep` updates node by node in compiled code, on a CPU;
`level_sweep` updates all nodes of a level at once, on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from deepnets.graph import Graph, GraphBatch
from ghn_model.encoders.compiled_sweep import propagate
from ghn_model.encoders.level_sweep import LevelSchedule, propagate_by_levels
from ghn_model.encoders.mlp import MLP
from ghn_model.prepared_batch import PreparedBatch

__all__ = ["GatedGNN"]


class GatedGNN(nn.Module):
    """Message passing along edges and virtual edges, in one forward and one reverse sweep.

    Parameters
    ----------
    hidden
        Width of the node embeddings.
    virtual_edges
        Largest shortest-path distance over which messages are passed; 1 for edges alone.

    Examples
    --------
    >>> import torch
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> batch = GHN("ghn2").prepare(graph)
    >>> GatedGNN(hidden=32, virtual_edges=50)(torch.zeros(graph.num_nodes, 32), batch).shape == (graph.num_nodes, 32)
    True
    """

    requires_inputs = False  # on a CPU, no schedule is needed

    def __init__(self, hidden: int, virtual_edges: int) -> None:
        super().__init__()
        self.virtual_edges = virtual_edges
        inner = hidden // 2 if virtual_edges > 1 else hidden
        self.mlp = MLP(hidden, inner, hidden)
        if virtual_edges > 1:
            self.mlp_ve = MLP(hidden, inner, hidden)
        self.gru = nn.GRUCell(hidden, hidden)

    def prepare(self, graphs: GraphBatch | Sequence[Graph]) -> LevelSchedule:
        """The order in which `forward` updates the nodes of the graphs level by level."""
        return LevelSchedule.from_batch(GraphBatch.of(graphs, self.virtual_edges))

    def forward(self, x: Tensor, batch: PreparedBatch) -> Tensor:
        """`(N, hidden)` -> `(N, hidden)` for the N nodes of all graphs of the batch, which do not affect each other."""
        if x.device.type == "cpu":
            matrices = GraphBatch.of(batch.graphs, self.virtual_edges).distance_matrices()
            return propagate(x, matrices, *self.weights())
        schedule = self.prepare(batch.graphs) if batch.encoder_inputs is None else batch.encoder_inputs
        return propagate_by_levels(x, schedule, *self.weights())

    def weights(self) -> tuple[Sequence[Tensor], Sequence[Tensor] | None, Sequence[Tensor]]:
        """Weights of the layers for messages along edges and along shortest paths, and of the GRU."""
        path_mlp = self.mlp_ve.weights() if self.virtual_edges > 1 else None
        gru = (self.gru.weight_ih, self.gru.weight_hh, self.gru.bias_ih, self.gru.bias_hh)
        return self.mlp.weights(), path_mlp, gru
