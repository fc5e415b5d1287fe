"""The split `predefined`: networks that people designed, a ResNet-50 (convolutions) and a ViT (attention).

The ResNet-50 is torchvision's, built and traced when it is asked for.  For 32-pixel images it is adapted as in the
original release: its first convolution is the central 3 x 3 of the original one, without stride or pooling behind it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from deepnets.architecture import GENOTYPES, NetworkConfig
from deepnets.graph import Graph, build_graph, count_parameters
from deepnets.support import ConfigError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NUM_PREDEFINED", "RESNET_50", "VIT", "predefined_graph", "predefined_measures", "predefined_network"]

RESNET_50 = 0
NUM_PREDEFINED = 2

VIT = NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False, norm="bn-track")


def predefined_graph(index: int, num_classes: int, image_size: int) -> Graph:
    """The graph of a predefined network; `ConfigError` if it is the ResNet-50 and torchvision cannot be imported."""
    if index != RESNET_50:
        return build_graph(VIT, num_classes, image_size)
    import torch

    from deepnets.tracing import trace

    with torch.device("meta"):
        model = _resnet(num_classes, image_size)
    return trace(model)


def predefined_network(index: int, num_classes: int, image_size: int) -> nn.Module:
    """The network itself, with PyTorch's default initialisation; errors as `predefined_graph`."""
    if index == RESNET_50:
        return _resnet(num_classes, image_size)
    from deepnets.architecture import Network

    return Network(VIT, num_classes, image_size)


@cache
def predefined_measures(index: int) -> dict[str, int]:
    """What the table of a split says of a predefined network beside its configuration, for 10 classes."""
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
    import torch
    from torch import nn

    from deepnets.support import import_torchvision

    try:
        torchvision: Any = import_torchvision()
    except ImportError as error:
        raise ConfigError(f"the ResNet-50 of the split predefined is torchvision's: {error}") from error
    model: nn.Module = torchvision.models.resnet50(num_classes=num_classes)
    model.expected_input_sz = image_size  # type: ignore[assignment]
    if image_size == 32:
        large = model.conv1
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        with torch.no_grad():
            model.conv1.weight.copy_(large.weight[:, :, 2:5, 2:5])  # type: ignore[index,union-attr]
        model.maxpool = nn.Identity()
    return model
