"""The multilayer perceptron, which several parts of a hypernetwork use, and the encoder that ignores edges."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from deepnets.graph import GraphBatch
from ghn_model.prepared_batch import PreparedBatch

__all__ = ["MLP", "NodeMLP"]


class MLP(nn.Module):
    """Two linear layers with a ReLU after the first one.

    Parameters
    ----------
    inputs, hidden, outputs
        Number of features before, between and after the layers.
    last_relu
        Whether a ReLU follows the second layer, too.

    Examples
    --------
    >>> import torch
    >>> MLP(4, 8, 2)(torch.zeros(5, 4)).shape
    torch.Size([5, 2])
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, last_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs)]
        self.fc = nn.Sequential(*layers, *([nn.ReLU()] if last_relu else []))

    def forward(self, x: Tensor) -> Tensor:
        """`(..., inputs)` -> `(..., outputs)`."""
        output: Tensor = self.fc(x)
        return output

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight and bias of the first and of the second layer; `parameters()` takes ten times as long."""
        first: Any = self.fc[0]
        second: Any = self.fc[2]
        return first.weight, first.bias, second.weight, second.bias


class NodeMLP(MLP):
    """The encoder of the baseline "MLP": each node is embedded without information from other nodes.

    Parameters
    ----------
    hidden
        Width of the node embeddings.

    Examples
    --------
    >>> import torch
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> batch = GHN("mlp").prepare(graph)
    >>> NodeMLP(32)(torch.zeros(graph.num_nodes, 32), batch).shape == (graph.num_nodes, 32)
    True
    """

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden, hidden, hidden)

    def prepare(self, graphs: GraphBatch) -> None:
        """None, because edges are ignored."""

    def forward(self, x: Tensor, batch: PreparedBatch) -> Tensor:  # type: ignore[override]
        """`(N, hidden)` -> `(N, hidden)`; the batch is ignored."""
        return super().forward(x)
