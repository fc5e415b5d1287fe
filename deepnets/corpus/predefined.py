"""The split `predefined`: a ResNet-50 (convolutions) and a vision transformer (attention).

The ResNet-50 is the one of torchvision, built and traced on demand.  For images of up to 64 pixels it is adapted as in
the original release for 32: the first convolution is the central 3 x 3 part of the original one with stride 1, and the
pooling layer after it is removed.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from deepnets.architecture import GENOTYPES, NetworkConfig, has_cifar_stem
from deepnets.graph import Graph, build_graph, count_parameters
from deepnets.support import ConfigError, MissingDependencyError, missing_dependency

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "NUM_PREDEFINED",
    "RESNET_50",
    "VIT",
    "predefined_config",
    "predefined_graph",
    "predefined_network",
    "predefined_statistics",
]

RESNET_50 = 0
NUM_PREDEFINED = 2

VIT = NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False, norm="bn-track")


def predefined_graph(index: int, num_classes: int, image_size: int) -> Graph:
    """Return the graph of a predefined network.

    Parameters
    ----------
    index
        0 for the ResNet-50, 1 for the vision transformer.
    num_classes, image_size
        As in `deepnets.DeepNets1M`.

    Raises
    ------
    MissingDependencyError
        For the ResNet-50, if PyTorch or torchvision cannot be imported.

    Examples
    --------
    >>> predefined_graph(1, num_classes=10, image_size=32)
    Graph(129 nodes, 148 edges)
    """
    if index != RESNET_50:
        return build_graph(VIT, num_classes, image_size)
    torch = _import_torch()
    from deepnets.tracing import trace

    with torch.device("meta"):
        model = _resnet(num_classes, image_size)
    return trace(model)


def predefined_network(index: int, num_classes: int, image_size: int) -> nn.Module:
    """Build a predefined network with PyTorch's default initialisation.

    Parameters and errors are those of `predefined_graph`.

    Examples
    --------
    >>> predefined_network(1, num_classes=10, image_size=32).classifier
    Sequential(
      (0): Linear(in_features=128, out_features=10, bias=True)
    )
    """
    if index == RESNET_50:
        return _resnet(num_classes, image_size)
    from deepnets.architecture import Network

    return Network(VIT, num_classes, image_size)


def predefined_config(index: int) -> NetworkConfig:
    """Return the configuration of a predefined network.

    Parameters
    ----------
    index
        1, the vision transformer.

    Raises
    ------
    ConfigError
        For the ResNet-50, which has no configuration.

    Examples
    --------
    >>> predefined_config(1).n_cells
    12
    """
    if index == RESNET_50:
        raise ConfigError("the ResNet-50 of the split predefined has no config: it was not made from a NetworkConfig")
    return VIT


@cache
def predefined_statistics(index: int) -> dict[str, int]:
    """Return the sizes of a predefined network with 10 classes, as columns of `DeepNets1M.table`.

    Parameters
    ----------
    index
        As in `predefined_graph`.

    Examples
    --------
    >>> predefined_statistics(1)["num_nodes"]
    129
    """
    graph = predefined_graph(index, 10, 32)
    sizes = {"num_nodes": graph.num_nodes, "num_edges": graph.num_edges}
    for column, image_size in (("num_params", 32), ("num_params_imagenet", 224)):
        if index != RESNET_50:
            sizes[column] = count_parameters(VIT, 10, image_size)
        else:
            slots = predefined_graph(index, 10, image_size).parameters
            sizes[column] = sum(slot.numel for node in slots for slot in node)
    return sizes


def _resnet(num_classes: int, image_size: int) -> nn.Module:
    torch = _import_torch()
    from torch import nn

    from deepnets.support import import_torchvision

    try:
        torchvision: Any = import_torchvision()
    except ImportError as error:
        raise MissingDependencyError(f"the ResNet-50 of the split predefined needs torchvision: {error}") from error
    model: nn.Module = torchvision.models.resnet50(num_classes=num_classes)
    model.expected_input_sz = image_size  # type: ignore[assignment]
    if has_cifar_stem(image_size):
        large = model.conv1
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        with torch.no_grad():
            model.conv1.weight.copy_(large.weight[:, :, 2:5, 2:5])  # type: ignore[index,union-attr]
        model.maxpool = nn.Identity()
    return model


def _import_torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_dependency("torchvision") from error  # its extra includes torch
    return torch
