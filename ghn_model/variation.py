"""Noise and orthogonal matrices, which make predicted parameters a better starting point for training.

Predicted tensors consist of repeated blocks, so many of their rows are equal and stay equal under gradient descent.
`vary` breaks the symmetry with noise and can replace matrices by orthogonal ones that span the same space, as the
authors of GHN-3 do before fine-tuning (Knyazev et al., ICML 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from deepnets.support import ConfigError, at_least, checked_integer

__all__ = ["vary"]


def vary(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    noise: float = 0.0,
    orthogonal_from: int | None = None,
    max_size: int = 0,
    *,
    seed: int | torch.Generator = 0,
) -> dict[str, Tensor]:
    """Add noise to predicted weights and make them orthogonal.

    Layers are the modules whose `weight` has at least two axes, in the order of `named_modules()`.  The last one, the
    classifier, is not changed.  The weight of a layer is treated as a matrix M, with the first axis as rows and the
    other axes as columns, transposed if it has fewer rows than columns.

    - Noise is normally distributed.  Its standard deviation is `noise` times the standard deviation of the entries of
      the correlation matrix of the rows of M, so it is larger where rows are more correlated.
    - Then M is replaced by Q of its QR decomposition, with signs such that the diagonal of R is not negative.

    Parameters
    ----------
    model
        The network, or one of the same structure on the ``meta`` device.
    parameters
        Predicted tensors by name; they are not changed.  Layers without a predicted weight are counted, but skipped.
    noise
        Scale of the noise, at least 0.  The authors use 1e-5, or 3e-5 together with orthogonal matrices.
    orthogonal_from
        Number of the first layer to make orthogonal, from 1; earlier layers get no noise, either.  The authors use 37
        for a ResNet-50.  If None, all layers get noise and none is made orthogonal.
    max_size
        Only layers that are larger than this along the first or second axis are changed.  Noise is added only to the
        elements beyond this size along both axes.
    seed
        Seed of the noise, or a generator on the CPU.

    Returns
    -------
    All parameters, in the same order.  Tensors that are not changed are not copied.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3))
    >>> varied = vary(model, dict(model.named_parameters()), orthogonal_from=1)
    >>> weight = varied["0.weight"]
    >>> torch.allclose(weight @ weight.T, torch.eye(2), atol=1e-6)
    True
    """
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < math.inf:
        raise ConfigError(f"noise: expected a number of at least 0, got {noise!r}")
    first = 1 if orthogonal_from is None else checked_integer("orthogonal_from", orthogonal_from, at_least(1))
    max_size = checked_integer("max_size", max_size, at_least(0))
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    varied = dict(parameters)
    layers = _layers(model)
    for number, (name, tensor) in enumerate(layers[:-1], start=1):
        weight = varied.get(name)
        is_classifier = tensor is layers[-1][1]  # the table of a language model can be its classifier, too
        if weight is None or is_classifier or number < first or max(weight.shape[:2]) <= max_size:
            continue
        with torch.no_grad():
            if noise > 0:
                weight = _with_noise(weight, noise, max_size, generator)
            if orthogonal_from is not None:
                weight = _orthogonal(weight)
        varied[name] = weight
    return varied


def _layers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The weights with at least two axes by name, in the order of the modules."""
    found = []
    for name, module in model.named_modules():
        weight = _weight(module)
        if isinstance(weight, Tensor) and weight.ndim >= 2:
            found.append((f"{name}.weight" if name else "weight", weight))
    return found


def _weight(module: nn.Module) -> Any:
    """The weight of a module; if it is parametrized, what it is computed from, because computing can change buffers."""
    if not is_parametrized(module, "weight"):
        return getattr(module, "weight", None)
    parts: Any = module.parametrizations["weight"]  # type: ignore[index]
    return parts.original if hasattr(parts, "original") else parts.original0


def _tall(weight: Tensor) -> tuple[Tensor, bool]:
    """A weight as a matrix with at least as many rows as columns, float32 or better, and whether it was transposed."""
    matrix = weight.flatten(1)
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.float()
    transposed = matrix.shape[0] < matrix.shape[1]
    return (matrix.T if transposed else matrix), transposed


def _with_noise(weight: Tensor, noise: float, max_size: int, generator: torch.Generator) -> Tensor:
    noisy = weight.clone()
    part = noisy[max_size:, max_size:]
    draw = torch.randn(part.shape, generator=generator, device="cpu").to(part)  # equal on every device
    part += noise * _correlation_spread(_tall(weight)[0]).to(part) * draw
    return noisy


def _correlation_spread(matrix: Tensor) -> Tensor:
    """Standard deviation of the entries of the correlation matrix of the rows; constant rows have correlation 0.

    For rows z with mean 0 and norm 1, the entries sum to |sum of z|^2 and their squares to |ZᵀZ|^2.  The correlation
    matrix itself is not computed, because it would take 2.5 GB for the first fully connected layer of a VGG.
    """
    rows = len(matrix)
    if rows < 2:
        return matrix.new_zeros(())
    centred = matrix - matrix.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    constant = length <= 10 * torch.finfo(matrix.dtype).eps * matrix.norm(dim=1, keepdim=True)  # rounding noise
    z = torch.where(constant, 0, centred / length)
    total, squares, number = z.sum(dim=0).square().sum(), (z.T @ z).square().sum(), rows * rows
    return ((squares - total * total / number) / (number - 1)).clamp(min=0).sqrt()


def _orthogonal(weight: Tensor) -> Tensor:
    tall, transposed = _tall(weight)
    q, r = torch.linalg.qr(tall)
    q = torch.where(r.diagonal() < 0, -q, q)  # a diagonal element of 0 leaves the sign
    return (q.T if transposed else q).reshape(weight.shape).to(weight)
