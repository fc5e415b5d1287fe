"""`CompactModel`: a network that computes channels that are equal once (see `channels`).

It needs no knowledge of how the parameters were made: equal rows of weights are found by comparing them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import deepnets.architecture.channel_functions  # noqa: F401  registers layers
from deepnets.architecture.channels import Channels, Index, Memory
from deepnets.architecture.compact_tensor import whole

__all__ = ["CompactModel"]


class CompactModel:
    """A network without gradients that computes equal channels once.

    Parameters
    ----------
    function
        From images to outputs: a module, or a function that uses one.  Its parameters must not change, and must be the
        same tensors in every call.
    model
        The module that a function uses, if any: its convolutions find equal outputs of any inputs.  It has hooks during
        a call.

    Examples
    --------
    >>> from deepnets import GENOTYPES, Network, NetworkConfig
    >>> _ = torch.manual_seed(0)
    >>> network = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=32))
    >>> images = torch.randn(4, 3, 32, 32)
    >>> torch.allclose(CompactModel(network)(images), network(images), atol=1e-5)
    True
    """

    def __init__(self, function: Callable[[Any], Any], model: nn.Module | None = None) -> None:
        self.function = function
        self._memory: Memory = {}
        self._convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)] if model else []

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Any:
        """Compute the outputs for images.

        Parameters
        ----------
        images
            `(B, C, H, W)`.

        Returns
        -------
        What `function` returns.
        """
        with contextlib.ExitStack() as hooks:
            for module in self._convolutions:
                hooks.enter_context(module.register_forward_pre_hook(self._wrapped, with_kwargs=True))
            return whole(self.function(Channels(images, Index.identity(images.shape[1]), self._memory)))

    def _wrapped(self, module: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:
        x = inputs[0] if inputs else named["input"]
        if isinstance(x, Tensor) and x.dim() == 4:  # not of a single image
            x = Channels(x, Index.identity(x.shape[1]), self._memory)
        return (x,), {}
