"""`Graph` against networkx: distances, levels, statistics, conversions; and errors of its constructor."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets import (
    GENOTYPES,
    NODE_TYPES,
    ConfigError,
    Genotype,
    Graph,
    IntegrityError,
    NetworkConfig,
    build_graph,
)
from deepnets.graph import MAX_DISTANCE, ParameterSlot, Slots
from tests.deepnets.graph.digraphs import SOUND, chain, dags, graph_of
from tests.support.strategies import configs

DARTS = NetworkConfig(GENOTYPES["DARTS"], 5)
DEAD = NetworkConfig(
    Genotype([("conv_3x3", 0), ("skip_connect", 1)] * 2, [3], [("conv_1x1", 0), ("skip_connect", 1)] * 2, [3]), 4
)


def shortest_paths(digraph: nx.DiGraph, cutoff: int) -> np.ndarray:
    matrix = np.zeros((len(digraph), len(digraph)), np.uint8)
    for source, lengths in nx.all_pairs_shortest_path_length(digraph, cutoff):
        for target, length in lengths.items():
            matrix[source, target] = length
    return matrix


# --- structure ---


@settings(max_examples=150, deadline=None)
@given(dags(), st.sampled_from((1, 2, 3, 5, 50, MAX_DISTANCE)))
def test_any_graph_equals_networkx(digraph: nx.DiGraph, cutoff: int) -> None:
    graph = graph_of(digraph)
    assert_equals_networkx(graph, digraph, cutoff)


@settings(max_examples=60, deadline=None)
@given(configs(max_steps=6, max_cells=10, with_output=True), st.sampled_from((1, 2, 7, 50, MAX_DISTANCE)))
def test_graphs_of_networks_equal_networkx(config: NetworkConfig, cutoff: int) -> None:
    graph = build_graph(config)
    digraph = nx.DiGraph()
    digraph.add_nodes_from(range(graph.num_nodes))
    digraph.add_edges_from(graph.edges.tolist())
    assert_equals_networkx(graph, digraph, cutoff)


def assert_equals_networkx(graph: Graph, digraph: nx.DiGraph, cutoff: int) -> None:
    n = len(digraph)
    output = n - 1
    assert (graph.num_nodes, graph.num_edges) == (n, digraph.number_of_edges())
    assert graph.edges.tolist() == [[u, v] for v in range(n) for u in sorted(digraph.predecessors(v))]
    assert graph.edges.shape == (graph.num_edges, 2)
    assert graph.in_degrees.tolist() == [digraph.in_degree(v) for v in range(n)]
    assert graph.live.dtype == np.bool_
    assert set(np.flatnonzero(graph.live)) == nx.ancestors(digraph, output) | {output}
    levels = {v: level for level, nodes in enumerate(nx.topological_generations(digraph)) for v in nodes}
    assert graph.levels.tolist() == [levels[v] for v in range(n)]
    distances = graph.distances(cutoff)
    assert distances.dtype == np.uint8
    assert distances.shape == (n, n)
    assert np.array_equal(distances, shortest_paths(digraph, cutoff))


def test_the_default_cutoff_is_that_of_the_literature() -> None:
    graph = graph_of(chain(60))
    assert np.array_equal(graph.distances(), graph.distances(50))
    assert graph.distances().max() == 50


@pytest.mark.parametrize("cutoff", [1, 2, 127, 128, 253, 254])
def test_paths_longer_than_the_cutoff_are_none(cutoff: int) -> None:
    """Also at the limits of the integer type, where lengths must not overflow."""
    digraph = chain(300)
    digraph.add_edge(0, 150)
    distances = graph_of(digraph).distances(cutoff)
    assert np.array_equal(distances, shortest_paths(digraph, cutoff))
    assert distances.max() == cutoff
    assert distances[1, 1 + cutoff] == cutoff
    assert distances[1, 2 + cutoff] == 0
    assert distances[150 - min(cutoff, 149), 150] == min(cutoff, 149)


@pytest.mark.parametrize("kind", ["graphml", "gexf", "gml"])
def test_plain_attributes_can_be_written(tmp_path: Path, kind: str) -> None:
    graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=16))
    plain, full = graph.to_networkx(3, plain=True), graph.to_networkx(3)
    getattr(nx, f"write_{kind}")(plain, tmp_path / "graph")
    read = getattr(nx, f"read_{kind}")(tmp_path / "graph", **({"label": "id"} if kind == "gml" else {"node_type": int}))
    assert sorted(read.edges) == sorted(full.edges)
    for node, given_ in full.nodes(data=True):
        text = read.nodes[node]["parameters"]
        assert all(f"{slot.name} ({'x'.join(map(str, slot.shape))})" in text for slot in given_["parameters"])
        assert (read.nodes[node]["type"], bool(read.nodes[node]["live"])) == (given_["type"], given_["live"])


@pytest.mark.parametrize("cutoff", [0, -1, 255, 2**32, 1.5, "50", None, True])
def test_invalid_cutoffs(cutoff: Any) -> None:
    graph = graph_of(chain(3))
    for call in (graph.distances, graph.to_networkx):
        with pytest.raises(ConfigError, match="cutoff: expected an integer, 1 to 254; got"):
            call(cutoff)


# --- statistics ---


def assert_statistics(graph: Graph, digraph: nx.DiGraph) -> None:
    found = graph.statistics()
    n = len(digraph)
    assert (found.num_nodes, found.num_edges, found.dead_included) == (n, digraph.number_of_edges(), True)
    assert found.num_dead == n - len(nx.ancestors(digraph, n - 1)) - 1
    degrees = [degree for _, degree in digraph.to_undirected().degree()]
    assert found.average_degree == pytest.approx(np.mean(degrees), abs=1e-12)
    if nx.is_weakly_connected(digraph):
        assert found.average_path == pytest.approx(nx.average_shortest_path_length(digraph.to_undirected()), abs=1e-12)
    else:
        assert found.average_path == np.inf
    assert found.longest_path == nx.dag_longest_path_length(digraph)


@settings(max_examples=100, deadline=None)
@given(dags(12))
def test_statistics_equal_networkx(digraph: nx.DiGraph) -> None:
    assert_statistics(graph_of(digraph), digraph)


@settings(max_examples=20, deadline=None)
@given(configs(max_cells=4, with_output=True))
def test_statistics_of_networks_equal_networkx(config: NetworkConfig) -> None:
    graph = build_graph(config)
    digraph = graph.to_networkx()
    assert_statistics(graph, digraph)
    alive = nx.convert_node_labels_to_integers(digraph.subgraph(np.flatnonzero(graph.live).tolist()), ordering="sorted")
    without = graph.statistics(dead=False)
    assert not without.dead_included
    assert (without.num_nodes, without.num_edges, without.num_dead) == (len(alive), alive.number_of_edges(), 0)
    assert without.longest_path == nx.dag_longest_path_length(alive)


# --- values ---


def everything(graph: Graph) -> list[Any]:
    """Return all arrays of a graph, including those that are computed on access."""
    return [
        *(graph.node_types, graph.cells, graph.sources, graph.in_degrees, graph.names),
        *(graph.edges, graph.live, graph.levels, graph.distances(3), graph.distances()),
    ]


def test_a_graph_keeps_its_own_arrays_and_never_changes_them() -> None:
    given_ = {name: np.array(values) for name, values in SOUND.items()}
    given_["node_types"] = given_["node_types"].astype(np.uint8)
    names = np.array([9, 0, 1, 2], np.uint16)
    graph = Graph(**given_, names=names)
    before = [array.copy() for array in everything(graph)]
    for array in (*given_.values(), names):
        array[:] = 1
    graph.pruned()
    graph.statistics()
    graph.to_networkx(50)
    pickle.dumps(graph)
    for old, new in zip(before, everything(graph), strict=True):
        assert np.array_equal(old, new)
    assert graph.node_types.dtype == graph.cells.dtype == np.uint8
    assert (graph.sources.dtype, graph.in_degrees.dtype, graph.edges.dtype) == (np.int32,) * 3


@settings(max_examples=60, deadline=None)
@given(dags(6), dags(6))
def test_equality(one: nx.DiGraph, other: nx.DiGraph) -> None:
    same = len(one) == len(other) and set(one.edges) == set(other.edges)
    assert (graph_of(one) == graph_of(other)) is same
    assert (graph_of(one) != graph_of(other)) is not same


def test_equality_is_about_nodes_cells_and_edges() -> None:
    graph = Graph(**SOUND)
    assert graph == Graph(**SOUND, names=[9, 0, 1, 2], index=3, virtual_edges=1)
    assert graph != Graph(**{**SOUND, "node_types": [9, 4, 8, 4]})
    assert graph != Graph(**{**SOUND, "cells": [0, 0, 1, 2]})
    assert graph != Graph(**{**SOUND, "sources": [0, 0, 1, 1]})
    assert graph != SOUND
    with pytest.raises(TypeError, match="unhashable"):
        hash(graph)


def test_copies_and_pickles() -> None:
    graph = build_graph(DARTS, 7, 224)
    fresh = pickle.dumps(graph)
    everything(graph)
    for again in (pickle.loads(fresh), pickle.loads(pickle.dumps(graph)), copy.copy(graph), copy.deepcopy(graph)):
        assert again == graph
        assert again.config == DARTS
        assert again.parameters == graph.parameters
        assert (again.index, again.virtual_edges) == (None, 50)
        for old, new in zip(everything(graph), everything(again), strict=True):
            assert np.array_equal(old, new)
    pruned = build_graph(DEAD).pruned()
    assert pickle.loads(pickle.dumps(pruned)).unused == pruned.unused
    assert pruned.unused


def test_without_config_or_parameters() -> None:
    graph = Graph(**SOUND)
    assert repr(graph) == "Graph(4 nodes, 4 edges)"
    with pytest.raises(ConfigError, match="this graph has no config"):
        _ = graph.config
    with pytest.raises(ConfigError, match="does not know the parameters"):
        _ = graph.parameters
    with pytest.raises(ConfigError, match="does not know the parameters"):
        _ = graph.unused


def test_config_and_parameters_are_made_once_and_only_when_asked_for() -> None:
    calls = []

    def config() -> NetworkConfig:
        calls.append("config")
        return DARTS

    def slots() -> Slots:
        calls.append("slots")
        return Slots(((), (weight,), (), ()), (), np.array(SOUND["node_types"], np.uint8))

    weight = ParameterSlot("stem.0.weight", (8, 3, 5, 5), "weight")
    graph = Graph(**SOUND, config=config, slots=slots)
    assert calls == []
    for _ in range(2):
        assert graph.config is DARTS
        assert graph.parameters[1] == (weight,)
        assert graph.unused == ()
    assert calls == ["config", "slots"]
    assert weight.numel == 600


def test_parameters_that_do_not_fit() -> None:
    slots = Slots(((),) * 4, (), np.array([9, 4, 8, 4], np.uint8))
    with pytest.raises(IntegrityError, match="graph 5: its nodes are not those of its config"):
        _ = Graph(**SOUND, slots=lambda: slots, index=5).parameters


# --- pruning ---


@settings(max_examples=100, deadline=None)
@given(dags(12))
def test_pruning_any_graph(digraph: nx.DiGraph) -> None:
    n = len(digraph)
    names = list(range(100, 100 + n))
    slots = Slots(tuple((ParameterSlot(str(v), (v,), "weight"),) for v in range(n)), (), graph_of(digraph).node_types)
    graph = graph_of(digraph, names=names, slots=lambda: slots, index=4, virtual_edges=9, config=DARTS)
    pruned = graph.pruned()
    alive = sorted(nx.ancestors(digraph, n - 1) | {n - 1})
    number = {v: i for i, v in enumerate(alive)}
    assert pruned.num_nodes == len(alive)
    assert pruned.live.all()
    assert set(map(tuple, pruned.edges.tolist())) == {(number[u], number[v]) for u, v in digraph.edges if v in number}
    assert pruned.node_types.tolist() == graph.node_types[alive].tolist()
    assert pruned.cells.tolist() == graph.cells[alive].tolist()
    assert pruned.names is not None
    assert pruned.names.tolist() == [100 + v for v in alive]
    assert [node[0].name for node in pruned.parameters] == [str(v) for v in alive]
    assert {slot.name for slot in pruned.unused} == {str(v) for v in range(n)} - {str(v) for v in alive}
    assert (pruned.index, pruned.virtual_edges, pruned.config) == (4, 9, DARTS)
    assert (pruned is graph) == (len(alive) == n)
    assert pruned.pruned() is pruned


# --- conversion ---


@settings(max_examples=40, deadline=None)
@given(dags(10), st.sampled_from((1, 2, 50)))
def test_networkx(digraph: nx.DiGraph, virtual_edges: int) -> None:
    graph = graph_of(digraph)
    converted = graph.to_networkx(virtual_edges)
    assert dict(converted.nodes(data=True)) == {
        v: {
            "type": NODE_TYPES[v % len(NODE_TYPES)],
            "cell": v // 3,
            "live": v == len(digraph) - 1 or nx.has_path(digraph, v, len(digraph) - 1),
            "parameters": (),
        }
        for v in digraph
    }
    expected = shortest_paths(digraph, virtual_edges)
    assert {(u, v): data for u, v, data in converted.edges(data=True)} == {
        (u, v): {"distance": expected[u, v]} for u, v in np.argwhere(expected).tolist()
    }


def test_networkx_of_a_network() -> None:
    graph = build_graph(DARTS)
    converted = graph.to_networkx()
    assert list(converted) == list(range(graph.num_nodes))
    assert [converted.nodes[v]["parameters"] for v in converted] == list(graph.parameters)
    assert sorted(converted.edges) == sorted(map(tuple, graph.edges.tolist()))


@pytest.mark.parametrize("virtual_edges", [1, 50])
def test_pytorch_geometric(virtual_edges: int) -> None:
    pytest.importorskip("torch_geometric")
    import torch
    from torch_geometric.utils import to_dense_adj, to_networkx

    graph = build_graph(DARTS)
    distances = graph.distances(virtual_edges)
    data = graph.to_pyg(virtual_edges)
    n, edges = graph.num_nodes, np.count_nonzero(distances)
    assert data.validate()
    assert (data.num_nodes, data.num_edges) == (n, edges)
    assert (data.x.shape, data.cell.shape, data.edge_index.shape, data.edge_attr.shape) == (
        (n,),
        (n,),
        (2, edges),
        (edges,),
    )
    assert {data.x.dtype, data.cell.dtype, data.edge_index.dtype, data.edge_attr.dtype} == {torch.int64}
    assert data.x.tolist() == graph.node_types.tolist()
    assert data.cell.tolist() == graph.cells.tolist()
    assert np.array_equal(to_dense_adj(data.edge_index, edge_attr=data.edge_attr, max_num_nodes=n)[0], distances)
    assert set(to_networkx(data).edges) == set(graph.to_networkx(virtual_edges).edges)
    alone = graph_of(chain(1)).to_pyg()
    assert (alone.num_nodes, alone.num_edges) == (1, 0)
    assert alone.edge_index.shape == (2, 0)


def test_pytorch_geometric_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(ImportError, match=r'to_pyg needs PyTorch Geometric: pip install "deepnets1m\[pyg\]"'):
        graph_of(chain(2)).to_pyg()


def test_pytorch_geometric_with_shapes() -> None:
    pytest.importorskip("torch_geometric")
    graph = build_graph(DARTS)
    data = graph.to_pyg(shapes=True)
    assert int(data.num_params.sum()) == sum(slot.numel for node in graph.parameters for slot in node)
    for slots, shape in zip(graph.parameters, data.shape.tolist()):
        largest = max((slot.shape for slot in slots), key=np.prod, default=())
        assert [size for size in shape if size] == list(largest)
    assert "shape" not in graph.to_pyg()
    with pytest.raises(ConfigError, match="does not know the parameters"):
        graph_of(chain(2)).to_pyg(shapes=True)


def test_sizes_of_tensors_with_five_axes() -> None:
    from deepnets.graph.conversion import parameter_sizes

    slots = Slots(((), (ParameterSlot("weight", (8, 4, 3, 3, 3), "weight"),)), (), np.array([9, 4], np.uint8))
    sizes, counts = parameter_sizes(Graph([9, 4], [0, 0], [0, 1], [0], slots=lambda: slots))
    assert sizes.tolist() == [[0, 0, 0, 0], [8, 4, 3, 9]]
    assert counts.tolist() == [0, 864]
