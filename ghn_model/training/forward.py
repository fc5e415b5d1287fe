"""`run_graph`: the outputs of the network of a graph with given parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deepnets.architecture import run_network
from deepnets.families import FamilyGraph
from deepnets.families.values import canonical
from deepnets.graph import Graph
from deepnets.support import ConfigError
from ghn_model.networks import use_batch_statistics

__all__ = ["accepts_any_size", "run_graph"]

MAX_MODELS = 128
"""Networks that are kept because building them takes longer than running them, the last ones that were used."""

_models: OrderedDict[str, tuple[list[Any], nn.Module]] = OrderedDict()


def run_graph(
    graph: Graph,
    parameters: Mapping[str, Any],
    inputs: Tensor | tuple[Any, ...] | Mapping[str, Any],
    *,
    image_size: int = 32,
    training: bool = True,
) -> Any:
    """Compute the outputs of the network of a graph.

    Parameters
    ----------
    graph : Graph
        Graph of a `deepnets.Network`, or of a network of a family.
    parameters : mapping of str to Tensor
        Tensors by name, for a `deepnets.Network` also `Repeated`.  Parameters of a family's network that are missing
        have the initial values of its model.
    inputs : Tensor, tuple or mapping
        Images `(B, 3, H, W) float32`, or what a network of a family reads, such as tokens `(B, T) int64`; a tuple
        holds several arguments, and a mapping keyword arguments.
    image_size : int, default 32
        Image size that the stem of a `deepnets.Network` is made for.
    training : bool, default True
        Whether dropout is applied.  Batch norms always use the statistics of the batch.

    Returns
    -------
    Tensor
        Logits `(B, num_classes)`; for other networks, what they return.

    Raises
    ------
    ConfigError
        If a `deepnets.Network` is given something else than images.

    Examples
    --------
    >>> from deepnets.families import FamilyNetworks
    >>> graph = FamilyNetworks("resnet-widths", "test")[0]
    >>> parameters = {slot.name: torch.zeros(slot.shape) for slots in graph.parameters for slot in slots}
    >>> run_graph(graph, parameters, torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    if not isinstance(graph, FamilyGraph):
        if isinstance(inputs, tuple) and len(inputs) == 1:
            (inputs,) = inputs
        if not isinstance(inputs, Tensor):
            raise ConfigError(f"inputs: expected images, got {type(inputs).__name__}")
        return run_network(graph.config, parameters, inputs, image_size=image_size, training=training)
    given = dict(parameters)
    model = _model(graph, given).train(training)
    # Backward passes of PyTorch 2.13 on a CPU access memory of others: that of batch norms if a weight is not
    # contiguous, that of pointwise convolutions with a stride if images are channels_last and have few channels.
    given = {name: tensor.contiguous() for name, tensor in given.items()}
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    if isinstance(inputs, tuple):
        inputs = tuple(value.contiguous() if isinstance(value, Tensor) else value for value in inputs)
    try:
        if isinstance(inputs, Mapping):
            return functional_call(model, given, (), dict(inputs))
        return functional_call(model, given, inputs)
    finally:
        model.eval()


def accepts_any_size(graph: Graph) -> bool:
    """Return whether the network of a graph is known to accept images of other sizes than it is made for.

    Position encodings, or a classifier of flattened features, fix the size.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> accepts_any_size(DeepNets1M(split="predefined")[1])
    False
    """
    if isinstance(graph, FamilyGraph):
        return False
    return not graph.config.is_vit and graph.config.glob_avg


def _model(graph: FamilyGraph, parameters: Mapping[str, Tensor]) -> nn.Module:
    """Return the network of a graph, with values of the parameters that are not given and of buffers only."""
    skeleton = graph.network.skeleton()
    missing = {name for name, _ in skeleton.named_parameters() if name not in parameters}
    if not missing and not _has_buffers(skeleton):
        return use_batch_statistics(skeleton)
    device = next(iter(parameters.values())).device if parameters else torch.device("cpu")
    network = graph.network
    key = canonical([str(device), sorted(missing), network.family.name, *network.key])
    if key not in _models or _models[key][0] != network.code:
        # The random numbers of a training must not depend on which networks were built before.
        with torch.random.fork_rng([]), torch.device("cpu"):
            torch.default_generator.manual_seed(0)  # not those of GPUs, whose states are not restored
            model = use_batch_statistics(network.build())
        _models[key] = network.code, _with_values_of(model, missing, device)
        if len(_models) > MAX_MODELS:
            _models.popitem(last=False)
    _models.move_to_end(key)
    return _models[key][1]


def _has_buffers(model: nn.Module) -> bool:
    """Whether a network has buffers other than those of norms."""
    return any(
        buffer is not None
        for module in model.modules()
        if not isinstance(module, nn.modules.batchnorm._NormBase)
        for buffer in module._buffers.values()
    )


def _with_values_of(model: nn.Module, names: set[str], device: torch.device) -> nn.Module:
    """Move parameters with these names and all buffers to a device, and other parameters to `meta`; ties are kept."""
    moved: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().to(device if name in names else "meta")
        moved[id(parameter)] = nn.Parameter(values, requires_grad=False)
    for module in model.modules():
        for name, own in module._parameters.items():
            if own is not None:
                module._parameters[name] = moved[id(own)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
    return model
