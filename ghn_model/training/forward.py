"""`run_graph`: the outputs of the network of a graph with given parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deepnets.architecture import run_network
from deepnets.families import FamilyGraph
from deepnets.graph import Graph
from deepnets.support import ConfigError
from ghn_model.networks import use_batch_statistics

__all__ = ["accepts_any_size", "run_graph"]


def run_graph(
    graph: Graph,
    parameters: Mapping[str, Tensor],
    inputs: Tensor | Mapping[str, Any],
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
        Tensors by name.  Parameters of a family's network that are missing have the initial values of its model.
    inputs : Tensor or mapping
        Images `(B, 3, H, W) float32`, or what else the network of a family reads; a mapping holds keyword arguments.
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
        if not isinstance(inputs, Tensor):
            raise ConfigError(f"inputs: expected images, got {type(inputs).__name__}")
        return run_network(graph.config, parameters, inputs, image_size=image_size, training=training)
    model = graph.network.skeleton()
    given = dict(parameters)
    if _needs_values(model, given):
        with torch.random.fork_rng([]), torch.device("cpu"):
            torch.manual_seed(0)
            model = graph.network.build()
        model = model.to(next(iter(given.values())).device if given else "cpu")
    model = use_batch_statistics(model).train(training)
    # Backward passes of PyTorch 2.13 on a CPU access memory of others: that of batch norms if a weight is not
    # contiguous, that of pointwise convolutions with a stride if images are channels_last and have few channels.
    given = {name: tensor.contiguous() for name, tensor in given.items()}
    if isinstance(inputs, Tensor):
        inputs = inputs.contiguous()
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


def _needs_values(model: nn.Module, parameters: Mapping[str, Tensor]) -> bool:
    """Whether a network needs values of parameters that are not given, or of buffers other than those of norms."""
    if any(name not in parameters for name, _ in model.named_parameters()):
        return True
    return any(
        buffer is not None
        for module in model.modules()
        if not isinstance(module, nn.modules.batchnorm._NormBase)
        for buffer in module._buffers.values()
    )
