"""`trace` of a `Network` equals `build_graph` of its configuration, which does not use torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepnets import GENOTYPES, NODE_TYPES, ConfigError, Graph, Network, NetworkConfig, build_graph, trace
from deepnets.architecture import IMAGE_SIZES
from tests.deepnets.graph.test_build import HARD
from tests.oracles.worked_examples import EXAMPLES
from tests.support.strategies import configs, has_output

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def assert_same(traced: Graph, built: Graph) -> None:
    """Return nodes, cells, edges, parameters with their roles, and the set of parameters without a node."""
    assert list(traced.node_types) == list(built.node_types)
    assert traced.edges.tolist() == built.edges.tolist()
    assert list(traced.cells) == list(built.cells)
    assert traced == built
    assert traced.parameters == built.parameters
    assert set(traced.unused) == set(built.unused)
    assert len(traced.unused) == len(built.unused)
    assert np.array_equal(traced.windows, built.windows)


@settings(max_examples=60, **SETTINGS)
@given(
    config=configs(max_steps=4, max_cells=6, with_output=True),
    num_classes=st.integers(1, 12),
    image_size=st.sampled_from(IMAGE_SIZES),
    training=st.booleans(),
    vocabulary=st.sampled_from(("complete", "ghn3", "ppuda")),
)
def test_any_network(config: NetworkConfig, num_classes: int, image_size: int, training: bool, vocabulary: str) -> None:
    network = Network(config, num_classes, image_size).train(training)
    assert_same(trace(network, vocabulary=vocabulary), build_graph(config, num_classes, image_size))
    assert all(module.training == training for module in network.modules())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", HARD)
def test_hard_cases(name: str) -> None:
    for n_cells in (1, 2, 3, 5):
        for stem_type, stem_pool in ((0, True), (1, False)):
            config = NetworkConfig(HARD[name], n_cells, C=8, stem_type=stem_type, stem_pool=stem_pool, fc_layers=2)
            if has_output(config):
                assert_same(trace(Network(config)), build_graph(config))


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples(name: str) -> None:
    config = EXAMPLES[name].config
    assert_same(trace(Network(config)), build_graph(config))


@pytest.mark.parametrize("name", GENOTYPES)
def test_published_genotypes(name: str) -> None:
    config = NetworkConfig(GENOTYPES[name], n_cells=8, C=16)
    for image_size in IMAGE_SIZES:
        assert_same(trace(Network(config, 10, image_size)), build_graph(config, 10, image_size))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["bn-track", "bnorm", None])
def test_norms_in_both_modes(norm: str | None, training: bool) -> None:
    config = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=8, norm=norm)
    network = Network(config, drop_path=0.2).train(training)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert_same(trace(network), build_graph(config))
    assert all((buffer == buffers[name]).all() for name, buffer in network.named_buffers())


@settings(max_examples=20, **SETTINGS)
@given(configs(max_steps=3, max_cells=5, widths=(8,), with_output=True), st.sampled_from(IMAGE_SIZES), st.booleans())
def test_auxiliary_heads_are_dead(config: NetworkConfig, image_size: int, training: bool) -> None:
    try:
        network = Network(config, 10, image_size, auxiliary=True).train(training)
    except ConfigError:  # `none` cuts off what the head would read
        return
    graph, built = trace(network), build_graph(config, 10, image_size)
    assert_same(graph.pruned(), _with_unused_heads(graph, built))
    head = {name for name, _ in network.named_parameters() if name.startswith("auxiliary_head")}
    dead = {slot.name for node in np.flatnonzero(~graph.live) for slot in graph.parameters[node]}
    assert head <= dead
    assert dead - head == {slot.name for node in np.flatnonzero(~built.live) for slot in built.parameters[node]}
    assert {slot.name for slot in graph.unused} == {slot.name for slot in built.unused}
    assert [graph.parameters[i][0].role for i in (-2, -1)] == ["class_weight", "class_bias"]
    assert NODE_TYPES[graph.node_types[-1]] == "bias"


def _with_unused_heads(graph: Graph, built: Graph) -> Graph:
    """Return the pruned graph without auxiliary head, with the parameters of the head listed as unused."""
    pruned = built.pruned()
    heads = tuple(slot for slot in graph.pruned().unused if slot.name.startswith("auxiliary_head"))
    slots = pruned._slots._replace(unused=pruned.unused + heads)
    return Graph(pruned.node_types, pruned.cells, pruned.in_degrees, pruned.sources, slots=lambda: slots)
