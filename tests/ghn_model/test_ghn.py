"""Using a hypernetwork: predictions, initialisation, embeddings, and errors of invalid arguments."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

from deepnets import (
    GENOTYPES,
    CheckpointError,
    ConfigError,
    Graph,
    GraphBatch,
    Network,
    NetworkConfig,
    TraceError,
    build_graph,
    trace,
)
from deepnets.architecture import NODE_TYPES, PUBLISHED_NODE_TYPES
from ghn_model import GHN, PRESETS, GHNConfig
from tests.support.strategies import configs

VIT = NetworkConfig(GENOTYPES["ViT"], n_cells=2, C=16, C_mult=1, preproc=False)
DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=20)
SMALL = {"max_shape": (16, 16, 5, 5), "hidden": 8}


class Small(nn.Module):
    """A classifier with a batch norm and a parameter that no data reaches."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, padding=1)
        self.bn = nn.BatchNorm2d(24)
        self.idle = nn.Linear(2, 2)
        self.classifier = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.bn(self.conv(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def ghn() -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig.preset("ghn2", **SMALL)).eval()


def snapshot(model: nn.Module) -> Any:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [(name, p.requires_grad, p.grad, p._version) for name, p in model.named_parameters()]
    return state, flags, [module.training for module in model.modules()]


def assert_same(before: Any, after: Any) -> None:
    assert all(torch.equal(tensor, after[0][name]) for name, tensor in before[0].items())
    assert before[1:] == after[1:]


# --- configurations ---


@pytest.mark.parametrize(
    ("name", "classes", "size", "count"),
    [
        ("ghn2", 10, 32, 1_620_764),
        ("ghn1", 10, 32, 1_620_668),
        ("mlp", 10, 32, 1_614_396),
        ("ghn2", 1000, 224, 2_319_720),
        ("ghn3-t", 1000, 224, 6_906_632),
        ("ghn3-s", 1000, 224, 35_810_368),
        ("ghn3-t", 10, 32, 4_531_500),
    ],
)
def test_published_sizes(name: str, classes: int, size: int, count: int) -> None:
    ghn = GHN(GHNConfig.preset(name, classes, size))
    assert sum(parameter.numel() for parameter in ghn.parameters()) == count


@pytest.mark.parametrize(("name", "count"), [("ghn3-l", 214_668_960), ("ghn3-xl", 654_365_184)])
def test_published_sizes_of_large_hypernetworks(name: str, count: int) -> None:
    with torch.device("meta"):
        ghn = GHN(GHNConfig.preset(name, 1000, 224))
    assert sum(parameter.numel() for parameter in ghn.parameters()) == count


def test_names_and_order_of_the_published_files() -> None:
    names = [
        *("ln", "embed", "shape_enc.embed_spatial", "shape_enc.embed_channel"),
        *("gnn.mlp.fc.0", "gnn.mlp.fc.2", "gnn.mlp_ve.fc.0", "gnn.mlp_ve.fc.2", "gnn.gru"),
        *("decoder.fc.0", "decoder.conv.0", "decoder.conv.2", "decoder.class_layer_predictor.1"),
        *("decoder_1d.fc.0", "decoder_1d.fc.2", "bias_class.1"),
    ]
    shapes = {name: tuple(tensor.shape) for name, tensor in GHN("ghn2").state_dict().items()}
    assert list(dict.fromkeys(name.rpartition(".")[0] for name in shapes)) == names
    assert shapes["decoder.conv.0.weight"] == (256, 128, 1, 1)
    assert shapes["decoder.conv.2.weight"] == (4096, 256, 1, 1)
    assert shapes["decoder.fc.0.weight"] == (15_488, 32)
    assert shapes["shape_enc.embed_spatial.weight"] == (9, 8)
    assert shapes["shape_enc.embed_channel.weight"] == (392, 8)
    large = {
        name: tuple(tensor.shape) for name, tensor in GHN(GHNConfig.preset("ghn3-t", 1000, 224)).state_dict().items()
    }
    assert large["decoder.conv.2.weight"] == (4096, 512)
    assert large["gnn.0.attn.edge_embed.embed.weight"] == (257, 64)
    assert large["gnn.0.input_dist_embed.weight"] == (1001, 64)
    assert large["gnn.0.attn.proj_e.2.weight"] == (8, 64)
    assert large["shape_enc.embed_spatial.weight"] == (11, 16)


@pytest.mark.parametrize("name", PRESETS)
def test_configs_as_values(name: str) -> None:
    config = GHNConfig.preset(name, 100, 224)
    assert GHNConfig.from_dict(config.to_dict()) == config
    assert config.replace(num_classes=7).num_classes == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hypernet": "rnn"}, "hypernet: expected one of gatedgnn, mlp, graphormer"),
        ({"decoder": 3}, "decoder: expected one of"),
        ({"hidden": 30}, "multiple of 4"),
        ({"hidden": 2.5}, "hidden: expected an integer"),
        ({"max_shape": (64, 64, 11)}, "max_shape: expected four integers"),
        ({"num_classes": 0}, "num_classes: expected an integer, 1 to 2147483647"),
        ({"virtual_edges": 300}, "virtual_edges"),
        ({"weight_norm": 1}, "weight_norm: expected true or false"),
        ({"hypernet": "graphormer", "heads": 7}, "heads: must divide"),
        ({"hypernet": "graphormer", "decoder": "mlp"}, "decoder"),
    ],
)
def test_invalid_configs(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GHNConfig(**values)


def test_unknown_presets_and_keys() -> None:
    with pytest.raises(ConfigError, match="preset: unknown 'ghn4'; use one of mlp, ghn1, ghn2, ghn3-t"):
        GHN("ghn4")
    with pytest.raises(ConfigError, match="unknown key 'width'; valid keys are hypernet"):
        GHNConfig.from_dict({"width": 3})
    with pytest.raises(ConfigError, match="expected a GHNConfig or the name of a preset, got dict"):
        GHN({})  # type: ignore[arg-type]


# --- prediction ---


def test_predictions_do_not_change_the_model(ghn: GHN) -> None:
    model = Small().train()
    before = snapshot(model)
    predicted = ghn.predict(model)
    assert_same(before, snapshot(model))
    assert list(predicted) == [
        "conv.weight",
        "conv.bias",
        "bn.weight",
        "bn.bias",
        "classifier.weight",
        "classifier.bias",
    ]
    for name, tensor in predicted.items():
        assert tensor.shape == model.get_parameter(name).shape
        assert not tensor.requires_grad
        assert tensor.untyped_storage().nbytes() == tensor.nbytes  # its own memory
    again = ghn.predict(model)
    assert all(torch.equal(tensor, again[name]) for name, tensor in predicted.items())


def test_a_model_in_training_on_meta_or_compiled_is_the_same_model(ghn: GHN) -> None:
    reference = ghn.predict(Small().eval())
    with torch.device("meta"):
        variants = {"": Small().train(), "meta": Small()}
    variants["compiled"] = torch.compile(Small())
    variants["half"] = Small().half()
    for kind, model in variants.items():
        prefix = "_orig_mod." if kind == "compiled" else ""
        predicted = ghn.predict(model)
        assert predicted.keys() == {prefix + name for name in reference}
        assert all(torch.equal(predicted[prefix + name], tensor) for name, tensor in reference.items())


def test_without_the_class_layers(ghn: GHN) -> None:
    whole, part = ghn.predict(Small()), ghn.predict(Small(), predict_class_layers=False)
    assert whole.keys() - part.keys() == {"classifier.weight", "classifier.bias"}
    assert all(torch.allclose(whole[name], tensor, atol=1e-6) for name, tensor in part.items())
    (differentiable,) = ghn(build_graph(VIT), predict_class_layers=False)
    assert not any(name.startswith("classifier") for name in differentiable)


def test_everything_is_differentiable(ghn: GHN) -> None:
    ghn.zero_grad()
    results = ghn([build_graph(VIT), build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))])
    sum(tensor.sum() for result in results for tensor in result.values()).backward()  # type: ignore[union-attr]
    without = [name for name, parameter in ghn.named_parameters() if parameter.grad is None]
    assert without == []
    ghn.zero_grad()


