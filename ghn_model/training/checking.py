"""Checks of what a hypernetwork of the user's own predicts, before a training begins and in every step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from deepnets.graph import Graph
from deepnets.support import ConfigError
from ghn_model.networks import abbreviated_names, check_predicted
from ghn_model.training.meta_batches import DrawnNetworks, MetaBatch

__all__ = ["check_hypernetwork", "check_predictions", "network_name", "varied_networks"]

NUM_CANDIDATES = 128
"""Number of networks in which `varied_networks` looks for kinds of parameters."""


def varied_networks(nets: DrawnNetworks) -> list[Graph]:
    """Return a few networks that have all kinds of parameters of the first networks of a training split.

    Parameters
    ----------
    nets : DrawnNetworks
        Networks of a training.

    Returns
    -------
    list of Graph
        The first network, and each later one with a parameter whose role, rank or kernel size is new.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> [graph.index for graph in varied_networks(DrawnNetworks(DeepNets1M(split="predefined")))]
    [0, 1]
    """
    found: list[Graph] = []
    kinds: set[tuple[object, ...]] = set()
    for position in range(min(len(nets), NUM_CANDIDATES)):
        graph = nets[position, 0]
        new = {(slot.role, len(slot.shape), slot.shape[2:4]) for slots in graph.parameters for slot in slots}
        if not found or not new <= kinds:
            found.append(graph)
            kinds |= new
    return found


def check_hypernetwork(
    hypernetwork: nn.Module, graphs: Sequence[Graph], split: str = "train", device: torch.device | str = "cpu"
) -> None:
    """Predict the parameters of some networks, and check them.

    Parameters
    ----------
    hypernetwork : nn.Module
        Hypernetwork, in evaluation mode meanwhile, so that its buffers do not change.
    graphs : sequence of Graph
        The networks.
    split : str, default "train"
        Their split, for messages.
    device : torch.device or str, default "cpu"
        Device of the hypernetwork.

    Raises
    ------
    ConfigError
        If parameters are missing, have another shape, are not finite, are not on the device or are not float32, or if
        none depends on the weights of the hypernetwork.  The message names the network and the parameter.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> class Zeros(nn.Module):
    ...     def forward(self, graphs):
    ...         return [{slot.name: torch.zeros(1) for slots in graph.parameters for slot in slots} for graph in graphs]
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> check_hypernetwork(Zeros(), [graph])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: Zeros: a network of train: parameters: stem.0.weight: expected floating...
    """
    was_training = hypernetwork.training
    hypernetwork.eval()
    try:
        with torch.random.fork_rng([device] if torch.device(device).type == "cuda" else []):
            for graph in graphs:
                batch = MetaBatch.of(hypernetwork, [graph]).to(torch.device(device))
                predicted = hypernetwork(batch.inputs)
                name = network_name(graph, split)
                check_predictions(hypernetwork, predicted, [graph], names=[name], values=True)
                _check_tensors(f"{_class_name(hypernetwork)}: {name}", predicted[0], torch.device(device))
    finally:
        hypernetwork.train(was_training)


def check_predictions(
    hypernetwork: nn.Module,
    predicted: Any,
    graphs: Sequence[Graph],
    *,
    names: Sequence[str] | None = None,
    values: bool = False,
) -> None:
    """Check what `forward` of a hypernetwork has returned.

    Parameters
    ----------
    hypernetwork : nn.Module
        The hypernetwork, whose class the message names.
    predicted : object
        The result.
    graphs : sequence of Graph
        The networks whose parameters were predicted.
    names : sequence of str, optional
        How the message calls the networks; by default by their index in the split "train".
    values : bool, default False
        Whether to check that all values are finite, which waits for the device.

    Raises
    ------
    ConfigError
        If it is not a dict of the parameters of each graph.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graphs = [build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))]
    >>> check_predictions(nn.ReLU(), [], graphs)
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: ReLU: forward: expected a list with a dict for each of 1 graphs, got 0 items
    """
    who = _class_name(hypernetwork)
    if not isinstance(predicted, (list, tuple)) or len(predicted) != len(graphs):
        got = f"{len(predicted)} items" if isinstance(predicted, (list, tuple)) else type(predicted).__name__
        raise ConfigError(f"{who}: forward: expected a list with a dict for each of {len(graphs)} graphs, got {got}")
    for number, (graph, parameters) in enumerate(zip(graphs, predicted)):
        unused = {slot.name: slot.shape for slot in graph.unused}
        shapes = {slot.name: slot.shape for slots in graph.parameters for slot in slots} | unused
        try:
            check_predicted(parameters, shapes, unused, values=values)
        except ConfigError as error:
            name = names[number] if names else network_name(graph)
            raise ConfigError(f"{who}: {name}: {error}") from error


def network_name(graph: Graph, split: str = "train") -> str:
    """Return how messages call a network of a split.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> network_name(DeepNets1M(split="predefined")[1], "predefined")
    'network 1 of predefined'
    """
    return f"a network of {split}" if graph.index is None else f"network {graph.index} of {split}"


def _check_tensors(who: str, parameters: dict[str, torch.Tensor], device: torch.device) -> None:
    """Check the dtype and device of tensors, and that they depend on weights."""
    wrong = _first(name for name, tensor in parameters.items() if tensor.dtype != torch.float32)
    if wrong:
        raise ConfigError(f"{who}: {wrong}: expected torch.float32, got {parameters[wrong].dtype}")
    wrong = _first(name for name, tensor in parameters.items() if tensor.device.type != device.type)
    if wrong:
        raise ConfigError(f"{who}: {wrong}: expected a tensor on {device}, got one on {parameters[wrong].device}")
    if not any(tensor.requires_grad for tensor in parameters.values()):
        raise ConfigError(
            f"{who}: no predicted parameter depends on the weights of the hypernetwork (requires_grad), such as "
            f"{abbreviated_names(list(parameters))}; do not detach them, nor predict under torch.no_grad()"
        )


def _first(names: Iterable[str]) -> str:
    return next(iter(names), "")


def _class_name(hypernetwork: nn.Module) -> str:
    return type(getattr(hypernetwork, "hypernetwork", hypernetwork)).__name__
