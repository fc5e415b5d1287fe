"""`Family` and `FamilyNetworks`: configurations by number, splits, names, options."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepnets.families import FAMILIES, Draws, Family, FamilyNetworks, FamilySplit, find_family, split_of
from deepnets.support import ConfigError, MissingDataError, import_torchvision
from deepnets.tracing import trace

ROOT = Path(__file__).resolve().parents[3]
RULE = {"depths": {"repeat": 2, "of": {"from": 1, "to": 2}}, "widths": {"repeat": 2, "of": [4, 8, 12]}}


def small(**changes: Any) -> Family:
    """36 configurations."""
    splits = {
        "train": FamilySplit(50, (0.4, 1.0)),
        "test": FamilySplit(5, (0.0, 0.4), distinct=True),
        "wide": FamilySplit(4, rule={"widths": [16]}),
        "given": FamilySplit(
            2, configs=[{"depths": [1], "widths": [4]}, {"depths": [2], "widths": [4]}], names=("a", "b")
        ),
    }
    return Family(
        **{"name": "small", "model": "resnet", "rule": RULE, "sizes": ["widths"], "splits": splits, **changes}
    )


def configs(nets: FamilyNetworks) -> list[str]:
    return [json.dumps(nets.config(i)) for i in range(len(nets))]


def test_networks_by_number() -> None:
    """Network i does not depend on the other networks that are read, nor on how many are used."""
    nets = FamilyNetworks("resnet-widths", "train")
    again = FamilyNetworks("resnet-widths", "train", num_nets=500)
    assert [again.config(i) for i in (499, 3, 250)] == [nets.config(i) for i in (499, 3, 250)]
    assert (len(nets), len(again), again.total) == (10_000, 500, 10_000)
    for split in ("test", "deep"):
        assert configs(FamilyNetworks("resnet-widths", split))[:7] == configs(
            FamilyNetworks("resnet-widths", split, num_nets=7)
        )
    assert configs(FamilyNetworks("resnet-widths", "test")) != configs(FamilyNetworks("resnet-widths", "test", seed=1))
    assert nets.config(-1) == nets.config(9_999)


@pytest.mark.slow
def test_another_process() -> None:
    program = """
import json
from deepnets.families import FamilyNetworks
for name in ("resnet-widths", "vits-1k"):
    nets = FamilyNetworks(name, "train")
    print(json.dumps([nets.config(i) for i in range(20)]))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "17", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    for name, line in zip(("resnet-widths", "vits-1k"), done.stdout.splitlines(), strict=True):
        nets = FamilyNetworks(name, "train")
        assert json.loads(line) == [nets.config(i) for i in range(20)]


def test_golden_configurations() -> None:
    """They must not change: results are compared by family, split and index."""
    assert FamilyNetworks("resnet-widths", "test").config(0) == {"depths": [2, 4, 1, 1], "widths": [17, 17, 23, 22]}
    assert FamilyNetworks("resnet-widths", "train").config(0) == {"depths": [5, 3, 4, 1], "widths": [21, 31, 16, 25]}
    assert FamilyNetworks("vits-1k", "val").config(0) == {"layers": 5, "width": 368, "heads": 4, "patch_size": 2}
    assert FamilyNetworks("gpts-1k", "test").config(0) == {"layers": 6, "width": 148, "heads": 4}


def test_ranges_of_the_built_in_family() -> None:
    splits = {split: FamilyNetworks("resnet-widths", split) for split in ("train", "val", "test", "wide", "deep")}
    for split, nets in splits.items():
        found = [nets.config(i) for i in range(100)]
        depths = {depth for config in found for depth in config["depths"]}
        widths = {width for config in found for width in config["widths"]}
        assert {len(config[name]) for config in found for name in config} == {4}
        assert depths == set(range(7, 11) if split == "deep" else range(1, 7))
        assert widths == set(range(40, 65) if split == "wide" else range(16, 33))


