"""The encoders, each against a simple implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets import GENOTYPES, Graph, NetworkConfig, build_graph
from ghn_model.encoders import GatedGNN, Graphormer, four_axes, graphormer, shape_indices
from ghn_model.encoders.shape_encoder import channel_grid, spatial_grid
from tests.ghn_model.encoders.test_gated_gnn import LevelGNN, batch
from tests.support.strategies import configs


def chain(n: int) -> Graph:
    """Return a graph of n nodes, each with an edge from the previous one."""
    return Graph(np.full(n, 4, np.uint8), np.zeros(n, np.uint8), [0] + [1] * (n - 1), list(range(n - 1)))


# --- shapes ---


@pytest.mark.parametrize(
    ("classes", "pairs"),
    [
        (10, {1: 1, 2: 1, 3: 3, 4: 8, 7: 8, 9: 8, 10: 10, 11: 10, 12: 10, 13: 10, 14: 16, 20: 16, 36: 32, 72: 64}),
        (10, {88: 80, 1016: 1008, 8192: 8192, 9000: 8192, 4112: 4096}),
        (1000, {12: 8, 996: 992, 997: 1000, 1004: 1000, 1005: 1008}),
        (5, {4: 8, 5: 5, 6: 8}),
        (21843, {9000: 8192, 16384: 8192, 21843: 21843, 30000: 8192}),
    ],
)
def test_rows_for_channels(classes: int, pairs: dict[int, int]) -> None:
    grid = channel_grid(classes)
    assert {size: grid[channels_row(size, classes)] for size in pairs} == pairs


def channels_row(size: int, classes: int) -> int:
    return int(rows_of((size, 1, 1, 1), classes, 11)[0])


def rows_of(shape: tuple[int, ...], classes: int, largest: int) -> np.ndarray:
    from deepnets.graph import ParameterSlot, Slots

    types = np.full(1, 4, np.uint8)
    slots = Slots(((ParameterSlot("w", shape, "weight"),),), (), types)
    return shape_indices(Graph(types, [0], [0], [], slots=lambda: slots), classes, largest)[0]


def test_sizes_of_tables() -> None:
    assert [len(channel_grid(classes)) for classes in (10, 100, 1000, 3)] == [391, 391, 391, 390]
    assert spatial_grid(11) == (1, 3, 5, 7, 9, 11, 14, 16)
    assert spatial_grid(16) == (1, 3, 5, 7, 9, 11, 13, 14, 15, 16)


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (11, {1: 1, 2: 3, 4: 3, 6: 5, 8: 7, 10: 9, 12: 11, 13: 14, 14: 14, 15: 14, 16: 16, 40: 16}),
        (16, {2: 3, 12: 11, 13: 13, 15: 15, 17: 16}),
    ],
)
def test_rows_for_kernels(largest: int, expected: dict[int, int]) -> None:
    grid = spatial_grid(largest)
    assert {size: grid[rows_of((1, 1, size, size), 10, largest)[2]] for size in expected} == expected


def test_shapes_of_all_ranks_as_four_numbers() -> None:
    assert four_axes(()) == (1, 1, 1, 1)
    assert four_axes((7,)) == (7, 1, 1, 1)
    assert four_axes((7, 5)) == (7, 5, 1, 1)
    assert four_axes((1, 197, 768)) == (1, 768, 14, 14)
    assert four_axes((8, 4, 3)) == (8, 4, 3, 1)
    assert four_axes((1, 1, 64)) == (1, 1, 64, 1)
    assert four_axes((8, 4, 3, 5, 7)) == (8, 4, 5, 7)


# --- encoders ---


def random_gnns(virtual_edges: int) -> tuple[GatedGNN, GatedGNN]:
    """Both implementations, with the same weights."""
    torch.manual_seed(0)
    by_nodes, by_levels = GatedGNN(8, virtual_edges).double(), LevelGNN(8, virtual_edges).double()
    by_levels.load_state_dict(by_nodes.state_dict())
    return by_nodes, by_levels


@settings(max_examples=15, deadline=None)
@given(
    st.lists(configs(max_cells=3, max_steps=3, with_output=True), min_size=1, max_size=3), st.sampled_from((1, 3, 50))
)
def test_implementations_of_the_gated_gnn_agree(architectures: list[NetworkConfig], virtual_edges: int) -> None:
    """Level by level, node by node, graphs together and alone, and with prepared inputs."""
    graphs = [build_graph(config) for config in architectures]
    gnn, by_levels = random_gnns(virtual_edges)
    x = torch.randn(sum(graph.num_nodes for graph in graphs), 8, dtype=torch.double)
    expected = by_levels(x, batch(graphs, gnn.prepare(graphs))).detach()
    assert torch.allclose(gnn(x, batch(graphs)), expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        parts = zip(x.split([graph.num_nodes for graph in graphs]), graphs)
        for result in (gnn(x, batch(graphs)), torch.cat([gnn(part, batch([graph])) for part, graph in parts])):
            assert torch.allclose(result, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("virtual_edges", [1, 50])
def test_graphs_without_edges_and_chains(virtual_edges: int) -> None:
    graphs = [chain(1), chain(60), chain(2)]
    by_nodes, by_levels = random_gnns(virtual_edges)
    x = torch.randn(63, 8, dtype=torch.double)
    assert torch.allclose(by_nodes(x, batch(graphs)), by_levels(x, batch(graphs)), rtol=1e-9, atol=1e-9)


def test_gradients_with_constant_inputs() -> None:
    """The encoder has gradients even if its inputs need none."""
    for gnn in random_gnns(50):
        gnn(torch.randn(5, 8, dtype=torch.double), batch([chain(5)])).sum().backward()
        assert all(parameter.grad is not None for parameter in gnn.parameters())


def test_graphormer_attends_within_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder = Graphormer(8, 2, 2, 50).double()
    graphs = [chain(3), build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2)), chain(60), chain(1)]
    sizes = [graph.num_nodes for graph in graphs]
    x = torch.randn(sum(sizes), 8, dtype=torch.double)
    parts = zip(x.split(sizes), graphs)
    alone = torch.cat([encoder(part, batch([graph], encoder.prepare([graph]))) for part, graph in parts])
    assert len(encoder.prepare(graphs)) == 1
    assert torch.allclose(encoder(x, batch(graphs, encoder.prepare(graphs))), alone, atol=1e-12)
    monkeypatch.setattr(graphormer, "MOST_PAIRS", 4000)
    assert len(encoder.prepare(graphs)) == 4
    assert torch.allclose(encoder(x, batch(graphs, encoder.prepare(graphs))), alone, atol=1e-12)
