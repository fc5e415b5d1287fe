"""What hypernetworks read from graphs: arrays made once, in another process if need be, and checks of the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from deepnets.graph import Graph, GraphBatch
from deepnets.support import ConfigError
from ghn_model.decoders import Plan

__all__ = ["Prepared", "check_fit", "checked_graphs", "shown"]


class Prepared(NamedTuple):
    """What a hypernetwork reads from graphs (`GHN.prepare`).

    Attributes
    ----------
    graphs
        The graphs, N nodes together.
    node_types, shapes
        `(N,) int64` and `(N, 4) int64`, rows of the tables of embeddings.
    schedule
        What the encoder has prepared.
    plan
        What decodes which parameter.
    """

    graphs: list[Graph]
    node_types: Tensor
    shapes: Tensor
    schedule: Any
    plan: Plan

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Prepared:
        """The same with its tensors on a device."""
        device = torch.device(device)
        if self.node_types.device == device:
            return self
        node_types, shapes = (t.to(device, non_blocking=non_blocking) for t in (self.node_types, self.shapes))
        schedule = tree_map_only(Tensor, lambda t: t.to(device, non_blocking=non_blocking), self.schedule)
        return Prepared(self.graphs, node_types, shapes, schedule, self.plan.to(device, non_blocking))


def checked_graphs(graphs: Any) -> list[Graph]:
    """One graph or several as a list; `ConfigError` for anything else."""
    if isinstance(graphs, GraphBatch):
        return graphs.graphs
    several = [graphs] if isinstance(graphs, Graph) else graphs
    if not isinstance(several, Sequence) or not several or not all(isinstance(graph, Graph) for graph in several):
        raise ConfigError(f"graphs: expected one Graph or more, or a GraphBatch, got {shown(graphs)}")
    return list(several)


def check_fit(graph: Graph, targets: Mapping[str, Tensor]) -> None:
    """Make sure that a graph is that of a network with these parameters."""
    for slot in (slot for slots in graph.parameters for slot in slots):
        if slot.name not in targets:
            raise ConfigError(f"graph: has the parameter {slot.name}, which the model lacks; is it of another model?")
        if targets[slot.name].shape != slot.shape:
            shape = tuple(targets[slot.name].shape)
            raise ConfigError(f"graph: {slot.name} has shape {slot.shape}, in the model {shape}; trace the model anew")


def shown(value: Any) -> str:
    """The type of a value, and of what is in it, for messages."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {', '.join(sorted({type(part).__name__ for part in value})) or 'nothing'}"
    return type(value).__name__
