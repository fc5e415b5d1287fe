"""Families in JSON files, also hostile ones."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from deepnets.families import Family, FamilyNetworks, family_from_dict, read_family
from deepnets.support import ConfigError, DeepNetsError, FormatError, import_torchvision

NARROW: dict[str, Any] = {
    "name": "narrow",
    "model": "resnet",
    "rule": {
        "depths": {"repeat": 3, "of": {"from": 1, "to": 2}},
        "widths": {"repeat": 3, "of": {"from": 4, "to": 16, "step": 4}},
        "kernel_size": [1, 3],
    },
    "sizes": ["widths"],
    "splits": {"train": {"size": 20, "part": [0.5, 1]}, "test": {"size": 5, "part": [0, 0.5], "distinct": True}},
}


def need_torchvision() -> None:
    try:
        import_torchvision()
    except ImportError:
        pytest.skip("torchvision is not installed")


def written(folder: Path, values: Any) -> Path:
    path = folder / "narrow.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def test_family_in_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, NARROW)
    nets = FamilyNetworks(f"family:{path}/test")
    assert len(nets) == 5
    config = nets.config(0)
    assert all(width in (4, 8, 12, 16) for width in config["widths"])
    assert config["kernel_size"] in (1, 3)
    assert nets.build(config)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert nets[0].num_nodes > 10
    assert FamilyNetworks(str(path)).split == "train"


def test_default_splits() -> None:
    family = family_from_dict({name: NARROW[name] for name in ("name", "model", "rule")})
    assert {name: split.size for name, split in family.splits.items()} == {"train": 1000, "val": 100, "test": 100}


def test_models_of_libraries() -> None:
    need_torchvision()
    family = family_from_dict({"name": "tv", "model": "torchvision:mobilenet_v2", "rule": {"width_mult": [0.25, 0.5]}})
    nets = FamilyNetworks(family, "train", num_classes=3, num_nets=1)
    assert nets.build(0).classifier[1].out_features == 3  # type: ignore[index, union-attr]
    assert {slot.role for slots in nets[0].parameters for slot in slots} >= {"weight", "norm_weight", "class_weight"}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Replace or, with `...`, remove one value; `path` is like "rule.widths"."""
    values = copy.deepcopy(NARROW)
    *parents, last = path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "expected an object"),
        ("text", "expected an object"),
        (changed("name", ...), "has no 'name'"),
        (changed("rule", ...), "has no 'rule'"),
        (changed("name", "../../etc"), "expected a name of letters"),
        (changed("name", ""), "expected a name of letters"),
        (changed("name", 7), "expected a name of letters"),
        (changed("code", "print(1)"), "unknown key 'code'"),
        (changed("model", "os:system"), "is code, which a file cannot name"),
        (changed("model", "deepnets.families:ResNet"), "is code, which a file cannot name"),
        (changed("model", "__import__('os')"), "model: unknown"),
        (changed("model", 3), "model: expected a text"),
        (changed("model", "torchvision:models.resnet18"), "model: unknown|is code"),
        (changed("rule", []), "expected a rule"),
        (changed("rule", {}), "expected a rule"),
        (changed("rule", "widths"), "expected a rule"),
        (changed("rule.widths", []), "widths: expected at least one value"),
        (changed("rule.widths", [[1]]), "widths: expected numbers or texts"),
        (changed("rule.widths", {"from": 4}), "widths: expected a value, a list of values"),
        (changed("rule.widths", {"from": 4, "to": 2}), "widths: there is no integer from 4 to 2"),
        (changed("rule.widths", {"from": 4, "to": 8, "step": 0}), "widths: step"),
        (changed("rule.widths", {"from": 1.5, "to": 8}), "widths: from"),
        (changed("rule.widths", {"from": 1, "to": 10**400}), "widths: to"),
        (changed("rule.widths", {"repeat": 10**9, "of": [4]}), "widths: repeat"),
        (changed("rule.widths", {"repeat": -1, "of": [4]}), "widths: repeat"),
        (changed("rule.widths", {"repeat": "later", "of": [4]}), "widths: repeat: 'later' is not a field"),
        (changed("rule.widths", {"repeat": 2, "of": {"repeat": 1000, "of": [4]}}), "a list of lists"),
        (changed("rule", {**NARROW["rule"], "a b": 3}), "expected the name of a field"),
        (changed("sizes", "widths"), "sizes: expected names"),
        (changed("sizes", ["width"]), "sizes: 'width' is not a field"),
        (changed("sizes", [3]), "sizes: expected names"),
        (changed("arguments", [1]), "arguments: expected a mapping"),
        (changed("task", "audio"), "task: expected one of images, text"),
        (changed("splits", {}), "splits: expected at least one"),
        (changed("splits", [1]), "splits: expected an object"),
        (changed("splits.test", 5), "split test: expected an object"),
        (changed("splits.test.size", 0), "split test: size"),
        (changed("splits.test.size", 10**12), "split test: size"),
        (changed("splits.test.size", True), "split test: size"),
        (changed("splits.test.part", [0.5, 0.5]), "split test: part"),
        (changed("splits.test.part", [0, 2]), "split test: part"),
        (changed("splits.test.part", "all"), "split test: part"),
        (changed("splits.test.distinct", "yes"), "split test: distinct"),
        (changed("splits.test.rule", [3]), "split test: expected a rule"),
        (changed("splits.test.configs", [3]), "split test: configs: expected a list of objects"),
        (changed("splits.test.configs", [{}]), "split test: configs: expected 5"),
        (changed("splits.a/b", {"size": 1}), "'a/b' is not a split"),
        (changed("splits.test.names", ["a"]), "names: are for splits with configs"),
    ],
)
def test_bad_specifications(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        family_from_dict(values)


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 100_000, '{"a": ' * 100_000, "\x00\xff", '{"name": 1e', "1" * 5000 + "x"]
)
def test_files_that_are_not_json(tmp_path: Path, content: str) -> None:
    with pytest.raises(FormatError, match=r"narrow\.json: is not a JSON file of a family"):
        read_family(written(tmp_path, content))


