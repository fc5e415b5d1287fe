"""`GHNConfig`: presets, JSON, and errors of invalid values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deepnets.support import ConfigError
from ghn_model import PRESETS, GHNConfig


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_through_json(name: str) -> None:
    config = GHNConfig.preset(name, num_classes=1000, image_size=224)
    assert GHNConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_presets_are_those_of_the_papers() -> None:
    ghn1, ghn2, ghn3 = (GHNConfig.preset(name) for name in ("ghn1", "ghn2", "ghn3-l"))
    assert ghn2 == GHNConfig()
    assert (ghn1.virtual_edges, ghn1.layernorm, ghn1.weight_norm) == (1, False, False)
    assert (ghn3.hidden, ghn3.layers, ghn3.heads, ghn3.window) == (256, 12, 16, "centre")
    assert GHNConfig.preset("ghn2", 1000, 224).max_shape == (64, 64, 16, 16)
    assert GHNConfig.preset("ghn3-xl", 1000, 224).max_shape == (384, 384, 16, 16)
    assert GHNConfig.preset("mlp", hidden=8).replace(num_classes=3) == GHNConfig(
        hypernet="mlp", hidden=8, num_classes=3
    )


def test_official_configs() -> None:
    ghn2 = {
        "max_shape": (64, 64, 11, 11),
        "num_classes": 10,
        "hypernet": "gatedgnn",
        "decoder": "conv",
        "weight_norm": True,
        "ve": True,
        "layernorm": True,
        "hid": 32,
    }
    assert GHNConfig.from_official(ghn2) == GHNConfig.preset("ghn2", vocabulary="ppuda")
    assert GHNConfig.from_official({**ghn2, "hypernet": "mlp"}) == GHNConfig.preset("mlp", vocabulary="ppuda")
    ghn1 = {**ghn2, "ve": False, "weight_norm": False, "layernorm": False}
    assert GHNConfig.from_official(ghn1) == GHNConfig.preset("ghn1", vocabulary="ppuda")
    ghn3 = {**ghn2, "max_shape": [64, 64, 16, 16], "num_classes": 1000, "hid": 64, "layers": 3, "heads": 8}
    assert GHNConfig.from_official(ghn3) == GHNConfig.preset("ghn3-t", 1000, 224, vocabulary="ghn3")
    in_code_of_ghn3 = GHNConfig.from_official({**ghn2, "is_ghn2": True, "layers": 3, "heads": 8})
    assert in_code_of_ghn3 == GHNConfig.preset("ghn2", vocabulary="ghn3")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hypernet": "gnn"}, "hypernet: expected one of gatedgnn, mlp, graphormer"),
        ({"hidden": 30}, "hidden: must be a multiple of 4"),
        ({"hidden": 32.0}, "hidden: expected an integer"),
        ({"heads": 5, "hypernet": "graphormer"}, "heads: must divide hidden"),
        ({"hypernet": "graphormer", "decoder": "mlp"}, "decoder: "),
        ({"max_shape": (64, 64, 11)}, "max_shape: expected four integers"),
        ({"max_shape": (64, 0, 11, 11)}, "max_shape: expected an integer"),
        ({"vocabulary": "ghn4"}, "vocabulary: expected complete, ghn3, ppuda or logah, got 'ghn4'"),
        ({"init": "zeros"}, "init: expected one of published, small; got 'zeros'"),
        ({"virtual_edges": 0}, "virtual_edges: expected an integer"),
        ({"virtual_edges": 255}, "virtual_edges: expected an integer"),
        ({"layernorm": 1}, "layernorm: expected true or false"),
        ({"num_classes": 0}, "num_classes: expected an integer, 1 to 2147483647"),
        ({"hid": 32}, "unknown key 'hid'; valid keys are hypernet, decoder"),
    ],
)
def test_invalid_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        GHNConfig.from_dict(values)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_unknown_presets() -> None:
    with pytest.raises(ConfigError, match="unknown 'ghn4'; use one of mlp, ghn1, ghn2"):
        GHNConfig.preset("ghn4")
    with pytest.raises(ConfigError, match="image_size"):
        GHNConfig.preset("ghn2", image_size=8)


def test_configurations_alone_know_the_parts() -> None:
    """In a process that has imported neither encoders nor decoders."""
    code = f"from ghn_model import GHNConfig; [GHNConfig.preset(name) for name in {PRESETS}]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
