"""`Scales`, the smallest hypernetwork that a user could write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepnets import Graph

__all__ = ["Scales"]


class Scales(nn.Module):
    """Predicts constants: one for tensors with one axis, one for others."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(2) / 10)

    def forward(self, graphs: Sequence[Graph]) -> list[dict[str, Tensor]]:
        return [
            {
                slot.name: self.scale[int(len(slot.shape) > 1)].expand(slot.shape)
                for slots in graph.parameters
                for slot in slots
            }
            for graph in graphs
        ]
