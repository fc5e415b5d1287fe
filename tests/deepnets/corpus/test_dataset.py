"""`DeepNets1M`: all splits, all kinds of indices, and equal results in all processes."""

from __future__ import annotations

import itertools
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from deepnets import (
    GENOTYPES,
    PRIMITIVES,
    ConfigError,
    DeepNets1M,
    DeepNetsError,
    Graph,
    MetaBatchSampler,
    NetworkConfig,
    build_graph,
)
from deepnets.corpus import NETWORK_SPLITS, CorpusFile, corpus_path, dataset
from deepnets.graph import count_parameters

ROOT = Path(__file__).parents[3]
SIZES = {"train": 300, "search": 100, "val": 500, "test": 500, "wide": 100, "deep": 100, "dense": 100, "bnfree": 100}
SIZES["predefined"] = 2


def some(nets: DeepNets1M, count: int = 25) -> list[int]:
    return sorted(set(np.linspace(0, len(nets) - 1, count, dtype=int).tolist()))


# --- graphs ---


def test_there_are_nine_splits() -> None:
    assert set(NETWORK_SPLITS) == set(SIZES)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("image_size", "num_classes"), [(32, 10), (224, 1000)])
@pytest.mark.parametrize("split", NETWORK_SPLITS)
def test_every_graph_is_that_of_its_config(corpus: Path, split: str, image_size: int, num_classes: int) -> None:
    nets = DeepNets1M(corpus, split, image_size=image_size, num_classes=num_classes, virtual_edges=7)
    assert len(nets) == SIZES[split]
    for i in some(nets):
        if (split, i) == ("predefined", 0):
            continue  # ResNet-50 has no config
        graph = nets[i]
        assert isinstance(graph, Graph)
        assert isinstance(graph.config, NetworkConfig)
        expected = build_graph(graph.config, num_classes, image_size)
        assert graph == expected
        assert np.array_equal(graph.names, expected.names)
        assert (graph.parameters, graph.unused) == (expected.parameters, expected.unused)
        assert (graph.index, graph.virtual_edges) == (i, 7)
        assert graph.parameters[-1][0].shape == (num_classes,)
        assert nets.config(i) == graph.config


