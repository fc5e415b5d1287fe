"""Objects that predict parameters: functions, hypernetworks, and what they return."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deepnets.graph import Graph
from deepnets.support import ConfigError
from ghn_model.ghn import GHN

__all__ = ["HypernetworkPredictor", "Predictor", "TrainedState", "as_predictor", "evaluation_mode"]

Predictor = Callable[[nn.Module, Graph], Mapping[str, Tensor]]
"""Predicts the parameters of a network by name, from the network (with its initial values) or its graph."""


class TrainedState(dict[str, Tensor]):
    """Parameters and buffers of a trained network, which is evaluated with its running statistics.

    Examples
    --------
    >>> TrainedState({"weight": torch.zeros(2)})["weight"]
    tensor([0., 0.])
    """


def as_predictor(found: Any, name: str, device: torch.device | str | None = None) -> Predictor | GHN:
    """Convert an object of the user to a predictor.

    Parameters
    ----------
    found
        One of

        - a callable ``(model, graph) -> {name: tensor}``,
        - a hypernetwork: a `GHN`, or any object with a method ``forward(graphs)`` that maps a list of graphs to a list
          with a dict ``{name: tensor}`` for each graph,
        - a class of such objects, which is instantiated without arguments.
    name
        How error messages call the object.
    device
        If given, modules are moved to this device and set to evaluation mode.

    Raises
    ------
    ConfigError
        If the object is none of these.

    Examples
    --------
    >>> class Zeros:
    ...     def forward(self, graphs):
    ...         return [{slot.name: torch.zeros(slot.shape) for node in graph.parameters for slot in node}
    ...                 for graph in graphs]
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=4))
    >>> as_predictor(Zeros, "zeros")(None, graph)["classifier.0.bias"].shape
    torch.Size([10])
    """
    if isinstance(found, type):
        found = found()
    if isinstance(found, nn.Module) and device is not None:
        found = found.to(device).eval()
    if isinstance(found, GHN):
        return found
    if _num_arguments(getattr(found, "forward", None)) == 1:
        return HypernetworkPredictor(found)
    if not callable(found):
        raise ConfigError(
            f"predictor: {name} is of type {type(found).__name__}; expected a callable (model, graph), a GHN, or an "
            "object with a method forward(graphs)"
        )
    predictor: Predictor = found
    return predictor


class HypernetworkPredictor:
    """A predictor that calls the method ``forward(graphs)`` of a hypernetwork; the values of networks are not needed.

    A hypernetwork that is a module is called in evaluation mode, and has its own mode afterwards.

    Parameters
    ----------
    hypernetwork
        Object whose method ``forward`` maps a list of graphs to a list of dicts of tensors.  If it has the method
        ``prepare(graphs)``, ``forward`` is given its result instead (see `ghn_model.training.Hypernetwork`).
    """

    def __init__(self, hypernetwork: Any) -> None:
        self._hypernetwork = hypernetwork

    @torch.no_grad()
    def __call__(self, model: nn.Module, graph: Graph) -> Mapping[str, Tensor]:
        prepare = getattr(self._hypernetwork, "prepare", None)
        inputs: Any = prepare([graph]) if callable(prepare) else [graph]
        if isinstance(self._hypernetwork, nn.Module) and hasattr(inputs, "to"):
            weight = next(self._hypernetwork.parameters(), None)
            inputs = inputs.to("cpu" if weight is None else weight.device)
        with evaluation_mode(self._hypernetwork):
            results = self._hypernetwork.forward(inputs)
        if not isinstance(results, list | tuple) or len(results) != 1:
            raise ConfigError(f"forward: expected a list of one dict for one graph, got {type(results).__name__}")
        parameters: Mapping[str, Tensor] = results[0]
        return parameters


@contextlib.contextmanager
def evaluation_mode(found: Any) -> Iterator[None]:
    """Set a module to evaluation mode, and restore the modes of all of its parts at the end; keep other objects.

    Examples
    --------
    >>> dropout = nn.Dropout()
    >>> with evaluation_mode(dropout):
    ...     dropout.training
    False
    >>> dropout.training
    True
    """
    training = [part for part in found.modules() if part.training] if isinstance(found, nn.Module) else []
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True


def _num_arguments(function: Any) -> int:
    """Count the positional arguments without a default; 0 for an object that is not a function."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in positional and each.default is inspect.Parameter.empty for each in parameters)
