"""Official checkpoints of LoGAH: every version of the code, and files that contradict themselves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepnets.support import CheckpointError, ConfigError
from ghn_model import GHN, GHNConfig, describe
from ghn_model.checkpoints import grow_tables
from ghn_model.encoders import channel_grid
from tests.oracles.naive_logah import random_logah_state

SIZES: dict[str, Any] = {"hidden": 8, "layers": 2, "heads": 2, "rank": 3, "factor_rows": 512}
CONFIG: dict[str, Any] = {
    "max_shape": (32, 32, 16, 16),
    "num_classes": 100,
    "hypernet": "gatedgnn",
    "lora": True,
    "lora_r": 3,
    "max_ck_lora": 512,
    "use_1d_decoder": False,
    "decoder": "conv",
    "weight_norm": True,
    "ve": True,
    "layernorm": True,
    "hid": 8,
    "layers": 2,
    "heads": 2,
    "is_ghn2": False,
}
TEXT = {name: value for name, value in CONFIG.items() if name != "num_classes"}


def state(classes: int = 100, types: int = 15, further: int = 0, **options: Any) -> dict[str, Tensor]:
    """Return a state dict as the original code has it: the last layer has two names."""
    options = {"num_classes": classes, "types": types, "further_sizes": further, **options}
    found = random_logah_state(seed=1, **SIZES, **options)
    return {**found, **{f"decoder.seq.1.{kind}": found[f"decoder.l2.{kind}"] for kind in ("weight", "bias")}}


def without(tensors: dict[str, Tensor], *parts: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


def save(path: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None = CONFIG) -> Path:
    """Write a file as the original code does."""
    training = {"optimizer": {"state": {}}, "epoch": 3, "step": 7, "ema_state_dict": None}
    content = {"state_dict": tensors, **training, "args": argparse.Namespace(lr=3e-4, lora=True)}
    torch.save({**content, **({} if config is None else {"config": config})}, path)
    return path


def error(path: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as raised:
        GHN.from_pretrained(path, **options)
    return str(raised.value).removeprefix(f"{path}: ")


# --- versions of the code ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
def test_files_for_images(path: Path, own: bool) -> None:
    tensors = state(vector_decoder=own)
    ghn = GHN.from_pretrained(save(path, tensors, {**CONFIG, "use_1d_decoder": own}))
    assert ghn.config == GHNConfig(
        hypernet="graphormer",
        decoder="lowrank",
        vocabulary="logah",
        window="centre",
        hidden=8,
        layers=2,
        heads=2,
        rank=3,
        factor_rows=512,
        max_shape=(32, 32, 16, 16),
        num_classes=100,
        vector_decoder=own,
    )
    loaded = ghn.state_dict()
    assert loaded.keys() == without(tensors, "seq").keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in loaded)
    assert describe(path).kind == "official"


def test_names_of_the_last_layer(path: Path) -> None:
    tensors = state()
    second = {name: 2 * tensor if "seq" in name else tensor for name, tensor in tensors.items()}
    renamed = without(tensors, "l2")
    for each, factor in ((without(tensors, "seq"), 1), (tensors, 1), (renamed, 1), (second, 2)):
        ghn = GHN.from_pretrained(save(path, each))
        assert torch.equal(ghn.state_dict()["decoder.l2.weight"], factor * tensors["decoder.l2.weight"])


def test_files_without_the_unused_layer(path: Path) -> None:
    tensors = state()
    ghn = GHN.from_pretrained(save(path, without(tensors, "l1")))
    assert not ghn.state_dict()["decoder.l1.weight"].any()
    assert torch.equal(ghn.state_dict()["decoder.l2.bias"], tensors["decoder.l2.bias"])


@pytest.mark.parametrize(
    ("types", "further", "unused", "sizes", "normalization"),
    [
        (15, 1, False, (50257,), "fan_in_residual"),  # at the time of the paper
        (15, 2, False, (50257, 50304), "fan_in_residual"),
        (15, 3, False, (32000, 50257, 50304), "fan_in_residual"),
        (18, 3, False, (32000, 50257, 50304), "std"),
        (18, 3, True, (32000, 50257, 128256), "std"),
    ],
)
@pytest.mark.parametrize("stated", [True, False])
def test_files_for_texts(
    path: Path, types: int, further: int, unused: bool, sizes: tuple[int, ...], normalization: str, stated: bool
) -> None:
    tensors = state(10, types, further)
    ghn = GHN.from_pretrained(save(path, tensors if unused else without(tensors, "l1"), TEXT if stated else None))
    config = ghn.config
    assert (config.num_classes, config.channel_sizes, config.normalization) == (10, sizes, normalization)
    assert config.node_types == ("language" if types == 18 else "published")
    assert (config.virtual_edges, config.vocabulary) == (250, "logah")
    assert config.max_shape == (32, 32, 16, 16)


def test_the_user_chooses_the_normalization(path: Path) -> None:
    save(path, state(10, 15, 1), TEXT)
    for rule in ("fan_in", "fan_out", "std"):
        assert GHN.from_pretrained(path, normalization=rule).config.normalization == rule
    with pytest.raises(ConfigError, match="normalization: expected one of fan_in"):
        GHN.from_pretrained(path, normalization="none")


def test_files_without_a_configuration(path: Path) -> None:
    """Everything is inferred but the number of classes, which no tensor has."""
    save(path, state(), None)
    inferred = GHN.from_pretrained(path, num_classes=100).config
    assert describe(path).kind == "official, config inferred"
    assert inferred == GHN.from_pretrained(save(path, state())).config
    assert GHN.from_pretrained(save(path, state(), None)).config.num_classes == 10
    on_grid = GHN.from_pretrained(save(path, state(16), None)).config.num_classes
    assert on_grid in channel_grid(10)
    own = state(vector_decoder=True)
    assert GHN.from_pretrained(save(path, own, None)).config.num_classes == 100
    assert "is for 100 classes, expected 10" in error(path, num_classes=10)


def test_the_largest_shape_of_the_file_counts(path: Path) -> None:
    """The original code predicts with another one, if it loads the file as published."""
    ghn = GHN.from_pretrained(save(path, state(), {**CONFIG, "max_shape": (16, 16, 16, 16)}))
    assert ghn.config.max_shape == (16, 16, 16, 16)


def test_small_spatial_tables(path: Path) -> None:
    tensors = state(side=11)
    assert GHN.from_pretrained(save(path, tensors, None), num_classes=100).config.max_shape == (32, 32, 11, 11)


def test_ghn3_in_the_code_of_logah(path: Path) -> None:
    from tests.ghn_model.checkpoints.test_official import config, state_dict

    told = {**config("graphormer"), "layers": 2, "heads": 2, "is_ghn2": False, "lora": False, "lora_r": 90}
    torch.save({"state_dict": state_dict("graphormer"), "config": {**told, "use_1d_decoder": True}}, path)
    found = GHN.from_pretrained(path).config
    assert (found.decoder, found.vocabulary, found.vector_decoder) == ("conv", "ghn3", True)


# --- other tables -----------------------------------------------------------------------------------------------------


def test_rows_of_grown_tables_are_placed_by_value(path: Path) -> None:
    save(path, state(10, 15, 1), TEXT)
    old = GHN.from_pretrained(path)
    sizes = (32000, 50257, 128256)
    new = GHN.from_pretrained(path, node_types="language", channel_sizes=sizes)
    before, after = (ghn.state_dict()["shape_enc.embed_channel.weight"] for ghn in (old, new))
    old_grid, grid = channel_grid(10, (50257,)), channel_grid(10, sizes)
    assert after.shape == (396 - 1, 2)
    for size in old_grid:
        assert torch.equal(after[grid.index(size)], before[old_grid.index(size)]), size
    assert torch.equal(after[-1], before[-1])  # nodes without a shape
    assert torch.equal(after[grid.index(128256)], before[old_grid.index(50257)])  # the row that was used for it
    types, others = old.state_dict()["embed.weight"], new.state_dict()["embed.weight"]
    assert torch.equal(others[:15], types)
    assert torch.equal(others[15:], types[[12, 13, 6]])  # ln, pos_enc, cse
    for name, tensor in old.state_dict().items():
        assert "embed" in name or torch.equal(tensor, new.state_dict()[name])


def test_numbers_of_classes_move_rows() -> None:
    """The row of the number of classes is in the middle of the table."""
    tensors = {"shape_enc.embed_channel.weight": torch.arange(392.0)[:, None], "embed.weight": torch.zeros(15, 4)}
    grown = grow_tables(tensors, GHNConfig(num_classes=10), GHNConfig(num_classes=1000))
    table = grown["shape_enc.embed_channel.weight"][:, 0].tolist()
    old, new = channel_grid(10), channel_grid(1000)
    assert [table[new.index(size)] for size in old if size != 10] == [old.index(size) for size in old if size != 10]
    assert table[new.index(1000)] == old.index(992)
    assert table[-1] == 391
    assert grown["embed.weight"] is tensors["embed.weight"]
    again = grow_tables(tensors, GHNConfig(), GHNConfig())
    assert all(again[name] is tensor for name, tensor in tensors.items())


def test_changes_that_do_not_fit(path: Path) -> None:
    save(path, state())
    for change in ({"hidden": 16}, {"rank": 4}, {"vector_decoder": True}, {"layers": 1}):
        assert "a change does not fit" in (text := error(path, **change)) or "tensors of a hypernetwork" in text


# --- contradictions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora_r": 4}, "its configuration says rank=4, its tensors are those of 3; "),
        ({"max_ck_lora": 1024}, "its configuration says factor_rows=1024, its tensors are those of 512; "),
        ({"use_1d_decoder": True}, "its configuration says vector_decoder=True, its tensors are those of False; "),
        ({"hid": 16}, "its configuration says hidden=16, its tensors are those of 8; "),
        ({"max_shape": (512, 512, 16, 16)}, "config: factor_rows: must be at least 1024"),
        ({"max_shape": None}, "config: max_shape: expected four integers"),
        ({"lora_r": "3"}, "config: rank: expected an integer"),
        ({"num_classes": 16}, "shape_enc.embed_channel.weight: expected (391, 2), got (392, 2)"),
    ],
)
def test_wrong_configurations(path: Path, change: dict[str, Any], message: str) -> None:
    text = error(save(path, state(), {**CONFIG, **change}))
    assert text.startswith(message)
    assert "\n" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.seq.1.weight": torch.zeros(512)}, "its tensors (ln.weight, "),
        ({"decoder.seq.1.weight": torch.zeros(512, 4)}, "its configuration says rank=3, its tensors are those of 4"),
        ({"decoder.mlp.fc.4.bias": torch.zeros(19)}, "decoder.mlp.fc.4.bias: expected (18,), got (19,)"),
        ({"decoder.l1.bias": torch.zeros(4)}, "decoder.l1.bias: expected (3,), got (4,)"),
        (
            {"decoder.l2.bias": torch.full((512,), float("inf")), "decoder.seq.1.bias": None},
            "decoder.l2.bias: holds NaN",
        ),
        ({"shape_enc.embed_channel.weight": torch.zeros(500, 2)}, "shape_enc.embed_channel.weight: expected"),
        ({"embed.weight": torch.zeros(17, 8)}, "embed.weight: expected (15, 8), got (17, 8)"),
        ({"extra": torch.zeros(1)}, "also holds 1 tensors"),
        ({"decoder_1d.0.bias": None}, "lacks 1 tensors"),
    ],
)
def test_wrong_tensors(path: Path, change: dict[str, Tensor | None], message: str) -> None:
    tensors = {name: tensor for name, tensor in {**state(), **change}.items() if tensor is not None}
    assert error(save(path, tensors)).startswith(message)


def test_formats_of_the_originals_cannot_represent_it(path: Path) -> None:
    ghn = GHN.from_pretrained(save(path, state()))
    for original in ("ghn3", "ppuda"):
        with pytest.raises(ConfigError, match="cannot represent"):
            ghn.save(path, format=original)
    again = GHN.from_pretrained(ghn.save(path.with_suffix(".safetensors")))
    assert again.config == ghn.config
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in ghn.state_dict().items())