@pytest.mark.sampled(3)
@pytest.mark.parametrize("split", ["train", "val", "predefined"])
def test_indexing(corpus: Path, split: str) -> None:
    nets = DeepNets1M(corpus, split)
    n = len(nets)
    for i in (0, n - 1, n // 2):
        for same in (i, i - n, np.int64(i), np.uint16(i), (i, 0), (i - n, 0), (np.int32(i), np.int64(0))):
            graph = nets[same]
            assert graph == nets[i]
            assert graph.parameters == nets[i].parameters
            assert graph.index == i
            assert type(graph.index) is int
    for outside in (n, -n - 1, 10**12, -(10**12), (n, 0), 2**70):
        number = outside[0] if isinstance(outside, tuple) else outside
        with pytest.raises(IndexError, match=f"split {split} has {n} networks, there is no {number}"):
            nets[outside]
    with pytest.raises(IndexError, match="draws count from 0, got -1"):
        nets[0, -1]
    for junk in (1.0, "1", None, [0], (0, 1, 2), (0,), (), (0, None), (None, 0), {}, np.arange(2)):
        with pytest.raises(
            TypeError, match=r"expected an integer, a slice, or a pair .*; for several networks write \[nets\["
        ):
            nets[junk]


@pytest.mark.parametrize("part", [slice(2), slice(3, 20, 5), slice(-2, None), slice(None, None, -4), slice(9, 3)])
def test_slices_are_lists_of_graphs(corpus: Path, part: slice) -> None:
    nets = DeepNets1M(corpus, "deep", num_nets=12, virtual_edges=3)
    graphs = nets[part]
    assert isinstance(graphs, list)
    assert [graph.index for graph in graphs] == list(range(12))[part]
    assert all(graph == nets[graph.index] and graph.virtual_edges == 3 for graph in graphs)


def test_configs_need_no_graphs(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = {split: DeepNets1M(corpus, split) for split in ("train", "wide", "predefined")}
    expected = {split: [nets[split][i].config for i in (1, -1)] for split in nets}
    drawn = nets["train"][4, 3].config
    for name in ("wiring", "wiring_blocks"):
        monkeypatch.setattr(CorpusFile, name, None)
    for name in ("decode_wiring", "predefined_graph", "Graph"):
        monkeypatch.setattr(dataset, name, None)
    assert {split: [nets[split].config(np.int64(i)) for i in (1, -1)] for split in nets} == expected
    assert nets["train"].config((4, 3)) == drawn
    assert nets["wide"].network(1).config == expected["wide"][0]


def test_parameters_come_from_the_record(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding validates the record once; the config is not encoded again."""
    graph = DeepNets1M(corpus, "wide")[3]
    expected = build_graph(graph.config).parameters
    monkeypatch.setattr("deepnets.graph.build.encode", None)
    monkeypatch.setattr("deepnets.corpus.stored_network.decode", None)
    assert graph.parameters == expected
    assert pickle.loads(pickle.dumps(graph)).parameters == expected


def test_numpy_integers_are_integers(corpus: Path) -> None:
    numbers = {"virtual_edges": 5, "num_classes": 7, "image_size": 32, "num_nets": 4, "seed": 3}
    nets = DeepNets1M(corpus, **{name: np.int64(value) for name, value in numbers.items()})
    same = DeepNets1M(corpus, **numbers)
    assert len(nets) == 4
    assert nets[np.uint8(1), np.int16(2)].parameters == same[1, 2].parameters
    sampler = MetaBatchSampler(nets, np.int64(2), max_nodes=np.int64(5000), seed=np.int64(1), world_size=np.int64(1))
    assert len(next(iter(sampler))) == 2
    assert nets[0].distances(np.int32(4)).max() <= 4


def test_fewer_networks_than_a_step_of_all_processes(corpus: Path) -> None:
    nets = DeepNets1M(corpus, num_nets=5)
    assert len(next(iter(MetaBatchSampler(nets, 2, rank=1, world_size=2)))) == 2
    with pytest.raises(ConfigError, match="a step of 2 processes takes 6 networks, more than the 5 that there are"):
        MetaBatchSampler(nets, 3, rank=1, world_size=2)


def test_iteration(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "deep", num_nets=12)
    assert [graph.index for graph in nets] == list(range(12))
    assert all(graph == nets[i] for i, graph in enumerate(nets))
    assert list(zip(nets, nets, strict=True))
    assert next(iter(reversed(nets))).index == 11


def test_a_smaller_number_of_networks_is_the_first(corpus: Path) -> None:
    whole = DeepNets1M(corpus, "val")
    for number in (1, 7, np.int64(7), 500, 10**9):
        part = DeepNets1M(corpus, "val", num_nets=number)
        assert len(part) == min(number, 500) == len(part.table) == len(part.num_nodes)
        assert part[-1] == whole[len(part) - 1]
        with pytest.raises(IndexError):
            part[len(part)]
    assert len(DeepNets1M(corpus, "predefined", num_nets=5)) == 2


def test_draws_differ_in_width_alone(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "train", wider_nets=True)
    widths = set()
    for i in range(20):
        for d in range(4):
            graph, first = nets[i, d], nets[i]
            assert graph == first
            config = graph.config
            widths.add((config.C, config.fc_dim))
            assert config == first.config.replace(C=config.C, fc_dim=config.fc_dim)
            assert graph.parameters == build_graph(config).parameters
    assert len(widths) > 10
    val = DeepNets1M(corpus, "val")
    assert val[3, 2].config == val[3].config  # evaluation splits have fixed widths


def test_two_open_datasets_do_not_disturb_each_other(corpus: Path) -> None:
    one, other = DeepNets1M(corpus, "val"), DeepNets1M(str(corpus), split="val", virtual_edges=1)
    assert one[4] == other[4]
    one.close()
    assert other[4].virtual_edges == 1
    with pytest.raises(DeepNetsError, match="was closed"):
        one[4]
    one.close()
    DeepNets1M(corpus, "predefined").close()


def test_representation(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "val")
    assert repr(nets) == "DeepNets1M(split='val', 500 networks)"
    assert (nets.split, nets.image_size, nets.num_classes, nets.virtual_edges) == ("val", 32, 10, 50)


# --- the table ---


@pytest.mark.sampled(5)
@pytest.mark.parametrize("image_size", [32, 224])
@pytest.mark.parametrize("split", [split for split in NETWORK_SPLITS if split != "predefined"])
def test_table(corpus: Path, split: str, image_size: int) -> None:
    nets = DeepNets1M(corpus, split, image_size=image_size)
    table = nets.table
    assert isinstance(table, pd.DataFrame)
    assert list(table.index) == list(range(len(nets)))
    assert list(table.columns) == [
        *("n_cells", "ks", "stem_type", "stem_pool", "norm", "preproc", "C_mult", "glob_avg", "fc_layers"),
        *("C", "fc_dim", "steps", "num_nodes", "num_edges", "num_params", "num_params_imagenet"),
        *("fingerprint", "candidate", *PRIMITIVES),
    ]
    assert table["norm"].dtype == pd.CategoricalDtype(["None", "bnorm", "bn", "bn-track"])
    assert {str(table[name].dtype) for name in ("stem_pool", "preproc", "glob_avg")} == {"bool"}
    plain = table.columns.difference(["norm", "stem_pool", "preproc", "glob_avg"])
    assert {np.dtype(table[name].dtype).kind for name in plain} == {"u"}
    assert table["fingerprint"].is_unique
    assert (table["num_nodes"] == nets.num_nodes).all()
    assert nets.num_nodes.dtype == np.int64
    for i in some(nets):
        graph, row = nets[i], table.loc[i]
        config = graph.config.replace(C=32, fc_dim=256) if split == "train" else graph.config
        for name, value in config.to_dict().items():
            if name not in ("genotype", "imagenet_stride"):
                assert row[name] == ("None" if value is None else value), name
        ops = [op for op, _ in config.genotype.normal + config.genotype.reduce]
        assert [row[primitive] for primitive in PRIMITIVES] == [ops.count(primitive) for primitive in PRIMITIVES]
        assert (row["steps"], row["num_nodes"], row["num_edges"]) == (
            config.genotype.steps,
            graph.num_nodes,
            graph.num_edges,
        )
        for name, size in (("num_params", 32), ("num_params_imagenet", 224)):
            as_loaded = DeepNets1M(corpus, split, image_size=size)[i].config if split == "wide" else config
            assert row[name] == count_parameters(as_loaded, image_size=size)


def test_tables_are_copies(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "val")
    table, num_nodes = nets.table, nets.num_nodes
    table.loc[0, "n_cells"] = 99
    num_nodes[0] = 99
    assert nets.table["n_cells"][0] == nets.config(0).n_cells < 99
    assert nets.num_nodes[0] == nets[0].num_nodes


# --- predefined ---


def test_predefined() -> None:
    nets = DeepNets1M("no/such/folder", "predefined")
    resnet, vit = nets
    assert len(nets) == 2
    assert vit.config.genotype == GENOTYPES["ViT"]
    assert [(graph.num_nodes, graph.num_edges) for graph in nets] == [(126, 141), (129, 148)]
    # Knyazev et al. (NeurIPS 2021), the authors' notebook
    assert resnet.statistics().average_degree == 2.238095238095238
    assert resnet.statistics().average_path == 11.193269841269842
    with pytest.raises(ConfigError, match="no config"):
        nets.config(0)
    assert nets.num_nodes.tolist() == [126, 129]
    table = nets.table
    assert table["num_params"].tolist() == [23_520_842, 1_012_234]
    assert table["num_nodes"].tolist() == [126, 129]
    assert table.loc[1, "n_cells"] == 12
    assert table.loc[0].drop(["num_nodes", "num_edges", "num_params", "num_params_imagenet"]).isna().all()


@pytest.mark.parametrize(
    ("image_size", "num_classes", "counts"),
    [
        (32, 10, [23_520_842, 1_012_234]),
        (224, 1000, [25_557_032, 1_244_392]),
    ],
)
def test_predefined_networks_fit_their_graphs(image_size: int, num_classes: int, counts: list[int]) -> None:
    nets = DeepNets1M(split="predefined", num_classes=num_classes, image_size=image_size)
    for graph, network, count in zip(nets, map(nets.network, range(2)), counts):
        shapes = {slot.name: slot.shape for slots in graph.parameters for slot in slots}
        assert shapes == {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
        assert sum(parameter.numel() for parameter in network.parameters()) == count
        assert network.eval()(torch.zeros(1, 3, image_size, image_size)).shape == (1, num_classes)


def test_network_of_a_split(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "val")
    network = nets.network(2)
    assert network.config == nets[2].config


# --- processes ---


def test_graphs_are_pickled_without_their_dataset(corpus: Path, tmp_path: Path) -> None:
    """A pickled graph must be small, and unpickling it must not open the file."""
    shutil.copy(corpus_path(corpus, "train"), tmp_path)
    nets = DeepNets1M(tmp_path, seed=2)
    graphs = [nets[i, 1] for i in range(8)]
    sent = pickle.dumps(graphs)
    assert len(sent) < 8 * 6000
    corpus_path(tmp_path, "train").unlink()
    for graph, again in zip(graphs, pickle.loads(sent), strict=True):
        assert again == graph
        assert again.config == graph.config
        assert again.parameters == graph.parameters
        assert again.index == graph.index


def test_a_dataset_can_be_pickled(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "train", num_nets=50, wider_nets=True, seed=3, virtual_edges=9)
    again = pickle.loads(pickle.dumps(nets))
    assert len(again) == 50
    assert all(again[i, 1].config == nets[i, 1].config for i in range(50))
    assert again[0].virtual_edges == 9
    assert again.table.equals(nets.table)


def content(batch: Any) -> list[Any]:
    tensors = (batch.node_types, batch.cells, batch.levels, batch.graph_index, batch.offsets, batch.edges)
    return [
        *(tensor.tolist() for tensor in (*tensors, batch.distances)),
        *((graph.index, graph.config, graph.parameters) for graph in batch.graphs),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_load_the_same_batches(corpus: Path, context: str) -> None:
    for split in ("train", "val") if context == "fork" else ("train",):
        nets = DeepNets1M(corpus, split, num_nets=60)
        nets[0].parameters  # noqa: B018 - the file is open when workers are started
        alone = [content(batch) for batch in itertools.islice(nets.loader(4, seed=1), 6)]
        loader = nets.loader(4, seed=1, num_workers=2, multiprocessing_context=context)
        assert [content(batch) for batch in itertools.islice(loader, 6)] == alone
        nets[1].parameters  # noqa: B018 - and can still be read here


def test_loaders(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "val", num_nets=5, virtual_edges=2)
    batches = list(nets.loader())  # one pass in order, one network per batch
    assert [[graph.index for graph in batch.graphs] for batch in batches] == [[i] for i in range(5)]
    groups = [[graph.index for graph in batch.graphs] for batch in nets.loader(meta_batch_size=2)]
    assert groups == [[0, 1], [2, 3], [4]]
    with pytest.raises(ConfigError, match="meta_batch_size: expected an integer"):
        nets.loader(0)
    drawn = [place for place, _ in next(iter(MetaBatchSampler(nets, 3, seed=5)))]
    (first,) = itertools.islice(nets.loader(sampler=MetaBatchSampler(nets, 3, seed=5)), 1)
    assert [graph.index for graph in first.graphs] == drawn
    assert max(int(batch.distances.max()) for batch in batches) == 2
    train = DeepNets1M(corpus, "train")
    groups = list(itertools.islice(MetaBatchSampler(train, 3, seed=7), 200))
    batches = list(itertools.islice(train.loader(3, seed=7), 200))
    assert [[graph.index for graph in batch.graphs] for batch in batches] == [[i for i, _ in group] for group in groups]
    last = groups[-1]
    assert last[0][1] > 0  # a later pass, with different widths
    assert [graph.config for graph in batches[-1].graphs] == [train[place].config for place in last]


@pytest.mark.slow
def test_no_torch_until_it_is_needed(corpus: Path) -> None:
    program = """
import sys
import deepnets, generator
from deepnets import DeepNets1M, MetaBatchSampler, build_graph
import generator.__main__, generator.shards, generator.workers
nets = DeepNets1M(sys.argv[1], "train", wider_nets=True)
graph = nets[0, 1]
graph.config, graph.parameters, graph.distances(), graph.statistics(), graph.pruned(), nets.table, DeepNets1M.loader
next(iter(MetaBatchSampler(nets)))
build_graph(graph.config), DeepNets1M(split="predefined")[1]
sys.exit("torch" in sys.modules or any(name.startswith("torch.") for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program, str(corpus)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
