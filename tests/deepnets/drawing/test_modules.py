"""Boxes of pictures: cells, and the modules of traced networks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from deepnets import trace
from deepnets.drawing import arrange, boxes_of, draw
from tests.support.drawn_graphs import graph, residual


class Block(nn.Module):
    def __init__(self, shortcut: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)])
        self.shortcut = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) if shortcut else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for layer in self.layers:
            y = layer(y)
        return y + (x if self.shortcut is None else self.shortcut(x))


def network(blocks: int = 4, shortcut: bool = False) -> nn.Module:
    body = nn.Sequential(*(Block(shortcut) for _ in range(blocks)))
    parts = {"stem": nn.Conv2d(3, 4, 3), "body": body, "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    model = nn.Sequential()
    for name, part in (parts | {"head": nn.Linear(4, 2)}).items():
        model.add_module(name, part)
    return model


@pytest.mark.parametrize("shortcut", [False, True])
def test_modules_are_boxes(shortcut: bool) -> None:
    drawn = trace(network(shortcut=shortcut))
    boxes = boxes_of(drawn)
    assert boxes.are_modules
    assert all(before <= after for before, after in pairwise(boxes.groups))
    names = [boxes.labels[group] for group in boxes.groups]
    assert {"body.0", "body.1", "body.2", "body.3"} <= {".".join(name.split(".")[:2]) for name in names}
    for node, slots in enumerate(drawn.parameters):
        if slots:  # a node is in the box of a module that its parameter belongs to
            assert slots[0].name.startswith(names[node])


def test_boxes_have_the_names_of_modules() -> None:
    texts = {text.get_text() for text in draw(trace(network())).axes[0].texts}
    assert {f"body.{i}.layers" for i in range(4)} <= texts or {f"body.{i}" for i in range(4)} <= texts
    assert not any(text.startswith("body") for text in map(str, draw(trace(network()), modules=False).axes[0].texts))


def test_layout_has_a_box_per_module() -> None:
    drawn = trace(network())
    boxes = boxes_of(drawn)
    layout = arrange(drawn, groups=boxes.groups)
    assert [box.cell for box in layout.boxes] == sorted(set(boxes.groups))
    by_number = {box.cell: box for box in layout.boxes}
    for (x, y), group in zip(layout.positions, boxes.groups):
        box = by_number[group]
        assert box.left < x < box.right
        assert box.bottom < y < box.top


def test_cells_come_first_and_nothing_is_invented() -> None:
    cells = boxes_of(graph("DARTS"))
    assert not cells.are_modules
    assert cells.groups == graph("DARTS").cells.tolist()
    for drawn in (residual(2), graph("one node"), trace(nn.Linear(3, 2), torch.zeros(1, 3))):
        assert boxes_of(drawn).labels == {}
        assert set(boxes_of(drawn).groups) == {0}
    assert boxes_of(trace(network()), modules=False).labels == {}


def test_modules_that_take_turns_are_not_boxes() -> None:
    class Alternating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(9))
            self.b = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(9))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for first, second in zip(self.a, self.b):
                x = second(first(x))
            return x

    assert boxes_of(trace(Alternating(), torch.zeros(1, 3))).labels == {}
