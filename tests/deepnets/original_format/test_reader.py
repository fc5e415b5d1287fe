"""The reader of the original format: vocabularies of all versions, use, and sample files of the public generator."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepnets import GENOTYPES, NetworkConfig, build_graph
from deepnets.architecture import NAMES, PUBLISHED_NODE_TYPES
from deepnets.graph import count_parameters
from deepnets.original_format import read_official, write_official
from deepnets.original_format.vocabulary import Tables, parameter_name, type_name
from deepnets.support import ConfigError, FormatError, IntegrityError
from tests.oracles.official_reader import naive_networks
from tests.support.original_files import edit_json, metadata, random_graphs, written

SAMPLE = Path(__file__).parents[3].parent / "shared" / "data" / "official-sample"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample of the original release's files here")
DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=4)


# --- vocabulary -----------------------------------------------------------------------------------------------------


def test_vocabulary_of_older_files(tmp_path: Path) -> None:
    graphs = random_graphs(10, seed=14)
    path = written(tmp_path, graphs)
    types = {"sep_conv": "sep_conv_3x3", "dil_conv": "dil_conv_5x5", "max_pool": "max_pool_3x3", "bias": "fc-b"}
    types |= {"avg_pool": "avg_pool_3x3", "conv": "conv_7x7"}

    def older(name: str) -> str:
        if name.startswith("classifier"):
            return name
        if name.startswith("_ops"):
            name = name.replace(".op.", ".")
        if name.endswith("to_out.0.weight"):
            return name.removesuffix("weight")
        if name.startswith(("stem", "pos_enc")):
            name = f"module.{name}"
        return "" if name == "input" else name.removesuffix(".weight").removesuffix(".bias")

    def age(content: Any) -> None:
        meta = content["val"]["meta"]
        meta["primitives_ext"] = {i: types.get(word, word) for i, word in meta["primitives_ext"].items()}
        meta["unique_op_names"] = {i: older(word) for i, word in meta["unique_op_names"].items()}
        for net in content["val"]["nets"]:
            net["norm"] = net["norm"] and "bn"
            net["tool"] = "another"

    edit_json(path, age)
    for graph, network in zip(graphs, read_official(path, rebuild=False), strict=True):
        assert network.graph == graph
        assert network.graph.parameters == graph.parameters
        assert network.defects == ()
        assert network.config == graph.config.replace(norm=graph.config.norm and "bn")


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("_ops.3.1", "_ops.3.op.1.weight"),
        ("_ops.3.op.1.weight", "_ops.3.op.1.weight"),
        ("_ops.13.ff.net.0.bias", "_ops.13.ff.net.0.bias"),
        ("_ops.1.to_out.0.", "_ops.1.to_out.0.weight"),
        ("_ops.1.attn.to_qkv.weight", "_ops.1.to_qkv.weight"),
        ("cells.4._ops.1.fc1", "_ops.1.fc1.weight"),
        ("cells.0.stem1.1", "stem1.1.weight"),
        ("x.pos_enc.weight", "pos_enc.weight"),
        ("classifier.3.bias", "classifier.3.bias"),
    ],
)
def test_parameter_names(word: str, meaning: str) -> None:
    assert parameter_name(word) == meaning
    assert meaning in NAMES


def test_type_names() -> None:
    assert all(type_name(name) == name for name in PUBLISHED_NODE_TYPES)
    assert type_name("conv_1x1") == type_name("conv_5x5") == "conv"
    assert type_name("fc-b") == "bias"
    assert type_name("max_pool_3x3") == "max_pool"
    assert type_name("none") is None


def test_missing_entries_of_tables_are_noticed() -> None:
    tables = Tables.from_meta({"primitives_ext": {"0": "input", "2": "conv"}, "unique_op_names": {"0": "", "2": "x"}})
    types, names = tables.translate(np.array([[0, 0, 0], [2, 0, 2]], np.uint16))
    assert types.tolist() == [PUBLISHED_NODE_TYPES.index("input"), PUBLISHED_NODE_TYPES.index("conv")]
    assert names[0] == PUBLISHED_NODE_TYPES.index("input")
    for row in ([1, 0, 0], [0, 0, 1], [3, 0, 0], [0, 0, 3]):
        with pytest.raises(FormatError, match="nodes"):
            tables.translate(np.array([row], np.uint16))


# --- use ------------------------------------------------------------------------------------------------------------


def test_choosing_a_split(tmp_path: Path) -> None:
    path = write_official(tmp_path, {"val": random_graphs(1), "test": random_graphs(2)})[0]
    with pytest.raises(ConfigError, match="test, val"):
        read_official(path)
    with pytest.raises(ConfigError, match="got 'deep'"):
        read_official(path, "deep")
    with pytest.raises(ConfigError, match="needed"):
        read_official(tmp_path)
    with pytest.raises(ConfigError, match="one of train"):
        read_official(tmp_path, "predefined")
    with pytest.raises(ConfigError, match="rebuild"):
        read_official(path, "val", rebuild="yes")  # type: ignore[arg-type]
    split = read_official(path, "test")
    assert "test" in repr(split)
    for index in (2, -3):
        with pytest.raises(IndexError):
            split[index]


def test_a_split_can_be_pickled(tmp_path: Path) -> None:
    good = written(tmp_path, random_graphs(3))
    split = read_official(good)
    first = split[0].graph
    there = pickle.loads(pickle.dumps(split))
    assert there[0].graph == first
    graph = pickle.loads(pickle.dumps(read_official(good, rebuild=False)[1].graph))
    assert graph.parameters == split[1].graph.parameters
    pid = os.fork()
    if pid == 0:
        os._exit(0 if split[0].graph == first and split._process == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    split.close()
    assert split[0].graph == first


def test_a_file_that_changes_while_it_is_used(tmp_path: Path) -> None:
    good = written(tmp_path, random_graphs(3))
    split = read_official(good)
    metadata(good).write_text("{}")
    with pytest.raises(IntegrityError, match=r"network 2.*changed"):
        split[2]


def test_torch_is_not_needed(tmp_path: Path) -> None:
    good = written(tmp_path, random_graphs(3))
    program = (
        "import sys; from deepnets.original_format import read_official; "
        f"assert len(list(read_official({str(good)!r}))) == 3; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- files made with the public generator ---------------------------------------------------------------------------


@needs_sample
@pytest.mark.parametrize(("split", "size"), [("val", 12), ("dense", 6), ("bnfree", 12), ("train", 15)])
def test_sample_files(split: str, size: int) -> None:
    networks = read_official(SAMPLE, split)
    assert len(networks) == size
    for network in networks:
        assert network.has_width == (split != "train")
        narrow = network.config.replace(C=32, fc_dim=256)
        assert network.num_params == {
            "cifar10": count_parameters(narrow, 10, 32),
            "imagenet": count_parameters(narrow, 10, 224),
        }
        assert network.graph == build_graph(network.config).pruned()
        if "missing nodes" not in network.defects:
            assert network.stored_nodes == network.graph.num_nodes
        assert "unrecognised" not in network.defects
        assert "names" not in network.defects
        assert split == "train" or not {"missing nodes", "cells"} & set(network.defects)
    report = networks.report()
    assert report.with_dead_nodes == 0
    assert report.defects["scrambled"] == {"val": 12, "dense": 5, "bnfree": 10, "train": 15}[split]
    assert report.defects["missing nodes"] == (7 if split == "train" else 0)
    assert report.exact == (1 if split == "dense" else 0)


@needs_sample
@pytest.mark.parametrize("split", ["val", "dense", "bnfree"])
def test_our_rows_are_those_of_the_generator(split: str, tmp_path: Path) -> None:
    theirs = naive_networks(SAMPLE / "deepnets1m_eval.hdf5", split)
    graphs = [network.graph for network in read_official(SAMPLE, split)]
    ours = naive_networks(write_official(tmp_path, {split: graphs})[0], split)
    for a, b in zip(ours, theirs, strict=True):
        assert a.entry == b.entry
        named = [name if name.endswith((".weight", ".bias")) else f"{name}.weight" for name in a.names]
        rows = Counter(
            (word, cell, name if "." in raw or raw == "stem0" else f"cells.{cell}.{raw}")
            for word, cell, name, raw in zip(a.words, a.cells, named, a.raw_names)
        )
        assert rows == Counter(zip(b.words, b.cells, b.names))
        assert np.array_equal(np.sort(a.adj, axis=None), np.sort(b.adj, axis=None))