def test_other_things_in_the_place_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "narrow.json"
    path.mkdir()
    with pytest.raises(FormatError, match="not a regular file"):
        read_family(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(FormatError, match="not a regular file"):
        read_family(path)
    path.unlink()
    path.write_text(" " * (2 << 20))
    with pytest.raises(FormatError, match="larger than"):
        read_family(path)


@pytest.mark.parametrize(
    ("rule", "arguments", "message"),
    [
        ({"depths": [4], "widths": [4]}, {}, "depths: expected one to 8 integers"),
        ({"depths": {"repeat": 4, "of": [10**8]}, "widths": {"repeat": 4, "of": [16]}}, {}, "depths"),
        ({"depths": {"repeat": 4, "of": [1]}, "widths": {"repeat": 4, "of": [10**8]}}, {}, "widths"),
        ({"depths": {"repeat": 2, "of": [1]}, "widths": {"repeat": 3, "of": [8]}}, {}, "widths: expected one for each"),
        ({"depths": {"repeat": 1, "of": [1]}, "widths": {"repeat": 1, "of": [8]}}, {"kernel_size": 2}, "kernel_size"),
        ({"depths": {"repeat": 1, "of": [1]}, "widths": {"repeat": 1, "of": [8]}}, {"stride": 2}, "stride"),
    ],
)
def test_models_refuse_sizes(rule: Any, arguments: Any, message: str) -> None:
    values = {"name": "a", "model": "resnet", "rule": rule, "arguments": arguments, "splits": {"train": {"size": 1}}}
    nets = FamilyNetworks(family_from_dict(values))
    with pytest.raises(ConfigError, match=f"family a: config .*{message}"):
        nets.build(0)


def test_files_load_no_trained_weights() -> None:
    need_torchvision()
    values = {"name": "a", "model": "torchvision:resnet18", "rule": {"width_per_group": [64]}}
    family = family_from_dict({**values, "arguments": {"weights": "DEFAULT"}, "splits": {"train": {"size": 1}}})
    with pytest.raises(DeepNetsError, match="weights: networks of a family have initial values"):
        FamilyNetworks(family).build(0)


@pytest.mark.parametrize("distinct", [True, False])
def test_files_cannot_take_unlimited_time(monkeypatch: pytest.MonkeyPatch, distinct: bool) -> None:
    """The work is limited in total, whatever the number of networks and the length of a configuration."""
    monkeypatch.setattr("deepnets.families.family.MAX_CHARACTERS", 200_000)
    split = {"size": 10**6, "part": [0, 0.001], "distinct": distinct}
    rule = {"widths": {"repeat": 1000, "of": {"from": 1, "to": 16384}}}
    family = family_from_dict({"name": "slow", "model": "resnet", "rule": rule, "splits": {"test": split}})
    drawn: list[int] = []
    real = Family.draw
    monkeypatch.setattr(Family, "draw", lambda *arguments: drawn.append(1) or real(*arguments))
    with pytest.raises(ConfigError, match="split test: the search for its configurations takes too long; declare a"):
        family.configs("test")[0]
    assert len(drawn) < 60
    fields = {f"field{number}": 1 for number in range(101)}
    with pytest.raises(ConfigError, match="expected at most 100 fields, got 101"):
        family_from_dict({"name": "many", "model": "resnet", "rule": fields})
