"""Official checkpoints in all their layouts and formats, and files that pretend to be some."""

from __future__ import annotations

import argparse
import builtins
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import pickle
import random
import resource
import shutil
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepnets.errors import CheckpointError
from ghn_model.checkpoints import describe, load_checkpoint
from ghn_model.official import infer_config, read_official
from tests.ghn_model.test_checkpoints import SMALL, error
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
    return OrderedDict((name, x[:, :, None, None] if name in names else x) for name, x in state.items())


def check(path: Path, kind: str) -> None:
    """Loading gives the hypernetwork of this kind."""
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


@pytest.mark.parametrize("kind", SMALL)
def test_files_of_ppuda(path: Path, kind: str) -> None:
    if kind == "graphormer":
        pytest.skip("not in PPUDA")
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
    if layout is convolutions and kind != "graphormer":
        pytest.skip("has convolutions anyway")
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


def test_torch_files_of_old(path: Path) -> None:
    torch.save({"state_dict": state_dict("gatedgnn")}, path, _use_new_zipfile_serialization=False)
    check(path, "gatedgnn")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_parallel_and_compiled_models_add_prefixes(path: Path, prefix: str) -> None:
    torch.save({prefix + name: tensor for name, tensor in state_dict("gatedgnn").items()}, path)
    check(path, "gatedgnn")


def test_parameters_are_tensors_too(path: Path) -> None:
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


