"""The writer of the original format: other readers find what they expect, and reading returns what was written."""

from __future__ import annotations

import json
import re
import resource
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
from deepnets.architecture import PUBLISHED_NODE_TYPES
from deepnets.graph import count_parameters
from deepnets.original_format import OfficialWriter, list_splits, official_file, read_official, write_official
from deepnets.support import STORED_SPLITS, BusyError, ConfigError, FormatError
from tests.oracles.official_reader import NaiveNetwork, naive_networks, parameter_table, shortest_paths
from tests.support.limits import limited
from tests.support.original_files import metadata, random_config, random_graphs, written
from tests.support.strategies import configs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Graph, NaiveNetwork]]:
    """Graphs, and what an independent reader finds in a file with them."""
    graphs = random_graphs(40, seed=1) + random_graphs(12, seed=2, stem_type=1, ops=PRIMITIVES[:13])
    graphs.append(build_graph(NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)))
    path = written(tmp_path_factory.mktemp("naive"), graphs, "test")
    return list(zip(graphs, naive_networks(path, "test"), strict=True))


class TestWhatOthersRead:
    """An independent reader, written from the description of the format, finds what it expects."""

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


@pytest.mark.slow
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
    graphs = {split: random_graphs(3, seed=i) for i, split in enumerate(STORED_SPLITS)}
    paths = write_official(tmp_path, graphs)
    assert [path.name for path in paths] == [f"deepnets1m_{name}.hdf5" for name in ("train", "eval", "search")]
    assert set(list_splits(paths[1])) == {*STORED_SPLITS} - {"train", "search"}
    tables = json.loads(metadata(paths[1]).read_text())
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


def test_failures_change_no_files(tmp_path: Path) -> None:
    def failing() -> Iterator[Graph]:
        yield from random_graphs(2)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_official(tmp_path, {"val": failing()})
    assert files_in(tmp_path) == []
    path = written(tmp_path, random_graphs(2))
    before = path.read_bytes(), metadata(path).read_bytes()
    with pytest.raises(RuntimeError, match="power cut"):
        write_official(tmp_path, {"val": failing()}, overwrite=True)
    assert before == (path.read_bytes(), metadata(path).read_bytes())
    assert len(files_in(tmp_path)) == 2


def test_failures_that_the_caller_catches(tmp_path: Path) -> None:
    def write() -> None:
        with OfficialWriter(official_file(tmp_path, "val")) as writer:
            writer.write("test", random_graphs(1))
            with pytest.raises(ConfigError, match="no config"):
                writer.write("val", [Graph([9], [0], [0], [])])

    with pytest.raises(ConfigError, match="failed"):
        write()
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("which", ["hdf5", "json"])
def test_files_are_overwritten_only_on_request(tmp_path: Path, which: str) -> None:
    path = written(tmp_path, random_graphs(1))
    (metadata(path) if which == "hdf5" else path).unlink()
    with pytest.raises(ConfigError, match="already exists"):
        written(tmp_path, random_graphs(1))
    written(tmp_path, random_graphs(2), overwrite=True)
    assert len(read_official(path)) == 2


def test_both_files_are_replaced_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_files_left_by_a_killed_run(tmp_path: Path) -> None:
    path = official_file(tmp_path, "val")
    for target in (path, metadata(path)):
        target.with_name(f"{target.name}.partial").write_bytes(b"half")
    assert len(read_official(written(tmp_path, random_graphs(2)))) == 2
    assert len(files_in(tmp_path)) == 2


DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=4)


def test_networks_that_cannot_be_written(tmp_path: Path) -> None:
    graph = build_graph(DARTS)
    of_another = build_graph(DARTS.replace(n_cells=5))
    misplaced = Graph(graph.node_types, graph.cells, graph.in_degrees, graph.sources, config=of_another.config)
    for wrong, message in ((Graph([9], [0], [0], []), "no config"), (misplaced, "canonical order")):
        with pytest.raises(ConfigError, match=f"eval.hdf5: split val, network 1: .*{message}"):
            write_official(tmp_path, {"val": [graph, wrong]})
    assert files_in(tmp_path) == []


def test_graphs_without_names_can_be_written(tmp_path: Path) -> None:
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
    assert files_in(tmp_path) == []


def files_in(folder: Path) -> list[Path]:
    """The files in a folder without those of locks, which stay."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


# --- other processes, and full disks ---


def test_a_second_writer_of_a_file_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    graphs = random_graphs(3)
    path = official_file(tmp_path, "val")
    with OfficialWriter(path) as writer:
        writer.write("val", graphs[:2])
        with pytest.raises(BusyError, match=r"deepnets1m_eval\.hdf5: is in use by another process"):
            write_official(tmp_path, {"test": graphs})
        with OfficialWriter(official_file(tmp_path, "train")) as other:  # another file
            other.write("train", graphs)
        writer.write("test", graphs[2:])
    for split, expected in (("val", graphs[:2]), ("test", graphs[2:]), ("train", graphs)):
        assert [network.graph for network in read_official(tmp_path, split)] == expected
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("kilobytes", [0, 1, 3, 10, 30])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, kilobytes: int) -> None:
    """A limit on the size of files acts as a full disk: the first write beyond it fails."""
    write_official(tmp_path, {"val": random_graphs(1)})
    before = {path.name: path.read_bytes() for path in tmp_path.glob("deepnets1m_*")}
    graphs = random_graphs(40)

    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10,) * 2)
        write_official(tmp_path, {"test": graphs}, compression=None, keep_others=True)

    outcome = limited(write, seconds=60)
    assert outcome.kind == "OSError"
    assert re.search(r"File too large: '.*deepnets1m_eval\.hdf5'", outcome.text)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("deepnets1m_*")} == before
