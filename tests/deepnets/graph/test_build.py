"""`build_graph` against independent oracles: autograd graphs of forward passes, worked examples, closed forms."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepnets import GENOTYPES, NODE_TYPES, ConfigError, Genotype, Network, NetworkConfig, build_graph
from deepnets.architecture import decode, encode
from deepnets.graph import N_EDGES, N_NODES, assemble, count_parameters, new_graph_buffer
from deepnets.graph.buffer import N_UNUSED
from generator.shards import ShardTask, make_shard
from generator.splits import SPLITS
from tests.oracles.autograd_graph import autograd_graph, canonical_form
from tests.oracles.parameter_table import list_parameters
from tests.oracles.worked_examples import EXAMPLES, STREAM
from tests.support.strategies import configs, has_output

EVERY_SPLIT = [name for name in SPLITS if name != "wide"]


def assert_equals_oracle(config: NetworkConfig, image_size: int = 32) -> None:
    """Check nodes (type, names, shapes, cell), edges, dead nodes and starved parameters against autograd."""
    network = Network(config, 10, image_size)
    graph, oracle = build_graph(config, 10, image_size), autograd_graph(network)
    nodes = [
        (NODE_TYPES[kind], tuple(slot.name for slot in slots), tuple(slot.shape for slot in slots), int(cell))
        for kind, slots, cell in zip(graph.node_types, graph.parameters, graph.cells)
    ]
    edges = [tuple(edge) for edge in graph.edges.tolist()]
    if nodes != list(oracle.nodes) or sorted(edges) != sorted(oracle.edges):  # the order of nodes may differ
        assert canonical_form(nodes, edges) == canonical_form(oracle.nodes, oracle.edges)
    assert sum(~graph.live) == len(oracle.dead)
    assert sorted(nodes[i] for i in np.flatnonzero(~graph.live)) == sorted(oracle.nodes[i] for i in oracle.dead)
    assert sorted(slot.name for slot in graph.unused) == sorted(oracle.starved)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    listed = [slot for slots in graph.parameters for slot in slots] + list(graph.unused)
    assert {slot.name: slot.shape for slot in listed} == shapes
    assert len(listed) == len(shapes)  # every parameter is listed once


def narrow(config: NetworkConfig) -> NetworkConfig:
    """Return a narrow network: the graph does not depend on widths, and narrow networks run faster."""
    return config.replace(C=8, fc_dim=8)


@pytest.mark.parametrize("split", EVERY_SPLIT)
def test_small_networks_of_every_split_equal_the_autograd_graph(split: str) -> None:
    shard = make_shard(ShardTask(SPLITS[split], seed=2025, start=0, count=60))
    assert len(shard.architectures) >= 12
    for i in np.argsort(shard.statistics["num_nodes"])[:12]:
        assert_equals_oracle(narrow(decode(shard.architectures[i])))


@pytest.mark.slow
@pytest.mark.parametrize("split", EVERY_SPLIT)
def test_networks_of_every_split_equal_the_autograd_graph(split: str) -> None:
    shard = make_shard(ShardTask(SPLITS[split], seed=2024, start=0, count=130 if split == "dense" else 110))
    networks = [decode(record) for record in shard.architectures]
    small_first = sorted(range(len(networks)), key=lambda i: shard.statistics["num_nodes"][i])
    chosen = small_first[: {"deep": 50, "dense": 40}.get(split, 85)]  # the others have the same variety, but are slow
    assert len(chosen) + 3 >= 40
    for i in [*chosen, *small_first[-3:]]:
        assert_equals_oracle(narrow(networks[i]))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs(max_steps=5, max_cells=7, widths=(8,), with_output=True))
def test_any_network_equals_the_autograd_graph(config: NetworkConfig) -> None:
    assert_equals_oracle(config)


HARD = {
    "reduction cells starved by none": Genotype(
        [("conv_3x3", 0), ("skip_connect", 1)], [2], [("none", 0), ("none", 1)], [2]
    ),
    "a starved step feeds layers": Genotype(
        [("none", 0), ("none", 1), ("sep_conv_3x3", 2), ("conv_1x1", 1), ("msa", 2), ("cse", 3)],
        [2, 3, 4],
        [("none", 0), ("max_pool_3x3", 1), ("none", 2), ("dil_conv_3x3", 2), ("skip_connect", 0), ("cse", 2)],
        [3, 4],
    ),
    "absent states in the concatenation": Genotype(
        [("none", 0), ("none", 1), ("sep_conv_3x3", 0), ("skip_connect", 1)],
        [2, 3],
        [("dil_conv_5x5", 1), ("none", 0), ("skip_connect", 0), ("max_pool_3x3", 2)],
        [2, 3],
    ),
    "msa in reduction cells only": Genotype(
        [("conv_7x1_1x7", 0), ("skip_connect", 1)], [2], [("msa", 0), ("skip_connect", 1)], [2]
    ),
    "sums of a tensor with itself": Genotype(
        [("skip_connect", 0), ("skip_connect", 0), ("skip_connect", 1), ("skip_connect", 1)],
        [2, 3],
        [("skip_connect", 0), ("conv_1x1", 0), ("skip_connect", 2), ("skip_connect", 2)],
        [2, 3],
    ),
    "dead states": Genotype(
        [("conv_3x3", 0), ("conv_5x5", 1), ("skip_connect", 0), ("avg_pool_3x3", 1)],
        [3],
        [("skip_connect", 0), ("sep_conv_5x5", 1), ("max_pool_3x3", 0), ("skip_connect", 1)],
        [3],
    ),
    "squeeze-excite of itself": Genotype(
        [("cse", 0), ("cse", 0), ("conv_1x1", 2), ("cse", 2)], [2, 3], [("cse", 1), ("skip_connect", 0)] * 2, [2, 3]
    ),
}


@pytest.mark.sampled(10)
@pytest.mark.parametrize("stem_type", [0, 1])
@pytest.mark.parametrize("norm", [None, "bnorm"])
@pytest.mark.parametrize("name", HARD)
def test_hard_cases_equal_the_autograd_graph(name: str, norm: str | None, stem_type: int) -> None:
    genotype = HARD[name]
    vit = "msa" in genotype.primitives
    for n_cells in (1, 2, 3, 4, 5, 7):
        for stem_pool in (False, True):
            config = NetworkConfig(
                genotype, n_cells, C=8, norm=norm, stem_type=stem_type, stem_pool=stem_pool, fc_layers=2, fc_dim=8
            )
            if not has_output(config):
                with pytest.raises(ConfigError, match="no output"):
                    build_graph(config)
                continue
            assert_equals_oracle(config)
            if n_cells > 2 and not vit:
                assert_equals_oracle(config.replace(glob_avg=False))


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples_of_the_specification(name: str) -> None:
    example = EXAMPLES[name]
    graph = build_graph(example.config).pruned()
    assert (graph.num_nodes, graph.num_edges) == example.counts
    assert count_parameters(example.config), count_parameters(example.config, 10, 224) == example.num_params
    if example.nodes is not None:
        found = [
            (NODE_TYPES[kind], slots[0].name if slots else "", int(cell))
            for kind, slots, cell in zip(graph.node_types, graph.parameters, graph.cells)
        ]
        assert found == list(example.nodes)
        assert {tuple(edge) for edge in graph.edges.tolist()} == example.edges


@pytest.mark.parametrize("name", [*EXAMPLES, *STREAM])
def test_counts_and_distances_of_known_networks(name: str) -> None:
    known = {**EXAMPLES, **STREAM}[name]
    graph = build_graph(known.config).pruned()
    distances = graph.distances(254)
    assert (graph.num_nodes, graph.num_edges) == known.counts
    assert (count_parameters(known.config), count_parameters(known.config, 10, 224)) == known.num_params
    assert (np.count_nonzero(distances), distances.sum(dtype=int), distances.max()) == known.distances


@pytest.mark.parametrize(
    ("name", "options", "classes", "size", "counts", "params"),
    [
        ("ViT", {"n_cells": 12, "C": 128, "C_mult": 1, "preproc": False}, 10, 32, (129, 148), 1_012_234),
        ("ViT", {"n_cells": 12, "C": 128, "C_mult": 1, "preproc": False}, 1000, 224, (129, 148), 1_244_392),
        ("DARTS", {"n_cells": 20, "C": 36}, 10, 32, (794, 935), 3_349_342),
        ("DARTS", {"n_cells": 14, "C": 48, "stem_type": 1}, 1000, 224, (548, 648), 4_718_752),
        ("PDARTS", {"n_cells": 20, "C": 36}, 10, 32, (782, 923), 3_433_798),
    ],
)
def test_published_networks(
    name: str, options: dict[str, int], classes: int, size: int, counts: tuple[int, int], params: int
) -> None:
    config = NetworkConfig(GENOTYPES[name], **options)
    graph = build_graph(config, classes, size)
    assert (graph.num_nodes, graph.num_edges) == counts
    assert count_parameters(config, classes, size) == params
    assert sum(slot.numel for slots in graph.parameters for slot in slots) == params


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(configs(max_steps=10, max_cells=12, widths=(2, 8, 32, 48), with_output=True), st.sampled_from((32, 224)))
def test_parameters_and_counts_equal_the_closed_forms(config: NetworkConfig, size: int) -> None:
    graph = build_graph(config, 7, size)
    listed = [slot for slots in graph.parameters for slot in slots] + list(graph.unused)
    expected = {name: tuple(shape) for name, shape in list_parameters(config, 7, size)}
    assert {slot.name: slot.shape for slot in listed} == expected
    assert count_parameters(config, 7, size) == sum(int(np.prod(shape)) for shape in expected.values())


@settings(max_examples=200, deadline=None)
@given(configs(max_steps=10, max_cells=12, with_output=True))
def test_graphs_are_well_formed(config: NetworkConfig) -> None:
    graph = build_graph(config)
    digraph = graph.to_networkx()
    assert nx.is_directed_acyclic_graph(digraph)
    assert NODE_TYPES[graph.node_types[0]] == "input"
    assert [graph.parameters[i][0].role for i in (-2, -1)] == ["class_weight", "class_bias"]
    assert (np.diff(graph.cells.astype(int)) >= 0).all()
    assert graph.cells[-1] == config.n_cells - 1
    assert (graph.edges[:, 0] < graph.edges[:, 1]).all()
    assert sorted(map(tuple, graph.edges[:, ::-1].tolist())) == [tuple(edge[::-1]) for edge in graph.edges.tolist()]
    for node in range(graph.num_nodes):
        kind, inputs = NODE_TYPES[graph.node_types[node]], graph.in_degrees[node]
        if kind in ("input", "pos_enc"):
            assert inputs == 0
        elif kind == "cse":
            assert inputs == 2
        elif kind in ("sum", "concat"):
            assert inputs >= 2
        else:
            assert inputs == 1
    reached = set(nx.descendants(digraph, 0)) | {0}
    assert {i for i in digraph if NODE_TYPES[graph.node_types[i]] != "pos_enc"} == reached  # all others receive data
    assert set(np.flatnonzero(graph.live)) == set(nx.ancestors(digraph, graph.num_nodes - 1)) | {graph.num_nodes - 1}


@settings(max_examples=60, deadline=None)
@given(configs(max_steps=4, max_cells=8, widths=(8, 16), with_output=True))
def test_the_graph_depends_on_neither_width_nor_kernel_nor_image(config: NetworkConfig) -> None:
    other = replace(config, C=2 * config.C, ks=3, fc_dim=5, imagenet_stride=2)
    assert build_graph(config) == build_graph(other, 3, 224)


def test_pruning_keeps_what_reaches_the_output() -> None:
    graph = build_graph(EXAMPLES["V4"].config)
    pruned = graph.pruned()
    assert (graph.num_nodes, pruned.num_nodes) == (43, 23)
    assert graph.statistics().num_dead == 20
    assert graph.statistics(dead=False).num_nodes == 23
    assert graph.statistics(dead=False).num_dead == 0
    assert pruned.pruned() is pruned
    names = [slot.name for slots in graph.parameters for slot in slots]
    kept = [slot.name for slots in pruned.parameters for slot in slots]
    assert sorted(kept + [slot.name for slot in pruned.unused]) == sorted(names)


def test_published_averages_of_the_vision_transformer() -> None:
    vit = NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)
    statistics = build_graph(vit).statistics()
    assert statistics.average_degree == pytest.approx(2.294573643410853, abs=1e-12)
    assert statistics.average_path == pytest.approx(10.700096899224807, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda config: build_graph(config, image_size=513), "image_size: expected an integer, 16 to 512; got 513"),
        (lambda config: build_graph(config, 0), "num_classes: expected an integer, 1 to 2147483647; got 0"),
    ],
)
def test_invalid_arguments(call, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(EXAMPLES["V1"].config)


FILLING = ["msa", "cse", "sep_conv_5x5", "conv_7x1_1x7", "skip_connect", "none"]


@pytest.mark.parametrize("op", FILLING)
def test_the_largest_networks_fit_into_the_buffer(op: str) -> None:
    """Compiled code does not check bounds, so this is what prevents writes beyond the end."""
    steps = 10
    genes = [(op, j) for i in range(steps) for j in (max(0, i - 1), i)]
    genes[-1] = ("conv_1x1", 1)
    genotype = Genotype(genes, range(2, 2 + steps), genes, range(2, 2 + steps))
    for stem_type in (0, 1):
        config = NetworkConfig(genotype, 36, C=8, C_mult=1, stem_type=stem_type, fc_layers=4)
        buffer = new_graph_buffer(36, steps)
        assert assemble(encode([config])[0], 8, 8, 10, 32, buffer) > 0
        assert buffer.counters[N_NODES] <= len(buffer.nodes)
        assert buffer.counters[N_EDGES] <= len(buffer.sources)
        assert buffer.counters[N_UNUSED] <= len(buffer.unused)


@pytest.mark.slow
def test_compiled_code_stays_in_bounds(tmp_path: Path) -> None:
    """Numba can compile the same code with bounds checks."""
    program = """
from tests.deepnets.graph.test_build import FILLING, HARD, has_output, test_the_largest_networks_fit_into_the_buffer
from deepnets import NetworkConfig, build_graph
from deepnets.corpus import compute_statistics
from generator.shards import ShardTask, make_shard
from generator.splits import SPLITS
for op in FILLING:
    test_the_largest_networks_fit_into_the_buffer(op)
for genotype in HARD.values():
    config = NetworkConfig(genotype, 5, C=8)
    if has_output(config):
        graph = build_graph(config)
        graph.distances(254), graph.live, graph.levels
for split in ("train", "dense", "deep", "search"):
    compute_statistics(make_shard(ShardTask(SPLITS[split], 5, 7, 300)).architectures)
"""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
