"""Making predicted parameters a better start for training: noise, and orthogonal matrices.

Predicted tensors repeat blocks, so many of their rows are equal and stay equal under gradient descent.  `vary` breaks
the symmetry with a little noise, more where rows correlate more, and can replace matrices by orthogonal ones that span
the same space, as the authors of GHN-3 do before fine-tuning (Knyazev et al., ICML 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

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
    """Predicted parameters with noise added and, from a layer on, matrices made orthogonal.

    The layers are the modules of the model, in its order, whose `weight` has two axes or more; the last one, the
    classifier, stays as it is.  M is a weight as a matrix, its first axis against the others, turned so that it has at
    least as many rows as columns.  A weight gets normal noise of standard deviation `noise` times that of the entries
    of the correlation matrix of M's rows, then its M is replaced by the Q of its QR decomposition with the signs of
    R's diagonal.

    Parameters
    ----------
    model
        The network, or one of the same structure on the ``meta`` device.
    parameters
        Its predicted tensors by name; not changed.  Layers without are counted, and left alone.
    noise
        At least 0; the authors use 1e-5, or 3e-5 together with orthogonal matrices.
    orthogonal_from
        Number of the first layer that is changed, from 1 on; the authors use 37 for a ResNet-50.  Given, it holds for
        the noise as well.  None: noise everywhere, and no orthogonal matrices.
    max_size
        Only layers that are larger than this along one of the first two axes are changed; in them, noise leaves what
        lies within this size along either axis as it is.
    seed
        Of the noise, or a generator on the CPU.

    Returns
    -------
    All the parameters, in the same order; what is not changed is the same tensor, not a copy.

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
    for number, name in enumerate(_layers(model)[:-1], start=1):
        weight = varied.get(name)
        if weight is None or number < first or max(weight.shape[:2]) <= max_size:
            continue
        with torch.no_grad():
            if noise > 0:
                weight = _with_noise(weight, noise, max_size, generator)
            if orthogonal_from is not None:
                weight = _orthogonal(weight)
        varied[name] = weight
    return varied


def _layers(model: nn.Module) -> list[str]:
    """Names of the weights with two axes or more, in the order of the modules."""
    names = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 2:
            names.append(f"{name}.weight" if name else "weight")
    return names


def _tall(weight: Tensor) -> tuple[Tensor, bool]:
    """A weight as a matrix at least as tall as wide, in single precision or better, and whether it was turned."""
    matrix = weight.flatten(1)
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.float()
    turned = matrix.shape[0] < matrix.shape[1]
    return (matrix.T if turned else matrix), turned


def _with_noise(weight: Tensor, noise: float, max_size: int, generator: torch.Generator) -> Tensor:
    noisy = weight.clone()
    part = noisy[max_size:, max_size:]
    draw = torch.randn(part.shape, generator=generator).to(part)  # on the CPU: the same on every device
    part += noise * _correlation_spread(_tall(weight)[0]).to(part) * draw
    return noisy


def _correlation_spread(matrix: Tensor) -> Tensor:
    """Standard deviation of the entries of the correlation matrix of a matrix's rows; rows of equal entries count as 0.

    With rows z of zero mean and length one, the entries sum to |sum of z|^2 and their squares to |ZᵀZ|^2, so that the
    matrix itself, (rows, rows), is not needed: for the first fully connected layer of a VGG it has 2.5 GB.
    """
    rows = len(matrix)
    if rows < 2:
        return matrix.new_zeros(())
    centred = matrix - matrix.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    equal = length <= 10 * torch.finfo(matrix.dtype).eps * matrix.norm(dim=1, keepdim=True)  # rounding noise
    z = torch.where(equal, 0, centred / length)
    total, squares, number = z.sum(dim=0).square().sum(), (z.T @ z).square().sum(), rows * rows
    return ((squares - total * total / number) / (number - 1)).clamp(min=0).sqrt()


def _orthogonal(weight: Tensor) -> Tensor:
    tall, turned = _tall(weight)
    q, r = torch.linalg.qr(tall)
    q = torch.where(r.diagonal() < 0, -q, q)  # of a 0 the sign is 1: no column vanishes
    return (q.T if turned else q).reshape(weight.shape).to(weight)
