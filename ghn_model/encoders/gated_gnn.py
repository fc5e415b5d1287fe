"""The gated graph network of GHN-1 and GHN-2: one sweep along the edges of a graph, and one back.

    m_v = sum over edges u -> v of MLP(h_u)  +  sum over paths u -> v of d edges of MLP_ve(h_u) / d
    h_v = GRU(m_v, h_v)

(Knyazev et al., NeurIPS 2021, equations 3 and 4; the second sum has the edges, too.)  Nodes are updated one after the
other, each from neighbours that were updated in the same sweep.  A message depends on its sender alone, so it is
computed once per node.  There are two ways to go through the nodes:

- level by level, the nodes of a level of all graphs at once, on any device: `ghn_model.sweep_levels`;
- node by node, in compiled code, many times faster on a CPU: `ghn_model.sweep` for predictions,
  `ghn_model.sweep_gradients` for training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepnets.graph import Graph
from ghn_model.encoders.sweep import propagate
from ghn_model.encoders.sweep_gradients import propagate_differentiably
from ghn_model.encoders.sweep_levels import Schedule, propagate_by_levels

__all__ = ["MLP", "GatedGNN", "NodeMLP"]


class MLP(nn.Module):
    """Two linear layers, each followed by a ReLU, the last one if `last_relu`."""

    def __init__(self, inputs: int, hidden: int, outputs: int, last_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs)]
        self.fc = nn.Sequential(*layers, *([nn.ReLU()] if last_relu else []))

    def forward(self, x: Tensor) -> Tensor:
        """`(..., inputs)` -> `(..., outputs)`."""
        output: Tensor = self.fc(x)
        return output


class NodeMLP(MLP):
    """The baseline "MLP": embeddings change, but nodes do not learn of each other."""

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden, hidden, hidden)

    def schedule(self, graphs: Sequence[Graph]) -> None:
        """Nothing, as edges are ignored."""

    def forward(self, x: Tensor, graphs: Sequence[Graph], schedule: None = None) -> Tensor:  # type: ignore[override]
        """`(N, hidden)` -> `(N, hidden)`; the graphs are ignored."""
        return super().forward(x)


class GatedGNN(nn.Module):
    """Message passing along edges and virtual edges, in one sweep forward and one back.

    Parameters
    ----------
    hidden
        Width of the node embeddings.
    virtual_edges
        Longest shortest path that messages travel; 1 for edges alone.
    """

    def __init__(self, hidden: int, virtual_edges: int) -> None:
        super().__init__()
        self.virtual_edges = virtual_edges
        inner = hidden // 2 if virtual_edges > 1 else hidden
        self.mlp = MLP(hidden, inner, hidden)
        if virtual_edges > 1:
            self.mlp_ve = MLP(hidden, inner, hidden)
        self.gru = nn.GRUCell(hidden, hidden)

    def schedule(self, graphs: Sequence[Graph]) -> Schedule:
        """What `forward` needs to go level by level; made before, it can be made elsewhere."""
        return Schedule.of(graphs, self.virtual_edges)

    def forward(self, x: Tensor, graphs: Sequence[Graph], schedule: Schedule | None = None) -> Tensor:
        """`(N, hidden)` -> `(N, hidden)` for the nodes of several graphs, which do not interact.

        `schedule` is that of the graphs, with its tensors on the device of `x`.  On a CPU, things are faster without.
        """
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            return propagate(self, x, graphs)
        if x.device.type == "cpu" and schedule is None:
            return propagate_differentiably(self, x, graphs)
        return propagate_by_levels(self, x, schedule or self.schedule(graphs))
