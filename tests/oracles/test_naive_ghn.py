"""The naive hypernetworks against published values, values computed by hand, and layers of PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets import GENOTYPES, NetworkConfig, ParameterSlot, build_graph
from deepnets.architecture import NODE_TYPES, PUBLISHED_TYPE_OF
from tests.oracles import naive_ghn
from tests.oracles.naive_ghn import list_shapes, naive_embeddings, naive_predict, random_state_dict

CONV = {"hypernet": "gatedgnn", "decoder": "conv", "hidden": 8, "max_shape": (16, 16, 11, 11), "num_classes": 10}
LAYOUTS: dict[str, dict[str, Any]] = {
    "ghn2": CONV,
    "ghn1": {**CONV, "virtual_edges": 1, "layernorm": False},
    "mlp": {**CONV, "hypernet": "mlp"},
    "mlp decoder": {**CONV, "decoder": "mlp", "max_shape": (16, 16, 3, 3)},
    "ghn3": {**CONV, "hypernet": "graphormer", "heads": 2, "layers": 2},
}


def options(name: str, **changes: Any) -> dict[str, Any]:
    """Return the options of the hypernetwork of a layout."""
    layout = LAYOUTS[name]
    chosen = {
        "virtual_edges": 50,
        "layernorm": True,
        "heads": 1,
        **{key: value for key, value in layout.items() if key not in ("hidden", "layers")},
        "window": "centre" if name == "ghn3" else "corner",
        "weight_norm": name != "ghn1",
    }
    return {**chosen, **changes}


@dataclass
class Chain:
    """A graph: a chain of nodes with one slot each (a shape and a role, or None), and perhaps other edges."""

    slots: list[tuple[tuple[int, ...], str] | None]
    types: list[int] | None = None
    pairs: list[tuple[int, int]] | None = None

    @property
    def node_types(self) -> np.ndarray:
        return np.array([4] * len(self.slots) if self.types is None else self.types, np.uint8)

    @property
    def edges(self) -> np.ndarray:
        return np.array([(v, v + 1) for v in range(len(self.slots) - 1)] if self.pairs is None else self.pairs)

    @property
    def parameters(self) -> list[list[ParameterSlot]]:
        return [[] if slot is None else [ParameterSlot(str(v), *slot)] for v, slot in enumerate(self.slots)]


def oracle(name: str, **changes: Any) -> tuple[naive_ghn._Naive, dict[str, Tensor]]:
    state = random_state_dict(dtype=torch.float64, **LAYOUTS[name])
    return naive_ghn._Naive(state, **options(name, **changes)), state


# ----- conventions -----


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_random_state_dict(layout: dict[str, Any]) -> None:
    state = random_state_dict(**layout)
    assert {name: tuple(x.shape) for name, x in state.items()} == list_shapes(**layout)
    assert all(x.abs().max() < 6 and (x != 0).all() for x in state.values())
    assert all(torch.equal(x, random_state_dict(**layout)[name]) for name, x in list(state.items())[:3])


def test_types() -> None:
    assert tuple(naive_ghn.TYPES) == NODE_TYPES
    assert [naive_ghn.read_type(t) for t in range(len(NODE_TYPES))] == list(PUBLISHED_TYPE_OF)


@pytest.mark.parametrize(
    ("S", "windows"),
    [
        (16, {1: [8], 2: [7, 8], 3: [7, 8, 9], 5: range(6, 11), 7: range(5, 12), 11: range(3, 14), 14: range(1, 15)}),
        (16, {16: range(16)}),
        (11, {1: [5], 2: [4, 5], 3: [4, 5, 6], 5: range(3, 8), 7: range(2, 9), 11: range(11)}),
    ],
)
def test_windows(S: int, windows: dict[int, Any]) -> None:
    for k, window in windows.items():
        assert [naive_ghn.sources_of(y, k, S, "centre") for y in range(k)] == [[(row, 1.0)] for row in window]
        assert [naive_ghn.sources_of(y, k, S, "corner") for y in range(k)] == [[(row, 1.0)] for row in range(k)]


# ----- propagation -----


def test_initial_embedding() -> None:
    ghn, state = oracle("ghn2")
    graph = Chain([((12, 3, 1, 4), "weight"), None, None, ((2,), "scale")], types=[4, 7, 0, 15])
    channel, spatial = state["shape_enc.embed_channel.weight"], state["shape_enc.embed_spatial.weight"]
    expected = [
        (4, channel[3], channel[1], spatial[0], spatial[1]),
        (7, channel[391], channel[391], spatial[8], spatial[8]),
        (0, channel[0], channel[0], spatial[1], spatial[1]),
        (12, channel[0], channel[0], spatial[0], spatial[0]),
    ]
    for v, (row, *parts) in enumerate(expected):
        assert torch.equal(ghn.initial(graph, v), state["embed.weight"][row] + torch.cat(parts))


def test_shortest_paths() -> None:
    graph = Chain([None] * 5, pairs=[(0, 1), (1, 2), (2, 3), (0, 2)])
    assert naive_ghn.shortest_paths(graph, 50)[0] == [0, 1, 1, 2, 0]
    assert naive_ghn.shortest_paths(graph, 1)[0] == [0, 1, 1, 0, 0]
    graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], 3))
    assert naive_ghn.shortest_paths(graph, 5) == graph.distances(5).tolist()


@pytest.mark.parametrize(("name", "expected"), [("ghn2", [0, 5, 3, 6.5]), ("ghn1", [0, 2, 0, 2])])
def test_messages(name: str, expected: list[float]) -> None:
    """Each message is 2 on an edge, 3 on a virtual one: 0; 2 + 3, as edges are virtual, too; 3 * 3/3; 5 + 3/2."""
    ghn, state = oracle(name)
    for key in state:
        if "mlp" in key:
            state[key] = torch.zeros_like(state[key])
    state["gnn.mlp.fc.2.bias"] += 2
    if name == "ghn2":
        state["gnn.mlp_ve.fc.2.bias"] += 3
    x = [torch.zeros(8, dtype=torch.float64)] * 3
    received = [ghn.message(x, distances)[0].item() for distances in ([0, 0, 0], [1, 0, 0], [3, 3, 3], [2, 1, 0])]
    assert received == pytest.approx(expected)


def test_gated_visits_every_node_twice() -> None:
    ghn, state = oracle("ghn2", layernorm=False)
    cell = torch.nn.GRUCell(8, 8, dtype=torch.float64)
    cell.load_state_dict({key.removeprefix("gnn.gru."): x for key, x in state.items() if "gru" in key})
    graph = Chain([None, ((8, 3), "weight"), None])
    x = [ghn.initial(graph, v) for v in range(3)]
    one, far = (lambda h, name=name: ghn.mlp_with_last_relu(name, h) for name in ("gnn.mlp", "gnn.mlp_ve"))
    x[0] = cell(torch.zeros_like(x[0]), x[0])
    x[1] = cell(one(x[0]) + far(x[0]), x[1])
    x[2] = cell(one(x[1]) + far(x[1]) + far(x[0]) / 2, x[2])
    x[2] = cell(torch.zeros_like(x[0]), x[2])
    x[1] = cell(one(x[2]) + far(x[2]), x[1])
    x[0] = cell(one(x[1]) + far(x[1]) + far(x[2]) / 2, x[0])
    torch.testing.assert_close(ghn.embeddings(graph), torch.stack(x), rtol=0, atol=1e-14)


def test_graphormer_against_torch_layers() -> None:
    ghn, state = oracle("ghn3")
    graph = Chain([None, ((8, 3), "weight"), None, None], pairs=[(0, 1), (1, 2), (0, 3)])
    A = torch.tensor([[0, 1, 2, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    degrees_in, degrees_out = [0, 1, 1, 1], [2, 1, 0, 0]

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[name + ".weight"], state.get(name + ".bias"))

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (8,), state[name + ".weight"], state[name + ".bias"])

    x = torch.stack([ghn.initial(graph, v) for v in range(4)])
    x = x + state["gnn.0.centrality_embed_in.weight"][degrees_in]
    x = x + state["gnn.0.centrality_embed_out.weight"][degrees_out]
    x = x + state["gnn.0.input_dist_embed.weight"][[0, 1, 2, 1]]
    edge = state["gnn.0.attn.edge_embed.embed.weight"]
    edge = torch.cat([edge[A + 2], edge[A.T + 2]], dim=-1)
    bias = linear("gnn.0.attn.proj_e.2", F.relu(linear("gnn.0.attn.proj_e.0", edge))).permute(2, 0, 1)
    for layer in ("gnn.0", "gnn.1"):
        qkv = linear(f"{layer}.attn.to_qkv", norm(f"{layer}.ln1", x)).reshape(4, 3, 2, 4).permute(1, 2, 0, 3)
        y = F.scaled_dot_product_attention(*qkv, attn_mask=bias).transpose(0, 1).reshape(4, 8)
        x = x + linear(f"{layer}.attn.to_out.0", y)
        x = x + linear(f"{layer}.ff.net.3", F.gelu(linear(f"{layer}.ff.net.0", norm(f"{layer}.ln2", x))))
    torch.testing.assert_close(ghn.embeddings(graph), norm("ln", x), rtol=0, atol=1e-13)


# ----- decoders -----


def conv_map(state: dict[str, Tensor], e: Tensor, S: int = 11) -> Tensor:
    """Return P (C_o, C_i, S, S), computed by 1x1 convolutions of PyTorch."""
    u = F.relu(F.linear(e, state["decoder.fc.0.weight"], state["decoder.fc.0.bias"])).reshape(1, -1, S, S)
    weights = [state[f"decoder.conv.{i}.weight"].flatten(1)[..., None, None] for i in (0, 2)]
    v = F.conv2d(
        F.relu(F.conv2d(u, weights[0], state["decoder.conv.0.bias"])), weights[1], state["decoder.conv.2.bias"]
    )
    return v.reshape(16, 16, S, S)


def decoded(name: str, shape: tuple[int, ...], role: str = "weight", **changes: Any) -> tuple[Tensor, Tensor, Any]:
    """Return the decoded parameter of a slot, the map P, and the state dict."""
    ghn, state = oracle(name, **changes)
    e = torch.randn(8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    P = conv_map(state, e) if name != "mlp decoder" else torch.empty(0)
    found = ghn.slot(e, shape, role)
    assert found.shape == shape
    return found, P, (state, e)


@pytest.mark.parametrize(("name", "start"), [("ghn2", 0), ("ghn3", 4)])
def test_kernels_are_slices_and_copies(name: str, start: int) -> None:
    found, P, _ = decoded(name, (40, 10, 3, 2), weight_norm=False)
    columns = slice(start, start + 2)
    torch.testing.assert_close(found[:16], P[:, :10, start : start + 3, columns])
    assert torch.equal(found[16:32], found[:16])
    assert torch.equal(found[32:], found[:8])
    found, P, _ = decoded(name, (10, 40), weight_norm=False)
    centre = 5 if name == "ghn3" else 0
    torch.testing.assert_close(found, P[:10, :, centre, centre].repeat(1, 3)[:, :40])
    found, P, _ = decoded(name, (16, 16, 5, 3, 2), weight_norm=False)
    torch.testing.assert_close(found, P[:, :, None, start : start + 3, columns].expand(found.shape))


@pytest.mark.parametrize("i", range(1, 17))
def test_needed_rows_suffice(i: int) -> None:
    """The prefix property: rows o * C_i + i of the last layer give the slice, for every number of inputs."""
    found, _, (state, e) = decoded("ghn2", (12, i, 1, 1), weight_norm=False)
    rows = torch.tensor([o * 16 + column for o in range(12) for column in range(i)])
    u = F.relu(F.linear(e, state["decoder.fc.0.weight"], state["decoder.fc.0.bias"])).reshape(-1, 11, 11)[:, 0, 0]
    hidden = F.relu(state["decoder.conv.0.weight"].flatten(1) @ u + state["decoder.conv.0.bias"])
    kept = state["decoder.conv.2.weight"].flatten(1)[rows] @ hidden + state["decoder.conv.2.bias"][rows]
    torch.testing.assert_close(found.reshape(12, i), kept.reshape(12, i), rtol=0, atol=1e-13)


def test_larger_than_the_map() -> None:
    found, P, _ = decoded("ghn2", (4, 4, 14, 23), weight_norm=False)
    torch.testing.assert_close(found, P[:4, :4].repeat(1, 1, 2, 3)[:, :, :14, :23])
    found, P, _ = decoded("ghn3", (4, 4, 14, 23), weight_norm=False)
    torch.testing.assert_close(found, F.interpolate(P[:4, :4], (14, 23), mode="bilinear"))
    found, P, _ = decoded("ghn3", (4, 4, 14, 3), weight_norm=False)
    torch.testing.assert_close(found, F.interpolate(P[:4, :4, :, 4:7], (14, 3), mode="bilinear"))


@pytest.mark.parametrize(("name", "at"), [("ghn2", 0), ("ghn3", 5)])
def test_class_layers(name: str, at: int) -> None:
    found, P, (state, e) = decoded(name, (12, 20, 1, 1), "class_weight", weight_norm=False)
    head = "decoder.class_layer_predictor.1"
    Q = state[head + ".weight"].flatten(1) @ F.relu(P[:, :, at, at]) + state[head + ".bias"][:, None]
    torch.testing.assert_close(found[:10, :16, 0, 0], Q)
    torch.testing.assert_close(found[10:, 16:, 0, 0], Q[:2, :4])
    bias, _, _ = decoded(name, (12,), "class_bias", weight_norm=False)
    q = one_dimensional(state, e)[1]
    L = F.linear(F.relu(q), state["bias_class.1.weight"], state["bias_class.1.bias"])
    torch.testing.assert_close(bias, torch.cat([L, L[:2]]))


def one_dimensional(state: dict[str, Tensor], e: Tensor) -> Tensor:
    q = F.relu(F.linear(e, state["decoder_1d.fc.0.weight"], state["decoder_1d.fc.0.bias"]))
    return F.linear(q, state["decoder_1d.fc.2.weight"], state["decoder_1d.fc.2.bias"]).reshape(2, 16)


def sigmoid(p: Tensor) -> Tensor:
    return 2 * torch.sigmoid(0.5 * p)


def tanh(p: Tensor) -> Tensor:
    return torch.tanh(0.2 * p)


@pytest.mark.parametrize(
    ("shape", "role", "row", "rule"),
    [
        ((20,), "norm_weight", 0, sigmoid),
        ((20,), "weight", 0, sigmoid),
        ((20, 1, 1), "scale", 0, sigmoid),
        ((), "scale", 0, sigmoid),
        ((20,), "norm_bias", 1, tanh),
        ((20,), "bias", 1, tanh),
        ((1, 20, 1, 1), "bias", 1, tanh),
        ((20,), "pos_enc", 1, tanh),
        ((20,), "token", 1, tanh),
        ((1, 1, 20), "token", 1, None),
    ],
)
def test_vectors(shape: tuple[int, ...], role: str, row: int, rule: Any) -> None:
    found, _, (state, e) = decoded("ghn2", shape, role)
    q = one_dimensional(state, e)[row]
    q = torch.cat([q, q[:4]])[: found.numel()].reshape(shape)
    torch.testing.assert_close(found, rule(q) if rule else q)
    plain, _, _ = decoded("ghn2", shape, role, weight_norm=False)
    torch.testing.assert_close(plain, q)


def test_positions() -> None:
    found, P, _ = decoded("ghn3", (1, 18, 20), "pos_enc", weight_norm=True)
    noise = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)) * 0.02
    assert torch.equal(found[0, :2, :16], noise.double())
    torch.testing.assert_close(found[0, 2:, :16], P[0, :, 3:7, 3:7].flatten(1).T)
    assert torch.equal(found[..., 16:], found[..., :4])
    found, P, _ = decoded("ghn2", (1, 16, 8), "pos_enc", weight_norm=True)
    torch.testing.assert_close(found[0], P[0, :8, :4, :4].flatten(1).T * math.sqrt(2 / 128))


@pytest.mark.parametrize(
    ("shape", "gain"),
    [
        ((1, 32, 11, 11), 1),
        ((32, 1, 3, 3), math.sqrt(1 / 9)),
        ((32, 8, 1, 7), math.sqrt(1 / 56)),
        ((32, 8, 7, 1), math.sqrt(2 / 56)),
        ((32, 8, 1, 1), math.sqrt(2 / 8)),
        ((10, 64), math.sqrt(2 / 64)),
        ((10, 1), math.sqrt(2)),
        ((10, 1, 9), math.sqrt(1 / 9)),
        ((10, 4, 9), math.sqrt(2 / 36)),
        ((1, 197, 384), 1),
    ],
)
def test_gain(shape: tuple[int, ...], gain: float) -> None:
    assert naive_ghn._Naive.gain(shape) == pytest.approx(gain)


def test_mlp_decoder() -> None:
    found, _, (state, e) = decoded("mlp decoder", (8, 16, 2, 3), weight_norm=False)
    hidden = F.linear(e, state["decoder.mlp.fc.0.weight"], state["decoder.mlp.fc.0.bias"])
    P = F.linear(F.relu(hidden), state["decoder.mlp.fc.2.weight"], state["decoder.mlp.fc.2.bias"])
    torch.testing.assert_close(found, P.reshape(16, 16, 3, 3)[:8, :, :2])
    found, _, _ = decoded("mlp decoder", (10, 16), "class_weight", weight_norm=False)
    head = "decoder.class_layer_predictor.1"
    Q = F.linear(F.relu(hidden), state[head + ".weight"], state[head + ".bias"])
    torch.testing.assert_close(found, Q.reshape(10, 16))


# ----- whole networks -----


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", LAYOUTS)
def test_whole_networks(name: str) -> None:
    """Every parameter gets a tensor of its shape, and every tensor of the state dict a gradient."""
    config = NetworkConfig(GENOTYPES["ViT"], 2, C=16, C_mult=1, preproc=False)
    other = NetworkConfig(GENOTYPES["DARTS"], 2, C=8, norm="bn")
    graphs = [build_graph(config), build_graph(other)]
    state = {key: x.requires_grad_() for key, x in random_state_dict(dtype=torch.float64, **LAYOUTS[name]).items()}
    predictions = naive_predict(state, graphs=graphs, **options(name))
    for graph, predicted in zip(graphs, predictions):
        slots = [slot for node in graph.parameters for slot in node]
        assert {slot.name: slot.shape for slot in slots} == {key: tuple(x.shape) for key, x in predicted.items()}
        assert all(0.01 < x.detach().std() < 5 for x in predicted.values() if x.numel() > 1)
    total = sum(x.sum() for predicted in predictions for x in predicted.values())
    assert all(x is not None and x.any() for x in torch.autograd.grad(total, list(state.values())))
    embeddings = naive_embeddings(state, graphs=graphs, **options(name))
    assert [tuple(x.shape) for x in embeddings] == [(graph.num_nodes, 8) for graph in graphs]
    body = naive_predict(state, graphs=graphs[:1], predict_class_layers=False, **options(name))[0]
    left_out = {slot.name for node in graphs[0].parameters for slot in node if slot.role.startswith("class")}
    assert set(predictions[0]) - set(body) == left_out
    assert len(left_out) == 2
    assert all(torch.equal(x, predictions[0][key]) for key, x in body.items())
