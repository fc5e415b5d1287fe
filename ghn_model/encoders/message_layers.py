"""What both implementations of `GatedGNN` compute for all nodes at once, before they update one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["gates_from_state", "message_layers"]


def message_layers(
    edge_mlp: Sequence[Tensor], path_mlp: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases of two layers that compute the messages of both kinds at once.

    Parameters
    ----------
    edge_mlp, path_mlp
        Weights and biases of the layers that compute messages along edges and along shortest paths; `path_mlp` is None
        without virtual edges.

    Examples
    --------
    >>> layers = torch.zeros(3, 8), torch.zeros(3), torch.zeros(8, 3), torch.zeros(8)
    >>> [tuple(tensor.shape) for tensor in message_layers(layers, layers)]
    [(6, 8), (6,), (16, 6), (16,)]
    """
    w1, b1, w2, b2 = edge_mlp
    if path_mlp is None:
        return w1, b1, w2, b2
    path_w1, path_b1, path_w2, path_b2 = path_mlp
    last: Tensor = torch.block_diag(w2, path_w2)  # type: ignore[no-untyped-call]
    return torch.cat([w1, path_w1]), torch.cat([b1, path_b1]), last, torch.cat([b2, path_b2])


def gates_from_state(state: Tensor, gru: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What the old states add to the gates of a GRU.

    Parameters
    ----------
    state
        `(..., h)`, old states.
    gru
        `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` of a `torch.nn.GRUCell`.

    Returns
    -------
    gates
        `(..., 3h)`, preactivations of reset, update and new state without the received messages and without the part of
        the new state that the reset gate multiplies.
    new
        `(..., h)`, this part.

    Examples
    --------
    >>> gru = torch.nn.GRUCell(8, 8)
    >>> [part.shape[1] for part in gates_from_state(torch.zeros(2, 8), tuple(gru.parameters()))]
    [24, 8]
    """
    _, weight_hh, bias_ih, bias_hh = gru
    width = state.shape[-1]
    gates, new = torch.split(F.linear(state, weight_hh, bias_hh), [2 * width, width], dim=-1)
    return torch.cat([gates, torch.zeros_like(new)], dim=-1) + bias_ih, new
