"""LoGAH's presets: numbers of parameters, names of tensors, initial weights, configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from deepnets.support import ConfigError
from ghn_model import GHN, GHNConfig
from tests.oracles.naive_logah import list_logah_shapes, random_logah_state

EIGHT_K: dict[str, Any] = {"max_shape": (8192, 8192, 16, 16), "factor_rows": 131072}
NUMBERS = {  # of parameters, as published: for images, for texts, for texts with 8,192 channels
    "t": (2_540_380, 2_540_620, 5_784_652),
    "s": (21_412_794, 21_413_274, 30_358_938),
    "b": (78_231_892, 78_232_852, 90_914_068),
    "l": (289_423_316, 289_424_276, 314_688_404),
}
WITHOUT_L1 = {"t": 2_539_324, "s": 21_404_604, "b": 78_215_380, "l": 289_357_524}
"""Numbers of parameters of files that were written before the end of July 2024."""
PAPER: dict[str, Any] = {"task": "text", "node_types": "published", "channel_sizes": (50257,)}
SIZES = {"t": (64, 3, 8, 32), "s": (128, 5, 16, 90), "b": (256, 5, 16, 128), "l": (256, 12, 16, 256)}


def on_meta(config: GHNConfig) -> GHN:
    with torch.device("meta"):
        return GHN(config)


@pytest.mark.parametrize("size", NUMBERS)
def test_numbers_of_parameters(size: str) -> None:
    name = f"logah-{size}"
    configs = [
        *(GHNConfig.preset(name, classes, side) for classes, side in ((10, 32), (100, 32), (1000, 224))),
        GHNConfig.preset(name, task="text"),
        GHNConfig.preset(name, task="text", **EIGHT_K),
    ]
    images, text, large = NUMBERS[size]
    found = [sum(parameter.numel() for parameter in on_meta(config).parameters()) for config in configs]
    assert found == [images, images, images, text, large]


@pytest.mark.parametrize(
    ("size", "options", "number"),
    [*((size, {}, number) for size, number in WITHOUT_L1.items()), ("t", PAPER, 2_539_340)],
)
def test_numbers_of_parameters_of_older_files(size: str, options: dict[str, Any], number: int) -> None:
    ghn = on_meta(GHNConfig.preset(f"logah-{size}", **options))
    assert sum(x.numel() for name, x in ghn.state_dict().items() if not name.startswith("decoder.l1.")) == number


@pytest.mark.parametrize(("text", "number"), [(False, WITHOUT_L1["t"]), (True, 2_539_340)])
def test_older_files_are_loaded_in_full(tmp_path: Path, text: bool, number: int) -> None:
    hidden, layers, heads, rank = SIZES["t"]
    sizes = {"hidden": hidden, "layers": layers, "heads": heads, "rank": rank, "factor_rows": 32768}
    state = random_logah_state(seed=2, **sizes, num_classes=10, further_sizes=int(text))
    older = {name: tensor for name, tensor in state.items() if not name.startswith("decoder.l1.")}
    assert sum(tensor.numel() for tensor in older.values()) == number
    torch.save({"state_dict": older}, tmp_path / "checkpoint.pt")
    ghn = GHN.from_pretrained(tmp_path / "checkpoint.pt")
    assert ghn.config.channel_sizes == ((50257,) if text else ())
    loaded = ghn.state_dict()
    assert loaded.keys() == {*older, "decoder.l1.weight", "decoder.l1.bias"}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in older.items())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", ["images", "text"])
@pytest.mark.parametrize("vector_decoder", [False, True])
def test_names_and_shapes(size: str, task: str, vector_decoder: bool) -> None:
    config = GHNConfig.preset(f"logah-{size}", 100, task=task, vector_decoder=vector_decoder)
    hidden, layers, heads, rank = SIZES[size]
    further = {"types": 18, "further_sizes": 3} if task == "text" else {"num_classes": 100}
    shapes = list_logah_shapes(
        hidden=hidden,
        layers=layers,
        heads=heads,
        rank=rank,
        factor_rows=32768,
        vector_decoder=vector_decoder,
        **further,  # type: ignore[arg-type]
    )
    state = on_meta(config).state_dict()
    assert [(name, tuple(tensor.shape)) for name, tensor in state.items()] == list(shapes.items())


def test_configurations() -> None:
    images, text = GHNConfig.preset("logah-t", 100), GHNConfig.preset("logah-t", task="text")
    assert (images.virtual_edges, text.virtual_edges) == (50, 250)
    assert (images.normalization, text.normalization) == ("fan_in", "std")
    assert (images.max_shape, images.factor_rows, images.vector_decoder) == ((2048, 2048, 16, 16), 32768, False)
    for config in (images, text, GHNConfig.preset("logah-s", initializer_range=0.1, vector_decoder=True, **EIGHT_K)):
        assert GHNConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_older_configurations_have_no_new_fields() -> None:
    """The text of a configuration identifies runs and files, and must not change."""
    assert set(GHNConfig().to_dict()) == {
        *("hypernet", "decoder", "hidden", "max_shape", "num_classes", "virtual_edges", "layernorm", "weight_norm"),
        *("layers", "heads", "window", "vocabulary", "init"),
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vector_decoder": False}, "vector_decoder: can be left out with the decoder 'lowrank' only, got 'conv'"),
        ({"decoder": "lowrank", "factor_rows": 127}, "factor_rows: must be at least 128 for (64, 64, 11, 11), got 127"),
        ({"rank": 0}, "rank: expected an integer"),
        ({"normalization": "none"}, "normalization: expected one of fan_in, fan_out, fan_in_residual, std; got 'none'"),
        ({"node_types": "all"}, "node_types: expected one of published, language; got 'all'"),
        ({"channel_sizes": (100,)}, "channel_sizes: expected an integer"),
        ({"channel_sizes": 50257}, "channel_sizes: expected integers, got 50257"),
        ({"initializer_range": 0}, "initializer_range: expected a positive number, got 0"),
        ({"initializer_range": "1"}, "initializer_range: expected a positive number, got '1'"),
        ({"max_shape": (8192, 64, 11, 11)}, "max_shape: expected an integer"),
    ],
)
def test_invalid_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        GHNConfig.from_dict(values)
    assert message in str(raised.value)


def test_tasks() -> None:
    for name, task, known in (("ghn2", "text", "images for ghn2"), ("logah-t", "sound", "images, text for logah-t")):
        with pytest.raises(ConfigError, match=f"task: expected one of {known}; got '{task}'"):
            GHNConfig.preset(name, task=task)


@pytest.mark.parametrize("init", ["published", "small"])
def test_initial_weights(init: str) -> None:
    """Tables are drawn with a small variance; linear layers of the decoder keep the values of PyTorch."""
    torch.manual_seed(0)
    ghn = GHN(GHNConfig.preset("logah-t", init=init))
    tables = {name: tensor for name, tensor in ghn.state_dict().items() if "embed" in name}
    assert len(tables) == 7
    for name, table in tables.items():
        if table.numel() > 5000:
            assert table.std().item() == pytest.approx(table.shape[1] ** -0.5, rel=0.05), name
    last = ghn.decoder.l2
    bound = last.in_features**-0.5  # type: ignore[union-attr,operator]
    assert last.weight.abs().max().item() == pytest.approx(bound / (5 if init == "small" else 1), rel=0.01)  # type: ignore[union-attr,operator]
    assert bool(last.bias.any()) == (init == "published")  # type: ignore[union-attr,operator]


def test_unused_weights_get_no_gradients() -> None:
    ghn = GHN(GHNConfig.preset("logah-t"))
    unused = {name for name, parameter in ghn.named_parameters() if not parameter.requires_grad}
    layers = ("decoder.l1", "decoder_1d.0", "bias_class.1")
    assert unused == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
