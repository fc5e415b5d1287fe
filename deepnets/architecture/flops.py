"""Floating-point operations of a network, counted by PyTorch."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["count_flops"]


def count_flops(model: nn.Module, input: Tensor | None = None, *, image_size: int = 32) -> int:
    """Count the floating-point operations of the forward pass of a network for one example.

    The operations are counted by `torch.utils.flop_counter.FlopCounterMode`: those of convolutions, linear layers and
    products of matrices, such as attention, where a multiplication and an addition are two operations.  The network
    runs on the `meta` device, so nothing is computed, and its parameters do not change.

    Parameters
    ----------
    model
        The network, in the mode (`train` or `eval`) that is counted.
    input
        Two or more examples of its input, `(B, ...)`; only the shape and the dtype matter.  Batch norms that have no
        running statistics do not accept one example.  By default, images `(2, 3, image_size, image_size)`.
    image_size
        Height and width of the default images.

    Returns
    -------
    int
        Operations of the whole batch, divided by the number of examples.

    Raises
    ------
    ConfigError
        If the input has no examples, or the image size is not allowed.

    Examples
    --------
    >>> count_flops(nn.Conv2d(3, 8, 3, padding=1), image_size=32) == 2 * 3 * 3 * 3 * 8 * 32 * 32
    True
    >>> count_flops(nn.Linear(10, 5), torch.zeros(2, 10))
    100
    """
    size = checked_integer("image_size", image_size, at_least(1))
    examples = torch.empty(2, 3, size, size) if input is None else input
    if examples.ndim == 0 or len(examples) == 0:
        raise ConfigError(f"input: expected a batch of examples, got a tensor of shape {tuple(examples.shape)}")
    state = {name: tensor.to("meta") for name, tensor in chain(model.named_parameters(), model.named_buffers())}
    with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
        functional_call(model, state, (examples.to("meta"),))
    return int(counter.get_total_flops()) // len(examples)
