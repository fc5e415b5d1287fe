"""Slots: the parameter tensors that the nodes of a graph stand for, described by name, shape and role."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ROLES", "ParameterSlot", "Slots"]

ROLES = (
    *("weight", "bias", "norm_weight", "norm_bias", "pos_enc"),
    *("class_weight", "class_bias"),  # of the last linear layer, whose outputs are the logits
    *("scale", "token", "rel_pos", "embed"),  # only in traced networks
)
"""Roles of parameters, by which a hypernetwork chooses how to decode them."""


class ParameterSlot(NamedTuple):
    """Description of a parameter tensor that a node of a graph stands for.

    Attributes
    ----------
    name
        Name of the parameter, as in `torch.nn.Module.named_parameters`.
    shape
        Shape of the tensor.
    role
        One of `ROLES`.

    Examples
    --------
    >>> slot = ParameterSlot("stem.0.weight", (32, 3, 3, 3), "weight")
    >>> slot.numel
    864
    """

    name: str
    shape: tuple[int, ...]
    role: str

    @property
    def numel(self) -> int:
        """Number of elements of the tensor."""
        return math.prod(self.shape)


class Slots(NamedTuple):
    """The parameter slots of a graph.

    Attributes
    ----------
    nodes
        For each of the N nodes, its slots: none, one, or two (the weight and the bias of a norm).
    unused
        Parameters of the network that no node stands for, because no data reaches them.
    node_types
        `(N,) uint8`, types of the nodes, to check that the slots belong to a graph.

    Examples
    --------
    >>> slots = Slots((((ParameterSlot("fc.bias", (10,), "bias"),)),), (), np.array([10], np.uint8))
    >>> len(slots.nodes)
    1
    """

    nodes: tuple[tuple[ParameterSlot, ...], ...]
    unused: tuple[ParameterSlot, ...]
    node_types: npt.NDArray[np.uint8]
