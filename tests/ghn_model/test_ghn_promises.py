"""Properties of `GHN`: names and shapes, predictions, initialisation, gradients, training, and errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from deepnets import GENOTYPES, Graph, GraphBatch, Network, NetworkConfig, build_graph
from deepnets.support import ConfigError
from ghn_model import GHN, GHNConfig
from tests.support.strategies import configs

DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=20)
VIT = NetworkConfig(GENOTYPES["ViT"], n_cells=2, C=16, C_mult=1, preproc=False)
TINY = {"hidden": 8, "max_shape": (16, 16, 5, 5)}
KINDS: dict[str, GHNConfig] = {
    "gatedgnn": GHNConfig(**TINY),  # type: ignore[arg-type]
    "edges alone": GHNConfig(**TINY, virtual_edges=1, layernorm=False, weight_norm=False),  # type: ignore[arg-type]
    "mlp": GHNConfig(**TINY, hypernet="mlp"),  # type: ignore[arg-type]
    "mlp decoder": GHNConfig(**TINY, decoder="mlp"),  # type: ignore[arg-type]
    "graphormer": GHNConfig(**TINY, hypernet="graphormer", heads=2, layers=2, window="centre"),  # type: ignore[arg-type]
}


def made(kind: str = "gatedgnn", seed: int = 0) -> GHN:
    torch.manual_seed(seed)
    return GHN(KINDS[kind]).eval()


def network(config: NetworkConfig = DARTS, **options: Any) -> Network:
    return Network(config, **options)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


# --- what it consists of ---


@pytest.mark.parametrize(
    ("preset", "classes", "size", "changes", "count"),
    [
        ("ghn2", 10, 32, {}, 1_620_764),
        ("ghn1", 10, 32, {}, 1_620_668),
        ("mlp", 10, 32, {}, 1_614_396),
        ("ghn2", 1000, 224, {}, 2_319_720),
        ("ghn2", 10, 32, {"decoder": "mlp"}, 32_282_066),
        ("ghn3-t", 10, 32, {}, 4_531_500),
        ("ghn3-t", 1000, 224, {}, 6_906_632),
        ("ghn3-s", 1000, 224, {}, 35_810_368),
        ("ghn3-l", 1000, 224, {}, 214_668_960),
        ("ghn3-xl", 1000, 224, {}, 654_365_184),
    ],
)
def test_numbers_of_parameters(preset: str, classes: int, size: int, changes: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        ghn = GHN(GHNConfig.preset(preset, classes, size, **changes))
    assert sum(parameter.numel() for parameter in ghn.parameters()) == count


def affine(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def ghn2_keys(h: int, K: int, S: int, spatial: int, channels: int) -> dict[str, tuple[int, ...]]:
    return {
        **affine("ln", h),
        "embed.weight": (15, h),
        "shape_enc.embed_spatial.weight": (spatial, h // 4),
        "shape_enc.embed_channel.weight": (channels, h // 4),
        **affine("gnn.mlp.fc.0", h // 2, h),
        **affine("gnn.mlp.fc.2", h, h // 2),
        **affine("gnn.mlp_ve.fc.0", h // 2, h),
        **affine("gnn.mlp_ve.fc.2", h, h // 2),
        "gnn.gru.weight_ih": (3 * h, h),
        "gnn.gru.weight_hh": (3 * h, h),
        "gnn.gru.bias_ih": (3 * h,),
        "gnn.gru.bias_hh": (3 * h,),
        **affine("decoder.fc.0", 4 * h * S * S, h),
        **affine("decoder.conv.0", 8 * h, 4 * h, 1, 1),
        **affine("decoder.conv.2", 4 * h * h, 8 * h, 1, 1),
        **affine("decoder.class_layer_predictor.1", K, 2 * h, 1, 1),
        **affine("decoder_1d.fc.0", 2 * h, h),
        **affine("decoder_1d.fc.2", 4 * h, 2 * h),
        **affine("bias_class.1", K, 2 * h),
    }


def ghn3_keys(h: int, K: int, S: int, layers: int, heads: int) -> dict[str, tuple[int, ...]]:
    gnn: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        name = f"gnn.{layer}"
        gnn |= {**affine(f"{name}.ln1", h), **affine(f"{name}.ln2", h), f"{name}.attn.to_qkv.weight": (3 * h, h)}
        gnn |= {**affine(f"{name}.attn.to_out.0", h, h), **affine(f"{name}.ff.net.0", 4 * h, h)}
        gnn |= affine(f"{name}.ff.net.3", h, 4 * h)
    gnn |= {"gnn.0.attn.edge_embed.embed.weight": (257, h), **affine("gnn.0.attn.proj_e.0", h, 2 * h)}
    gnn |= affine("gnn.0.attn.proj_e.2", heads, h)
    gnn |= {f"gnn.0.centrality_embed_{way}.weight": (101, h) for way in ("in", "out")}
    gnn |= {"gnn.0.input_dist_embed.weight": (1001, h)}
    return {
        **affine("ln", h),
        "embed.weight": (15, h),
        "shape_enc.embed_spatial.weight": (11, h // 4),
        "shape_enc.embed_channel.weight": (392, h // 4),
        **gnn,
        **affine("decoder.fc.0", 4 * h * S * S, h),
        **affine("decoder.conv.0", 8 * h, 4 * h),
        **affine("decoder.conv.2", h * h, 8 * h),
        **affine("decoder.class_layer_predictor.1", K, h),
        **affine("decoder_1d.fc.0", 2 * h, h),
        **affine("decoder_1d.fc.2", 2 * h, 2 * h),
        **affine("bias_class.1", K, h),
    }


def keys(preset: str, classes: int, size: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        ghn = GHN(GHNConfig.preset(preset, classes, size))
    return {name: tuple(tensor.shape) for name, tensor in ghn.state_dict().items()}


@pytest.mark.parametrize(("classes", "size", "side", "spatial"), [(10, 32, 11, 9), (1000, 224, 16, 11)])
def test_names_shapes_and_order_of_ghn2(classes: int, size: int, side: int, spatial: int) -> None:
    """In the order of the published files."""
    expected = ghn2_keys(32, classes, side, spatial, 392)
    assert list(keys("ghn2", classes, size).items()) == list(expected.items())


def test_names_and_shapes_of_ghn1_and_mlp() -> None:
    common = ghn2_keys(32, 10, 11, 9, 392)
    ghn1 = {name: shape for name, shape in common.items() if not name.startswith(("ln.", "gnn.mlp_ve"))}
    ghn1 |= {**affine("gnn.mlp.fc.0", 32, 32), **affine("gnn.mlp.fc.2", 32, 32)}
    assert list(keys("ghn1", 10, 32).items()) == list(ghn1.items())
    mlp = {name: shape for name, shape in common.items() if not name.startswith("gnn.")}
    assert keys("mlp", 10, 32) == {**mlp, **affine("gnn.fc.0", 32, 32), **affine("gnn.fc.2", 32, 32)}


def test_names_and_shapes_of_ghn3() -> None:
    assert keys("ghn3-t", 1000, 224) == ghn3_keys(64, 1000, 16, layers=3, heads=8)


# --- prediction ---


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(config=configs(max_cells=3, with_output=True))
def test_every_parameter_that_data_reaches_is_predicted(kind: str, config: NetworkConfig) -> None:
    ghn, model = made(kind), network(config)
    before, random_state = state(model), torch.get_rng_state()
    predicted = ghn.predict(model)
    unused = {slot.name for slot in build_graph(config).unused}
    shapes = {name: parameter.shape for name, parameter in model.named_parameters() if name not in unused}
    assert {name: tensor.shape for name, tensor in predicted.items()} == shapes
    assert equal(before, state(model))
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(tensor.isfinite().all() and not tensor.requires_grad for tensor in predicted.values())
    (differentiable,) = ghn(build_graph(config))
    assert list(differentiable) == list(predicted)
    for name, tensor in predicted.items():
        assert torch.allclose(differentiable[name], tensor, atol=1e-5), name


def test_predicted_tensors_share_no_memory() -> None:
    predicted = made().predict(network())
    places = [tensor.untyped_storage().data_ptr() for tensor in predicted.values()]
    assert len(set(places)) == len(places)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in predicted.values())
    assert all(tensor.is_contiguous() for tensor in predicted.values())


@pytest.mark.parametrize("kind", KINDS)
def test_many_networks_in_one_call(kind: str) -> None:
    ghn = made(kind)
    models = [network(DARTS.replace(n_cells=cells)) for cells in (4, 1)] + [network(VIT)]
    for together, model in zip(ghn.predict(models), models):
        alone = ghn.predict(model)
        assert list(together) == list(alone)
        assert all(torch.allclose(together[name], tensor, atol=1e-6) for name, tensor in alone.items())
    embeddings = ghn.embed(models)
    assert embeddings.shape == (3, 8)
    assert torch.allclose(embeddings[2], ghn.embed(models[2]), atol=1e-6)


def test_more_classes_than_the_hypernetwork_has() -> None:
    predicted = made().predict(network(num_classes=25))
    weight, bias = predicted["classifier.0.weight"], predicted["classifier.0.bias"]
    assert torch.equal(weight[:5], weight[10:15])
    assert torch.equal(weight[:5], weight[20:])
    assert torch.equal(bias[:10], bias[10:20])


@pytest.mark.parametrize("kind", KINDS)
def test_without_class_layers(kind: str) -> None:
    ghn, model = made(kind), network()
    everything = ghn.predict(model)
    some = ghn.predict(model, predict_class_layers=False)
    assert everything.keys() - some.keys() == {"classifier.0.weight", "classifier.0.bias"}
    assert all(torch.equal(everything[name], tensor) for name, tensor in some.items())


# --- initialisation ---


def half(model: nn.Module) -> nn.Module:
    return model.half()


def channels_last(model: nn.Module) -> nn.Module:
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [nn.Module.float, nn.Module.double, half, channels_last])
def test_predicted_parameters_are_written(kind: str, change: Callable[[nn.Module], nn.Module]) -> None:
    ghn = made(kind)
    model = change(network())
    before = {name: (parameter.data_ptr(), parameter.stride()) for name, parameter in model.named_parameters()}
    assert ghn.initialize(model) is model
    for name, tensor in ghn.predict(model).items():
        parameter = model.get_parameter(name)
        assert (parameter.data_ptr(), parameter.stride()) == before[name]
        assert parameter.requires_grad
        assert torch.equal(parameter, tensor.to(parameter.dtype))


def test_class_layers_and_buffers_stay() -> None:
    model = network()
    before = state(model)
    made().initialize(model, predict_class_layers=False)
    after = state(model)
    kept = [name for name in before if torch.equal(before[name], after[name])]
    buffers = [name for name, _ in model.named_buffers()]
    assert {"classifier.0.weight", "classifier.0.bias", *buffers} <= set(kept)
    assert "stem.0.weight" not in kept


def test_batch_statistics() -> None:
    model = network(DARTS.replace(norm="bn-track"))
    made().initialize(model, batch_statistics=True).eval()
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(model(images)[:4], model(images[:4]))


def test_noise_makes_copies_differ() -> None:
    ghn, model = made(), network(DARTS.replace(C=64))
    name = next(n for n, p in model.named_parameters() if p.dim() == 4 and p.shape[0] > 32 and p.shape[1] >= 16)
    ghn.initialize(model)
    weight = model.get_parameter(name).detach().clone()
    assert torch.equal(weight[:16], weight[16:32])
    ghn.initialize(model, noise=1e-3)
    varied = model.get_parameter(name)
    assert not torch.equal(varied[:16], varied[16:32])
    assert torch.allclose(varied, weight, atol=0.05)


# --- training ---


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind: str) -> None:
    ghn = made(kind)
    results = ghn([build_graph(VIT), build_graph(DARTS)])
    sum((tensor * torch.randn_like(tensor)).sum() for result in results for tensor in result.values()).backward()  # type: ignore[union-attr]
    for name, parameter in ghn.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_gradients_when_only_a_part_is_trained() -> None:
    """If no module before the encoder is trained, the gradients still reach the encoder's weights."""
    ghn = made()
    for name, parameter in ghn.named_parameters():
        parameter.requires_grad_(name.startswith("gnn."))
    (result,) = ghn(build_graph(DARTS))
    sum(tensor.sum() for tensor in result.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in ghn.gnn.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_for_training_are_dense(kind: str) -> None:
    """Convolutions and norms of many tensors are slow otherwise, as the backward pass of the penalty is."""
    configs = [DARTS, DARTS.replace(C=72, n_cells=4), NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=20), VIT]
    predicted = made(kind)([build_graph(config) for config in configs])
    tensors = [tensor for parameters in predicted for tensor in parameters.values()]
    assert sum(tensor.dim() == 4 for tensor in tensors) > 100
    assert all(tensor.is_contiguous() for tensor in tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_graphs(kind: str) -> None:
    """Graphs can be prepared in advance, for example in a worker process."""
    ghn, graphs = made(kind), [build_graph(DARTS), build_graph(VIT)]
    prepared = pickle.loads(pickle.dumps(ghn.prepare(graphs)))
    for result, expected in zip(ghn(prepared), ghn(graphs)):
        assert equal(result, expected)
    assert torch.equal(ghn.encode(prepared), ghn.encode(graphs))
    with torch.no_grad():
        assert torch.allclose(ghn.encode(prepared), ghn.encode(graphs), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_graphs(kind: str) -> None:
    """The cutoff of virtual edges is that of the hypernetwork, not that of the batch."""
    ghn, graphs = made(kind), [build_graph(DARTS), build_graph(VIT)]
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            for result, expected in zip(ghn(GraphBatch(graphs, virtual_edges=3)), ghn(graphs)):
                assert equal(result, expected)


def test_training_learns() -> None:
    """Adam lowers the distance of predicted parameters from given ones."""
    ghn, graph = made(), build_graph(VIT)
    goal = {slot.name: 0.1 * torch.randn(slot.shape) for slots in graph.parameters for slot in slots}
    optimizer = torch.optim.Adam(ghn.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        (result,) = ghn(graph)
        loss = sum(((tensor - goal[name]) ** 2).mean() for name, tensor in result.items())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


def test_copies_predict_the_same() -> None:
    ghn = made()
    assert equal(copy.deepcopy(ghn).predict(network()), ghn.predict(network()))


def nameless() -> Graph:
    return Graph(np.array([9, 4], np.uint8), [0, 0], [0, 1], [0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ghn: ghn([]), "graphs: expected one Graph or more"),
        (lambda ghn: ghn("resnet50"), "graphs: expected one Graph or more"),
        (lambda ghn: ghn([build_graph(VIT), 3]), "graphs: expected one Graph or more"),
        (lambda ghn: ghn(nameless()), "does not know the parameters"),
        (lambda ghn: ghn.predict([]), "model: expected a torch.nn.Module"),
        (lambda ghn: ghn.predict("resnet50"), "model: expected a torch.nn.Module"),
        (lambda ghn: ghn.initialize([nn.Linear(3, 2)]), "model: expected a torch.nn.Module, got a list of Linear"),
        (lambda ghn: ghn.predict(network(), graph="graph"), "expected one Graph"),
        (lambda ghn: ghn.predict(network(), graph=[build_graph(VIT)] * 2), "graph: expected one for each"),
        (lambda ghn: ghn.initialize(network(), graph=build_graph(VIT)), "which the model lacks"),
        (lambda ghn: ghn.initialize(network(), graph=build_graph(DARTS, 100)), "has shape"),
        (lambda ghn: ghn.initialize(network(), graph=build_graph(DARTS, 100), noise=1e-5), "has shape"),
        (lambda ghn: ghn.initialize(network().to("meta")), "meta device"),
        (lambda ghn: GHN("ghn5"), "unknown 'ghn5'"),
        (lambda ghn: GHN(5), "config: expected a GHNConfig"),
    ],
)
def test_invalid_values(call: Callable[[GHN], Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        call(made())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_is_written_if_a_graph_does_not_fit() -> None:
    model = network()
    before = state(model)
    with pytest.raises(ConfigError):
        made().initialize(model, graph=build_graph(DARTS, 100))
    assert equal(before, state(model))
