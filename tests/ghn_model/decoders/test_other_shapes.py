"""Decoders whose largest tensor has different numbers of channels, or different sides."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import build_graph
from ghn_model import GHN, GHNConfig
from ghn_model.decoders import ConvDecoder, MLPDecoder
from tests.oracles.worked_examples import EXAMPLES

SHAPE = (6, 4, 7, 5)
CLASSES = 3


def whole_map(decoder: ConvDecoder, x: Tensor) -> Tensor:
    """All positions and channels, by layers on images."""
    out, into, height, width = SHAPE
    maps = F.relu(decoder.fc(x)).view(len(x), -1, height, width)
    for layer, last in ((decoder.conv[0], False), (decoder.conv[2], True)):
        maps = F.conv2d(maps, layer.weight.view(*layer.weight.shape[:2], 1, 1), layer.bias)  # type: ignore[union-attr]
        maps = maps if last else maps.relu()
    return maps.view(len(x), out, into, height, width)


@pytest.mark.parametrize("window", ["corner", "centre"])
@pytest.mark.parametrize("size", [(6, 4, 7, 5), (6, 4, 3, 3), (5, 2, 1, 4), (1, 1, 7, 1), (2, 4, 2, 5)])
def test_windows_of_the_map(window: str, size: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    decoder, x = ConvDecoder(8, SHAPE, CLASSES, window), torch.randn(2, 8)
    expected = whole_map(decoder, x)[:, : size[0], : size[1]]
    for axis in (2, 3):
        start = SHAPE[axis] // 2 - size[axis] // 2 if window == "centre" else 0
        expected = expected.narrow(axis + 1, start, size[axis])
    torch.testing.assert_close(decoder(x, *size), expected)


@pytest.mark.parametrize("window", ["corner", "centre"])
def test_class_weights(window: str) -> None:
    torch.manual_seed(0)
    decoder, x = ConvDecoder(8, SHAPE, CLASSES, window), torch.randn(2, 8)
    y, z = (SHAPE[2] // 2, SHAPE[3] // 2) if window == "centre" else (0, 0)
    head: nn.Module = decoder.class_layer_predictor[1]
    maps = whole_map(decoder, x)[..., y, z].relu()
    expected = torch.einsum("ko,noi->nki", head.weight.flatten(1), maps) + head.bias[:, None]  # type: ignore[operator,union-attr,index]
    torch.testing.assert_close(decoder.class_weights(x), expected)
    assert MLPDecoder(8, SHAPE, CLASSES).class_weights(x).shape == (2, CLASSES, SHAPE[1])


def test_windows_of_the_mlp_decoder() -> None:
    torch.manual_seed(0)
    decoder, x = MLPDecoder(8, SHAPE, CLASSES), torch.randn(2, 8)
    whole = decoder.mlp(x).view(2, *SHAPE)
    torch.testing.assert_close(decoder(x, 5, 3, 3, 2), whole[:, :5, :3, :3, :2])


@pytest.mark.parametrize("example", ["V2", "V4"])
@pytest.mark.parametrize("kind", ["corner", "centre", "mlp"])
def test_networks(kind: str, example: str) -> None:
    """Every parameter is predicted, with its shape and a gradient, and repeats blocks of the largest shape."""
    torch.manual_seed(0)
    parts = {"decoder": "mlp"} if kind == "mlp" else {"window": kind}
    ghn = GHN(GHNConfig(hidden=8, max_shape=(12, 20, 5, 3), **parts))
    graph = build_graph(EXAMPLES[example].config)
    (predicted,) = ghn(graph)
    slots = [slot for slots in graph.parameters for slot in slots]
    assert {slot.name: tuple(slot.shape) for slot in slots} == {n: tuple(t.shape) for n, t in predicted.items()}
    sum(tensor.square().sum() for tensor in predicted.values()).backward()
    assert all(p.grad is not None and math.isfinite(float(p.grad.sum())) for p in ghn.decoder.parameters())
    for slot in slots:
        tensor = predicted[slot.name]
        if slot.role == "weight" and len(slot.shape) == 4 and slot.shape[0] > 12:
            assert torch.equal(tensor[12:], tensor[: slot.shape[0] - 12])
        if slot.role == "weight" and len(slot.shape) == 4 and slot.shape[1] > 20:
            assert torch.equal(tensor[:, 20:40], tensor[:, : min(20, slot.shape[1] - 20)])
