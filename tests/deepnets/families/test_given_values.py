"""Replaced fields, given configurations, and functions and classes as arguments."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import nn

from deepnets.families import Draws, Family, FamilyNetworks, FamilySplit
from deepnets.families.values import canonical
from deepnets.support import ConfigError
from tests.deepnets.families.test_families import RULE, small


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vits-1k", {"patch_size": 2}),
        ("gpt2-widths", {"heads": 2}),
        ("gpt2-widths", {"layers": 1}),
        ("llamas-1k", {"kv_heads": 1}),
        ("resnet-widths", {"depths": [1, 1, 1, 1]}),
    ],
)
def test_splits_are_disjoint_also_if_fields_are_replaced(name: str, options: dict[str, Any]) -> None:
    splits = {split: FamilyNetworks(name, split, **options) for split in ("train", "val", "test")}
    found = {split: [canonical(nets.config(index)) for index in range(len(nets))] for split, nets in splits.items()}
    for field, value in options.items():
        assert all(json.loads(text).get(field, value) == value for texts in found.values() for text in texts)
    for split in ("val", "test"):
        assert found[split]
        assert len(set(found[split])) == len(found[split]) == splits[split].total
    assert not set(found["val"]) & set(found["test"])
    assert not set(found["train"]) & {*found["val"], *found["test"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"configs": [{"widths": [4]}, {"widths": [4]}], "distinct": True}, "configs: 1 is 0 again"),
        ({"configs": list}, "configs: expected 2, the size of the split, got 0"),
        ({"configs": lambda: [{"widths": [4]}]}, "configs: expected 2, the size of the split, got 1"),
        ({"configs": [5, 6]}, "configs: expected fields by name, got 5"),
        ({"configs": [{}, {}]}, "configs: expected fields by name, got {}"),
        ({"configs": [{"widths": np.int64(4)}] * 2}, "configs: 0 has values that JSON cannot represent"),
    ],
)
def test_given_configurations_are_checked(options: dict[str, Any], message: str) -> None:
    family = small(splits={"test": FamilySplit(2, **options)})
    with pytest.raises(ConfigError, match=re.escape(message)):
        FamilyNetworks(family, "test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"configs": [{}], "part": (0.0, 0.5)}, "part: is not for splits with configs"),
        ({"configs": [{}], "rule": {"widths": [4]}}, "rule: is not for splits with configs"),
        ({"configs": [{}], "names": 5}, "names: expected a list of texts, got 5"),
        ({"configs": [{}], "names": [7]}, "names: expected a list of texts, got [7]"),
        ({"configs": [{}], "names": "a"}, "names: expected a list of texts, got 'a'"),
    ],
)
def test_splits_that_are_not_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        FamilySplit(1, **options)


@pytest.mark.parametrize("sizes", [None, 5, {"widths": 1}, "widths", [7]])
def test_sizes_that_are_no_names(sizes: Any) -> None:
    with pytest.raises(ConfigError, match="sizes: expected names of fields, got "):
        small(sizes=sizes)


def test_arguments_of_the_same_name_are_different_functions() -> None:
    """As a class that is edited in a notebook: its module and its name stay the same."""

    def made(kernel: int) -> FamilyNetworks:
        class Block(nn.Conv2d):
            def __init__(self, width: int) -> None:
                super().__init__(3, width, kernel, padding=kernel // 2)

        return FamilyNetworks(Family("mine", with_block, {"width": [8]}, arguments={"block": Block}))

    for kernel in (3, 5, 3):
        nets = made(kernel)
        assert nets.build(0)[0].weight.shape == (8, 3, kernel, kernel)
        assert nets[0].parameters[1][0].shape == (8, 3, kernel, kernel)
        assert nets.num_params(0) == sum(each.numel() for each in nets.build(0).parameters())


def with_block(width: int, block: Any, num_classes: int = 10) -> nn.Module:
    """A network whose first layer is an argument."""
    return nn.Sequential(block(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


def test_a_rule_that_fails_does_not_end_a_split() -> None:
    """A split becomes smaller only if too few configurations are left."""

    def rule(draws: Draws) -> dict[str, Any]:
        width = draws.integer(1, 1000)
        if width > 900:
            raise ValueError("broken")
        return {"width": width, "heads": 1}

    family = Family("mine", "resnet", rule, splits={"test": FamilySplit(200, distinct=True)})
    with pytest.raises(ConfigError, match="the rule fails: ValueError: broken"):
        FamilyNetworks(family, "test", heads=2)


def test_lists_repeat_over_replaced_fields() -> None:
    rule = {
        "layers": {"from": 1, "to": 4},
        "widths": {"repeat": "layers", "of": [8, 16, 24]},
        "last": {"from": 0, "to": 9},
    }
    family = Family("f", "resnet", rule, splits={"train": FamilySplit(20)})
    for nets in (FamilyNetworks(family, "train", layers=2), FamilyNetworks(family, "train", layers=3)):
        found = [nets.config(i) for i in range(20)]
        assert {len(config["widths"]) - config["layers"] for config in found} == {0}
    plain = FamilyNetworks(family, "train")
    same = FamilyNetworks(family, "train", last=10)
    assert [{**plain.config(i), "last": 10} for i in range(20)] == [same.config(i) for i in range(20)]


def test_given_configurations_stay_distinct_if_fields_are_replaced() -> None:
    given = [{"depths": [1], "widths": [w], "kernel_size": k} for k, w in ((3, 4), (3, 8), (5, 4), (5, 8))]
    split = FamilySplit(4, distinct=True, configs=given, names=("a", "b", "c", "d"))
    nets = FamilyNetworks(Family("given", "resnet", RULE, splits={"test": split}), "test", kernel_size=1)
    assert [nets.config(i)["widths"] for i in range(len(nets))] == [[4], [8]]
    assert [nets.name_of(i) for i in range(len(nets))] == ["a", "b"]
    nets = FamilyNetworks(Family("given", "resnet", RULE, splits={"test": split}), "test", widths=[2])
    assert [nets.name_of(i) for i in range(len(nets))] == ["a", "c"]
    assert nets.total == 2
    repeated = {"test": replace(split, distinct=False)}
    again = FamilyNetworks(Family("given", "resnet", RULE, splits=repeated), "test", widths=[2])
    assert [again.name_of(i) for i in range(len(again))] == ["a", "b", "c", "d"]
