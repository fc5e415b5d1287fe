"""Files of `write_onnx` are valid ONNX files, and are read back without loss."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from deepnets import (
    GENOTYPES,
    ConfigError,
    DeepNets1M,
    FormatError,
    Graph,
    MissingDataError,
    MissingDependencyError,
    NetworkConfig,
    build_graph,
    read_onnx,
    trace,
    write_onnx,
)


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "deepnets1m\[onnx\]"'):
        write_onnx(Graph([9, 4], [0, 0], [0, 1], [0]), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


onnx = pytest.importorskip("onnx")


def written(graph: Graph, folder: Path) -> Graph:
    write_onnx(graph, folder / "a.onnx")
    return read_onnx(folder / "a.onnx")


def assert_same(found: Graph, graph: Graph) -> None:
    assert found == graph
    assert found.knows_parameters == graph.knows_parameters
    if graph.knows_parameters:
        assert found.parameters == graph.parameters
        assert found.unused == graph.unused
    assert found.windows.tolist() == graph.windows.tolist()
    assert (found.names is None) == (graph.names is None)
    assert graph.names is None or found.names.tolist() == graph.names.tolist()
    assert (found.index, found.virtual_edges) == (graph.index, graph.virtual_edges)


@pytest.mark.parametrize("split", ["test", "dense", "bnfree"])
def test_networks_of_the_corpus(corpus: Path, tmp_path: Path, split: str) -> None:
    nets = DeepNets1M(corpus, split=split, virtual_edges=7)
    for index in (0, 3):
        found = written(nets[index], tmp_path)
        assert_same(found, nets[index])
        assert found.config == nets[index].config
        assert_same(written(nets[index].pruned(), tmp_path), nets[index].pruned())


def test_traced_graphs(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.fc = nn.Conv2d(3, 8, 3), nn.MaxPool2d(2, stride=2), nn.Linear(8, 5)
            self.scale = nn.Parameter(torch.ones(8, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.pool(self.conv(x) * self.scale).mean((2, 3)))

    graph = trace(Net(), torch.zeros(1, 3, 16, 16))
    assert graph.windows.any()
    assert_same(written(graph, tmp_path), graph)


def test_graphs_without_parameters(tmp_path: Path) -> None:
    graph = Graph([9, 4, 7, 4], [0, 0, 1, 2], [0, 1, 2, 1], [0, 0, 1, 2], index=5)
    assert_same(written(graph, tmp_path), graph)


def test_the_file_is_a_valid_model(tmp_path: Path) -> None:
    graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=4))
    write_onnx(graph, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model)
    assert len(model.graph.node) == graph.num_nodes
    shapes = {
        tensor.name: [axis.dim_value for axis in tensor.type.tensor_type.shape.dim] for tensor in model.graph.input
    }
    assert shapes["stem.0.weight"] == [96, 3, 3, 3]
    assert (tmp_path / "a.onnx").stat().st_size < 200_000


# --- files from elsewhere ---


def changed(folder: Path, change) -> Path:
    write_onnx(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=3)), folder / "a.onnx")
    model = onnx.load(folder / "a.onnx")
    change(model)
    (folder / "b.onnx").write_bytes(model.SerializeToString())
    return folder / "b.onnx"


def set_property(model, key: str, value: str) -> None:
    next(entry for entry in model.metadata_props if entry.key == key).value = value


CHANGES = {
    "unknown type": lambda model: setattr(model.graph.node[3], "op_type", "conv9"),
    "unknown parameter": lambda model: model.graph.node[1].input.__setitem__(1, "nothing"),
    "later source": lambda model: model.graph.node[2].input.__setitem__(0, "node_30"),
    "damaged property": lambda model: set_property(model, "config", "{"),
    "other config": lambda model: set_property(model, "config", '{"genotype": 3}'),
    "unused of a wrong type": lambda model: set_property(model, "unused", '[["a", "b", "weight"]]'),
    "unknown role": lambda model: model.graph.node[1].attribute[-1].strings.__setitem__(0, b"wheel"),
    "no virtual edges": lambda model: model.metadata_props.pop(0),
    "later version": lambda model: setattr(model.opset_import[1], "version", 2),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_files(tmp_path: Path, name: str) -> None:
    path = changed(tmp_path, CHANGES[name])
    with pytest.raises(FormatError, match=r"b\.onnx: "):
        read_onnx(path)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"no\.onnx: no such file"):
        read_onnx(tmp_path / "no.onnx")
    write_onnx(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=3)), tmp_path / "a.onnx")
    whole = (tmp_path / "a.onnx").read_bytes()
    for content in (b"", b"\x00" * 100, b"not a model", whole[: len(whole) // 2]):
        (tmp_path / "c.onnx").write_bytes(content)
        with pytest.raises(FormatError, match=r"c\.onnx: is not an ONNX model"):
            read_onnx(tmp_path / "c.onnx")


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=3))
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '[^']*/absent'$"):
        write_onnx(graph, tmp_path / "absent" / "a.onnx")
    with pytest.raises(ConfigError, match=r"graph: expected a Graph, got NetworkConfig; trace\(model\) makes one"):
        write_onnx(graph.config, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
