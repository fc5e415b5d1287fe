"""Networks on the way into and out of a hypernetwork: their graphs, parameters and batch normalization layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from deepnets.architecture import Network
from deepnets.graph import Graph, build_graph
from deepnets.support import ConfigError
from deepnets.tracing import check_vocabulary, trace
from ghn_model.collation import as_graphs, type_name

__all__ = ["check_parameters", "graph_of", "graphs_of", "use_batch_statistics", "writable_parameters"]


def graph_of(model: nn.Module, input: Any = None, vocabulary: str = "complete") -> Graph:
    """The graph of a network: built from the configuration of a `deepnets.Network`, traced for other modules.

    Parameters
    ----------
    model, input, vocabulary
        As in `deepnets.trace`.  The graph of a `deepnets.Network` is the same in every vocabulary.

    Raises
    ------
    ConfigError
        If the vocabulary is unknown.
    TraceError
        If the network cannot be traced.

    Examples
    --------
    >>> import torch
    >>> graph_of(torch.nn.Linear(8, 4), torch.zeros(1, 8)).num_nodes  # the input, the layer and its bias
    3
    """
    vocabulary = check_vocabulary(vocabulary)
    if type(model) is Network and not model.auxiliary:
        return build_graph(model.config, model.num_classes, model.image_size)
    return trace(model, input, vocabulary=vocabulary)


def use_batch_statistics(model: nn.Module) -> nn.Module:
    """Make all batch normalization layers use the statistics of the batch in evaluation mode, too.

    The published evaluations do so, because no running statistics have been collected for predicted parameters.

    Parameters
    ----------
    model
        The network; it is changed in place.

    Returns
    -------
    The model.

    Examples
    --------
    >>> import torch
    >>> model = use_batch_statistics(torch.nn.Sequential(torch.nn.BatchNorm2d(3)))
    >>> print(model[0].running_mean)
    None
    """
    for module in nn.Module.modules(model):  # `model.modules` may be an attribute
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return model


def graphs_of(
    model: nn.Module | Sequence[nn.Module],
    input: Any,
    graph: Graph | Sequence[Graph] | None,
    vocabulary: str | None = None,
    default: str = "complete",
) -> list[Graph]:
    """The graphs of one or several modules: those given by the user, or else from `graph_of`.

    `vocabulary` is that which the user asks for, and `default` that which is used otherwise.
    """
    models = list(model) if isinstance(model, Sequence) else [model]
    if not models or not all(isinstance(part, nn.Module) for part in models):
        raise ConfigError(f"model: expected a torch.nn.Module, or a list of them, got {type_name(model)}")
    if graph is None:
        return [graph_of(part, input, vocabulary or default) for part in models]
    if vocabulary is not None:
        raise ConfigError("vocabulary: is for networks that are traced; leave it out, or leave out graph")
    graphs = as_graphs(graph)
    if len(graphs) != len(models):
        raise ConfigError(f"graph: expected one for each of {len(models)} models, got {len(graphs)}")
    return graphs


def writable_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model by name; raises a `ConfigError` if some are on the ``meta`` device."""
    targets: dict[str, Tensor] = dict(model.named_parameters())
    if any(parameter.device.type == "meta" for parameter in targets.values()):
        raise ConfigError("model: has parameters on the meta device, which hold no values; call to_empty() first")
    return targets


def check_parameters(graph: Graph, targets: Mapping[str, Tensor]) -> None:
    """Raise a `ConfigError` unless the parameters of a graph are parameters of the model."""
    for slot in (slot for slots in graph.parameters for slot in slots):
        if slot.name not in targets:
            raise ConfigError(f"graph: has the parameter {slot.name}, which the model lacks; is it of another model?")
        if targets[slot.name].shape != slot.shape:
            shape = tuple(targets[slot.name].shape)
            raise ConfigError(f"graph: {slot.name} has shape {slot.shape}, in the model {shape}; trace the model again")