@pytest.mark.sampled(4)
@pytest.mark.parametrize("preset", ["ghn1", "ghn2", "mlp", "ghn3-t"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs(with_output=True))
def test_every_parameter_that_data_reaches(preset: str, config: NetworkConfig) -> None:
    changes = {**SMALL, **({"heads": 2} if preset == "ghn3-t" else {})}
    hypernetwork = GHN(GHNConfig.preset(preset, **changes))
    config = config.replace(norm=config.norm and "bnorm")  # running statistics would be on meta
    with torch.device("meta"):
        network = Network(config)
    predicted = hypernetwork.predict(network)
    graph = build_graph(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert {name: tuple(tensor.shape) for name, tensor in predicted.items()} == {
        name: shape for name, shape in shapes.items() if name not in {slot.name for slot in graph.unused}
    }
    assert all(tensor.isfinite().all() for tensor in predicted.values())
    outputs = torch.func.functional_call(network, predicted, torch.randn(2, 3, 32, 32), tie_weights=False)
    assert outputs.shape == (2, 10)
    assert outputs.device.type == "cpu"


@pytest.mark.parametrize("kind", NODE_TYPES[len(PUBLISHED_NODE_TYPES) :])
def test_types_of_other_networks_have_an_embedding(ghn: GHN, kind: str) -> None:
    graph = Graph([NODE_TYPES.index("input"), NODE_TYPES.index(kind)], [0, 0], [0, 1], [0], slots=None)
    slots = ((), ())
    graph.__dict__["_slots"] = type("Slots", (), {"nodes": slots, "unused": ()})()
    assert ghn.encode(graph).isfinite().all()


# --- initialisation ---


def test_initialisation(ghn: GHN) -> None:
    model = Small().train()
    before, predicted = snapshot(model), ghn.predict(model)
    assert ghn.initialize(model) is model
    after = snapshot(model)
    assert all(torch.equal(model.get_parameter(name), tensor) for name, tensor in predicted.items())
    for name in before[0].keys() - predicted.keys():  # idle parameters, buffers
        assert torch.equal(before[0][name], after[0][name]), name
    assert before[2] == after[2]
    assert all(parameter.requires_grad for parameter in model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_initialisation_keeps_types(ghn: GHN, dtype: torch.dtype) -> None:
    model = Small().to(dtype)
    ghn.initialize(model)
    for name, tensor in ghn.predict(model).items():
        assert model.get_parameter(name).dtype == dtype
        assert torch.equal(model.get_parameter(name), tensor.to(dtype))


def test_initialisation_of_other_memory_layouts(ghn: GHN) -> None:
    model = Small().to(memory_format=torch.channels_last)
    ghn.initialize(model)
    predicted = ghn.predict(model)
    assert torch.equal(model.conv.weight, predicted["conv.weight"])
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_fine_tuning_options(ghn: GHN) -> None:
    plain, kept = ghn.initialize(Small()), Small()
    classifier = copy.deepcopy(kept.classifier)
    ghn.initialize(kept, predict_class_layers=False)
    assert torch.equal(kept.classifier.weight, classifier.weight)
    noisy = ghn.initialize(Small(), noise=1e-3)
    assert not torch.equal(noisy.conv.weight, plain.conv.weight)
    orthogonal = ghn.initialize(Small(), orthogonal_from=1).conv.weight.flatten(1)
    assert torch.allclose(orthogonal @ orthogonal.t(), torch.eye(24), atol=1e-5)


def test_batch_statistics(ghn: GHN) -> None:
    images = torch.randn(16, 3, 8, 8) * 5 + 3
    model = ghn.initialize(Small(), batch_statistics=True).eval()
    features = model.bn(model.conv(images))
    expected = model.bn.weight[:, None, None] * torch.ones(1)
    assert torch.allclose(features.std((0, 2, 3), correction=0)[:, None, None], expected.abs(), rtol=1e-2)
    assert isinstance(ghn.initialize(Small()).bn.running_mean, Tensor)


# --- embeddings ---


def test_embeddings(ghn: GHN) -> None:
    models = [Small(), Small(7), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(3))]
    models[2](torch.zeros(1, 3, 224, 224))
    together = ghn.embed(models)
    assert together.shape == (3, 8)
    assert ghn.embed(models[0]).shape == (8,)
    assert torch.allclose(ghn.embed(models[1]), together[1], atol=1e-6)
    near, far = (together[0] - together[i] for i in (1, 2))
    assert near.norm() < far.norm()


# --- what users do wrong ---


def test_wrong_models_and_graphs(ghn: GHN) -> None:
    for junk in ("resnet50", None, 3, [], [nn.Linear(2, 2), "x"]):
        with pytest.raises(ConfigError, match=r"model: expected a torch.nn.Module"):
            ghn.predict(junk)  # type: ignore[arg-type]
    for junk in ([], "x", [1], None):
        with pytest.raises(ConfigError, match="graphs: expected one Graph or more"):
            ghn(junk)
    with pytest.raises(ConfigError, match="does not know the parameters"):
        ghn(Graph([9, 4], [0, 0], [0, 1], [0]))
    with pytest.raises(ConfigError, match="one for each of 2 models, got 1"):
        ghn.predict([Small(), Small()], graph=build_graph(VIT))
    with pytest.raises(ConfigError, match=r"graph: has the parameter .*, which the model lacks"):
        ghn.predict(Small(), graph=build_graph(VIT))
    narrow, wide = (nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, 10)) for n in (12, 16))
    with pytest.raises(ConfigError, match=r"graph: 0.weight has shape \(12, 8\), in the model \(16, 8\)"):
        ghn.predict(wide, graph=trace(narrow, torch.zeros(1, 8)))
    with torch.device("meta"):
        empty = Small()
    with pytest.raises(ConfigError, match="meta"):
        ghn.initialize(empty)


def test_models_that_cannot_run_are_not_changed(ghn: GHN) -> None:
    model = Small()
    before = snapshot(model)
    with pytest.raises(TraceError, match="Small cannot run on a tensor"):
        ghn.initialize(model, torch.zeros(1, 7, 8, 8))
    assert_same(before, snapshot(model))


def test_prepared_batches(ghn: GHN) -> None:
    graphs = [build_graph(VIT), build_graph(VIT.replace(n_cells=3))]
    first, second = ghn(GraphBatch(graphs, virtual_edges=50)), ghn(graphs)
    for one, other in zip(first, second):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_saving_and_loading(ghn: GHN, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    ghn.save(path)
    loaded = GHN.from_pretrained(path)
    assert loaded.config == ghn.config
    with pytest.raises(CheckpointError, match="is for 10 classes, expected 100"):
        GHN.from_pretrained(path, num_classes=100)
    one, other = ghn.predict(Small()), loaded.predict(Small())
    assert all(torch.equal(one[name], other[name]) for name in one)
