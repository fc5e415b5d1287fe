"""The vocabularies of `trace`: graphs of PPUDA, which were made by its tool, and small networks with known graphs."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import NODE_TYPES, ConfigError, Graph, trace
from deepnets.support import import_torchvision
from deepnets.tracing import VOCABULARIES

FOLDER = Path(os.environ.get("DEEPNETS_PPUDA_GRAPHS", Path(__file__).parents[4] / "shared" / "data" / "ppuda_graphs"))
REFERENCE = FOLDER / "torchvision_cifar.json.gz"
MODELS = ("squeezenet1_1", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "regnet_y_800mf")


def types(graph: Graph) -> list[str]:
    return [NODE_TYPES[index] for index in graph.node_types]


def listed(graph: Graph) -> list[tuple[str, list[int], list[str]]]:
    """Type, sources and parameters of every node."""
    sources: list[list[int]] = [[] for _ in range(graph.num_nodes)]
    for source, target in graph.edges.tolist():
        sources[target].append(source)
    names = [[slot.name for slot in slots] for slots in graph.parameters]
    return list(zip(types(graph), sources, names))


def traced(model: nn.Module, vocabulary: str, size: int = 8) -> Graph:
    return trace(model, torch.zeros(1, 3, size, size), vocabulary=vocabulary)


# --- graphs that the tool of PPUDA made -------------------------------------------------------------------------------


@pytest.mark.skipif(not REFERENCE.exists(), reason="the graphs made with PPUDA are not there")
@pytest.mark.parametrize("name", MODELS)
def test_graphs_of_ppuda(name: str) -> None:
    """The same nodes, edges, parameters and last two nodes, up to the order of branches."""
    try:
        torchvision: Any = import_torchvision()
    except ImportError as error:
        pytest.skip(str(error))
    from benchmark.training import adapt_to_small_images

    model = torchvision.models.get_model(name, num_classes=10)
    with contextlib.suppress(ConfigError):  # some have no variant for small images
        model = adapt_to_small_images(model)
    graph = traced(model.eval(), "ppuda", 32)
    with gzip.open(REFERENCE) as file:
        expected = json.load(file)[name]
    names = {node: text for node, text, _ in expected["slots"] if text.endswith((".weight", ".bias"))}
    ours = dict(enumerate(slots[0].name if slots else None for slots in graph.parameters))
    assert sorted(name for name in ours.values() if name) == sorted(names.values())
    assert unordered(types(graph), graph.edges.tolist(), ours) == unordered(expected["types"], expected["edges"], names)
    assert types(graph)[-2:] == expected["types"][-2:]
    assert [ours[graph.num_nodes - 2], ours[graph.num_nodes - 1]] == [
        names.get(len(expected["types"]) - 2),
        names.get(len(expected["types"]) - 1),
    ]


def unordered(kinds: list[str], edges: list[list[int]], names: dict[int, Any]) -> list[str]:
    """Describe every node by everything that it is computed from, which does not depend on the order of the nodes."""
    sources: list[list[int]] = [[] for _ in kinds]
    for source, target in edges:
        assert source < target
        sources[target].append(source)
    described: list[int] = []
    numbers: dict[str, int] = {}
    for kind, name, before in zip(kinds, (names.get(node) for node in range(len(kinds))), sources):
        text = f"{kind} {name} {sorted(described[source] for source in before)}"
        described.append(hash(text))
        numbers[text] = numbers.get(text, 0) + 1
    return sorted(f"{text} x {number}" for text, number in numbers.items())


# --- small networks ---------------------------------------------------------------------------------------------------


class MeanHead(nn.Module):
    """Ends like MNASNet and ShuffleNetV2: the mean over the spatial axes, and a linear layer."""

    def __init__(self, keepdim: bool = False) -> None:
        super().__init__()
        self.conv, self.fc, self.keepdim = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4, 2), keepdim

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean([2, 3], keepdim=self.keepdim).flatten(1))


@pytest.mark.parametrize("keepdim", [False, True])
def test_mean_over_the_spatial_axes(keepdim: bool) -> None:
    model = MeanHead(keepdim)
    for vocabulary in ("complete", "ghn3"):
        assert types(traced(model, vocabulary)) == ["input", "conv", "glob_avg", "conv", "bias"]
    graph = traced(model, "ppuda")
    assert listed(graph) == [
        ("input", [], []),
        ("conv", [0], ["conv.weight"]),
        ("conv", [1], ["fc.weight"]),
        ("bias", [2], ["fc.bias"]),
    ]
    assert [graph.parameters[i][0].role for i in (-2, -1)] == ["class_weight", "class_bias"]


class Squeeze(nn.Module):
    """A squeeze-excite block of torchvision's kind, and one of the kind of DeepNets-1M."""

    def __init__(self, gate: Any, linear: bool) -> None:
        super().__init__()
        self.gate, self.linear = gate, linear
        self.stem, self.fc = nn.Conv2d(3, 4, 1, bias=False), nn.Linear(4, 2)
        self.down, self.up = (nn.Linear(4, 4) if linear else nn.Conv2d(4, 4, 1) for _ in range(2))
        self.last = nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x), inplace=True)  # the source of the product, which is not its gate
        squeezed = x.mean((2, 3)) if self.linear else F.adaptive_avg_pool2d(x, 1)
        gate = self.gate(self.up(self.down(squeezed).relu()))
        x = self.last(x * (gate[:, :, None, None] if self.linear else gate))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.mark.parametrize("gate", [F.hardsigmoid, torch.sigmoid])
