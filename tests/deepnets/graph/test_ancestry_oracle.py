"""The oracle of ancestry against sets derived by hand, and against graphs that are known to be correct."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from deepnets import GENOTYPES, Graph, Network, NetworkConfig, build_graph
from tests.oracles.autograd_ancestry import ancestry_differences, autograd_ancestry, graph_ancestry
from tests.support.strategies import configs
from tests.support.zoo.models import ZOO

# For some parameters: the parameters that must be upstream and, after a bar, others that may be.
BY_HAND = {
    "plain": {"0.weight": "|0.bias", "1.bias": "0.weight 0.bias|1.weight", "8.weight": "0.* 1.* 4.weight"},
    "residual": {"a.weight": "", "b.weight": "a.weight", "c.weight": "a.weight b.weight"},
    "in place on a view": {"b.weight": "a.weight", "c.weight": "a.weight b.weight"},
    "slice assignment": {"a.weight": "", "b.weight": "", "c.weight": "a.weight b.weight"},
    "squeeze-excite, linear": {"expand.weight": "stem.* reduce.*", "head.weight": "stem.* reduce.* expand.*"},
    "layer scale": {"gamma": "stem.* block.*", "head.weight": "stem.* block.* gamma"},
    "affine": {"alpha": "stem.*", "beta": "stem.* alpha"},
    "loop": {"shared.weight": "|shared.bias", "head.weight": "shared.*"},
    "weight standardization with gain": {"2.weight": "0.*|2.gain 2.bias", "2.gain": "0.*|2.weight 2.bias"},
    "low rank": {"up": "|base down", "head.weight": "base up down"},
    "fused bias": {"q_bias": "qkv|v_bias", "qkv": "", "head.weight": "qkv q_bias v_bias"},
    "vision transformer": {
        "cls_token": "",
        "pos_embed": "",
        "norm1.weight": "patches.* cls_token pos_embed|norm1.bias",
        "attention.in_proj_weight": "patches.* cls_token pos_embed norm1.*|attention.in_proj_bias",
    },
    "table of positions": {"table": "", "out.weight": "qkv.* table"},
    "positions in the mask": {"table": "", "out.weight": "qkv.* table"},
    "continuous positions": {
        "positions.0.weight": "",
        "positions.0.bias": "positions.0.weight",
        "positions.2.weight": "positions.0.*",
        "logit_scale": "qkv.*",
    },
    "latents": {"latent": "", "q.weight": "latent", "k.weight": "", "out.weight": "latent q.* k.* v.*"},
    "multi-head, cross": {"attention.in_proj_weight": "first.*|second.* attention.in_proj_bias"},
    "lstm": {"rnn.weight_hh_l0": "|rnn.*", "head.weight": "rnn.*"},
    "gpt-2": {
        "wte.weight": "",
        "wpe.weight": "",
        "ln_1.bias": "wte.weight wpe.weight|ln_1.weight",
        "c_attn.bias": "wte.weight wpe.weight ln_1.* c_attn.weight",
    },
    "auxiliary head": {"auxiliary.2.weight": "stem.weight", "head.weight": "stem.weight body.weight"},
    "checkpoint, reentrant": {"b.weight": "a.weight", "c.weight": "a.weight b.weight"},
}


@pytest.mark.parametrize("name", BY_HAND)
def test_ancestors(name: str) -> None:
    case = ZOO[name]
    model = case.model()
    names = [key for key, _ in model.named_parameters()]

    def expand(patterns: str) -> set[str]:
        wanted = patterns.split()
        return {key for key in names if any(key == p or (p.endswith("*") and key.startswith(p[:-1])) for p in wanted)}

    def members(mask: int) -> set[str]:
        return {key for i, key in enumerate(names) if mask >> i & 1}

    found = autograd_ancestry(model, case.input())
    for key, sets in BY_HAND[name].items():
        least, _, more = sets.partition("|")
        assert members(found[key].least) == expand(least), key
        assert members(found[key].most) - {key} == expand(least) | expand(more) - {key}, key


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs(max_steps=4, max_cells=5, widths=(8,), with_output=True))
def test_graphs_of_networks_are_confirmed(config: NetworkConfig) -> None:
    assert ancestry_differences(build_graph(config), Network(config), torch.randn(2, 3, 32, 32)) == []


def without_edge(graph: Graph, edge: int) -> Graph:
    degrees = graph.in_degrees
    degrees[graph.edges[edge, 1]] -= 1
    sources = [source for i, source in enumerate(graph.sources) if i != edge]
    return Graph(graph.node_types, graph.cells, degrees, sources, slots=lambda: graph._slots)


@pytest.mark.slow
def test_a_missing_edge_is_found() -> None:
    config = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=8)
    graph, network = build_graph(config), Network(config)
    images = torch.randn(2, 3, 32, 32)
    assert ancestry_differences(graph, network, images) == []
    for edge in range(graph.num_edges):
        broken = without_edge(graph, edge)
        if graph_ancestry(broken) != graph_ancestry(graph):
            assert ancestry_differences(broken, network, images)
