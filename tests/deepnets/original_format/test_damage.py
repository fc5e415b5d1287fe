"""Damaged and malicious files of the original format: each raises one clear error, before memory is allocated."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deepnets import GENOTYPES, NetworkConfig, build_graph
from deepnets.original_format import MAX_NODES, read_official
from deepnets.support import ConfigError, DeepNetsError, FormatError, IntegrityError, MissingDataError
from tests.support.original_files import edit_json, metadata, random_graphs, written


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graphs = random_graphs(3, seed=20, n_cells=4)
    graphs[1] = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=5))
    return written(tmp_path_factory.mktemp("pristine"), graphs)


@pytest.fixture
def good(pristine: Path, tmp_path: Path) -> Path:
    for file in (pristine, metadata(pristine)):
        shutil.copy(file, tmp_path)
    return tmp_path / pristine.name


def in_json(change: Callable[[Any], object]) -> Callable[[Path], object]:
    return lambda path: edit_json(path, change)


def in_entry(**values: Any) -> Callable[[Path], object]:
    return in_json(lambda content: content["val"]["nets"][1].update(values))


def in_hdf5(change: Callable[[h5py.Group], object]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file["val"])

    return damage


def replaced(name: str, make: Callable[[h5py.Group, np.ndarray], Any]) -> Callable[[Path], object]:
    """Return damage that replaces a dataset of network 1."""

    def change(group: h5py.Group) -> None:
        network = group["1"]
        old = network[name][()]
        del network[name]
        made = make(network, old)
        if isinstance(made, (np.ndarray, h5py.Empty)):
            network[name] = made

    return in_hdf5(change)


def linked(make: Callable[[Path], Any]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file["val/1/adj"]
            file["val/1/adj"] = make(path)

    return damage


def external(path: Path) -> None:
    secret = path.with_name("secret")
    secret.write_bytes(bytes(10_000))
    with h5py.File(path, "r+") as file:
        shape = file["val/1/adj"].shape
        del file["val/1/adj"]
        file["val/1"].create_dataset("adj", shape, "u1", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        shape = file["val/1/adj"].shape
        layout = h5py.VirtualLayout(shape, "u1")
        layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "x", shape)
        del file["val/1/adj"]
        file["val/1"].create_virtual_dataset("adj", layout)


def self_edge(_: h5py.Group, adj: np.ndarray) -> np.ndarray:
    adj[3, 3] = 1
    return adj


def cycle(_: h5py.Group, adj: np.ndarray) -> np.ndarray:
    adj[9, 2] = 1
    return adj


def row(column: int, value: int) -> Callable[[h5py.Group, np.ndarray], np.ndarray]:
    def make(_: h5py.Group, nodes: np.ndarray) -> np.ndarray:
        nodes[4, column] = value
        return nodes

    return make


def without_output(content: Any) -> None:
    pairs = [["none", 0], ["none", 1]]
    genotype = {"normal": pairs, "normal_concat": [2], "reduce": pairs, "reduce_concat": [2]}
    content["val"]["nets"][1]["genotype"] = genotype


def cut(which: Callable[[Path], Path], share: float) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        content = which(path).read_bytes()
        which(path).write_bytes(content[: int(len(content) * share)])

    return damage


def text(content: str) -> Callable[[Path], object]:
    return lambda path: metadata(path).write_text(content)


SPLIT = '{"val": {"nets": %s, "meta": {"primitives_ext": {}, "unique_op_names": {}}}}'

DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    # the files
    "no HDF5": (lambda path: path.unlink(), "no such file"),
    "empty HDF5": (lambda path: path.write_bytes(b""), "not an HDF5"),
    "text": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "not an HDF5"),
    "HDF5 cut off": (cut(Path, 0.7), "eval.hdf5: cannot be opened as HDF5: "),
    "no JSON": (lambda path: metadata(path).unlink(), "meta.json: missing"),
    "JSON is a folder": (lambda path: (metadata(path).unlink(), metadata(path).mkdir()), "cannot be read"),
    "empty JSON": (text(""), "end of the file"),
    "JSON cut off": (cut(metadata, 0.5), "valid JSON|end of the file"),
    "deep JSON": (text('{"val": {"nets": ' + "[" * 1_000_000), "deep|object"),
    "deep entry": (text('{"val": {"nets": [' + "[" * 1_000_000), "deep"),
    "deep object": (text('{"val": {"x": ' + '{"a":' * 1_000_000), "deep"),
    "huge number": (text(SPLIT % ('[{"num_nodes": ' + "9" * 100_000 + "}]")), "JSON|num_nodes"),
    "JSON list": (text("[1, 2]"), "expected '{'"),
    "JSON rubbish": (text("PK\x03\x04"), "expected '{'"),
    "JSON comma": (text(SPLIT % "[,]"), "JSON"),
    "JSON goes on": (text(SPLIT % "[]" + "{}"), "follows"),
    "JSON no comma": (text(SPLIT % '[{"num_nodes": 3} {"num_nodes": 3}]'), "expected ','"),
    "JSON key twice": (text(f'{{"test": {SPLIT[8:-1] % []}, "test": {SPLIT[8:-1] % []}}}'), "twice"),
    "JSON key is a number": (text("{1: 2}"), "key|JSON"),
    "a value without end": (text('{"val": {"nets": ["' + "x" * 50_000_000), "JSON"),
    # the JSON's content
    "split not in JSON": (in_json(lambda content: content.update(test=content.pop("val"))), "no split 'val'"),
    "nets missing": (in_json(lambda content: content["val"].pop("nets")), "nets and meta"),
    "nets no list": (in_json(lambda content: content["val"].update(nets={})), "expected '\\['"),
    "meta missing": (in_json(lambda content: content["val"].pop("meta")), "nets and meta"),
    "meta no object": (in_json(lambda content: content["val"].update(meta=[])), "meta"),
    "table missing": (in_json(lambda content: content["val"]["meta"].pop("unique_op_names")), "unique_op"),
    "table no object": (in_json(lambda content: content["val"]["meta"].update(primitives_ext=[])), "primitives_ext"),
    "unknown type": (in_json(lambda content: content["val"]["meta"]["primitives_ext"].update({"0": "gelu"})), "gelu"),
    "negative key": (in_json(lambda content: content["val"]["meta"]["primitives_ext"].update({"-1": "conv"})), "'-1'"),
    "huge key": (in_json(lambda content: content["val"]["meta"]["unique_op_names"].update({"9" * 99: "x"})), "999"),
    "name no text": (in_json(lambda content: content["val"]["meta"]["unique_op_names"].update({"0": 3})), "string"),
    "entry no object": (in_json(lambda content: content["val"]["nets"].__setitem__(1, 7)), "network 1.*object"),
    "fewer networks": (in_json(lambda content: content["val"]["nets"].pop()), "3 networks, but 2"),
    "no size": (in_entry(num_nodes=None), "network 1: num_nodes"),
    "size is true": (in_entry(num_nodes=True), "network 1: num_nodes"),
    "size too large": (in_entry(num_nodes=10**9), f"network 1: num_nodes.*{MAX_NODES}"),
    "another size": (in_entry(num_nodes=12), "val, network 1: (adj|nodes): expected the shape"),
    "unknown primitive": (
        in_entry(genotype={"normal": [["x", 0]] * 2}),
        "network 1: official metadata entry: genotype",
    ),
    "genotype no object": (in_entry(genotype=[1]), "network 1: official metadata entry: genotype"),
    "no output": (in_json(without_output), "val, network 1: .*no output"),
    "too many cells": (in_entry(n_cells=10**6), "val, network 1: n_cells"),
    "counts no numbers": (in_entry(num_params={"cifar10": "many"}), "val, network 1: num_params"),
    # the HDF5's content
    "no split": (lambda path: in_hdf5(lambda group: group.file.move("val", "test"))(path), "holds test"),
    "split is a dataset": (
        in_hdf5(lambda group: (group.file.move("val", "x"), group.file.__setitem__("val", 1))),
        "val",
    ),
    "network missing": (in_hdf5(lambda group: group.move("1", "x")), "val, network 1: there is no group /val/1"),
    "network twice": (in_hdf5(lambda group: group.copy("1", "01")), "4 networks, but 3"),
    "network is a dataset": (
        in_hdf5(lambda group: (group.pop("1"), group.__setitem__("1", 0))),
        "/val/1 is not a",
    ),
    "array missing": (replaced("adj", lambda *_: None), "network 1: there is no dataset /val/1/adj"),
    "array is a group": (
        replaced("adj", lambda network, _: network.create_group("adj")),
        "adj is not a dataset",
    ),
    "wrong shape": (replaced("adj", lambda _, adj: adj[:-1]), "network 1: adj: expected the shape"),
    "one dimension": (replaced("adj", lambda _, adj: adj.ravel()), "network 1: adj: expected the shape"),
    "no shape": (replaced("adj", lambda *_: h5py.Empty("u1")), "network 1: adj: expected the shape"),
    "two columns": (replaced("nodes", lambda _, nodes: nodes[:, :2]), "network 1: nodes: expected the shape"),
    "floats": (replaced("adj", lambda _, adj: adj.astype(float)), "network 1: adj: expected uint8"),
    "signed": (replaced("nodes", lambda _, nodes: nodes.astype("i2")), "network 1: nodes: expected uint16"),
    "strings": (replaced("nodes", lambda _, nodes: np.full(nodes.shape, b"x")), "network 1: nodes: expected uint16"),
    "self edge": (replaced("adj", self_edge), "network 1: adj.*topological.*rebuild=True"),
    "cycle": (replaced("adj", cycle), "network 1: adj.*topological"),
    "lower triangle": (replaced("adj", lambda _, adj: np.ascontiguousarray(adj.T)), "network 1: adj.*topological"),
    "type index": (replaced("nodes", row(0, 60_000)), "network 1: nodes: type index 60000"),
    "name index": (replaced("nodes", row(2, 60_000)), "network 1: nodes: name index 60000"),
    "soft link": (linked(lambda _: h5py.SoftLink("/val/0/adj")), "1: /val/1/adj is a link"),
    "link to itself": (linked(lambda _: h5py.SoftLink("/val/1/adj")), "1: /val/1/adj is a link"),
    "external link": (
        linked(lambda path: h5py.ExternalLink(str(path), "/val/0/adj")),
        "1: /val/1/adj is a link",
    ),
    "linked split": (
        in_hdf5(lambda group: group.file.__setitem__("more", h5py.SoftLink("/val"))),
        "eval.hdf5: /more is a link; refused",
    ),
    "external storage": (external, "network 1: /val/1/adj takes its data from other files; refused"),
    "virtual dataset": (virtual, "network 1: /val/1/adj takes its data from other files; refused"),
    "no data": (
        replaced("adj", lambda network, adj: network.create_dataset("adj", adj.shape, "u1", chunks=True)),
        "network 1: adj: .*no data",
    ),
    "many chunks": (
        replaced("adj", lambda network, adj: network.create_dataset("adj", data=adj, chunks=(1, 1))),
        "network 1: adj: chunks",
    ),
    "huge chunk": (
        replaced(
            "adj",
            lambda network, adj: network.create_dataset(
                "adj", adj.shape, "u1", chunks=(60_000, 60_000), maxshape=(None, None)
            ),
        ),
        "network 1: adj: chunks",
    ),
}


@pytest.mark.parametrize("rebuild", ["auto", False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_clean_error(good: Path, damage: str, rebuild: Any) -> None:
    inflict, message = DAMAGES[damage]
    inflict(good)
    tracemalloc.start()
    with pytest.raises(DeepNetsError, match=message) as caught:
        list(read_official(good, "val", rebuild=rebuild))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(caught.value, (FormatError, ConfigError, MissingDataError))
    assert "deepnets1m_eval" in str(caught.value)
    assert len(str(caught.value)) < 800
    assert peak < 50_000_000


@pytest.mark.parametrize("damage", ["cycle", "type index", "external storage", "network missing", "floats"])
def test_configurations_alone_need_no_arrays(good: Path, pristine: Path, damage: str) -> None:
    DAMAGES[damage][0](good)
    expected = [network.graph for network in read_official(pristine)]
    assert [network.graph for network in read_official(good, rebuild=True)] == expected


def test_a_flipped_bit_in_the_data_is_noticed(good: Path) -> None:
    with h5py.File(good, "r") as file:
        place = file["val/1/adj"].id.get_chunk_info(0)
    content = bytearray(good.read_bytes())
    content[place.byte_offset + place.size // 2] ^= 4
    good.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"network 1: adj: the chunk at \(0, 0\) is damaged"):
        read_official(good)[1]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("which", ["hdf5", "json"])
def test_random_damage_is_an_error_or_harmless(good: Path, which: str) -> None:
    target = good if which == "hdf5" else metadata(good)
    content = target.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=int(rng.integers(1, 4))):
            damaged[place] = int(rng.integers(256))
        target.write_bytes(damaged)
        try:
            read = list(read_official(good, "val"))
        except DeepNetsError as error:
            message = str(error)
        else:
            message = "deepnets1m_eval"
            assert all(network.graph.num_nodes for network in read)
        assert "deepnets1m_eval" in message


def test_metadata_in_small_pieces(good: Path, pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [network.graph for network in read_official(pristine)]
    for size in (1, 7, 300):
        monkeypatch.setattr("deepnets.original_format.metadata._CHUNK", size)
        assert [network.graph for network in read_official(good)] == expected
    metadata(good).write_text(json.dumps(json.loads(metadata(good).read_text()), indent=3, ensure_ascii=False))
    assert [network.graph for network in read_official(good)] == expected