@pytest.mark.parametrize("form", FORMS)
def test_truncated_files_are_refused(path: Path, form: str) -> None:
    content = saved(path, form).read_bytes()
    sizes = [*range(20), *range(20, len(content), len(content) // 25), len(content) - 1]
    for size in sizes:
        path.write_bytes(content[:size])
        error(path)


@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_load_or_are_refused(path: Path, form: str) -> None:
    """Whatever is changed in a file: there is a hypernetwork, or one error."""
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
        ({"ln.bias": torch.zeros(8).double()}, "ln.bias: expected torch.float32, got torch.float64; "),
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
def test_what_does_not_fit_is_refused(path: Path, change: dict[str, Any], message: str) -> None:
    state = {**state_dict("graphormer"), **{name: x for name, x in change.items() if name != "config"}}
    file = {"state_dict": {name: x for name, x in state.items() if x is not None}, "config": config("graphormer")}
    if isinstance(change.get("config"), dict):
        file["config"].update(change["config"])
    elif "config" in change:
        file["config"] = change["config"]
    torch.save(file, path)
    text = error(path)
    assert text.startswith((f"{path}: {message}", f"{path}: config: "))


# --- hostile files ----------------------------------------------------------------------------------------------------

MARKER = "marker"


class Runs:
    """Runs a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class RunsWithState(Runs):
    def __reduce__(self) -> tuple[Any, ...]:
        return (argparse.Namespace, (), {"a": Runs(self.call[0], *self.call[1])})


def hostile(marker: Path) -> dict[str, Any]:
    """Objects whose unpickling would make a file, or take all the memory."""
    make = f"open({str(marker)!r}, 'w').close()"
    inner = io.BytesIO()
    torch.save(Runs(os.system, f"touch {marker}"), inner)
    pickled = pickle.dumps(Runs(os.system, f"touch {marker}"))
    array = np.empty(1, dtype=object)
    array[0] = Runs(os.system, f"touch {marker}")
    storage = torch.storage._load_from_bytes
    return {
        "system": Runs(os.system, f"touch {marker}"),
        "eval": Runs(eval, make),
        "exec": Runs(exec, make),
        "open": Runs(builtins.open, str(marker), "w"),
        "getattr": Runs(getattr, "text", "upper"),
        "state": RunsWithState(os.system, f"touch {marker}"),
        "in a list": [1, {"a": (Runs(os.mkdir, str(marker)),)}],
        "torch.load": Runs(torch.load, str(marker)),
        "storage": Runs(storage, inner.getvalue()),
        "pickle in a storage": Runs(storage, pickled),
        "pickle.loads": Runs(pickle.loads, pickled),
        "joblib.load": Runs(joblib.load, str(marker)),
        "numpy.load": Runs(np.load, str(marker)),
        "object array": array,
        "fromfile": Runs(np.fromfile, str(marker)),
        "memmap": Runs(np.memmap, str(marker), "u1", "w+", 0, (1,)),
        "from_file": Runs(torch.UntypedStorage.from_file, str(marker), True, 8),
        "tofile": Runs(np.ndarray.tofile, np.zeros(3), str(marker)),
        "torch.save": Runs(torch.save, torch.zeros(3), str(marker)),
        "map": Runs(map, os.mkdir, [str(marker)]),
        "bytes": Runs(bytes, 1 << 40),
        "bytearray": Runs(bytearray, 1 << 40),
        "zeros": Runs(torch.zeros, 1 << 40),
        "numpy.zeros": Runs(np.ones, 1 << 36),
        "range": Runs(list, range(1 << 30)),
        "namespace": Runs(argparse.Namespace, "a"),
        "module": nn.Linear(2, 2),
        "path": marker,
    }


def assert_refused(path: Path) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = error(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "took memory"  # KB
    assert not (path.parent / MARKER).exists()
    return text


@pytest.mark.parametrize("name", hostile(Path(MARKER)))
@pytest.mark.parametrize("where", ["alone", "state_dict", "config", "args"])
def test_hostile_pickles_run_nothing(path: Path, name: str, where: str) -> None:
    bomb = hostile(path.parent / MARKER)[name]
    file = {"state_dict": state_dict("gatedgnn")}
    if where == "alone":
        file = bomb
    elif where == "state_dict":
        file["state_dict"] = {**file["state_dict"], "bomb": bomb}
    else:
        file[where] = bomb
    for write in (torch.save, joblib.dump, lambda file, path: path.write_bytes(pickle.dumps(file))):
        write(file, path)
        assert_refused(path)
    for compress in (zlib.compress, gzip.compress, bz2.compress, lzma.compress):
        path.write_bytes(compress(pickle.dumps(file)))
        assert_refused(path)


def test_the_hostile_pickles_would_run(tmp_path: Path) -> None:
    """Python's own interpreter does what they say."""
    for name in ("system", "eval", "exec", "open", "state", "in a list", "object array", "storage", "torch.save"):
        marker = tmp_path / name.replace(" ", "_")
        bomb = hostile(marker)[name]
        if name == "storage":
            torch.load(io.BytesIO(bomb.call[1][0]), weights_only=False)
        else:
            pickle.loads(pickle.dumps(bomb))
        assert marker.exists(), name


@pytest.mark.parametrize(
    "instructions",
    [
        b"cos\nsystem\n(S'touch marker'\ntR.",
        b"(S'touch marker'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch marker'\no.",
        b"\x80\x04\x82\x01.",  # extension registry
        b"\x80\x02carg\nparse\n\x81.",
        b"\x80\x02cargparse\nNamespace\n)\x81(dU\x01aK\x01sb",  # no end
        b"\x80\x02ccollections\nOrderedDict\n}U\x08__init__K\x01sb.",  # changes the class
        b"\x80\x02ctorch\nfloat32\n}U\x01aK\x01sb.",
        b"\x80\x02ctorch\nFloatStorage\nN}U\x01aK\x01s\x86b.",
        b"\x80\x04]\x94h\x00a.",  # a list in itself
        b"\x80\x04\x8f(K\x01\x90.",  # a set
        b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.",  # a deeply nested key
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",  # 10^12 bytes
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x02" + b"]" * 100_000 + b".",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02K\x01" + b"q\x00" * 1_000 + b"0.",
        b"\x80\x022.",
        b"\x80\x02h\x05.",
        b"\x80\x02.",
        b"\x80\x02R.",
        b"\x80\x02Nb.",
        b"\x80\x02Q.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02ctorch.storage\n_load_from_bytes\nU\x03abc\x85R.",
        b"\x80\x02ctorch.storage\n_load_from_bytes\nK\x05\x85R.",
        b"\x80\x02ctorch\nSize\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00)))Ntq\x00R.",
        b"\x80\x02cnumpy\ndtype\nU\x02O8\x85R.",
        b"\x80\x02" + b"I" + b"9" * 100_000 + b"\n.",
    ],
)
def test_hostile_instructions_run_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, instructions: bytes) -> None:
    monkeypatch.chdir(path.parent)
    for content in (instructions, b"\x80\x02" + instructions, zlib.compress(instructions)):
        path.write_bytes(content)
        assert_refused(path)
    saved(path, "with arguments")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in entries if name.endswith("data.pkl"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**entries, pickled: instructions}.items():
            archive.writestr(name, data)
    assert_refused(path)