def test_squeeze_excite_of_torchvision(gate: Any) -> None:
    model = Squeeze(gate, linear=False)
    bottleneck = [("conv", "down.weight"), ("bias", "down.bias"), ("conv", "up.weight"), ("bias", "up.bias")]
    head = [("glob_avg", []), ("conv", ["fc.weight"]), ("bias", ["fc.bias"])]
    assert listed(traced(model, "ppuda")) == [
        ("input", [], []),
        ("conv", [0], ["stem.weight"]),
        ("glob_avg", [1], []),
        *((kind, [2 + place], [name]) for place, (kind, name) in enumerate(bottleneck)),
        ("conv", [1, 6], ["last.weight"]),
        *((kind, [7 + place], names) for place, (kind, names) in enumerate(head)),
    ]
    for vocabulary in ("complete", "ghn3"):
        assert listed(traced(model, vocabulary)) == [
            ("input", [], []),
            ("conv", [0], ["stem.weight"]),
            *((kind, [1 + place], [name]) for place, (kind, name) in enumerate(bottleneck)),
            ("cse", [1, 5], []),
            ("conv", [6], ["last.weight"]),
            *((kind, [7 + place], names) for place, (kind, names) in enumerate(head)),
        ]


def test_squeeze_excite_of_deepnets() -> None:
    """Its gate is a hardswish, by which PPUDA recognizes it; all vocabularies agree."""
    model = Squeeze(F.hardswish, linear=True)
    graphs = [traced(model, vocabulary) for vocabulary in VOCABULARIES]
    assert types(graphs[0]).count("cse") == 1
    assert all(listed(graph) == listed(graphs[0]) for graph in graphs)


class ConvolutionalHead(nn.Module):
    """Ends like SqueezeNet: a pointwise convolution with the classes, and a global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.classifier = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.classifier(self.conv(x)).relu(), 1).flatten(1)


def test_convolutional_classifier() -> None:
    model = ConvolutionalHead()
    graph = traced(model, "ppuda")
    assert types(graph) == ["input", "conv", "conv", "bias", "glob_avg"]
    assert [slot.role for slots in graph.parameters for slot in slots] == ["weight", "weight", "bias"]
    for vocabulary in ("complete", "ghn3"):
        graph = traced(model, vocabulary)
        assert types(graph) == ["input", "conv", "glob_avg", "conv", "bias"]
        assert [slot.role for slots in graph.parameters for slot in slots] == ["weight", "class_weight", "class_bias"]


class Scaled(nn.Module):
    """Has parameters that no published type stands for, like ConvNeXt and ViT."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 4, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2)
        self.scale, self.token = nn.Parameter(torch.ones(4, 1, 1)), nn.Parameter(torch.zeros(1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = (self.norm(self.conv(x)) * self.scale).flatten(2).transpose(1, 2)
        return self.fc(torch.cat([self.token, x], 1)[:, 0])


@pytest.mark.parametrize("vocabulary", ["ghn3", "ppuda"])
def test_parameters_without_a_node(vocabulary: str) -> None:
    graph = traced(Scaled(), vocabulary)
    assert types(graph) == ["input", "conv", "bias", "conv", "bias"]
    assert {slot.name for slot in graph.unused} == {"scale", "token", "norm.weight", "norm.bias"}
    assert traced(Scaled(), "complete").unused == ()


def test_names() -> None:
    model = Squeeze(torch.sigmoid, linear=False)
    assert listed(traced(model, "published")) == listed(traced(model, "ghn3"))
    for wrong in ("ghn2", "", None, 3):
        with pytest.raises(ConfigError, match="vocabulary: expected complete, ghn3, ppuda or logah, got "):
            traced(model, wrong)  # type: ignore[arg-type]


class Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_a_network_without_any_node_but_the_input() -> None:
    assert types(traced(Pooled(), "ppuda")) == ["input"]
