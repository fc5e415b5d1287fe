"""`Genotype` and `NetworkConfig`: errors for invalid values, and conversions."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from deepnets import GENOTYPES, NODE_TYPES, PRIMITIVES, ConfigError, Genotype, NetworkConfig
from deepnets.architecture import MAX_STEPS, NORMS, PUBLISHED_NODE_TYPES, PUBLISHED_TYPE_OF, TRACED_NODE_TYPES
from deepnets.support import at_least, checked_integer
from tests.support.strategies import configs, genotypes

PLAIN = Genotype([("conv_3x3", 0), ("skip_connect", 1)], [2], [("max_pool_3x3", 0), ("avg_pool_3x3", 1)], [2])
TWO_STEPS = Genotype(
    [("conv_3x3", 0), ("skip_connect", 1), ("none", 2), ("cse", 0)], [2, 3], [("skip_connect", 0)] * 4, [3]
)
ATTENTIVE = Genotype([("none", 0), ("msa", 1)], [2], [("none", 0), ("avg_pool_3x3", 1)], [2])
FIELDS = [field.name for field in fields(NetworkConfig)]
GENES = [field.name for field in fields(Genotype)]


def valid(**changes: Any) -> NetworkConfig:
    """Return a config that is valid except for the changed fields."""
    return NetworkConfig(**{"genotype": PLAIN, "n_cells": 6, **changes})


# --- vocabularies and names, as in the specification, sections 1.1 and 1.2 ---


def test_vocabularies() -> None:
    assert " ".join(PRIMITIVES) == (
        "none max_pool_3x3 avg_pool_3x3 skip_connect sep_conv_3x3 sep_conv_5x5 dil_conv_3x3 dil_conv_5x5 "
        "conv_1x1 conv_7x1_1x7 conv_3x3 conv_5x5 conv_7x7 msa cse"
    )
    assert " ".join(PUBLISHED_NODE_TYPES) == (
        "max_pool avg_pool sep_conv dil_conv conv msa cse sum concat input bias bn ln pos_enc glob_avg"
    )
    assert " ".join(TRACED_NODE_TYPES) == "scale token gn rms rel_pos embed rnn mul matmul const other rot"
    assert NODE_TYPES == PUBLISHED_NODE_TYPES + TRACED_NODE_TYPES


def test_every_node_type_maps_to_a_published_one() -> None:
    stand_ins = {name: PUBLISHED_NODE_TYPES[PUBLISHED_TYPE_OF[i]] for i, name in enumerate(NODE_TYPES)}
    assert all(stand_ins[name] == name for name in PUBLISHED_NODE_TYPES)
    assert [stand_ins[name] for name in TRACED_NODE_TYPES] == (
        ["ln", "pos_enc", "ln", "ln", "pos_enc", "pos_enc", "conv", "cse", "msa", "input", "conv", "pos_enc"]
    )


ABBREVIATIONS = {
    "sep3": "sep_conv_3x3",
    "dil3": "dil_conv_3x3",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
}

NAMED = {  # copied from the specification, 1.2
    "ViT": ("(none,0),(msa,1)", "(none,0),(avg_pool_3x3,1)", [2]),
    "DARTS": (
        "(sep3,0),(sep3,1),(sep3,0),(sep3,1),(sep3,1),(skip,0),(skip,0),(dil3,2)",
        "(max,0),(max,1),(skip,2),(max,1),(max,0),(skip,2),(skip,2),(max,1)",
        [2, 3, 4, 5],
    ),
    "PDARTS": (
        "(skip,0),(dil3,1),(skip,0),(sep3,1),(sep3,1),(sep3,3),(sep3,0),(dil_conv_5x5,4)",
        "(avg,0),(sep_conv_5x5,1),(sep3,0),(dil_conv_5x5,2),(max,0),(dil3,1),(dil3,1),(dil_conv_5x5,3)",
        [2, 3, 4, 5],
    ),
}


def test_named_genotypes() -> None:
    def genes(text: str) -> list[tuple[str, int]]:
        pairs = [pair.split(",") for pair in text.strip("()").split("),(")]
        return [(ABBREVIATIONS.get(op, op), int(state)) for op, state in pairs]

    assert set(GENOTYPES) == set(NAMED)
    for name, (normal, reduce, concat) in NAMED.items():
        assert GENOTYPES[name] == Genotype(genes(normal), concat, genes(reduce), concat)


# --- invalid values ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": []}, "genotype normal: expected an even number of pairs, 2 to 20, got 0"),
        ({"normal": [("cse", 0)] * 3}, "genotype normal: expected an even number of pairs, 2 to 20, got 3"),
        ({"reduce": [("cse", 0)] * 22}, "genotype reduce: expected an even number of pairs, 2 to 20, got 22"),
        ({"normal": [("cse", 0)] * 4}, "genotype: normal has 4 pairs, reduce 2; give both the same number"),
        ({"normal": None}, "genotype normal: expected a list, got NoneType"),
        ({"normal": "msa"}, "genotype normal: expected a list, got str"),
        ({"normal": {"cse": 0}}, "genotype normal: expected a list, got dict"),
        ({"normal": [("cse", 0), "cs"]}, r"genotype normal\[1\]: expected a pair \(primitive, state\), got 'cs'"),
        ({"normal": [("cse", 0), ("cse", 0, 1)]}, r"normal\[1\]: expected a pair .*got \('cse', 0, 1\)"),
        ({"normal": [("cse", 0), None]}, r"normal\[1\]: expected a pair .*got None"),
        ({"normal": [("cse", 0), ("conv", 1)]}, r"normal\[1\]: unknown primitive 'conv'; use one of none, .*, cse$"),
        ({"normal": [(14, 0), ("cse", 1)]}, r"normal\[0\]: unknown primitive 14; use one of none, .*, cse$"),
        ({"normal": [([], 0), ("cse", 1)]}, r"normal\[0\]: unknown primitive \[\]; use one of none, .*, cse$"),
        ({"normal": [("cse", 0), ("cse", 2)]}, r"normal\[1\] state: expected an integer, 0 to 1; got 2"),
        ({"reduce": [("cse", -1), ("cse", 1)]}, r"reduce\[0\] state: expected an integer, 0 to 1; got -1"),
        ({"reduce": [("cse", True), ("cse", 1)]}, r"reduce\[0\] state: expected an integer, 0 to 1; got True"),
        ({"reduce": [("cse", 1.0), ("cse", 1)]}, r"reduce\[0\] state: expected an integer, 0 to 1; got 1.0"),
        ({"reduce": [("cse", "1"), ("cse", 1)]}, r"reduce\[0\] state: expected an integer, 0 to 1; got '1'"),
        ({"normal_concat": []}, r"genotype normal_concat: expected one or more states in increasing order, got \(\)"),
        ({"normal_concat": 2}, "genotype normal_concat: expected a list, got int"),
        ({"normal_concat": [1]}, "genotype normal_concat: expected an integer, 2 to 2; got 1"),
        ({"reduce_concat": [3]}, "genotype reduce_concat: expected an integer, 2 to 2; got 3"),
        ({"reduce_concat": [2, 2]}, r"reduce_concat: expected one or more states in increasing order, got \(2, 2\)"),
        ({"reduce_concat": [None]}, "genotype reduce_concat: expected an integer, 2 to 2; got None"),
    ],
)
def test_invalid_genotypes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Genotype(**{**PLAIN.to_dict(), **change})


def test_steps_read_previous_states_only() -> None:
    for j in range(2 * MAX_STEPS):
        genes = [("skip_connect", 0)] * (2 * MAX_STEPS)
        latest = 1 + j // 2
        genes[j] = ("skip_connect", latest)
        Genotype(genes, [2], genes, [2])
        genes[j] = ("skip_connect", latest + 1)
        with pytest.raises(ConfigError, match=rf"normal\[{j}\] state: expected an integer, 0 to {latest}; got"):
            Genotype(genes, [2], PLAIN.reduce, [2])
    with pytest.raises(ConfigError, match=r"increasing order, got \(3, 2\)"):
        Genotype(TWO_STEPS.normal, [3, 2], TWO_STEPS.reduce, [2])


INTEGERS = {  # allowed values, and their description in messages
    "n_cells": (range(1, 201), "1 to 200"),
    "C": (range(2, 65_535, 2), "2 to 65535"),
    "C_mult": ((1, 2), "1 or 2"),
    "ks": ((3, 5, 7), "3 or 5 or 7"),
    "stem_type": ((0, 1), "0 or 1"),
    "fc_layers": (range(1, 5), "1 to 4"),
    "fc_dim": (range(1, 65_536), "1 to 65535"),
    "imagenet_stride": ((2, 4), "2 or 4"),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name: str) -> None:
    allowed, words = INTEGERS[name]
    for value in (allowed[0], allowed[-1], np.int64(allowed[0]), np.uint16(allowed[-1])):
        stored = getattr(valid(**{name: value}), name)
        assert stored == value
        assert type(stored) is int
    for value in (allowed[0] - 1, allowed[-1] + 2, -1, 2**64, 3.0, float("nan"), "3", None, True, [4], {"a": 1}):
        with pytest.raises(ConfigError) as caught:
            valid(**{name: value})
        assert str(caught.value) == f"{name}: expected an integer, {words}; got {value!r}"


@pytest.mark.parametrize("name", ["stem_pool", "preproc", "glob_avg"])
def test_flags(name: str) -> None:
    for value in (True, 1, np.bool_(True)):
        assert getattr(valid(C_mult=1, **{name: value}), name) is True
    for value in (False, 0, np.bool_(False)):
        assert getattr(valid(C_mult=1, **{name: value}), name) is False
    for value in (2, -1, None, "true", "", 0.5, [], [True], {}):
        with pytest.raises(ConfigError) as caught:
            valid(**{name: value})
        assert str(caught.value) == f"{name}: expected true or false, got {value!r}"


def test_norms() -> None:
    for norm in NORMS:
        assert valid(norm=norm).norm == norm
    others = {"": None, "none": None, "bn-tracked": "bn-track", "bnorm-track": "bn-track", "bn_": "bnorm"}
    assert {norm: valid(norm=norm).norm for norm in others} == others
    for value in ("batch", "BN", "ln", "None", 0, 1, True, ["bn"], {}, 1.5):
        with pytest.raises(ConfigError) as caught:
            valid(norm=value)
        assert str(caught.value) == f"norm: expected one of None, bnorm, bn, bn-track; got {value!r}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"C": 33}, r"C: must be even \(strided skip connections split it into two halves\), got 33"),
        ({"genotype": ATTENTIVE, "C": 36}, "C: networks with msa need a multiple of 8 .*, got 36"),
        ({"preproc": False}, "preproc: must be true if .* C_mult is 2"),
        (
            {"preproc": False, "C_mult": 1, "genotype": TWO_STEPS},
            "preproc: must be true if a cell concatenates several",
        ),
        (
            {
                "preproc": False,
                "C_mult": 1,
                "genotype": Genotype(TWO_STEPS.reduce, [3], TWO_STEPS.normal, [2, 3]),
            },
            "preproc: must be true if reduce_concat has several states",
        ),
        ({"glob_avg": False, "genotype": ATTENTIVE}, "glob_avg: must be true for networks with msa"),
        ({"glob_avg": False, "n_cells": 2}, "glob_avg: must be true .* fewer than 3 cells"),
        ({"genotype": None}, "genotype: expected a Genotype or its dict, got NoneType"),
        ({"genotype": "DARTS"}, "genotype: expected a Genotype or its dict, got str"),
        ({"genotype": [[], [], [], []]}, "genotype: expected a Genotype or its dict, got list"),
        ({"genotype": {}}, "genotype: missing key 'normal', 'normal_concat', 'reduce', 'reduce_concat'"),
    ],
)
def test_invalid_combinations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        valid(**changes)


def test_allowed_combinations() -> None:
    assert valid(preproc=False, C_mult=1).preproc is False
    assert valid(glob_avg=False, n_cells=3).glob_avg is False
    assert valid(genotype=ATTENTIVE, C=8).is_vit
    assert not valid().is_vit
    assert valid(genotype=PLAIN.to_dict()) == valid()


def test_long_values_are_shortened_in_errors() -> None:
    for value in ("x" * 10**6, list(range(10**5)), 10**10_000, {"a": [10**10_000]}, [[[[[[[[[["deep"]]]]]]]]]]):
        for change in (
            {"C": value},
            {"norm": value},
            {"preproc": value},
            {"genotype": {**PLAIN.to_dict(), "normal": [value]}},
        ):
            with pytest.raises(ConfigError) as caught:
                valid(**change)
            assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("cls", "names"), [(NetworkConfig, FIELDS), (Genotype, GENES)])
def test_keys(cls: type, names: list[str]) -> None:
    whole = valid().to_dict() if cls is NetworkConfig else PLAIN.to_dict()
    what = "network config" if cls is NetworkConfig else "genotype"
    listed = "valid keys are " + ", ".join(names)
    for unknown in ("colour", 3, None, ("C",), "C "):
        with pytest.raises(ConfigError) as caught:
            cls.from_dict({**whole, unknown: 1, "zoom": 2})
        assert str(caught.value) == f"{what}: unknown key {unknown!r}, 'zoom'; {listed}"
    for name in names:
        part = {key: value for key, value in whole.items() if key != name}
        if name in GENES or name in ("genotype", "n_cells"):
            with pytest.raises(ConfigError) as caught:
                cls.from_dict(part)
            assert str(caught.value) == f"{what}: missing key {name!r}; {listed}"
        else:
            cls.from_dict(part)
    for junk in (None, [], "n_cells", 3, [("n_cells", 4)]):
        with pytest.raises(ConfigError, match=f"{what}: expected a dict, got {type(junk).__name__}"):
            cls.from_dict(junk)


def test_checked_integer() -> None:
    with pytest.raises(ConfigError, match="jobs: expected an integer, 1 or more; got 0"):
        checked_integer("jobs", 0, at_least(1))
    assert checked_integer("jobs", 10**9, at_least(1)) == 10**9


# --- values ---


def test_frozen() -> None:
    config = valid()
    for value, name in ((config, "C"), (config.genotype, "normal")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(configs(max_steps=10, max_cells=12), configs(max_steps=2, max_cells=3))
def test_equal_and_hashable(one: NetworkConfig, other: NetworkConfig) -> None:
    copy = NetworkConfig.from_dict(json.loads(json.dumps(one.to_dict())))
    assert copy == one
    assert hash(copy) == hash(one)
    assert copy.genotype is not one.genotype
    assert pickle.loads(pickle.dumps(one)) == one
    assert len({one, copy, other}) == (1 if one == other else 2)
    assert (one == other) == (one.to_dict() == other.to_dict())
    assert one.replace() == one
    assert one.replace(n_cells=one.n_cells + 1) != one


@settings(max_examples=100, deadline=None)
@given(configs(max_steps=10, max_cells=12))
def test_round_trips(config: NetworkConfig) -> None:
    plain = config.to_dict()
    assert list(plain) == FIELDS
    assert list(plain["genotype"]) == GENES
    assert NetworkConfig.from_dict(plain) == config
    assert Genotype.from_dict(plain["genotype"]) == config.genotype
    text = json.dumps(config.to_official())
    assert NetworkConfig.from_official(json.loads(text)) == config.replace(imagenet_stride=4)
    assert set(config.to_official()) == set(FIELDS) - {"imagenet_stride"}


@settings(max_examples=50, deadline=None)
@given(genotypes(max_steps=10))
def test_properties_of_genotypes(genotype: Genotype) -> None:
    assert 2 * genotype.steps == len(genotype.normal) == len(genotype.reduce)
    assert genotype.primitives == {op for op, _ in (*genotype.normal, *genotype.reduce)}


def test_reduction_cells() -> None:
    expected = {1: (), 2: (1,), 3: (1, 2), 4: (1, 2), 5: (1, 3), 6: (2, 4), 7: (2, 4), 18: (6, 12), 20: (6, 13)}
    assert {n: valid(n_cells=n).reduction_cells for n in expected} == expected


def test_replacing_validates() -> None:
    with pytest.raises(ConfigError, match="C: expected an integer"):
        valid().replace(C=0)