def test_parts_divide_all_configurations() -> None:
    """Every configuration of the rule is in the part of exactly one of the splits."""
    family = small()
    everything = [
        json.dumps({"depths": list(depths), "widths": list(widths)})
        for depths in itertools.product((1, 2), repeat=2)
        for widths in itertools.product((4, 8, 12), repeat=2)
    ]
    splits = {"train": FamilySplit(2000, (0.4, 1.0)), "test": FamilySplit(2000, (0.0, 0.4))}
    found = {name: set(configs(FamilyNetworks(small(splits=splits), name))) for name in splits}
    assert found["train"] | found["test"] == set(everything)
    assert not found["train"] & found["test"]
    assert set(configs(FamilyNetworks(family, "test"))) <= found["test"]


def test_too_few_distinct_configurations() -> None:
    splits = {"test": FamilySplit(37, distinct=True)}
    with pytest.raises(ConfigError, match=r"family small: split test: no configuration for network 36 among 10,000"):
        FamilyNetworks(small(splits=splits), "test")
    assert len(FamilyNetworks(small(splits={"test": FamilySplit(36, distinct=True)}), "test")) == 36


def test_given_configurations() -> None:
    nets = FamilyNetworks(small(), "given")
    assert [nets.config(i)["depths"] for i in range(2)] == [[1], [2]]
    assert [nets.name_of(i) for i in range(2)] == ["a", "b"]
    assert FamilyNetworks(small(), "wide").config(3)["widths"] == 16


