"""`GraphBatch` against a reference that is assembled node by node and edge by edge."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets import GENOTYPES, ConfigError, Graph, GraphBatch, NetworkConfig, build_graph
from deepnets.graph.batch import PaddedGraphs
from tests.support.strategies import configs

STORED = ("node_types", "cells", "levels", "graph_index", "offsets", "path_lengths")
TENSORS = (*STORED, "edges", "distances")
VIT = build_graph(NetworkConfig(GENOTYPES["ViT"], 3, C_mult=1, preproc=False))
DARTS = build_graph(NetworkConfig(GENOTYPES["DARTS"], 2))
SINGLE = Graph([9], [0], [0], [])

batches = st.lists(configs(max_cells=4, with_output=True).map(build_graph) | st.just(SINGLE), min_size=1, max_size=4)


def naive(graphs: list[Graph], cutoff: int) -> dict[str, list[Any]]:
    """Return the tensors of a batch, as lists."""
    found: dict[str, list[Any]] = {name: [] for name in TENSORS}
    start = 0
    for g, graph in enumerate(graphs):
        matrix = graph.distances(cutoff)
        found["offsets"].append(start)
        for v in range(graph.num_nodes):
            found["node_types"].append(int(graph.node_types[v]))
            found["cells"].append(int(graph.cells[v]))
            found["levels"].append(int(graph.levels[v]))
            found["graph_index"].append(g)
        for u in range(graph.num_nodes):
            for v in range(graph.num_nodes):
                found["path_lengths"].append(int(matrix[u, v]))
                if matrix[u, v] > 0:
                    found["edges"].append([start + u, start + v])
                    found["distances"].append(int(matrix[u, v]))
        start += graph.num_nodes
    found["offsets"].append(start)
    return found


def contents(batch: GraphBatch) -> dict[str, list[Any]]:
    return {name: getattr(batch, name).tolist() for name in TENSORS}


@settings(max_examples=40, deadline=None)
@given(batches, st.sampled_from((1, 2, 50, 254)))
def test_batch(graphs: list[Graph], cutoff: int) -> None:
    batch = GraphBatch(graphs, cutoff)
    assert contents(batch) == naive(graphs, cutoff)
    assert {name: getattr(batch, name).dtype for name in TENSORS} == {
        **dict.fromkeys(TENSORS, torch.int64),
        "distances": torch.uint8,
        "path_lengths": torch.uint8,
    }
    for graph, lengths in zip(graphs, batch.distance_matrices(), strict=True):
        assert lengths.tolist() == graph.distances(cutoff).tolist()
    assert batch.edges.shape == (len(batch.distances), 2)
    assert len(batch) == len(graphs)
    assert all(kept is graph for kept, graph in zip(batch.graphs, graphs, strict=True))
    assert all(kept is graph for kept, graph in zip(batch, graphs, strict=True))
    assert batch[-1] is graphs[-1]
    assert batch.num_nodes == sum(graph.num_nodes for graph in graphs)
    if cutoff == 1:
        assert len(batch.edges) == sum(graph.num_edges for graph in graphs)


@settings(max_examples=40, deadline=None)
@given(batches, st.sampled_from((1, 50)))
def test_padded(graphs: list[Graph], cutoff: int) -> None:
    padded = GraphBatch(graphs, cutoff).padded()
    most = max(graph.num_nodes for graph in graphs)
    assert isinstance(padded, PaddedGraphs)
    assert padded.node_types.shape == padded.mask.shape == (len(graphs), most)
    assert padded.distances.shape == (len(graphs), most, most)
    assert (padded.node_types.dtype, padded.distances.dtype, padded.mask.dtype) == (
        torch.int64,
        torch.uint8,
        torch.bool,
    )
    for g, graph in enumerate(graphs):
        n = graph.num_nodes
        node_types, distances = np.zeros(most, int), np.zeros((most, most), int)
        node_types[:n] = graph.node_types
        distances[:n, :n] = graph.distances(cutoff)
        assert padded.node_types[g].tolist() == node_types.tolist()
        assert padded.distances[g].tolist() == distances.tolist()
        assert padded.mask[g].tolist() == [v < n for v in range(most)]


@settings(max_examples=20, deadline=None)
@given(batches)
def test_graphs_of_a_batch_are_independent(graphs: list[Graph]) -> None:
    together = GraphBatch(graphs, 50)
    for g, graph in enumerate(graphs):
        alone = GraphBatch([graph], 50)
        mine = together.graph_index == g
        inside = mine[together.edges[:, 0]]
        assert torch.equal(mine[together.edges[:, 1]], inside)  # no edge leads from one graph to another
        for name in ("node_types", "cells", "levels"):
            assert torch.equal(getattr(together, name)[mine], getattr(alone, name))
        assert torch.equal(together.edges[inside] - together.offsets[g], alone.edges)
        assert torch.equal(together.distances[inside], alone.distances)


def test_virtual_edges_are_by_default_those_of_the_first_graph() -> None:
    near = Graph(VIT.node_types, VIT.cells, VIT.in_degrees, VIT.sources, virtual_edges=2)
    assert contents(GraphBatch([near, DARTS])) == naive([near, DARTS], 2)
    assert contents(GraphBatch([DARTS, near])) == naive([DARTS, near], 50)
    assert contents(GraphBatch([near], virtual_edges=1)) == naive([near], 1)
    with pytest.raises(ConfigError, match="cutoff: expected an integer, 1 to 254; got 0"):
        GraphBatch([near], virtual_edges=0)


@settings(max_examples=40, deadline=None)
@given(batches, st.sampled_from((1, 2, 50)), st.sampled_from((1, 2, 50)), st.booleans())
def test_other_virtual_edges(graphs: list[Graph], before: int, after: int, with_edges: bool) -> None:
    batch = GraphBatch(graphs, before)
    if with_edges:
        assert len(batch.edges) == len(batch.distances)
    other = GraphBatch.of(batch, after)
    assert (other is batch) == (before == after)
    assert other.virtual_edges == after
    assert contents(other) == naive(graphs, after)
    assert contents(batch) == naive(graphs, before)
    assert contents(GraphBatch.of(graphs, after)) == naive(graphs, after)


def test_fewer_virtual_edges_need_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = GraphBatch([VIT, DARTS], 50)
    expected = naive([VIT, DARTS], 3)
    monkeypatch.delattr(Graph, "distances")
    assert contents(GraphBatch.of(batch, 3)) == expected


@pytest.mark.parametrize("cutoff", [0, -1, 255])
def test_virtual_edges_out_of_range(cutoff: int) -> None:
    with pytest.raises(ConfigError, match="cutoff: expected an integer, 1 to 254"):
        GraphBatch.of(GraphBatch([VIT]), cutoff)


def test_iterables_of_graphs() -> None:
    assert contents(GraphBatch(graph for graph in (VIT, DARTS))) == contents(GraphBatch((VIT, DARTS)))
    for empty in ([], (), iter(())):
        with pytest.raises(ConfigError, match="a batch needs at least one"):
            GraphBatch(empty)


def test_single_nodes() -> None:
    batch = GraphBatch([SINGLE, SINGLE])
    assert contents(batch) == naive([SINGLE, SINGLE], 50)
    assert batch.edges.shape == (0, 2)
    assert batch.padded().mask.tolist() == [[True], [True]]


def test_tensors_are_copies() -> None:
    batch = GraphBatch([DARTS])
    for tensor in [getattr(batch, name) for name in TENSORS]:
        tensor.fill_(0)
    assert contents(GraphBatch([DARTS])) == naive([DARTS], 50)


def test_moving() -> None:
    batch = GraphBatch([VIT, DARTS])
    for moved in (batch.to("cpu"), batch.to(torch.device("cpu"), non_blocking=True)):
        assert isinstance(moved, GraphBatch)
        assert moved.graphs is batch.graphs
        assert contents(moved) == contents(batch)
    assert batch.to("cpu") is batch
    on_meta = GraphBatch([VIT, DARTS]).to("meta")
    assert {getattr(on_meta, name).device.type for name in STORED} == {"meta"}
    assert not {"edges", "distances"} & vars(on_meta).keys()  # large, so they are neither moved nor made unasked
    assert batch.to("meta").edges.device.type == "meta"  # `contents` has made them
    assert batch.edges.device.type == "cpu"
    assert (len(on_meta), on_meta.num_nodes) == (2, batch.num_nodes)


def test_pinning_reaches_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)  # memory can be pinned only with a GPU
    batch = GraphBatch([VIT, DARTS])
    pinned = batch.pin_memory()
    assert all(torch.equal(getattr(pinned, name), getattr(batch, name) + 1) for name in STORED)
    assert pinned.graphs is batch.graphs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pinning_and_the_gpu() -> None:
    batch = GraphBatch([VIT, DARTS])
    pinned = batch.pin_memory()
    assert all(getattr(pinned, name).is_pinned() for name in STORED)
    there = pinned.to("cuda", non_blocking=True)
    assert {getattr(there, name).device.type for name in TENSORS} == {"cuda"}
    assert contents(there) == contents(batch)
    for mine, theirs in zip(batch.padded(), there.padded(), strict=True):
        assert torch.equal(mine, theirs.cpu())


def test_pickles() -> None:
    batch = GraphBatch([VIT, DARTS])
    again = pickle.loads(pickle.dumps(batch))
    assert contents(again) == contents(batch)
    assert again.graphs == batch.graphs
    assert [graph.parameters for graph in again.graphs] == [graph.parameters for graph in batch.graphs]


def test_representation() -> None:
    batch = GraphBatch([DARTS], virtual_edges=1)
    assert repr(batch) == f"GraphBatch(1 graphs, {DARTS.num_nodes} nodes, {DARTS.num_edges} edges)"
