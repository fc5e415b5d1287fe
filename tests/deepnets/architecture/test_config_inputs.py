"""Configurations from metadata of the original release, and from arbitrary values."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets import PRIMITIVES, ConfigError, Genotype, NetworkConfig
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


# --- the original release's metadata ---


def entry(**changes: Any) -> dict[str, Any]:
    """Return a metadata entry as in the original files of the training split."""
    return {
        "stem_type": 1,
        "stem_pool": False,
        "norm": "bnorm",
        "preproc": True,
        "fc_layers": 2,
        "glob_avg": True,
        "genotype": TWO_STEPS.to_dict(),
        "n_cells": 8,
        "ks": 5,
        "C_mult": 2,
        "fc_dim": 128,
        "num_nodes": 99,
        "num_params": {"cifar10": 100_000, "imagenet": 200_000},
        **changes,
    }


def test_official_entry() -> None:
    expected = NetworkConfig(TWO_STEPS, 8, C=32, ks=5, stem_type=1, fc_layers=2, fc_dim=128)
    assert NetworkConfig.from_official(entry()) == expected  # without C, as in the training split
    assert NetworkConfig.from_official(entry(C=48)) == expected.replace(C=48)
    assert NetworkConfig.from_official({"genotype": TWO_STEPS.to_dict(), "n_cells": 8}) == NetworkConfig(TWO_STEPS, 8)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fc_layers": 0}, {"fc_layers": 1}),
        ({"fc_dim": 0}, {"fc_dim": 256}),
        ({"norm": None}, {"norm": None}),
        ({"norm": "none"}, {"norm": None}),
        ({"norm": ""}, {"norm": None}),
        ({"norm": "bn"}, {"norm": "bn"}),
        ({"norm": "bn-track"}, {"norm": "bn-track"}),
        ({"stem_pool": 1}, {"stem_pool": True}),
        ({"is_vit": None, "light": True, "num_classes": 10, "": [], "genotype_": 1}, {}),
        ({"genotype": {**TWO_STEPS.to_dict(), "name": "mine"}}, {}),
    ],
)
def test_lenient_with_official_entries(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert NetworkConfig.from_official(entry(**changes)) == NetworkConfig.from_official(entry()).replace(**expected)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (None, "official metadata entry: expected a dict, got NoneType"),
        ("genotype n_cells", "official metadata entry: expected a dict, got str"),
        (["genotype", "n_cells"], "official metadata entry: expected a dict, got list"),
        ({"C": 32}, "official metadata entry: missing key 'genotype', 'n_cells'; valid keys are genotype, n_cells, C,"),
        (entry(genotype=None), "official metadata entry: genotype: expected a dict, got NoneType"),
        (entry(genotype=[1, 2]), "official metadata entry: genotype: expected a dict, got list"),
        (entry(genotype={"normal": []}), "genotype: missing key 'normal_concat', 'reduce', 'reduce_concat'"),
        (entry(C=None), "C: expected an integer, 2 to 65535; got None"),
        (entry(n_cells="8"), "n_cells: expected an integer, 1 to 200; got '8'"),
        (entry(norm="layer"), "norm: expected one of None, bnorm, bn, bn-track; got 'layer'"),
        (entry(stem_pool="no"), "stem_pool: expected true or false, got 'no'"),
    ],
)
def test_broken_official_entries(broken: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkConfig.from_official(broken)


# --- arbitrary values ---

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([*FIELDS, *PRIMITIVES]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn, valid_values: st.SearchStrategy[dict[str, Any]]) -> Any:
    """Draw a valid dictionary in which some entries, at any depth, are changed, removed or added."""
    whole = [json.loads(json.dumps(draw(valid_values)))]
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2)))):
        place: Any = whole
        while True:
            key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.integers(0, 4)) == 0:
                break
            place = place[key]
        what = draw(st.sampled_from(("junk", "remove", "add"))) if place is not whole else "junk"
        if what == "junk":
            place[key] = draw(JUNK)
        elif what == "remove":
            del place[key]
        elif isinstance(place, dict):
            place[draw(st.text(max_size=3))] = draw(JUNK)
        else:
            place.insert(key, draw(JUNK))
    return whole[0]


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(damaged(configs(max_steps=2).map(NetworkConfig.to_dict)))
def test_anything_is_a_valid_config_or_a_config_error(values: Any) -> None:
    for read in (NetworkConfig.from_dict, NetworkConfig.from_official, lambda values: NetworkConfig(values, 4)):
        try:
            config = read(values)
        except ConfigError:
            continue
        assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@settings(max_examples=200, deadline=None)
@given(damaged(genotypes(max_steps=3).map(Genotype.to_dict)))
def test_anything_is_a_valid_genotype_or_a_config_error(values: Any) -> None:
    try:
        genotype = Genotype.from_dict(values)
    except ConfigError:
        return
    assert Genotype.from_dict(json.loads(json.dumps(genotype.to_dict()))) == genotype


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), JUNK)
def test_any_value_of_any_field_is_valid_or_a_config_error(name: str, value: Any) -> None:
    try:
        config = valid(**{name: value})
    except ConfigError as error:
        said = str(error)
    else:
        said = name
        assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert name in said
