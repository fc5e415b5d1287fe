"""The original release's format: what we write is what others expect, and comes back as it went in."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings

from deepnets import GENOTYPES, PRIMITIVES, Graph, NetworkConfig, build_graph
from deepnets.architecture import NAMES, PUBLISHED_NODE_TYPES
from deepnets.graph import count_parameters
from deepnets.original_format import SPLITS, OfficialWriter, list_splits, official_file, read_official, write_official
from deepnets.original_format.vocabulary import Tables, parameter_name, type_name
from deepnets.support import ConfigError, FormatError, IntegrityError
from tests.oracles.official_reader import NaiveNetwork, naive_networks, parameter_table, shortest_paths
from tests.support.original_files import edit_json, metadata, random_config, random_graphs, written
from tests.support.strategies import configs

SAMPLE = Path(__file__).parents[3].parent / "shared" / "data" / "official-sample"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample of the original release's files here")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Graph, NaiveNetwork]]:
    """Graphs, and what others read of them in a file of ours."""
    graphs = random_graphs(40, seed=1) + random_graphs(12, seed=2, stem_type=1, ops=PRIMITIVES[:13])
    graphs.append(build_graph(NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)))
    path = written(tmp_path_factory.mktemp("naive"), graphs, "test")
    return list(zip(graphs, naive_networks(path, "test"), strict=True))


class TestWhatOthersRead:
    """A reader written after the description of the format, not after our code, finds what it expects."""

    def test_adjacency_is_that_of_shortest_paths(self, pairs: list[tuple[Graph, NaiveNetwork]]) -> None:
        for graph, read in pairs:
            edges = np.zeros((graph.num_nodes, graph.num_nodes), bool)
            edges[tuple(graph.edges.T)] = True
            assert read.adj.dtype == np.uint8
            assert np.array_equal(read.adj, shortest_paths(edges, 250))
            assert not np.tril(read.adj).any()

    def test_rows_assumed_by_position(self, pairs: list[tuple[Graph, NaiveNetwork]]) -> None:
        for graph, read in pairs:
            last = f"classifier.{3 * (graph.config.fc_layers - 1)}"
            assert read.types[0] == "input"
            assert not read.adj[:, 0].any()
            assert read.names[-2:] == [f"{last}.weight", f"{last}.bias"]
            assert read.entry["num_nodes"] == graph.num_nodes == len(read.adj)

    def test_stem_rows(self, pairs: list[tuple[Graph, NaiveNetwork]]) -> None:
        seen = set()
        for graph, read in pairs:
            rows = read.stem_rows()
            if rows is None or not graph.live[rows[1]]:  # the generator too drops a second part that nothing uses
                continue
            ends = ["stem0.4.weight", "stem1.2.weight"] if read.entry["norm"] else ["stem0.3", "stem1.1"]
            assert [read.raw_names[row] for row in rows] == ends
            seen.add(read.entry["norm"])
        assert seen == {None, "bnorm"}

    def test_every_node_links_to_its_parameter(self, pairs: list[tuple[Graph, NaiveNetwork]]) -> None:
        free = {"input", "sum", "concat", "max_pool", "avg_pool", "glob_avg", "msa", "cse"}
        for graph, read in pairs:
            table = parameter_table(graph)
            assert read.types == [PUBLISHED_NODE_TYPES[t] for t in graph.node_types]
            assert read.cells == graph.cells.tolist()
            for node, (kind, cell, name) in enumerate(zip(read.types, read.cells, read.names)):
                if kind in free:
                    assert not graph.parameters[node]
                    continue
                if not name.endswith((".weight", ".bias")):
                    name += ".weight"
                assert (cell, name) in table
                assert graph.parameters[node][0].name == name

    def test_kernels_of_size_one_have_their_own_word(self, pairs: list[tuple[Graph, NaiveNetwork]]) -> None:
        for graph, read in pairs:
            for word, slots in zip(read.words, graph.parameters):
                if word.startswith("conv"):
                    pointwise = all(size == 1 for size in slots[0].shape[2:])
                    assert word == ("conv_1x1" if pointwise else "conv")

    def test_repairs_of_ghn3_change_nothing(self, pairs: list[tuple[Graph, NaiveNetwork]]) -> None:
        for _, read in pairs:
            assert read.ghn3_repaired() is read.adj

    def test_metadata_entries(self, pairs: list[tuple[Graph, NaiveNetwork]]) -> None:
        for graph, read in pairs:
            config = graph.config
            assert set(read.entry) == {
                *("stem_type", "stem_pool", "norm", "preproc", "fc_layers", "glob_avg", "genotype", "n_cells", "ks"),
                *("C_mult", "fc_dim", "num_nodes", "num_params", "C"),
            }
            assert read.entry["genotype"]["normal"] == [list(gene) for gene in config.genotype.normal]
            narrow = config.replace(C=32, fc_dim=256)
            assert read.entry["num_params"] == {
                "cifar10": count_parameters(narrow, 10, 32),
                "imagenet": count_parameters(narrow, 10, 224),
            }


# --- round trip -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rebuild", ["auto", True, False])
@pytest.mark.parametrize("compression", ["gzip", None])
def test_round_trip(tmp_path: Path, rebuild: Any, compression: str | None) -> None:
    graphs = random_graphs(14, seed=3)  # more than ten: the names 10 to 13 come before 2
    with read_official(written(tmp_path, graphs, compression=compression), rebuild=rebuild) as split:
        assert len(split) == 14
        assert split.num_nodes.tolist() == [graph.num_nodes for graph in graphs]
        for i, (graph, network) in enumerate(zip(graphs, split, strict=True)):
            assert network.graph == graph
            assert network.config == graph.config == network.graph.config
            assert np.array_equal(network.graph.names, graph.names)
            assert network.graph.parameters == graph.parameters
            assert Counter(network.graph.unused) == Counter(graph.unused)
            assert network.index == network.graph.index == i
            assert network.defects == ()
            assert not network.scrambled
            assert network.has_width
            assert network.stored_nodes == graph.num_nodes
    assert split[-1].index == 13
    report = split.report()
    assert (report.networks, report.exact) == (14, 14)
    assert report.with_dead_nodes == sum(not graph.live.all() for graph in graphs)


@given(configs(with_output=True))
@settings(max_examples=60, deadline=None)
def test_round_trip_of_any_architecture(tmp_path_factory: pytest.TempPathFactory, config: NetworkConfig) -> None:
    config = config.replace(imagenet_stride=4)  # the format has no place for it
    graphs = [build_graph(config), build_graph(config).pruned()]
    path = written(tmp_path_factory.mktemp("any"), graphs, compression=None)
    for graph, network, stored in zip(graphs, read_official(path), read_official(path, rebuild=False), strict=True):
        assert network.config == stored.config == config
        assert network.graph == stored.graph == graph
        assert network.graph.parameters == stored.graph.parameters == graph.parameters
        assert network.defects == stored.defects == ()


def test_splits_share_a_file_with_their_own_tables(tmp_path: Path) -> None:
    graphs = {split: random_graphs(3, seed=i) for i, split in enumerate(SPLITS)}
    paths = write_official(tmp_path, graphs)
    assert [path.name for path in paths] == [f"deepnets1m_{name}.hdf5" for name in ("train", "search", "eval")]
    assert set(list_splits(paths[2])) == set(SPLITS[2:])
    tables = json.loads(metadata(paths[2]).read_text())
    assert tables["val"]["meta"] != tables["test"]["meta"]
    assert h5py.File(paths[0])["train/0/nodes"].dtype == np.uint16
    assert h5py.File(paths[0]).attrs["title"] == "DeepNets-1M"
    for split, expected in graphs.items():
        read = read_official(tmp_path, split)
        assert read.path == official_file(tmp_path, split)
        assert [network.graph for network in read] == expected
        assert read.report().exact == 3
        if split == "train":
            assert not any(network.has_width for network in read)
            assert [n.config for n in read] == [graph.config.replace(C=32) for graph in expected]
            assert not any("C" in entry for entry in json.loads(metadata(read.path).read_text())["train"]["nets"])
        else:
            assert [n.config for n in read] == [graph.config for graph in expected]


def test_cutoff_and_uncompressed_layout(tmp_path: Path) -> None:
    graph = random_graphs(1)[0]
    with h5py.File(written(tmp_path, [graph], cutoff=3, compression=None)) as file:
        assert file["val/0/adj"].chunks is None
        assert np.array_equal(file["val/0/adj"][()], graph.distances(3))
    assert read_official(tmp_path, "val")[0].defects == ()


def test_same_networks_make_the_same_bytes(tmp_path: Path) -> None:
    files = [written(tmp_path / name, random_graphs(3)) for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes()[8] == 3  # the layout of HDF5 1.10, whose structure has checksums throughout
    assert metadata(files[0]).read_bytes() == metadata(files[1]).read_bytes()


def test_networks_are_not_held_in_memory(tmp_path: Path) -> None:
    seen: list[weakref.ref[Graph]] = []

    def stream() -> Iterator[Graph]:
        rng = np.random.default_rng(0)
        for _ in range(5):
            graph = build_graph(random_config(rng))
            seen.append(weakref.ref(graph))
            yield graph
            del graph
            assert sum(ref() is not None for ref in seen[:-1]) == 0

    assert len(read_official(write_official(tmp_path, {"train": stream()})[0])) == 5


def test_an_empty_split(tmp_path: Path) -> None:
    split = read_official(written(tmp_path, []))
    assert len(split) == 0
    assert list(split) == []


# --- publication ----------------------------------------------------------------------------------------------------


def test_a_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    def failing() -> Iterator[Graph]:
        yield from random_graphs(2)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_official(tmp_path, {"val": failing()})
    assert list(tmp_path.iterdir()) == []
    path = written(tmp_path, random_graphs(2))
    before = path.read_bytes(), metadata(path).read_bytes()
    with pytest.raises(RuntimeError, match="power cut"):
        write_official(tmp_path, {"val": failing()}, overwrite=True)
    assert before == (path.read_bytes(), metadata(path).read_bytes())
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failure_that_is_caught_inside_still_counts(tmp_path: Path) -> None:
    def write() -> None:
        with OfficialWriter(official_file(tmp_path, "val")) as writer:
            writer.write("test", random_graphs(1))
            with pytest.raises(ConfigError, match="no config"):
                writer.write("val", [Graph([9], [0], [0], [])])

    with pytest.raises(ConfigError, match="failed"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", ["hdf5", "json"])
def test_neither_file_is_overwritten_unasked(tmp_path: Path, which: str) -> None:
    path = written(tmp_path, random_graphs(1))
    (metadata(path) if which == "hdf5" else path).unlink()
    with pytest.raises(ConfigError, match="already exists"):
        written(tmp_path, random_graphs(1))
    written(tmp_path, random_graphs(2), overwrite=True)
    assert len(read_official(path)) == 2


def test_old_and_new_never_lie_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, random_graphs(2, seed=1))
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target == metadata(path):
            raise OSError("disk gone")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(OSError, match="disk gone"):
        written(tmp_path, random_graphs(2, seed=2), overwrite=True)
    with pytest.raises(FormatError, match="missing"):
        read_official(path)


def test_leftovers_of_a_killed_run_do_not_matter(tmp_path: Path) -> None:
    path = official_file(tmp_path, "val")
    for target in (path, metadata(path)):
        target.with_name(f"{target.name}.partial").write_bytes(b"half")
    assert len(read_official(written(tmp_path, random_graphs(2)))) == 2
    assert len(list(tmp_path.iterdir())) == 2


DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=4)


def test_networks_that_cannot_be_written(tmp_path: Path) -> None:
    graph = build_graph(DARTS)
    of_another = build_graph(DARTS.replace(n_cells=5))
    misplaced = Graph(graph.node_types, graph.cells, graph.in_degrees, graph.sources, config=of_another.config)
    for wrong, message in ((Graph([9], [0], [0], []), "no config"), (misplaced, "canonical order")):
        with pytest.raises(ConfigError, match=f"eval.hdf5: split val, network 1: .*{message}"):
            write_official(tmp_path, {"val": [graph, wrong]})
    assert list(tmp_path.iterdir()) == []


def test_graphs_that_do_not_know_their_names_can_be_written(tmp_path: Path) -> None:
    graph = build_graph(DARTS)
    bare = Graph(graph.node_types, graph.cells, graph.in_degrees, graph.sources, config=DARTS)
    assert read_official(written(tmp_path, [bare]))[0].defects == ()


@pytest.mark.parametrize("options", [{"cutoff": 0}, {"cutoff": 255}, {"compression": "lzf"}])
def test_options_that_are_not_allowed(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        write_official(tmp_path, {"val": []}, **options)


def test_wrong_use_of_the_writer(tmp_path: Path) -> None:
    assert write_official(tmp_path, {}) == ()
    with pytest.raises(ConfigError, match="predefined"):
        write_official(tmp_path, {"predefined": []})
    writer = OfficialWriter(official_file(tmp_path, "val"))
    with pytest.raises(ConfigError, match="with"):
        writer.write("val", [])
    with pytest.raises(ConfigError, match="no split"), writer:
        pass

    def write_twice() -> None:
        with OfficialWriter(official_file(tmp_path, "val")) as writer:
            writer.write("val", [])
            writer.write("val", [])

    with pytest.raises(ConfigError, match="once"):
        write_twice()
    assert list(tmp_path.iterdir()) == []


# --- vocabulary -----------------------------------------------------------------------------------------------------


def test_words_of_older_files(tmp_path: Path) -> None:
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


def test_a_split_goes_to_other_processes(tmp_path: Path) -> None:
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
