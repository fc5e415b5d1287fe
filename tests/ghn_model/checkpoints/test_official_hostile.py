"""Malicious files: no code in them runs, and none allocates much more memory than its size."""

from __future__ import annotations

import argparse
import builtins
import bz2
import gzip
import io
import lzma
import os
import pickle
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.ghn_model.checkpoints.test_files import error
from tests.ghn_model.checkpoints.test_official import saved, state_dict
from tests.oracles.naive_ghn import list_shapes

State = dict[str, Tensor]
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
    """Objects whose unpickling would create a file, or allocate all memory."""
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ghn.pt"


def assert_refused(path: Path) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = error(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "took memory"  # KB
    assert not (path.parent / MARKER).exists()
    return text


@pytest.mark.sampled(39)
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


def test_hostile_pickles_are_dangerous(tmp_path: Path) -> None:
    """Python's unpickler runs their code, so the tests above are meaningful."""
    for name in ("system", "eval", "exec", "open", "state", "in a list", "object array", "storage", "torch.save"):
        marker = tmp_path / name.replace(" ", "_")
        bomb = hostile(marker)[name]
        if name == "storage":
            torch.load(io.BytesIO(bomb.call[1][0]), weights_only=False)
        else:
            pickle.loads(pickle.dumps(bomb))
        assert marker.exists(), name


@pytest.mark.sampled(9)
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
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",  # a deeply nested key
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
def test_tensors_larger_than_their_storage(path: Path, name: str) -> None:
    for file in (claim(name), {"state_dict": claim(name), "args": argparse.Namespace()}):
        torch.save(file, path)
        assert path.stat().st_size < 1_000_000
        assert_refused(path)
        joblib.dump(file, path)
        assert_refused(path)


def test_huge_tensors_take_no_memory(path: Path) -> None:
    """A hypernetwork of 10^11 parameters in a file of some kilobytes."""
    shapes = list_shapes(hypernet="mlp", hidden=1 << 16, max_shape=(64, 64, 11, 11))
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}, path)
    assert "has a tensor of shape (65536,) on a storage of 1 elements" in assert_refused(path)


@pytest.mark.slow
def test_decompression_is_limited(path: Path) -> None:
    state = {"embed.weight": torch.zeros(5_000_000)}
    plain = pickle.dumps({"a": bytes(100_000_000)})
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_archives_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.txt", "text")
    assert assert_refused(path) == f"{path}: is a zip archive, but not one of torch.save"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    assert_refused(path)
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    assert_refused(path.with_suffix(".npz"))
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert assert_refused(path).startswith(f"{path}: is an HDF5 file")
    path.write_bytes(b"\x04\x22\x4d\x18" + bytes(100))
    assert assert_refused(path).startswith(f"{path}: is compressed with lz4; decompress it first")
