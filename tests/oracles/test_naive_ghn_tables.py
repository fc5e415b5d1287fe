"""Counts of parameters and values of tables against the published ones."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.oracles.naive_ghn_tables import (
    channel_grid,
    channel_value,
    four_axes,
    list_shapes,
    spatial_grid,
    spatial_value,
)


@pytest.mark.parametrize(
    ("count", "layout"),
    [
        (1_620_764, {}),
        (1_620_668, {"virtual_edges": 1, "layernorm": False}),
        (1_614_396, {"hypernet": "mlp"}),
        (2_319_720, {"num_classes": 1000, "max_shape": (64, 64, 16, 16)}),
        (32_282_066, {"decoder": "mlp"}),
        (4_531_500, {"hypernet": "graphormer", "hidden": 64}),
        *(
            (count, {"hypernet": "graphormer", "hidden": h, "layers": layers, "heads": heads, "num_classes": 1000})
            for count, h, layers, heads in [
                (6_906_632, 64, 3, 8),
                (35_810_368, 128, 5, 16),
                (214_668_960, 256, 12, 16),
                (654_365_184, 384, 24, 16),
            ]
        ),
    ],
)
def test_counts(count: int, layout: dict[str, Any]) -> None:
    if layout.get("hypernet") == "graphormer" and "num_classes" in layout:
        layout = {**layout, "max_shape": (layout["hidden"], layout["hidden"], 16, 16)}
    assert sum(math.prod(shape) for shape in list_shapes(**layout).values()) == count


def test_channel_grid() -> None:
    assert [len(channel_grid(K)) for K in (10, 100, 1000, 8, 3)] == [391, 391, 391, 390, 390]
    assert [channel_grid(10).index(c) for c in (8, 10, 16)] == [2, 3, 4]
    assert channel_grid(1000).index(16) == 3


@pytest.mark.parametrize(
    ("K", "values"),
    [
        (10, {1: 1, 2: 1, 3: 3, 4: 8, 5: 8, 6: 8, 7: 8, 8: 8, 9: 8, 10: 10, 11: 10, 12: 10, 13: 10, 14: 16, 16: 16}),
        (10, {20: 16, 36: 32, 72: 64, 88: 80, 1016: 1008, 8191: 8192, 8192: 8192, 8193: 8192, 100_000: 8192}),
        (1000, {12: 8, 992: 992, 996: 992, **dict.fromkeys(range(997, 1005), 1000), 1005: 1008}),
        (5, {4: 8, 5: 5, 6: 8}),
    ],
)
def test_channels(K: int, values: dict[int, int]) -> None:
    assert {c: channel_value(c, K) for c in values} == values


@pytest.mark.parametrize(
    ("S", "grid", "values"),
    [
        (11, [1, 3, 5, 7, 9, 11, 14, 16], {13: 14, 15: 14}),
        (16, [1, 3, 5, 7, 9, 11, 13, 14, 15, 16], {13: 13, 15: 15}),
    ],
)
def test_spatial(S: int, grid: list[int], values: dict[int, int]) -> None:
    assert spatial_grid(S) == grid
    values = {1: 1, 2: 3, 3: 3, 4: 3, 6: 5, 8: 7, 10: 9, 12: 11, 14: 14, 16: 16, 17: 16, 32: 16, **values}
    assert {k: spatial_value(k, S) for k in values} == values


def test_four_axes() -> None:
    assert four_axes(()) == four_axes((1,)) == (1, 1, 1, 1)
    assert [four_axes((7,)), four_axes((7, 5))] == [(7, 1, 1, 1), (7, 5, 1, 1)]
    assert [four_axes((1, 197, 384)), four_axes((1, 1, 384))] == [(1, 384, 14, 14), (1, 1, 384, 1)]
    assert [four_axes((6, 5, 4)), four_axes((6, 5, 4, 3, 2))] == [(6, 5, 4, 1), (6, 5, 3, 2)]
