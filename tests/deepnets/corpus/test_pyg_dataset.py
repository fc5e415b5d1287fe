"""Splits as datasets of PyTorch Geometric."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from deepnets import ConfigError, DeepNets1M, MissingDependencyError, Network, count_flops
from deepnets.corpus import CorpusFile

pytest.importorskip("torch_geometric")

from torch_geometric.loader import DataLoader


@pytest.fixture(scope="module")
def nets(corpus: Path) -> DeepNets1M:
    return DeepNets1M(corpus, split="val", num_nets=12)


def test_graphs_are_those_of_the_split(nets: DeepNets1M) -> None:
    dataset = nets.to_pyg(virtual_edges=5, shapes=True)
    assert len(dataset) == 12
    for index in (0, 7):
        expected = nets[index].to_pyg(5, shapes=True)
        assert dataset[index].index == index
        for name in ("x", "cell", "edge_index", "edge_attr", "shape", "num_params"):
            assert torch.equal(dataset[index][name], expected[name]), name
    assert "y" not in dataset[0]


def test_only_graphs_that_are_indexed_are_read(nets: DeepNets1M, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    wiring = CorpusFile.wiring
    monkeypatch.setattr(CorpusFile, "wiring", lambda file, start, stop: read.append(start) or wiring(file, start, stop))
    dataset = nets.to_pyg(targets=("num_nodes", "num_params"))
    chosen = dataset[2:8][torch.tensor([False, True, False, False, True, False])]
    assert len(chosen) == 2
    assert not read
    assert [data.index for data in chosen] == [3, 6]
    assert read == [3, 6]


def test_batches(nets: DeepNets1M) -> None:
    table = pd.DataFrame({"top1": np.arange(12.0)})
    dataset = nets.to_pyg(targets=("top1", "num_nodes"), table=table)
    batches = list(DataLoader(dataset, batch_size=5))
    assert [batch.y.shape for batch in batches] == [(5, 2), (5, 2), (2, 2)]
    assert torch.cat([batch.y for batch in batches]).tolist() == [
        [float(index), float(nodes)] for index, nodes in enumerate(nets.num_nodes)
    ]
    assert torch.equal(dataset.y, torch.cat([batch.y for batch in batches]))
    positions = torch.cat([batch.index for batch in batches])
    assert positions.tolist() == list(range(12)), "positions are no indices of nodes, which batches would shift"
    assert int(batches[0].edge_index.max()) == int(nets.num_nodes[:5].sum()) - 1


def test_parameters_are_those_of_the_loaded_network(corpus: Path) -> None:
    train = DeepNets1M(corpus, split="train", num_classes=100, num_nets=3)
    found = train.to_pyg(targets="num_params").targets_of()["num_params"]
    for index in range(3):
        model = Network(train.config(index), 100)
        assert found[index] == sum(parameter.numel() for parameter in model.parameters())


def test_operations_are_those_of_the_loaded_network(nets: DeepNets1M) -> None:
    dataset = nets.to_pyg(targets="flops")
    with torch.device("meta"):
        model = nets.network(4).eval()
    assert dataset.targets_of([4])["flops"].tolist() == [count_flops(model)]


def test_tables_of_accuracies(nets: DeepNets1M) -> None:
    table = pd.DataFrame({"index": [9, 2, 40], "top1": [50.0, 61.5, 7.0], "name": ["a", "b", "c"]})
    dataset = nets.to_pyg(targets="top1", table=table)
    values = dataset.targets_of()["top1"]
    assert values[[9, 2]].tolist() == [50.0, 61.5]
    assert values.isna().sum() == 10
    assert dataset[2].y.tolist() == [[61.5]]
    assert dataset[0].y.isnan().all()
    own = nets.to_pyg(targets="num_params", table=pd.DataFrame({"num_params": [1.0]}, index=[3]))
    assert own.targets_of([3, 4])["num_params"].isna().tolist() == [False, True]
    series = table.set_index("index")["top1"]
    pd.testing.assert_frame_equal(nets.to_pyg(targets="top1", table=series).targets_of(), dataset.targets_of())


def test_datasets_can_be_sent_to_workers(nets: DeepNets1M) -> None:
    dataset = pickle.loads(pickle.dumps(nets.to_pyg(targets="num_nodes")[3:5]))
    assert dataset[1].y.tolist() == [[float(nets.num_nodes[4])]]


def test_transforms(nets: DeepNets1M) -> None:
    def mark(data):
        data.marked = True
        return data

    assert nets.to_pyg(transform=mark)[0].marked


WRONG = [
    ({"targets": "accuracy"}, "targets: unknown 'accuracy'; expected some of num_params, flops"),
    ({"targets": "norm"}, "targets: norm is not a number"),
    ({"targets": "top1", "table": pd.DataFrame({"top1": ["a"]})}, "targets: top1 is not a number"),
    ({"targets": "top1", "table": {"top1": [1.0]}}, "table: expected a pandas.DataFrame, got dict"),
    ({"targets": "top1", "table": pd.Series([1.0])}, "targets: unknown 'top1'; expected some of 0, num_params"),
    ({"virtual_edges": 0}, "virtual_edges: expected an integer, 1 to 254; got 0"),
    ({"table": pd.DataFrame({"top1": [1.0, 2.0]}, index=[3, 3])}, "several rows for network 3"),
    ({"table": pd.DataFrame({"top1": [1.0]}, index=["x"])}, "expected the positions of networks"),
    ({"table": pd.DataFrame({"top1": [1.0]}, index=[-1])}, "count from 0, got -1"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_errors_come_before_anything_is_read(nets: DeepNets1M, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        nets.to_pyg(**arguments)


def test_without_pytorch_geometric(nets: DeepNets1M, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "deepnets.corpus.pyg_dataset", raising=False)
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "deepnets1m\[pyg\]"'):
        nets.to_pyg()