def test_names_of_splits() -> None:
    assert split_of("family:resnet-widths", "test") == ("resnet-widths", "test")
    assert split_of("a/b.json/wide", "test") == ("a/b.json", "wide")
    assert split_of("a/b.json", "test") == ("a/b.json", "test")
    assert split_of("mine.models:FAMILY/val", "test") == ("mine.models:FAMILY", "val")
    nets = FamilyNetworks("family:resnet-widths/wide", num_nets=3)
    assert (nets.split, nets.name, nets.splits) == ("wide", "resnet-widths", ("train", "val", "test", "wide", "deep"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet-width", r"family: unknown 'resnet-width'; use one of resnet-widths, vits-1k"),
        ("", r"family: expected a name"),
        ("math:pi", r"family: 'math:pi' is a float, expected a deepnets.families.Family"),
        ("no_such_module:F", r"family: no_such_module cannot be imported"),
        ("resnet-widths/testt", r"family resnet-widths: has no split 'testt'; use one of train, val"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FamilyNetworks(name)
    with pytest.raises(MissingDataError, match=r"none\.json: no such file"):
        find_family("none.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"image_size": 15}, "image_size"),
        ({"num_nets": 0}, "num_nets"),
        ({"seed": -1}, "seed"),
        ({"virtual_edges": 0}, "virtual_edges"),
        ({"width": 3}, r"family small: has no 'width' to replace; it has depths, widths"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FamilyNetworks(small(), **options)


def test_options_replace_fields_and_arguments() -> None:
    nets = FamilyNetworks(small(arguments={"kernel_size": 3}), "train", widths=[4, 4], kernel_size=5)
    assert nets.config(1)["widths"] == [4, 4]
    weight = nets.build(1).layer1[0].conv1.weight  # type: ignore[index, union-attr]
    assert weight.shape == (4, 4, 5, 5)
    assert nets[1].parameters != FamilyNetworks(small(), "train", widths=[4, 4])[1].parameters


def test_configurations_are_copies() -> None:
    nets = FamilyNetworks(small(), "test")
    before = configs(nets)
    nets.config(0)["widths"].append(99)
    assert configs(nets) == before


def test_sequence() -> None:
    nets = FamilyNetworks(small(), "train", num_nets=4, virtual_edges=7)
    assert [graph.index for graph in nets] == [0, 1, 2, 3]
    assert [graph.index for graph in nets[1:3]] == [1, 2]
    assert nets[2, 5] == nets[2] == nets.graph(2)
    assert nets[-1].index == 3
    assert nets[0].virtual_edges == 7
    for index in (4, -5):
        with pytest.raises(IndexError, match="has 4 networks"):
            nets[index]
    assert nets.num_nodes.tolist() == [graph.num_nodes for graph in nets]
    assert list(nets.table.columns) == ["depths", "widths", "num_params"]
    assert nets.table["num_params"].tolist() == [sum(p.numel() for p in nets.build(i).parameters()) for i in range(4)]
    again = pickle.loads(pickle.dumps(nets))
    assert again[3] == nets[3]
    graph = pickle.loads(pickle.dumps(nets[3]))
    assert graph.parameters == nets[3].parameters
    assert graph.network.config == nets.config(3)


def test_networks_for_other_images() -> None:
    nets = FamilyNetworks(small(), "train", num_classes=7, image_size=224)
    model, inputs = nets.build(0), nets.example_inputs(nets.config(0))
    assert inputs.shape == (1, 3, 224, 224)
    assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 7)
    assert sum(slot.shape[0] for slots in nets[0].parameters for slot in slots if "class" in slot.role) == 14


def test_identity() -> None:
    """It changes with everything that changes networks, and not with their number."""
    same = [FamilyNetworks(small(), "train"), FamilyNetworks(small(), "train", num_nets=3)]
    assert len({nets.identity for nets in same}) == 1
    others = [
        FamilyNetworks(small(), "test"),
        FamilyNetworks(small(), "train", seed=1),
        FamilyNetworks(small(), "train", widths=[4, 8]),
        FamilyNetworks(small(rule={**RULE, "widths": {"repeat": 2, "of": [4, 8]}}), "train"),
        FamilyNetworks(small(arguments={"kernel_size": 5}), "train"),
    ]
    assert len({nets.identity for nets in [*same, *others]}) == 1 + len(others)


# --- families in Python ---


class Plain(nn.Module):
    """A user's model, with its own names of arguments."""

    def __init__(self, width: int, layers: int, num_classes: int, bias: bool = True) -> None:
        super().__init__()
        sizes = [3 * 32 * 32, *[width] * layers, num_classes]
        self.layers = nn.Sequential(*(nn.Linear(a, b, bias) for a, b in itertools.pairwise(sizes)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x.flatten(1))
        return out


def test_keywords_of_a_users_function_are_what_the_rule_gives() -> None:
    """Its `**kwargs` may be those of a layer, which has no number of classes."""
    family = Family("any", lambda **options: nn.Linear(3, 2, **options), {"bias": [True]})
    assert isinstance(FamilyNetworks(family, "train", num_classes=7).build(0), nn.Linear)


def test_functions_of_torchvision_get_the_number_of_classes() -> None:
    try:
        torchvision = import_torchvision()
    except ImportError:
        pytest.skip("torchvision is not installed")
    family = Family("callable", torchvision.models.resnet18, {"zero_init_residual": [True, False]})
    assert FamilyNetworks(family, "train", num_classes=7).build(0).fc.out_features == 7  # type: ignore[union-attr]


def plain_rule(draws: Draws) -> dict[str, Any]:
    layers = draws.integer(1, 3)
    return {"layers": layers, "width": draws.choice([8, 16]) * layers}


PLAIN = Family("plain", Plain, plain_rule, sizes=["width"], arguments={"bias": False})


def test_family_of_a_users_model() -> None:
    nets = FamilyNetworks(f"{__name__}:PLAIN/train", num_nets=2, num_classes=5)
    config = nets.config(0)
    assert config["width"] in (8 * config["layers"], 16 * config["layers"])
    assert nets.build(config)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert nets[0].num_nodes == config["layers"] + 2


def test_functions_of_the_same_name() -> None:
    """A network of one is not taken for one of the other."""
    wide, narrow = [lambda depths, widths, k=k: nn.Sequential(nn.Flatten(), nn.Linear(3072, k)) for k in (5, 3)]
    for model, outputs in ((wide, 5), (narrow, 3), (wide, 5)):
        graph = FamilyNetworks(small(model=model), "train")[0]
        assert graph.parameters[-1][0].shape == (outputs,)


class Shortcut(nn.Module):
    """A convolution with or without a short cut, which has neither modules nor parameters."""

    def __init__(self, width: int, num_classes: int, residual: bool = False, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem, self.conv, self.act = nn.Conv2d(3, width, 3), nn.Conv2d(width, width, 3, padding=1), act()
        self.head, self.residual = nn.Linear(width, num_classes), residual

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.act(self.conv(x))
        return self.head((y + x if self.residual else y).mean((2, 3)))


def with_shortcut(residual: bool) -> Any:
    return lambda width, num_classes: Shortcut(width, num_classes, residual)


@pytest.mark.parametrize("make", [lambda residual: partial(Shortcut, residual=residual), with_shortcut])
def test_stored_graphs_of_functions_without_names_of_their_own(make: Any, tmp_path: Path) -> None:
    """Partial functions, lambdas and nested functions differ although their names are equal."""
    for residual, nodes in ((True, 9), (False, 8), (True, 9)):
        family = Family("short", make(residual), {"width": [4, 8]}, sizes=["width"])
        nets = FamilyNetworks(family, "train", root=tmp_path, num_nets=1)
        assert nets[0].num_nodes == nodes


def test_partial_functions_have_identities() -> None:
    yes, no, again = (Family("short", partial(Shortcut, residual=r), {"width": [4, 8]}) for r in (True, False, True))
    assert yes.identity == again.identity != no.identity


def test_arguments_that_are_classes() -> None:
    family = Family("short", Shortcut, {"width": [4, 8]}, arguments={"act": nn.Tanh})
    nets = FamilyNetworks(family, "train", num_nets=1)
    assert isinstance(nets.build(0).act, nn.Tanh)
    assert nets[0].num_nodes == 8
    assert nets.identity != FamilyNetworks(family, "train", num_nets=1, act=nn.GELU).identity
    for wrong in (object(), torch.float32, {1, 2}):
        with pytest.raises(
            ConfigError, match="family short: act: expected values that JSON can represent, or functions"
        ):
            Family("short", Shortcut, {"width": [4, 8]}, arguments={"act": wrong})
        with pytest.raises(
            ConfigError, match="family short: act: expected values that JSON can represent, or functions"
        ):
            FamilyNetworks(family, "train", act=wrong)


def test_registered_family() -> None:
    family = small(name="registered")
    FAMILIES.register("registered", family)
    try:
        assert find_family("registered") is family
    finally:
        del FAMILIES._entries["registered"]


def fails(draws: Draws) -> Any:
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (fails, r"family small: the rule fails: RuntimeError: no idea"),
        (lambda draws: [1], r"family small: the rule returns \[1\], expected fields"),
        (lambda draws: {}, r"family small: the rule returns \{\}, expected fields"),
        (lambda draws: {"width": {1, 2}}, r"family small: the rule returns values that JSON cannot represent"),
        (lambda draws: {"width": float("nan")}, r"family small: the rule returns values that JSON cannot represent"),
    ],
)
def test_bad_rules_in_python(rule: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FamilyNetworks(small(rule=rule, sizes=[]), "train")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear, r"family small: config .*: TypeError"),
        (lambda depths, widths: 3, r"expected a torch.nn.Module, got int"),
        ("torch.nn:Nothing", r"module torch.nn has no attribute|torch.nn has no attribute"),
        ("torchvision:ResNet", r"torchvision has no model 'ResNet'|torchvision is not installed"),
    ],
)
def test_bad_models(model: Any, message: str) -> None:
    nets = FamilyNetworks(small(model=model), "train")
    with pytest.raises((ConfigError, ImportError), match=message):
        nets.build(0)


class Decaying(nn.Module):
    """Reads a value of a tensor, as models with stochastic depth do; two layers share a weight."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.stem, self.head = nn.Conv2d(3, width, 3), nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(self.stem(x).mean((2, 3)))))
        return out


def test_constructors_may_read_values() -> None:
    nets = FamilyNetworks(Family("decaying", Decaying, {"width": [4]}, sizes=["width"]))
    state = torch.get_rng_state()
    skeleton: Any = nets[0].network.skeleton()
    assert torch.equal(torch.get_rng_state(), state)
    assert {parameter.device.type for parameter in skeleton.parameters()} == {"meta"}
    assert skeleton.first.weight is skeleton.second.weight
    assert nets[0] == trace(nets.build(0))
