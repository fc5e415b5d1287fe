"""The gradients of `GatedGNN` equal those of autograd, of the naive formulas, and of finite differences."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from deepnets import GENOTYPES, Graph, NetworkConfig, build_graph
from ghn_model.encoders import GatedGNN
from ghn_model.encoders.level_sweep import propagate_by_levels

DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=8)
VIT = NetworkConfig(GENOTYPES["ViT"], n_cells=3, C=16, C_mult=1, preproc=False)


def batch(graphs: list[Graph], inputs: object = None) -> SimpleNamespace:
    """What encoders read of a `PreparedBatch`."""
    return SimpleNamespace(graphs=graphs, encoder_inputs=inputs)


class LevelGNN(GatedGNN):
    """The encoder as it is on a GPU, on any device."""

    def forward(self, x: Tensor, batch: Any) -> Tensor:
        schedule = self.prepare(batch.graphs) if batch.encoder_inputs is None else batch.encoder_inputs
        return propagate_by_levels(x, schedule, *self.weights())


IMPLEMENTATIONS = pytest.mark.parametrize("implementation", [GatedGNN, LevelGNN])


def gradients(gnn: GatedGNN, x: Tensor, graphs: list[Graph]) -> list[Tensor]:
    gnn.zero_grad()
    x = x.clone().requires_grad_()
    result = gnn(x, batch(graphs, gnn.prepare(graphs)))
    (result * torch.linspace(-1, 2, result.numel(), dtype=x.dtype).view_as(result)).sum().backward()
    found = [result.detach(), x.grad, *(parameter.grad for parameter in gnn.parameters())]
    assert all(tensor is not None for tensor in found)
    return [tensor for tensor in found if tensor is not None]


def naive(gnn: GatedGNN, x: Tensor, graphs: list[Graph]) -> Tensor:
    """Both sweeps from the formulas of the paper, one node at a time, for autograd."""
    rows = list(x)
    first = 0
    for graph in graphs:
        lengths = graph.distances(gnn.virtual_edges).tolist()
        last = first + graph.num_nodes
        for order, paths_to in (
            (range(first, last), lambda v: [row[v] for row in lengths]),  # noqa: B023
            (range(last - 1, first - 1, -1), lambda v: lengths[v]),  # noqa: B023
        ):
            for v in order:
                total = torch.zeros_like(rows[v])
                for u, length in enumerate(paths_to(v - first), start=first):
                    if length == 1:
                        total = total + gnn.mlp(rows[u])
                    if length and gnn.virtual_edges > 1:
                        total = total + gnn.mlp_ve(rows[u]) / length
                rows[v] = gnn.gru(total[None], rows[v][None])[0]
        first = last
    return torch.stack(rows)


@IMPLEMENTATIONS
@pytest.mark.parametrize("virtual_edges", [1, 3, 50])
def test_gradients_are_those_of_autograd(virtual_edges: int, implementation: type[GatedGNN]) -> None:
    torch.manual_seed(3)
    gnn = implementation(8, virtual_edges).double()
    graphs = [build_graph(VIT), build_graph(DARTS.replace(n_cells=1)), build_graph(VIT.replace(n_cells=1))]
    x = torch.randn(sum(graph.num_nodes for graph in graphs), 8, dtype=torch.float64)
    found = gradients(gnn, x, graphs)
    gnn.zero_grad()
    x.requires_grad_()
    expected = naive(gnn, x, graphs)
    (expected * torch.linspace(-1, 2, expected.numel(), dtype=x.dtype).view_as(expected)).sum().backward()
    for ours, reference in zip(found, [expected, x.grad, *(p.grad for p in gnn.parameters())], strict=True):
        assert reference is not None
        assert (ours - reference).abs().max() <= 1e-12 * reference.abs().max()


@IMPLEMENTATIONS
@pytest.mark.parametrize("virtual_edges", [1, 50])
def test_gradients_are_those_of_differences(virtual_edges: int, implementation: type[GatedGNN]) -> None:
    torch.manual_seed(2)
    gnn = implementation(4, virtual_edges).double()
    graphs = [build_graph(DARTS.replace(n_cells=1)), build_graph(VIT.replace(n_cells=1))]
    x = torch.randn(sum(graph.num_nodes for graph in graphs), 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in gnn.named_parameters()]
    prepared = batch(graphs, gnn.prepare(graphs))

    def sweep(x: Tensor, *weights: Tensor) -> Tensor:
        values = dict(zip(names, weights, strict=True))
        result: Tensor = torch.func.functional_call(gnn, values, (x, prepared))
        return result

    assert torch.autograd.gradcheck(sweep, (x, *gnn.parameters()), eps=1e-7, atol=1e-5, fast_mode=True)


@IMPLEMENTATIONS
def test_a_second_backward_pass_gives_the_same(implementation: type[GatedGNN]) -> None:
    gnn = implementation(8, 50)
    graphs = [build_graph(VIT)]
    x = torch.randn(graphs[0].num_nodes, 8, requires_grad=True)
    result = gnn(x, batch(graphs))
    (first,) = torch.autograd.grad(result.sum(), x, retain_graph=True)
    (second,) = torch.autograd.grad(result.sum(), x)
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_a_cpu(dtype: torch.dtype) -> None:
    """States are updated in double precision, whatever the precision of the hypernetwork; without gradients, too."""
    torch.manual_seed(0)
    nodes = batch([build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))] * 2)
    gnn = GatedGNN(8, 5).to(dtype)
    x = torch.randn(sum(graph.num_nodes for graph in nodes.graphs), 8).to(dtype)
    with_gradients = gnn(x.clone().requires_grad_(), nodes)
    with torch.no_grad():
        without = gnn(x.clone().requires_grad_(), nodes)
    assert without.dtype == dtype
    assert torch.equal(with_gradients.detach(), without)
