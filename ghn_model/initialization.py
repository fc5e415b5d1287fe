"""Initial values of the weights of a hypernetwork, or none where weights are loaded afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["initialize_weights", "skip_initialization"]


class skip_initialization(TorchFunctionMode):  # noqa: N801
    """A context in which new modules leave their parameters uninitialized.

    In-place functions of parameters, such as those of `torch.nn.init`, do nothing.

    Examples
    --------
    >>> import torch
    >>> with skip_initialization():
    ...     layer = torch.nn.Linear(2, 3)  # the values are arbitrary
    >>> layer.weight.shape
    torch.Size([3, 2])
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        in_place = name.endswith("_") and not name.startswith("_") and name != "requires_grad_"
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        return target if in_place and isinstance(target, nn.Parameter) else function(*args, **kwargs)


@torch.no_grad()
def initialize_weights(model: nn.Module, output_layers: Iterable[nn.Module]) -> None:
    """Initialize the embeddings and the output layers of a hypernetwork as GHN-3 does, in place.

    Parameters
    ----------
    model
        Its embedding tables are initialized so that the variances of a row add up to 1 (ICML 2023).
    output_layers
        Linear layers or convolutions.  Their weights are divided by 5 and their biases, if any, set to 0, which makes
        the first predictions small.

    Examples
    --------
    >>> model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 2))
    >>> initialize_weights(model, [model[1]])
    >>> model[1].bias.tolist()
    [0.0, 0.0]
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=module.embedding_dim**-0.5)
    for layer in output_layers:
        layer.get_parameter("weight").div_(5)
        if getattr(layer, "bias", None) is not None:
            layer.get_parameter("bias").zero_()
