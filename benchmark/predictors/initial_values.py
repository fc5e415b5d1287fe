"""Copies of the initial values of a network, and the roles of its parameters."""

from __future__ import annotations

from torch import Tensor, nn

from deepnets.graph import Graph

__all__ = ["initial_values", "roles_of"]


def initial_values(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters of a network by name.

    Examples
    --------
    >>> sorted(initial_values(nn.Linear(2, 3)))
    ['bias', 'weight']
    """
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def roles_of(graph: Graph) -> dict[str, str]:
    """Return the roles of all parameters in a graph by name, as in `deepnets.ParameterSlot`.

    Examples
    --------
    >>> from deepnets import trace
    >>> import torch
    >>> roles_of(trace(nn.Linear(2, 3), torch.zeros(1, 2)))
    {'weight': 'class_weight', 'bias': 'class_bias'}
    """
    return {slot.name: slot.role for slots in (*graph.parameters, graph.unused) for slot in slots}
