"""Official checkpoints in all their layouts and formats, and damaged or other files."""

from __future__ import annotations

import argparse
import contextlib
import json
import pickle
import random
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepnets.support import CheckpointError
from ghn_model import describe, load_checkpoint
from ghn_model.checkpoints.official import read_official
from ghn_model.checkpoints.official_layouts import infer_config
from tests.ghn_model.checkpoints.test_files import SMALL, error
from tests.oracles.naive_ghn import list_shapes, random_state_dict

State = dict[str, Tensor]
KINDS = [kind for kind in SMALL if kind != "mlp decoder"]
TABLES = ("centrality_embed_in.weight", "centrality_embed_out.weight", "input_dist_embed.weight")


def options(kind: str) -> dict[str, Any]:
    return {name: value for name, value in SMALL[kind].items() if name not in ("window", "weight_norm")}


def state_dict(kind: str) -> State:
    state = OrderedDict(random_state_dict(**options(kind)))
    state._metadata = OrderedDict({"": {"version": 1}})  # as modules add it
    return state


def config(kind: str) -> dict[str, Any]:
    """The keywords of the original class."""
    small = {"num_classes": 10, "hypernet": "gatedgnn", "decoder": "conv", **SMALL[kind]}
    return {
        "max_shape": small["max_shape"],
        "num_classes": small["num_classes"],
        "hypernet": small["hypernet"],
        "decoder": small["decoder"],
        "weight_norm": small.get("weight_norm", True),
        "ve": small.get("virtual_edges", 50) > 1,
        "layernorm": small.get("layernorm", True),
        "hid": small["hidden"],
    }


def old_layout(state: State) -> State:
    """As in the released files of GHN-3: three tables at the top."""
    return OrderedDict((name.replace("gnn.0.", "") if name.endswith(TABLES) else name, x) for name, x in state.items())


def squeezed(state: State) -> State:
    return OrderedDict((name, x[:, :, 0, 0] if x.ndim == 4 else x) for name, x in state.items())


def convolutions(state: State) -> State:
    names = ("decoder.conv.0.weight", "decoder.conv.2.weight", "decoder.class_layer_predictor.1.weight")
    return OrderedDict((name, x[:, :, None, None] if name in names and x.ndim == 2 else x) for name, x in state.items())


def check(path: Path, kind: str) -> None:
    """Check that loading gives the hypernetwork of this kind."""
    ghn = load_checkpoint(path)
    expected = state_dict(kind)
    loaded = ghn.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    for name, value in SMALL[kind].items():
        assert getattr(ghn.config, name) == value
    assert ghn.config.window == ("centre" if kind == "graphormer" else "corner")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ghn.pt"


# --- layouts and formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in SMALL if kind != "graphormer"])
def test_files_of_ppuda(path: Path, kind: str) -> None:
    state = state_dict(kind)
    optimizer = torch.optim.Adam(nn.ParameterList(state.values()).parameters())
    torch.save({"state_dict": state, "optimzer": optimizer.state_dict(), "epoch": 299, "config": config(kind)}, path)
    check(path, kind)
    assert describe(path).kind == "official"


@pytest.mark.parametrize("layout", [dict, old_layout, convolutions])
@pytest.mark.parametrize("args", [False, True])
def test_files_of_ghn3(path: Path, layout: Callable[[State], State], args: bool) -> None:
    file = {"state_dict": layout(state_dict("graphormer")), "epoch": 74, "step": 5, "optimizer": {"state": {0: {}}}}
    if args:
        numbers = {"lr": np.float64(4e-4), "nodes": np.int64(3), "on": np.bool_(True), "amp": None}
        file["args"] = argparse.Namespace(device=torch.device("cuda", 0), names=["a"], **numbers)
        file["config"] = {**config("graphormer"), "layers": 2, "heads": 2, "is_ghn2": False}
    torch.save(file, path)
    if args:
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)
    check(path, "graphormer")
    assert describe(path).kind == ("official" if args else "official, config inferred")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [dict, old_layout, squeezed, convolutions])
def test_bare_state_dicts(path: Path, kind: str, layout: Callable[[State], State]) -> None:
    torch.save(layout(state_dict(kind)), path)
    check(path, kind)
    assert describe(path).kind == "official, config inferred"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_joblib_pickles(path: Path, kind: str, protocol: int) -> None:
    joblib.dump(old_layout(state_dict(kind)), path, protocol=protocol)
    check(path, kind)


@pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "lzma", "xz"])
def test_compressed_joblib_pickles(path: Path, compress: str) -> None:
    joblib.dump(old_layout(state_dict("graphormer")), path, compress=(compress, 3))
    check(path, "graphormer")


def test_joblib_pickles_of_everything(path: Path) -> None:
    """Tensors that share a storage, parts of tensors, arrays in both orders, empty ones, an arguments object."""
    state = state_dict("graphormer")
    whole = torch.randn(40)
    file = {
        "state_dict": {**state, "ln.weight": whole[8:16], "ln.bias": whole[::5]},
        "config": config("graphormer"),
        "args": argparse.Namespace(lr=np.float32(0.5), device=torch.device("cpu"), size=torch.Size((2, 3))),
        "arrays": [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros(3, bool)],
        "empty": [torch.empty(0), np.empty((0, 3)), np.array(3.0)],
    }
    joblib.dump(file, path)
    ghn = load_checkpoint(path)
    assert torch.equal(ghn.get_parameter("ln.weight"), whole[8:16])
    assert torch.equal(ghn.get_parameter("ln.bias"), whole[::5])
    joblib.dump(file, path, protocol=2)
    assert torch.equal(load_checkpoint(path).get_parameter("ln.bias"), whole[::5])


def test_legacy_torch_files(path: Path) -> None:
    torch.save({"state_dict": state_dict("gatedgnn")}, path, _use_new_zipfile_serialization=False)
    check(path, "gatedgnn")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_parallel_and_compiled_models_add_prefixes(path: Path, prefix: str) -> None:
    torch.save({prefix + name: tensor for name, tensor in state_dict("gatedgnn").items()}, path)
    check(path, "gatedgnn")


def test_files_with_nn_parameters(path: Path) -> None:
    state = {name: nn.Parameter(tensor) for name, tensor in state_dict("gatedgnn").items()}
    torch.save(state, path)
    check(path, "gatedgnn")
    joblib.dump(state, path)
    check(path, "gatedgnn")


PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ghn2_cifar10": ({}, {"ve": True, "layernorm": True, "weight_norm": True, "hypernet": "gatedgnn"}),
    "ghn1_cifar10": (
        {"virtual_edges": 1, "layernorm": False},
        {"ve": False, "layernorm": False, "weight_norm": False, "hypernet": "gatedgnn"},
    ),
    "mlp_cifar10": ({"hypernet": "mlp"}, {"ve": True, "layernorm": True, "weight_norm": True, "hypernet": "mlp"}),
    "ghn2_imagenet": (
        {"num_classes": 1000, "max_shape": (64, 64, 16, 16)},
        {"num_classes": 1000, "max_shape": (64, 64, 16, 16), "hid": 32},
    ),
    "mlp decoder": ({"decoder": "mlp"}, {"decoder": "mlp", "max_shape": (64, 64, 11, 11), "num_classes": 10}),
    **{
        name: (
            {
                "hypernet": "graphormer",
                "hidden": hidden,
                "max_shape": (hidden, hidden, 16, 16),
                "num_classes": 1000,
                "layers": layers,
                "heads": heads,
            },
            {
                "hypernet": "graphormer",
                "hid": hidden,
                "max_shape": (hidden, hidden, 16, 16),
                "num_classes": 1000,
                "layers": layers,
                "heads": heads,
                "weight_norm": True,
                "layernorm": True,
            },
        )
        for name, hidden, layers, heads in [
            ("ghn3tm8", 64, 3, 8),
            ("ghn3sm8", 128, 5, 16),
            ("ghn3lm8", 256, 12, 16),
            ("ghn3xlm16", 384, 24, 16),
        ]
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_configs_are_inferred_from_shapes(name: str) -> None:
    sizes, expected = PUBLISHED[name]
    found = infer_config(list_shapes(**sizes))
    assert found is not None
    assert {name: found[name] for name in expected} == expected
    assert infer_config({}) is None
    assert infer_config(dict.fromkeys(list_shapes(**sizes), ())) is None


def test_tensors_are_views(path: Path) -> None:
    file = {"state_dict": state_dict("graphormer"), "config": config("graphormer")}
    torch.save(file, path)
    official = read_official(path)
    assert not official.inferred
    assert official.config["heads"] == 2  # inferred from shapes, as the config lacks it
    assert json.loads(json.dumps(official.config))["hid"] == 8
    shutil.copy(path, path.with_suffix(""))
    assert read_official(path.with_suffix("")).config == official.config


# --- damage -----------------------------------------------------------------------------------------------------------


def saved(path: Path, form: str) -> Path:
    file: dict[str, Any] = {"state_dict": state_dict("graphormer"), "config": config("graphormer")}
    if form == "joblib":
        joblib.dump(old_layout(state_dict("graphormer")), path)
    elif form.startswith("joblib "):
        joblib.dump(old_layout(state_dict("graphormer")), path, compress=(form.removeprefix("joblib "), 1))
    elif form == "old torch":
        torch.save(file, path, _use_new_zipfile_serialization=False)
    elif form == "with arguments":
        torch.save({**file, "args": argparse.Namespace(lr=1)}, path)
    else:
        torch.save(file, path)
    return path


FORMS = ["torch", "with arguments", "old torch", "joblib", "joblib zlib", "joblib gzip", "joblib bz2", "joblib xz"]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("form", FORMS)
def test_truncated_files_are_refused(path: Path, form: str) -> None:
    content = saved(path, form).read_bytes()
    sizes = [*range(20), *range(20, len(content), len(content) // 25), len(content) - 1]
    for size in sizes:
        path.write_bytes(content[:size])
        error(path)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_load_or_are_refused(path: Path, form: str) -> None:
    """A changed file either loads or raises one error."""
    content = saved(path, form).read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 10))):
            changed[min(int(draw.expovariate(1e-3)), len(changed) - 1)] = draw.randrange(256)
        path.write_bytes(changed)
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path)
            refused -= 1
        refused += 1
    assert refused > 20