def claim(name: str, kind: str = "graphormer") -> State:
    """A state_dict in which one tensor claims 10^12 elements of a storage of one."""
    state = state_dict(kind)
    state[name] = torch.zeros(1).expand(1_000_000, 1_000_000)
    return state


@pytest.mark.parametrize("name", ["ln.bias", "embed.weight", "decoder.fc.0.weight", "extra"])
def test_tensors_that_claim_more_than_there_is(path: Path, name: str) -> None:
    for file in (claim(name), {"state_dict": claim(name), "args": argparse.Namespace()}):
        torch.save(file, path)
        assert path.stat().st_size < 1_000_000
        assert_refused(path)
        joblib.dump(file, path)
        assert_refused(path)


def test_consistent_claims_take_no_memory_either(path: Path) -> None:
    """A hypernetwork of 10^11 parameters in a file of some kilobytes."""
    shapes = list_shapes(hypernet="mlp", hidden=1 << 16, max_shape=(64, 64, 11, 11))
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}, path)
    assert "claim" in assert_refused(path)


def test_decompression_is_limited(path: Path) -> None:
    state = {"embed.weight": torch.zeros(100_000_000)}
    plain = pickle.dumps({"a": bytes(400_000_000)})
    for compress in (zlib.compress, gzip.compress, bz2.compress, lambda data: lzma.compress(data, preset=0)):
        path.write_bytes(compress(plain))
        assert path.stat().st_size < 2_000_000
        assert "more data than the file can hold" in assert_refused(path)
    del plain
    torch.save(state, path)
    other = path.with_name("compressed")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as target:
        for name in archive.namelist():
            target.writestr(name, archive.read(name))
    del state
    assert "compressed zip archive" in assert_refused(other)


def test_storages_of_wrong_sizes_are_refused(path: Path) -> None:
    saved(path, "with arguments")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (some,) = (name for name in entries if name.endswith("data/3"))
    for data in (b"", entries[some][:-4], entries[some] + bytes(4), None):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**entries, some: data}.items():
                if content is not None:
                    archive.writestr(name, content)
        assert_refused(path)


def test_other_archives_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.txt", "text")
    assert assert_refused(path) == f"{path}: is a zip archive, but none that torch.save writes"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    assert_refused(path)
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    assert_refused(path.with_suffix(".npz"))
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert assert_refused(path).startswith(f"{path}: is an HDF5 file")
    path.write_bytes(b"\x04\x22\x4d\x18" + bytes(100))
    assert assert_refused(path).startswith(f"{path}: is compressed with lz4; decompress it first")


def test_reading_gives_views_and_no_config_of_its_own(path: Path) -> None:
    file = {"state_dict": state_dict("graphormer"), "config": config("graphormer")}
    torch.save(file, path)
    official = read_official(path)
    assert not official.inferred
    assert official.config["heads"] == 2  # what the config lacks, shapes tell
    assert json.loads(json.dumps(official.config))["hid"] == 8
    shutil.copy(path, path.with_suffix(""))
    assert read_official(path.with_suffix("")).config == official.config
