"""Networks on the way into and out of a hypernetwork: their graphs, parameters and batch normalization layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepnets.architecture import Network
from deepnets.graph import Graph, build_graph
from deepnets.support import ConfigError
from deepnets.tracing import check_vocabulary, trace
from ghn_model.collation import as_graphs, type_name

__all__ = [
    "abbreviated_names",
    "check_parameters",
    "check_predicted",
    "graph_of",
    "graphs_of",
    "use_batch_statistics",
    "writable_parameters",
]


def graph_of(model: nn.Module, input: Any = None, vocabulary: str = "complete") -> Graph:
    """The graph of a network: built from the configuration of a `deepnets.Network`, traced for other modules.

    A `deepnets.Network` is traced, too, if its parameters are no longer those of its configuration.

    Parameters
    ----------
    model, input, vocabulary
        As in `deepnets.trace`.  A graph that is built from a configuration is the same in every vocabulary.

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
        graph = build_graph(model.config, model.num_classes, model.image_size)
        slots = [*(slot for node in graph.parameters for slot in node), *graph.unused]
        if {s.name: s.shape for s in slots} == {n: tuple(p.shape) for n, p in model.named_parameters()}:
            return graph  # otherwise, layers of the network were replaced
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
    """The parameters of a module by name; raises a `ConfigError` for others, or if some are on the ``meta`` device."""
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: expected a torch.nn.Module, got {type_name(model)}")
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


def check_predicted(
    parameters: Any, shapes: Mapping[str, tuple[int, ...]], unused: Collection[str] = (), *, values: bool = True
) -> None:
    """Check that predicted tensors are complete, and that their names, shapes and values are valid.

    Parameters
    ----------
    parameters
        What a predictor or a hypernetwork has returned for one network.
    shapes
        Shape of every parameter of the network.
    unused
        Names of parameters that may be missing.
    values
        Whether to check that all values are finite, which waits for the device of the tensors.

    Raises
    ------
    ConfigError
        If they are not valid; the message names the first parameters that are not.

    Examples
    --------
    >>> check_predicted({"weight": torch.zeros(3)}, {"weight": (2,)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: parameters: weight: expected floating-point numbers of shape (2,), got torc...
    """
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"parameters: expected a dict of tensors, got {type(parameters).__name__}")
    if missing := [name for name in shapes if name not in parameters and name not in unused]:
        raise ConfigError(f"parameters: {len(missing)} of {len(shapes)} are missing: {abbreviated_names(missing)}")
    if extra := [str(name) for name in parameters if name not in shapes]:
        raise ConfigError(f"parameters: the network has no parameter named {abbreviated_names(extra)}")
    for name, tensor in parameters.items():
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shapes[name] or not tensor.is_floating_point():
            got = f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ConfigError(f"parameters: {name}: expected floating-point numbers of shape {shapes[name]}, got {got}")
        if tensor.is_meta:
            raise ConfigError(f"parameters: {name}: is on the meta device, which holds no values")
    finite = [tensor.isfinite().all() for tensor in parameters.values()] if values else []
    if finite and not bool(torch.stack([flag.to(finite[0].device) for flag in finite]).all()):
        broken = [name for name, flag in zip(parameters, finite, strict=True) if not flag]
        raise ConfigError(f"parameters: {len(broken)} are not finite: {abbreviated_names(broken)}")


def abbreviated_names(names: list[str]) -> str:
    """Return the first three names, for an error message.

    Examples
    --------
    >>> abbreviated_names(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
