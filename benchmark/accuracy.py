"""A network with predicted parameters, run on all images as published: batch statistics, batches of 64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deepnets.data import Images, ImageSet
from deepnets.support import ConfigError
from ghn_model import use_batch_statistics

__all__ = ["BATCH_SIZE", "LAYOUT", "Accuracy", "checked_logits", "count", "evaluate_network", "generator_for"]

BATCH_SIZE = 64
LAYOUT = torch.channels_last
"""Of batches in memory: most of the networks are faster with it."""


class Accuracy(NamedTuple):
    """How many images a network classified correctly.

    Attributes
    ----------
    top1, top5
        In percent: the right class is the first, or among the first five.
    images
        Number of images.
    """

    top1: float
    top5: float
    images: int


@torch.no_grad()
def evaluate_network(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    images: Images,
    *,
    batch_size: int = BATCH_SIZE,
    unused: Collection[str] = (),
    seed: int = 0,
) -> Accuracy:
    """Run a network with predicted parameters on all images of a set.

    Parameters
    ----------
    model
        The network, on any device, its own parameters maybe on `meta`.  It is left as it is, in values, mode and
        statistics: what runs is a copy that shares its parameters, in evaluation mode, with batch norms that have no
        running statistics, which makes them use those of the batch.
    parameters
        All parameters by name, on any device.
    images
        The images; the network is run on their device.
    batch_size
        64 in the published protocol; with batch norms, accuracies depend on it.
    unused
        Parameters that may be missing, since no data reaches them: the names of `Graph.unused`.
    seed
        Of the noise, if the images have any: the same for every network.

    Returns
    -------
    Accuracies over all images, so that a smaller last batch counts as many as it has.

    Raises
    ------
    ConfigError
        If a tensor is missing, not one of the network's, of another shape or not finite, or if the network has another
        number of classes than the images.
    FloatingPointError
        If an output is not finite.
    """
    _check(parameters, model, unused)
    device = images.device
    shell = _shell(model)
    own = {**dict(shell.named_parameters()), **dict(shell.named_buffers())}
    values = {name: tensor.to(device) for name, tensor in own.items() if name not in parameters and not tensor.is_meta}
    values |= {name: tensor.detach().to(device, own[name].dtype) for name, tensor in parameters.items()}

    return count(lambda batch: torch.func.functional_call(shell, values, batch), images, batch_size, seed=seed)


@torch.no_grad()
def count(
    network: Callable[[Tensor], Any],
    images: Images,
    batch_size: int,
    *,
    seed: int = 0,
    device: torch.device | None = None,
) -> Accuracy:
    """How many images of a set something classifies correctly.

    Parameters
    ----------
    network
        From a batch to its logits, or to a tuple that begins with them.
    images, batch_size, seed
        As in `evaluate_network`.
    device
        The network's, if the images are elsewhere.

    Raises
    ------
    ConfigError
        If there are no images, or outputs are not logits of their classes.
    FloatingPointError
        If an output is not finite.
    """
    device = device or images.device
    seen = 0
    hits = torch.zeros(3, dtype=torch.int64, device=device)  # top 1, top 5, images with an output that is not finite
    for batch, labels in images.batches(batch_size, generator=generator_for(images, seed)):
        logits = checked_logits(network(batch.to(device, memory_format=LAYOUT)), len(batch), images)
        ranked = logits.topk(min(5, images.num_classes), dim=1).indices == labels.to(device)[:, None]
        broken = ~logits.isfinite().all(dim=1)
        hits += torch.stack([ranked[:, 0].sum(), ranked.sum(), broken.sum()])
        seen += len(batch)
    top1, top5, bad = hits.tolist()  # the one time that the device is waited for
    if bad:
        raise FloatingPointError(f"the network's outputs are not finite, for {bad:,} of {seen:,} images")
    if not seen:
        raise ConfigError(f"images: {images.name} ({images.split}) has none")
    return Accuracy(100 * top1 / seen, 100 * top5 / seen, seen)


def generator_for(images: Images, seed: int) -> torch.Generator:
    """Of the random numbers of a pass; images in folders are drawn by the CPU, wherever they end up."""
    return torch.Generator(images.device if isinstance(images, ImageSet) else "cpu").manual_seed(seed)


def checked_logits(output: Any, number: int, images: Images) -> Tensor:
    """The logits of so many images in what a network returned; `ConfigError` if they are not of these classes."""
    logits = output[0] if isinstance(output, tuple) else output
    expected = (number, images.num_classes)
    if not isinstance(logits, Tensor) or logits.shape != expected:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f"model: expected outputs of shape {expected}, for the classes of {images.name}, got {got}")
    return logits


def _shell(model: nn.Module) -> nn.Module:
    """A copy of a network that shares its parameters, for evaluation with the statistics of the batch."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return use_batch_statistics(copy.deepcopy(model, shared)).eval()


def _check(parameters: Any, model: nn.Module, unused: Collection[str]) -> None:
    """Make sure that all parameters are there that data reaches, and that they are what they should be."""
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"parameters: expected a dict of tensors, got {type(parameters).__name__}")
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if missing := [name for name in shapes if name not in parameters and name not in unused]:
        raise ConfigError(f"parameters: {len(missing)} of {len(shapes)} are missing: {_some(missing)}")
    if extra := [str(name) for name in parameters if name not in shapes]:
        raise ConfigError(f"parameters: the network has none of the name {_some(extra)}")
    for name, tensor in parameters.items():
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shapes[name] or not tensor.is_floating_point():
            got = f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ConfigError(f"parameters: {name}: expected floating-point numbers of shape {shapes[name]}, got {got}")
        if tensor.is_meta:
            raise ConfigError(f"parameters: {name}: is on the meta device, which holds no values")
    finite = [tensor.isfinite().all() for tensor in parameters.values()]
    if finite and not bool(torch.stack([flag.to(finite[0].device) for flag in finite]).all()):
        broken = [name for name, flag in zip(parameters, finite, strict=True) if not flag]
        raise ConfigError(f"parameters: {len(broken)} are not finite: {_some(broken)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
