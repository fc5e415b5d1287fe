"""Layer-sequential unit-variance initialization (Mishkin and Matas, "All you need is a good init", ICLR 2016)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.accuracy import random_generator
from benchmark.predictors.orthogonal import OrthogonalInit
from deepnets.data import Images
from deepnets.graph import Graph

__all__ = ["NUM_IMAGES", "LSUVInit"]

NUM_IMAGES = 64
"""Number of training images by whose activations the weights are scaled."""

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
_SMALLEST = 1e-12  # variance of outputs that carry no signal


class LSUVInit:
    """A predictor: orthogonal weights, scaled so that the outputs of every layer have variance 1 on training images.

    The network processes one batch.  When a convolution or linear layer has computed its outputs, its weight is divided
    by their standard deviation, and the layers after it see the outputs of the scaled layer.  Biases are 0, so one
    division is exact, and the published iteration is not needed.  Batch norms use the statistics of the batch; all else
    is in evaluation mode, so that dropout and stochastic depth do not change the variances.  Weights that are not those
    of a convolution or linear layer, such as those in `torch.nn.MultiheadAttention`, are orthogonal.

    Parameters
    ----------
    images
        `(B, C, H, W)`, training images.

    Examples
    --------
    >>> from deepnets import trace
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> images = torch.randn(16, 3, 2, 2)
    >>> values = LSUVInit(images)(model, trace(model, images))
    >>> round(float(torch.func.functional_call(model, values, (images,)).var()), 3)
    1.0
    """

    def __init__(self, images: Tensor) -> None:
        self._images = images

    @classmethod
    def from_images(cls, images: Images) -> LSUVInit:
        """Make the predictor from random images of a set, which may be sorted by class; the same ones in every call."""
        generator = random_generator(images, seed=0)
        return cls(next(iter(images.batches(NUM_IMAGES, shuffle=True, generator=generator)))[0])

    @torch.no_grad()
    def __call__(self, model: nn.Module, graph: Graph) -> dict[str, Tensor]:
        """Return the parameters of a network by name."""
        scaled = copy.deepcopy(model).eval()
        start = OrthogonalInit()(model, graph)
        parameters = dict(scaled.named_parameters())
        for name, value in start.items():
            parameters[name].copy_(value)
        done: set[int] = set()
        hooks = []
        for module in scaled.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
            elif isinstance(module, _LAYERS):
                hooks.append(module.register_forward_hook(_Scaling(done)))
        try:
            scaled(self._images.to(next(iter(parameters.values())).device))
        finally:
            for hook in hooks:
                hook.remove()
        return {name: parameter.detach() for name, parameter in scaled.named_parameters()}


class _Scaling:
    """Forward hook that scales a layer, the first time that it runs, and returns its new outputs."""

    def __init__(self, done: set[int]) -> None:
        self._done = done

    def __call__(self, module: nn.Module, inputs: Iterable[Any], output: Tensor) -> Tensor | None:
        weight = module.weight
        if id(weight) in self._done or not isinstance(weight, Tensor):
            return None
        self._done.add(id(weight))
        variance = float(output.var())
        if not variance > _SMALLEST or variance == float("inf"):
            return None
        weight.div_(math.sqrt(variance))
        return output / math.sqrt(variance)