@pytest.mark.parametrize("form", ["torch", "with arguments"])
def test_flipped_bits_do_not_match_the_checksums_of_torch(path: Path, form: str) -> None:
    content = saved(path, form).read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = [entry.header_offset + 200 for entry in archive.infolist() if entry.file_size > 1_000]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        error(path)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({}, "expected the state_dict of a hypernetwork, got a dictionary with nothing"),
        ([1, 2], "holds a list, expected a dictionary with a state_dict"),
        ({"weight": torch.zeros(3)}, "its tensors (weight, ...) are not those of a hypernetwork"),
        ({"state_dict": {}}, "expected the state_dict of a hypernetwork, got a dictionary with state_dict"),
        ({"epoch": 3, "loss": 0.1}, "expected the state_dict of a hypernetwork, got a dictionary with epoch, loss"),
        (
            {"state_dict": {"embed.weight": 3}},
            "expected the state_dict of a hypernetwork, got a dictionary with state_dict",
        ),
    ],
)
def test_other_content_is_refused(path: Path, file: object, message: str) -> None:
    for write in (torch.save, joblib.dump):
        write(file, path)
        assert error(path).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": 3}, "config: expected a dictionary, got a int"),
        ({"config": {"hid": -3}}, "config: "),
        ({"config": {"hid": 16}}, "its configuration says hidden=16, its tensors are those of 8; "),
        ({"config": {"num_classes": 11}}, "its configuration says num_classes=11, its tensors are those of 7; "),
        ({"config": {"layers": 10**9}}, "its configuration says layers=1000000000, its tensors are those of 2; "),
        ({"ln.bias": None}, "lacks 1 tensors of a hypernetwork with its configuration: ln.bias"),
        ({"extra": torch.zeros(1)}, "also holds 1 tensors of a hypernetwork with its configuration: extra"),
        ({"ln.bias": torch.zeros(9)}, "ln.bias: expected (8,), got (9,); "),
        ({"ln.bias": torch.zeros(8).long()}, "ln.bias: expected torch.float32, got torch.int64; "),
        ({"ln.bias": torch.full((8,), float("nan"))}, "ln.bias: holds NaN or infinity; "),
        (
            {"ln.bias": torch.zeros(8).to_sparse()},
            "cannot be read as a checkpoint: refers to torch.serialization._get_layout, ",
        ),
        (
            {"ln.bias": torch.zeros(8, device="meta")},
            "cannot be read as a checkpoint: refers to torch._utils._rebuild_meta_tensor",
        ),
    ],
)
def test_inconsistent_shapes(path: Path, change: dict[str, Any], message: str) -> None:
    state = {**state_dict("graphormer"), **{name: x for name, x in change.items() if name != "config"}}
    file = {"state_dict": {name: x for name, x in state.items() if x is not None}, "config": config("graphormer")}
    if isinstance(change.get("config"), dict):
        file["config"].update(change["config"])
    elif "config" in change:
        file["config"] = change["config"]
    torch.save(file, path)
    text = error(path)
    assert text.startswith((f"{path}: {message}", f"{path}: config: "))
