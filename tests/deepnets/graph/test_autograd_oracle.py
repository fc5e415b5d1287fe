"""The oracle that derives graphs from autograd agrees with known graphs."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets.architecture import GENOTYPES, Genotype, Network, NetworkConfig
from tests.oracles.autograd_graph import OracleGraph, autograd_graph, canonical_form
from tests.oracles.worked_examples import EXAMPLES, STREAM, genes
from tests.support.strategies import configs

KNOWN = {**EXAMPLES, **STREAM}


def small(config: NetworkConfig, size: int = 32) -> Network:
    """Return a narrow network; graphs do not depend on widths."""
    return Network(config.replace(C=8, fc_dim=8), 10, size)


def form(graph: OracleGraph) -> object:
    return canonical_form(graph.nodes, graph.edges)


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example.nodes])
def test_worked_examples_node_by_node(name: str) -> None:
    example = EXAMPLES[name]
    network = Network(example.config)
    graph = autograd_graph(network).pruned()
    # Nodes are executed in the canonical order.
    assert tuple((node.type, node.names[0] if node.names else "", node.cell) for node in graph.nodes) == example.nodes
    assert set(graph.edges) == example.edges
    parameters = dict(network.named_parameters())
    for node in graph.nodes:
        assert node.shapes == tuple(tuple(parameters[parameter].shape) for parameter in node.names)
        assert len(node.names) == {"bn": 2, "ln": 2, "conv": 1, "bias": 1, "pos_enc": 1}.get(node.type, 0)


@pytest.mark.parametrize("name", KNOWN)
def test_sizes_and_distances_of_known_graphs(name: str) -> None:
    graph = autograd_graph(small(KNOWN[name].config)).pruned()
    assert (len(graph.nodes), len(graph.edges)) == KNOWN[name].counts
    lengths = nx.all_pairs_shortest_path_length(nx.DiGraph(graph.edges))
    distances = [length for _, row in lengths for length in row.values() if length]
    assert (len(distances), sum(distances), max(distances)) == KNOWN[name].distances


@pytest.mark.parametrize(
    ("genotype", "fields", "counts"),
    [
        ("ViT", {"n_cells": 12, "C_mult": 1, "preproc": False}, (129, 148)),
        ("DARTS", {"n_cells": 20}, (794, 935)),
        ("DARTS", {"n_cells": 14, "stem_type": 1}, (548, 648)),
        ("PDARTS", {"n_cells": 20}, (782, 923)),
    ],
)
def test_sizes_of_named_graphs(genotype: str, fields: dict[str, object], counts: tuple[int, int]) -> None:
    graph = autograd_graph(small(NetworkConfig(GENOTYPES[genotype], **fields)))
    assert (len(graph.nodes), len(graph.edges)) == counts
    assert not graph.dead


def test_dead_nodes_are_kept_and_marked() -> None:
    graph = autograd_graph(small(EXAMPLES["V4"].config))
    dead = [(graph.nodes[i].type, *graph.nodes[i].names[:1], graph.nodes[i].cell) for i in sorted(graph.dead)]
    pre0 = "cells.{}.preprocess0.{}.weight"
    assert dead == [
        *(("conv", pre0.format(0, "op.1"), 0), ("bn", pre0.format(0, "op.2"), 0)),
        *(("conv", pre0.format(1, "op.1"), 1), ("bn", pre0.format(1, "op.2"), 1)),
        *(("max_pool", 1), ("conv", "cells.1._ops.1.op.1.weight", 1), ("bn", "cells.1._ops.1.op.2.weight", 1)),
        ("sum", 1),
        *(("conv", pre0.format(2, "conv_1"), 2), ("conv", pre0.format(2, "conv_2"), 2), ("concat", 2)),
        ("bn", pre0.format(2, "bn"), 2),
        *(("max_pool", 2), ("conv", "cells.2._ops.1.op.1.weight", 2), ("bn", "cells.2._ops.1.op.2.weight", 2)),
        ("sum", 2),
        *(("conv", pre0.format(3, "conv_1"), 3), ("conv", pre0.format(3, "conv_2"), 3), ("concat", 3)),
        ("bn", pre0.format(3, "bn"), 3),
    ]
    assert graph.starved == ()


def test_unused_parameters_are_listed() -> None:
    genotype = Genotype(
        normal=genes("none 0, none 1, conv_1x1 2, skip 1"),
        normal_concat=[3],
        reduce=genes("none 0, none 1, cse 2, sep3 1"),
        reduce_concat=[2],
    )
    graph = autograd_graph(Network(NetworkConfig(genotype, n_cells=1, C=8, norm=None)))
    assert graph.starved == ("cells.0._ops.2.op.1.weight",)
    network = Network(NetworkConfig(genotype, n_cells=1, C=8))
    assert autograd_graph(network).starved == tuple(
        f"cells.0._ops.2.op.{suffix}" for suffix in ("1.weight", "2.weight", "2.bias")
    )


def test_collapsed_sums_and_concatenations_are_no_nodes() -> None:
    genotype = Genotype(
        normal=genes("skip 1, skip 1, none 0, skip 2"),
        normal_concat=[2, 3],
        reduce=genes("max 0, max 0, skip 2, skip 2"),
        reduce_concat=[2, 3],
    )
    types = [node.type for node in autograd_graph(Network(NetworkConfig(genotype, n_cells=2, C=8))).nodes]
    # The normal cell adds and concatenates one tensor with itself, the reduction cell adds two pools and then their
    # sum with itself.
    assert types.count("sum") == 1
    assert types.count("concat") == 0
    assert types.count("max_pool") == 2


def test_graphs_do_not_depend_on_image_size_mode_and_statistics() -> None:
    for name in ("V2", "V3", "V4"):
        config = EXAMPLES[name].config
        network = small(config)
        expected = [(node.type, node.names[:1], node.cell) for node in autograd_graph(network).nodes]
        for other in (small(config, 224), small(config.replace(norm="bn-track"))):
            assert [(node.type, node.names[:1], node.cell) for node in autograd_graph(other).nodes] == expected
        assert network.training
        network.eval()
        state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        autograd_graph(network)
        assert not network.training
        assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@settings(deadline=None, max_examples=40)
@given(configs(with_output=True), st.randoms(use_true_random=False))
def test_graphs_are_well_formed(config: NetworkConfig, random) -> None:
    network = Network(config)
    graph = autograd_graph(network)
    names = [name for node in graph.nodes for name in node.names]
    assert sorted([*names, *graph.starved]) == sorted(name for name, _ in network.named_parameters())
    cells = [node.cell for node in graph.nodes]
    assert cells == sorted(cells)
    assert all(a < b for a, b in graph.edges)
    sources = np.bincount([b for _, b in graph.edges], minlength=len(cells))
    for node, count in zip(graph.nodes, sources):
        if node.type in ("sum", "cse"):
            assert count == 2
        elif node.type == "concat":
            assert count >= 2
        else:
            assert count == (node.type not in ("input", "pos_enc"))
    pruned = graph.pruned()
    ends = set(range(len(pruned.nodes))) - {a for a, _ in pruned.edges}
    assert ends == {len(pruned.nodes) - 1}
    assert pruned.nodes[-1].names == (f"classifier.{3 * (config.fc_layers - 1)}.bias",)

    order = list(range(len(graph.nodes)))
    random.shuffle(order)
    shuffled = [graph.nodes[i] for i in order]
    edges = [(order.index(a), order.index(b)) for a, b in graph.edges]
    random.shuffle(edges)
    assert canonical_form(shuffled, edges) == form(graph)


@settings(deadline=None, max_examples=40)
@given(configs(max_cells=4, with_output=True), st.data())
def test_canonical_form_detects_every_change(config: NetworkConfig, data: st.DataObject) -> None:
    graph = autograd_graph(Network(config))
    nodes, edges = list(graph.nodes), list(graph.edges)
    i = data.draw(st.integers(0, len(nodes) - 1))
    changed = [*nodes[:i], nodes[i]._replace(cell=nodes[i].cell + 1), *nodes[i + 1 :]]
    assert canonical_form(changed, edges) != form(graph)
    e = data.draw(st.integers(0, len(edges) - 1))
    assert canonical_form(nodes, edges[:e] + edges[e + 1 :]) != form(graph)
    a, b = edges[e]
    assert canonical_form(nodes, [*edges[:e], (b, a), *edges[e + 1 :]]) != form(graph)


def test_canonical_form_takes_lists_and_numpy_integers() -> None:
    nodes = [("conv", ("a.weight",), ((1, 2),), 0), ("bias", ("a.bias",), ((1,),), 0)]
    same = [["conv", ["a.weight"], [torch.Size([1, 2])], np.uint8(0)], ["bias", ["a.bias"], [[1]], 0]]
    assert canonical_form(nodes, [(0, 1)]) == canonical_form(same, np.array([[0, 1]]))
